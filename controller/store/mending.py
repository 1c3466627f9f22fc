"""What `windlass doctor --repair` writes: single rows, in the transaction that judged them."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, text, update

from controller.store.doctor import Lease
from controller.store.ledger_signals import add_signal
from controller.store.records import SignalRecord
from controller.store.tables import (
    UNCONSUMED,
    Transaction,
    execution_checkpoints,
    leases,
    signals,
    workflow_executions,
    workflow_schedules,
)

FREE: dict[str, Any] = {"owner": None, "lease_until": None, "wake_at": None}
"""Of nobody, and waiting for nothing: whoever looks next claims it, if it has not ended."""


def amend(tx: Transaction, execution_id: str, values: Mapping[str, Any]) -> None:
    """Change columns of an execution's row."""
    chosen = workflow_executions.c.id == execution_id
    tx.execute(update(workflow_executions).where(chosen).values(dict(values)))


def remove_events(tx: Transaction, execution_id: str, seqs: Sequence[int]) -> None:
    """Take events out of a journal."""
    c = execution_checkpoints.c
    tx.execute(delete(execution_checkpoints).where(c.execution_id == execution_id, c.seq.in_(seqs)))


def settle(tx: Transaction, execution_id: str, now: int) -> None:
    """What waits for an execution counts as taken."""
    waiting = signals.c.execution_id == execution_id, text(UNCONSUMED)
    tx.execute(update(signals).where(*waiting).values(consumed_at=now))


def send_again(tx: Transaction, signal: SignalRecord) -> bool:
    """Send it, or have it taken again if it was; False: who it is for has ended."""
    again = update(signals).where(signals.c.id == signal.id).values(consumed_at=None)
    return bool(tx.execute(again).rowcount) or add_signal(tx, signal)


def amend_schedule(tx: Transaction, schedule_id: str, values: Mapping[str, Any]) -> None:
    """Change columns of a schedule's row."""
    chosen = workflow_schedules.c.id == schedule_id
    tx.execute(update(workflow_schedules).where(chosen).values(dict(values)))


def remove_lease(tx: Transaction, lease: Lease) -> bool:
    """Remove a lease, unless somebody has it again."""
    c = leases.c
    same = c.name == lease.name, c.owner == lease.owner, c.lease_until == lease.lease_until
    return bool(tx.execute(delete(leases).where(*same)).rowcount)
