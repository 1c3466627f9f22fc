"""What was said and done: the steps' log lines, and the audit log."""

from collections.abc import Sequence

from sqlalchemy import insert

from controller.store.dialect import storable
from controller.store.records import AuditRecord, LogRecord
from controller.store.rows import every, pick, row_of
from controller.store.tables import Transaction, audit_log, workflow_logs

_l = workflow_logs.c
_a = audit_log.c


def add_logs(tx: Transaction, lines: Sequence[LogRecord]) -> None:
    """Add lines in this order; their ids are given here."""
    if not lines:
        return
    rows = [row_of(line) | {"message": storable(line.message)} for line in lines]
    for row in rows:
        del row["id"]
    tx.execute(insert(workflow_logs), rows)


def logs(
    tx: Transaction,
    execution_id: str,
    after_id: int = 0,
    *,
    step: str | None = None,
    limit: int = 1000,
) -> list[LogRecord]:
    """The execution's lines after `after_id`, in the order they were added."""
    chosen = pick(LogRecord, workflow_logs).where(_l.execution_id == execution_id, _l.id > after_id)
    if step is not None:
        chosen = chosen.where(_l.step_id == step)
    return every(tx, LogRecord, chosen.order_by(_l.id).limit(limit))


def audit(tx: Transaction, record: AuditRecord) -> None:
    """Add to the audit log."""
    row = row_of(record)
    del row["id"]
    tx.execute(_AUDIT, row)


_AUDIT = insert(audit_log)


def audits(tx: Transaction, limit: int = 100, *, before: int | None = None) -> list[AuditRecord]:
    """The audit log, newest first; `before` is the id of the last one of the page before."""
    chosen = pick(AuditRecord, audit_log).order_by(_a.id.desc()).limit(limit)
    return every(tx, AuditRecord, chosen if before is None else chosen.where(_a.id < before))
