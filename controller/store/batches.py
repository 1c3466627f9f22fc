"""What batches of one execution each change beside their checkpoints."""

from collections.abc import Sequence

from controller.store.ledger_executions import record_outcomes
from controller.store.ledger_logs import add_logs
from controller.store.ledger_signals import add_signal, consume
from controller.store.records import FINAL, Batch, Fenced
from controller.store.tables import Transaction


def conclude(tx: Transaction, batches: Sequence[Batch]) -> None:
    """What batches change beside their checkpoints."""
    for batch in batches:
        if batch.signals:
            at = batch.checkpoints[-1][5] if batch.checkpoints else 0
            if consume(tx, batch.signals, at) != len(batch.signals):
                raise fenced(batch)  # one of them is an event already
    ends = [(each.execution_id, each.outcome, each.owner) for each in batches if each.outcome]
    if ends and not record_outcomes(tx, ends):
        raise fenced(batches[0])  # of many, each finds out by itself
    for batch in batches:
        for signal in batch.notify:
            add_signal(tx, signal)
        add_logs(tx, batch.logs)


def concerns_others(batch: Batch) -> bool:
    """Whether another controller may have something to do now: a parent, what is free."""
    outcome = batch.outcome
    ends = outcome is None or outcome.status in FINAL
    freed = not ends and outcome is not None and outcome.release and outcome.wake_at is None
    return bool(batch.notify) or freed


def fenced(batch: Batch) -> Fenced:
    """What whoever appends it is told, when somebody else has recorded that before."""
    ends = batch.outcome is not None and batch.outcome.status in FINAL
    what = "the end" if ends else "an event"
    return Fenced(f"{what} of execution {batch.execution_id} was recorded by another owner")
