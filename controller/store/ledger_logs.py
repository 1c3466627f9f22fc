"""What was said and done: the steps' log lines, and the audit log."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Table

from controller.store.bulk import insert_rows, into
from controller.store.records import AuditRecord, LogRecord
from controller.store.rows import every, names, pick, stored
from controller.store.tables import Transaction, audit_log, workflow_logs
from controller.store.values import storable

_l = workflow_logs.c
_a = audit_log.c


def add_logs(tx: Transaction, lines: Sequence[LogRecord]) -> None:
    """Add lines in this order; their ids are given here."""
    if not lines:
        return
    written = [replace(line, message=storable(line.message)) for line in lines]
    _add(tx, workflow_logs, written)


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


def last_logs(tx: Transaction, execution_id: str, limit: int) -> list[LogRecord]:
    """The execution's last lines, in the order they were added; no others are read."""
    chosen = pick(LogRecord, workflow_logs).where(_l.execution_id == execution_id)
    return every(tx, LogRecord, chosen.order_by(_l.id.desc()).limit(limit))[::-1]


def audit(tx: Transaction, record: AuditRecord) -> None:
    """Add to the audit log."""
    _add(tx, audit_log, [record])


def _add(tx: Transaction, table: Table, records: Sequence[LogRecord | AuditRecord]) -> None:
    """Insert these, to be numbered by the database."""
    kind: type = type(records[0])
    named = names(kind)
    place = named.index("id")
    rows = [stored(table, each) for each in records]
    insertion = into(table, named[:place] + named[place + 1 :])
    insert_rows(tx, insertion, [row[:place] + row[place + 1 :] for row in rows])


def audits(tx: Transaction, limit: int = 100, *, before: int | None = None) -> list[AuditRecord]:
    """The audit log, newest first; `before` is the id of the last one of the page before."""
    chosen = pick(AuditRecord, audit_log).order_by(_a.id.desc()).limit(limit)
    return every(tx, AuditRecord, chosen if before is None else chosen.where(_a.id < before))
