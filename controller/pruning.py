"""What is not kept any longer goes: executions by their workflow's rules, and what they leave.

It has a loop of its own: a million of them take minutes, in which schedules fire as ever.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from controller.clock import Clock
from controller.core.problem import Unavailable
from controller.logs import get_log
from controller.store import Store, ledger
from controller.store.retention import Keep, days_before

PRUNE_AT_ONCE = 200
"""Executions looked for at once, to prune them."""

ROWS_AT_ONCE = 2_000
"""Rows removed in one transaction, so that nobody who records waits long."""

log = get_log("windlass.retention")


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Days that something stays which belongs to no execution any more; None: for ever.

    Attributes:
        logs: Log lines; in any case they go with their execution.
        audits: Entries of the audit log.
        unused: Versions that nothing points to, and schedules that are over.
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

    def __init__(self, store: Store, clock: Clock, keep: Keep, leftovers: Leftovers) -> None:
        self._store = store
        self._clock = clock
        self._keep = keep
        self._leftovers = leftovers
        self._woken = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """End the loop; what is left goes another time."""
        self._stopping = True
        self._woken.set()

    async def run(self) -> None:
        """Remove what is over every so often, until stopped."""
        while not self._stopping:
            timer = self._clock.call_later(self._leftovers.every, self._woken.set)
            await self._woken.wait()
            timer.cancel()
            self._woken.clear()
            try:
                await self.prune(self._clock.now())
            except Unavailable as error:
                log.warning("database unavailable; trying again later", error=str(error))

    async def prune(self, now: int) -> None:
        """Remove all that is over at this time, unless a stop comes between."""
        rows = await self._prune_executions(now)
        leftovers = (
            (ledger.remove_logs, self._leftovers.logs),
            (ledger.remove_audits, self._leftovers.audits),
            (ledger.remove_versions, self._leftovers.unused),
            (ledger.remove_schedules, self._leftovers.unused),
        )
        for remove, days in leftovers:
            if days is not None:
                rows += await self._remove_all(remove, days_before(now, days))
        if rows:
            log.info("pruned what is not kept any longer", rows=rows)

    async def _remove_all(self, remove: Callable[..., int], before: int) -> int:
        rows = 0
        while not self._stopping:
            gone = await self._store.write(remove, before, ROWS_AT_ONCE)
            rows += gone
            if gone < ROWS_AT_ONCE:
                break
        return rows

    async def _prune_executions(self, now: int) -> int:
        read = self._store.read
        found = await read(ledger.retention_rules)
        rules = {name: Keep(of.get("days"), of.get("keep_last")) for name, of in found.items()}
        rows = 0
        for name in await read(ledger.workflows_executed):
            keep, gone = rules.get(name, self._keep), 1
            while gone and not self._stopping:  # 0: nothing is over, or somebody else removes it
                roots = await read(ledger.expired, name, keep, now, limit=PRUNE_AT_ONCE)
                gone = await self._store.write(ledger.remove, roots, ROWS_AT_ONCE) if roots else 0
                rows += gone
        return rows
