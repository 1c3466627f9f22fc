"""What is not kept any longer goes: executions by their workflow's rules, and what they leave."""

from collections.abc import Callable
from dataclasses import dataclass

from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.records import Keep

PRUNE_AT_ONCE = 200
"""Executions looked for at once, to prune them."""

ROWS_AT_ONCE = 2_000
"""Rows removed in one transaction, so that nobody who records waits long."""

DAY = 86_400_000
"""Milliseconds."""

log = get_log("windlass.retention")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Days that something stays which belongs to no execution any more; None: for ever.

    Attributes:
        logs: Log lines; in any case they go with their execution.
        audits: Entries of the audit log.
        unused: Versions that nothing points to, and schedules that somebody stopped.
        every: Milliseconds between looks for them, and for executions to prune.
    """

    logs: int | None = None
    audits: int | None = None
    unused: int | None = None
    every: int = 600_000


class Pruner:
    """Finds what is over by a reader, and removes it a little at a time.

    Args:
        keep: Retention where a workflow says nothing.
        leftovers: Retention of what belongs to no execution.
    """

    def __init__(self, store: Store, keep: Keep, leftovers: Leftovers) -> None:
        self._store = store
        self._keep = keep
        self._leftovers = leftovers

    @property
    def every(self) -> int:
        """Milliseconds between two times."""
        return self._leftovers.every

    async def prune(self, now: int, stopping: Callable[[], bool]) -> None:
        """Remove all that is over at this time, unless a stop comes between."""
        rows = await self._prune_executions(now, stopping)
        leftovers = (
            (ledger.remove_logs, self._leftovers.logs),
            (ledger.remove_audits, self._leftovers.audits),
            (ledger.remove_versions, self._leftovers.unused),
            (ledger.remove_schedules, self._leftovers.unused),
        )
        for remove, days in leftovers:
            if days is None:
                continue
            while gone := await self._store.write(remove, now - days * DAY, ROWS_AT_ONCE):
                rows += gone
                if gone < ROWS_AT_ONCE:
                    break
        if rows:
            log.info("pruned what is not kept any longer", rows=rows)

    async def _prune_executions(self, now: int, stopping: Callable[[], bool]) -> int:
        read = self._store.read
        found = await read(ledger.retention_rules)
        rules = {name: Keep(of.get("days"), of.get("keep_last")) for name, of in found.items()}
        rows = 0
        for name in await read(ledger.workflows_executed):
            keep, gone = rules.get(name, self._keep), 1
            while gone and not stopping():  # 0: nothing is over, or somebody else removed it
                roots = await read(ledger.expired, name, keep, now, limit=PRUNE_AT_ONCE)
                gone = await self._store.write(ledger.remove, roots, ROWS_AT_ONCE) if roots else 0
                rows += gone
        return rows
