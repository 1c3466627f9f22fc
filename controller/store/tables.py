"""The tables, as the newest migration leaves them.

The seed's five tables keep their names and columns. Times are epoch milliseconds. Partial indexes
keep what is asked all the time — what is ready, what is due, what waits — as small as the answer.
Their conditions are text, because a query must repeat them word by word to be served by them; most
avoid the status, because SQLite would rather take the index of the status.

An execution that begins is a row in each index that holds it, so it is in few, and in these where
the newest stand together: a page for each place is written to the log again with every commit.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    text,
)

from controller.store.values import Json, Unsigned64

Transaction = Connection
"""What every verb takes first: one step of one transaction."""

metadata = MetaData()

PENDING = "started_at IS NULL AND completed_at IS NULL"
"""Not claimed yet. The ledger keeps this equal to the status `pending`."""

READY = "owner IS NULL AND wake_at IS NULL AND started_at IS NOT NULL AND completed_at IS NULL"
"""Started, not ended, and waiting for nothing but an owner."""

ENDED_ROOT = "parent_id IS NULL AND completed_at IS NOT NULL"
"""At the top of its tree, and ended: what retention counts."""

ENDED = "status IN ('completed', 'failed', 'cancelled')"
"""Ended, whatever came of it: said by the status, so that an index of that has all of it."""

GOING_KEY = "concurrency_key IS NOT NULL AND completed_at IS NULL"
"""Has a place of its key, or waits for one."""

GOING_QUEUE = "queue IS NOT NULL AND completed_at IS NULL"
"""At the head of its queue, or behind."""

INSIDE = "parent_id IS NOT NULL"
"""Not at the top of its tree."""

GOING_FIRE = "schedule_id IS NOT NULL AND completed_at IS NULL"
"""Of a schedule, and not ended: few, however often it has fired."""

UNCONSUMED = "consumed_at IS NULL"
"""A signal that is still to become an event."""


def _index(name: str, *columns: str, where: str | None = None, unique: bool = False) -> Index:
    """An index that holds only the rows for which `where` is true.

    PostgreSQL has the same ones, from the migration; to name its option here would import its
    dialect at every start.
    """
    condition = None if where is None else text(where)
    return Index(name, *columns, unique=unique, sqlite_where=condition)


workflows = Table(
    "workflows",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("digest", Text, ForeignKey("workflow_versions.digest"), nullable=False),
    Column("origin", Text, nullable=False),
    Column("path", Text),
    Column("triggers", Json, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("outputs", Json, nullable=False),
    Column("steps", Json, nullable=False),
    Column("error_handler", Json),
    Column("metadata", Json, nullable=False),
    Column("labels", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("revision", Text),
    _index("ix_workflows_origin", "origin"),
    _index("ix_workflows_name", "name", unique=True),
    _index("ix_workflows_status", "status"),
    _index("ix_workflows_digest", "digest"),
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("workflow_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("content", Json, nullable=False),
    Column("revision", Text),
    Column("created_at", BigInteger, nullable=False),
    _index("ix_workflow_versions_workflow_id", "workflow_id"),
)

workflow_executions = Table(
    "workflow_executions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workflow_id", Text, nullable=False),
    Column("workflow_version", Text, nullable=False),
    Column("digest", Text, ForeignKey("workflow_versions.digest"), nullable=False),
    Column("status", Text, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("outputs", Json),
    Column("error", Json),
    Column("started_at", BigInteger),
    Column("completed_at", BigInteger),
    Column("duration", BigInteger),
    Column("current_step", Text),
    Column("context", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("trigger", Json, nullable=False),
    Column("owner", Text),
    Column("lease_until", BigInteger),
    Column("wake_at", BigInteger),
    Column("parent_id", Text),
    Column("parent_step", Text),
    Column("root_id", Text, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("schedule_id", Text),
    Column("due_at", BigInteger),
    Column("concurrency_key", Text),
    Column("concurrency_max", Integer),
    Column("queue", Text),
    Column("policy", Json, nullable=False),
    Column("attempt_of", Text),
    Column("claims", Integer, nullable=False, server_default="0"),
    _index("ix_executions_created", "created_at", "id"),
    _index("ix_executions_workflow", "workflow_id", "created_at", "id"),
    _index("ix_executions_status", "status", "created_at", "id"),
    _index(
        "ix_executions_workflow_status", "workflow_id", "status", "created_at", "id", where=ENDED
    ),
    _index("ix_executions_digest", "digest"),
    _index("ix_executions_pending", "created_at", "id", where=PENDING),
    _index("ix_executions_ready", "created_at", "id", where=READY),
    _index("ix_executions_wake", "wake_at", "id", where="wake_at IS NOT NULL"),
    _index("ix_executions_owner", "owner", where="owner IS NOT NULL"),
    _index("ix_executions_lease", "lease_until", "id", where="lease_until IS NOT NULL"),
    _index("ix_executions_concurrency", "concurrency_key", "status", where=GOING_KEY),
    _index("ix_executions_queue", "queue", "status", where=GOING_QUEUE),
    _index("ix_executions_root", "root_id", where=INSIDE),
    _index("ix_executions_parent", "parent_id", where=INSIDE),
    _index("ix_executions_ended_root", "workflow_id", "created_at", "id", where=ENDED_ROOT),
    _index("ix_executions_going_fire", "schedule_id", "due_at", where=GOING_FIRE),
    _index(
        "ux_executions_fire",
        "due_at",
        "schedule_id",
        where="schedule_id IS NOT NULL",
        unique=True,
    ),
)

execution_checkpoints = Table(
    "execution_checkpoints",
    metadata,
    Column(
        "execution_id",
        Text,
        ForeignKey("workflow_executions.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("type", Text, nullable=False),
    Column("step_id", Text),
    Column("attempt", Integer, nullable=False),
    Column("context", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

workflow_schedules = Table(
    "workflow_schedules",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workflow_id", Text, nullable=False),
    Column("schedule_type", Text, nullable=False),
    Column("cron_expression", Text),
    Column("at", BigInteger),
    Column("timezone", Text, nullable=False),
    Column("next_run_at", BigInteger),
    Column("last_run_at", BigInteger),
    Column("inputs", Json, nullable=False),
    Column("metadata", Json, nullable=False),
    Column("policy", Json, nullable=False),
    Column("origin", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("reason", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    _index("ix_schedules_workflow", "workflow_id"),
    _index("ix_schedules_next_run", "next_run_at", where="next_run_at IS NOT NULL"),
)

workflow_logs = Table(
    "workflow_logs",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("execution_id", Text, nullable=False),
    Column("step_id", Text),
    Column("attempt", Integer, nullable=False),
    Column("level", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("context", Json),
    Column("timestamp", BigInteger, nullable=False),
    _index("ix_logs_execution", "execution_id", "id"),
    _index("ix_logs_timestamp", "timestamp"),
    sqlite_autoincrement=True,
)

sources = Table(
    "sources",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("revision", Text),
    Column("phase", Text, nullable=False),
    Column("reason", Text),
    Column("message", Text),
    Column("checked_at", BigInteger),
    Column("applied_at", BigInteger),
    Column("observed", Text),
    Column("commit", Json),
    Column("problems", Json),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("next_at", BigInteger),
    Column("counted_from", BigInteger),
    Column("approved_at", BigInteger),
)

source_wishes = Table(
    "source_wishes",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("held", Json),
    Column("approved", Text),
    Column("requested_at", BigInteger),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("lease_until", BigInteger, nullable=False),
)

source_revisions = Table(
    "source_revisions",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("revision", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("applied_at", BigInteger, nullable=False),
    Column("commit", Json),
    Column("counts", Json, nullable=False),
    Column("rewritten", Boolean, nullable=False),
    _index("ix_source_revisions_revision", "revision"),
    sqlite_with_rowid=False,
)

source_files = Table(
    "source_files",
    metadata,
    Column("source_id", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("inode", Unsigned64, nullable=False),
    Column("status", Text, nullable=False),
    Column("problems", Json, nullable=False),
    Column("definitions", Json, nullable=False),
    sqlite_with_rowid=False,
)

signals = Table(
    "signals",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column(
        "execution_id",
        Text,
        ForeignKey("workflow_executions.id", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("type", Text, nullable=False),
    Column("payload", Json, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("consumed_at", BigInteger),
    _index("ix_signals_execution", "execution_id"),
    _index("ix_signals_unconsumed", "execution_id", "number", where=UNCONSUMED),
    sqlite_autoincrement=True,
)

audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("principal", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("target", Text),
    Column("detail", Json, nullable=False),
    _index("ix_audit_log_at", "at"),
    sqlite_autoincrement=True,
)
