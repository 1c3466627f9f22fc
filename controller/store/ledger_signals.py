"""Signals: wishes and messages for an execution, until they become one of its events."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, select, text, update

from controller.store.dialect import among, insert_or_ignore
from controller.store.kept import all_records
from controller.store.records import SignalRecord
from controller.store.rows import chunks, pick_stored, row_of
from controller.store.tables import UNCONSUMED, Transaction, workflow_executions
from controller.store.tables import signals as _signals

_s = _signals.c
_e = workflow_executions.c


def add_signal(tx: Transaction, signal: SignalRecord) -> bool:
    """Send it; False: the execution has ended or is not there, or the same id was sent before."""
    if tx.execute(_AWAITS, {"execution": signal.execution_id}).first() is None:
        return False
    return insert_or_ignore(tx, _signals, row_of(signal))


_AWAITS = (
    select(_e.id)
    .where(_e.id == bindparam("execution"), _e.completed_at.is_(None))
    .with_for_update(read=True)  # it does not end before the signal is there
)


def signals_for(tx: Transaction, owner: str) -> list[SignalRecord]:
    """What waits for the executions that `owner` holds, in the order it was sent."""
    return all_records(tx, SignalRecord, _signals, _OF_OWNER, {"by": owner})


_OF_OWNER = (
    pick_stored(SignalRecord, _signals)
    .join(workflow_executions, _e.id == _s.execution_id)
    .where(text(f"signals.{UNCONSUMED}"), _e.owner == bindparam("by"))
    .order_by(_s.number)
)


def signals(tx: Transaction, execution_ids: Sequence[str]) -> list[SignalRecord]:
    """What waits for these executions, in the order it was sent to each."""
    named = _of_executions(tx.dialect.name), {"executions": execution_ids}
    return all_records(tx, SignalRecord, _signals, *named)


@cache
def _of_executions(name: str) -> Select[Any]:
    waiting = text(UNCONSUMED), among(name, _s.execution_id, "executions")
    return pick_stored(SignalRecord, _signals).where(*waiting).order_by(_s.number)


def consume(tx: Transaction, signal_ids: Sequence[str], now: int) -> int:
    """They have become events; how many had not before."""
    taken = 0
    for some in chunks(signal_ids):
        waiting = _s.id.in_(some), _s.consumed_at.is_(None)
        taken += tx.execute(update(_signals).where(*waiting).values(consumed_at=now)).rowcount
    return taken
