"""The schema: migrations and tables agree, records and columns agree, questions use indexes."""

import re
from collections.abc import Callable
from dataclasses import fields
from inspect import get_annotations
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Table, create_engine

from controller.store import opening, records, tables
from controller.store.ledger_checkpoints import checkpoints
from controller.store.ledger_claims import adopt, claim, heartbeat, next_wake
from controller.store.ledger_executions import (
    Place,
    active,
    children,
    create,
    executions,
    fired,
    status_counts,
)
from controller.store.ledger_logs import logs
from controller.store.ledger_schedules import due, next_due
from controller.store.ledger_signals import signals, signals_for
from controller.store.retention import Keep, expired, remove
from controller.store.tables import Transaction
from tests.store.sample import NOW, new
from tests.store.statements import watched


def _schema(connection: Connection) -> dict[str, object]:
    """Each table's columns, keys and options, in any order, and the text of each index."""
    ask = connection.exec_driver_sql
    names = ask("SELECT name, sql, type FROM sqlite_master WHERE sql IS NOT NULL").all()
    found: dict[str, object] = {}
    for name, sql, kind in names:
        if name.startswith("sqlite_") or name == opening.SCHEMA_TABLE:
            continue
        if kind == "index":
            found[name] = re.sub(r"\s+", " ", sql)
        else:
            columns = {tuple(row[1:]) for row in ask(f"PRAGMA table_xinfo({name})")}
            keys = {tuple(row[2:]) for row in ask(f"PRAGMA foreign_key_list({name})")}
            options = [row[4:] for row in ask(f"PRAGMA table_list({name})")]
            found[name] = columns, keys, options, "AUTOINCREMENT" in sql
    return found


def test_the_migrated_schema_is_that_of_the_tables(database: Path) -> None:
    """Every table, column, index and constraint."""
    migrated = create_engine(f"sqlite:///{database}")
    fresh = create_engine("sqlite://")
    with migrated.connect() as old, fresh.connect() as new_:
        tables.metadata.create_all(new_)
        assert _schema(old) == _schema(new_)
    migrated.dispose()
    fresh.dispose()


def test_the_known_revisions_are_those_on_file() -> None:
    """`REVISIONS` lists each file under versions/, oldest first, and nothing else."""
    config = Config()
    folder = Path(opening.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    listed = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(listed)) == opening.REVISIONS
    assert scripts.get_heads() == [opening.HEAD]


RECORDS = [
    (records.WorkflowRecord, tables.workflows, set()),
    (records.VersionRecord, tables.workflow_versions, set()),
    (records.ExecutionRecord, tables.workflow_executions, set()),
    (records.CheckpointRecord, tables.execution_checkpoints, set()),
    (records.ScheduleRecord, tables.workflow_schedules, set()),
    (records.LogRecord, tables.workflow_logs, set()),
    (records.SourceRecord, tables.sources, set()),
    (records.SourceWish, tables.source_wishes, set()),
    (records.RevisionRecord, tables.source_revisions, set()),
    (records.FileRecord, tables.source_files, {"source_id"}),
    (records.SignalRecord, tables.signals, {"number"}),
    (records.AuditRecord, tables.audit_log, set()),
]


@pytest.mark.parametrize(("record", "table", "hidden"), RECORDS, ids=str)
def test_a_record_has_every_column(record: type[Any], table: Table, hidden: set[str]) -> None:
    """One field, one column, and a column may be NULL exactly where its field may be None."""
    types = get_annotations(record)
    assert types.keys() == set(table.c.keys()) - hidden
    for name, each in types.items():
        assert table.c[name].nullable == ("None" in str(each)), name


def test_a_new_execution_is_a_row() -> None:
    """Every field of `NewExecution` is a column; the others are filled by what happens later."""
    given = {each.name for each in fields(records.NewExecution)}
    later = {"status", "outputs", "error", "started_at", "completed_at", "duration"}
    later |= {"current_step", "owner", "lease_until", "wake_at", "claims"}
    assert given | later == set(tables.workflow_executions.c.keys())
    assert not given & later


# ------------------------------------------------------------------------------------- indexes


QUESTIONS: dict[str, tuple[Callable[[Transaction], object], set[str]]] = {
    "claim": (
        lambda tx: claim(tx, "me", lease_until=NOW + 1, now=NOW, limit=5),
        {
            "ix_executions_pending",
            "ix_executions_ready",
            "ix_executions_wake",
            "ix_executions_lease",
            "ix_executions_concurrency",
            "ix_signals_unconsumed",
        },
    ),
    "heartbeat": (lambda tx: heartbeat(tx, "me", NOW), {"ix_executions_owner"}),
    "adopt": (lambda tx: adopt(tx, "me"), {"ix_executions_owner"}),
    "next_wake": (next_wake, {"ix_executions_wake"}),
    "list": (lambda tx: executions(tx, before=Place(NOW, "e")), {"ix_executions_created"}),
    "list of a workflow": (lambda tx: executions(tx, "w"), {"ix_executions_workflow"}),
    "list by status": (lambda tx: executions(tx, status="failed"), {"ix_executions_status"}),
    "list of a tree": (lambda tx: executions(tx, root="e"), {"ix_executions_root"}),
    "children": (lambda tx: children(tx, "e"), {"ix_executions_parent"}),
    "places": (lambda tx: active(tx, "k"), {"ix_executions_concurrency"}),
    "failures of a workflow": (
        lambda tx: executions(tx, "w", "failed"),
        {"ix_executions_workflow_status"},
    ),
    "what of a workflow runs": (
        lambda tx: executions(tx, "w", "running"),
        {"ix_executions_status"},
    ),
    "fires": (lambda tx: fired(tx, "s", [NOW]), {"ux_executions_fire"}),
    "counts of a workflow": (
        lambda tx: status_counts(tx, "w"),
        {"COVERING INDEX ix_executions_workflow_status", "ix_executions_status"},
    ),
    "checkpoints": (lambda tx: checkpoints(tx, "e", 3), {"PRIMARY KEY"}),
    "signals": (lambda tx: signals(tx, ["e", "f"]), {"ix_signals_unconsumed"}),
    "signals of an owner": (
        lambda tx: signals_for(tx, "me"),
        {"ix_executions_owner", "ix_signals_unconsumed"},
    ),
    "due": (lambda tx: due(tx, NOW, 10), {"ix_schedules_next_run"}),
    "next_due": (next_due, {"ix_schedules_next_run"}),
    "logs": (lambda tx: logs(tx, "e", 5), {"ix_logs_execution"}),
    "expired": (
        lambda tx: expired(tx, "w", Keep(days=1, last=3), NOW),
        {"ix_executions_ended_root", "ix_executions_root"},
    ),
    "remove": (
        lambda tx: remove(tx, ["e"]),
        {"ix_logs_execution", "ix_signals_execution", "ix_executions_root"},
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_asked_often_uses_an_index(database: Path, question: str) -> None:
    """No statement of it reads a table from end to end, whatever else is in there."""
    ask, indexes = QUESTIONS[question]
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as tx:
        tx.exec_driver_sql("PRAGMA foreign_keys=OFF")
        create(tx, new("e"))
        with watched(tx) as seen:
            ask(tx)
        plans = [
            row[3]
            for statement, parameters in seen
            for row in tx.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        ]
        tx.rollback()
    engine.dispose()
    few = {"SCAN packed", "SCAN listed", "SCAN CONSTANT ROW"}  # see the lines after
    scans = [plan for plan in plans if plan.startswith("SCAN") and "INDEX" not in plan]
    through = [plan for plan in scans if plan not in few and "json_each" not in plan]
    assert through == [], plans
    assert {index for index in indexes if not any(index in plan for plan in plans)} == set(), plans
