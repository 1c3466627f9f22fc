"""Executions as they are taken on: the row, its history, and what waits for it, in one look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from controller.store import Store, ledger
from controller.store.records import (
    CheckpointRecord,
    Claimant,
    ExecutionRecord,
    SignalRecord,
)
from controller.store.tables import Transaction


@dataclass(frozen=True, slots=True)
class Taken:
    """A claimed execution, with its checkpoints and the signals that nobody has taken."""

    record: ExecutionRecord
    events: Sequence[CheckpointRecord] = ()
    signals: Sequence[SignalRecord] = ()


class Created(Protocol):
    """What became of executions that were to be created."""

    @property
    def begun(self) -> Sequence[ExecutionRecord]:
        """Those that are the claimant's own."""


def take(tx: Transaction, by: Claimant, now: int, root: str | None = None) -> list[Taken]:
    """A verb for the store: claim as many as `by` has room for, of that tree only with `root`.

    What they need to go on is read in the same transaction: each look of its own would wait for
    its turn once more, behind everything that goes on meanwhile.
    """
    claimed = ledger.claim(
        tx, by.owner, lease_until=by.lease_until, now=now, limit=by.room, root=root
    )
    ids = [record.id for record in claimed]
    events = ledger.checkpoints_of(tx, ids)
    signals: dict[str, list[SignalRecord]] = {}
    for signal in ledger.signals(tx, ids):
        signals.setdefault(signal.execution_id, []).append(signal)
    return [Taken(each, events[each.id], signals.get(each.id, ())) for each in claimed]


async def take_over(store: Store, owner: str, limit: int | None = None) -> int:
    """Whoever holds a database's lock makes free what others had; how many, up to `limit`."""
    if store.path is None:
        return 0
    return await store.write(ledger.adopt, owner, limit)
