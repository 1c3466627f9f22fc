"""The first schema: the seed's five tables, and what they need beside them."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, Text, text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
_READY = "owner IS NULL AND wake_at IS NULL AND started_at IS NOT NULL AND completed_at IS NULL"


def upgrade() -> None:
    """Create everything."""
    _audit_log()
    _source_files()
    _sources()
    _workflow_logs()
    _workflow_schedules()
    _workflow_versions()
    _workflow_executions()
    _workflows()
    _execution_checkpoints()
    _signals()


def downgrade() -> None:
    """There is nothing before."""
    raise NotImplementedError("the first schema has no predecessor")


def _index(
    name: str, table: str, *columns: str, where: str | None = None, unique: bool = False
) -> None:
    condition = None if where is None else text(where)
    op.create_index(
        name,
        table,
        list(columns),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _audit_log() -> None:
    op.create_table(
        "audit_log",
        Column("id", _NUMBER, primary_key=True),
        Column("at", BigInteger, nullable=False),
        Column("principal", Text, nullable=False),
        Column("verb", Text, nullable=False),
        Column("target", Text),
        Column("detail", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    _index("ix_audit_log_at", "audit_log", "at")


def _source_files() -> None:
    op.create_table(
        "source_files",
        Column("source_id", Text, primary_key=True),
        Column("path", Text, primary_key=True),
        Column("digest", Text, nullable=False),
        Column("size", BigInteger, nullable=False),
        Column("mtime_ns", BigInteger, nullable=False),
        Column("inode", BigInteger, nullable=False),
        Column("status", Text, nullable=False),
        Column("problems", Text, nullable=False),
        Column("definitions", Text, nullable=False),
        sqlite_with_rowid=False,
    )


def _sources() -> None:
    op.create_table(
        "sources",
        Column("id", Text, primary_key=True),
        Column("type", Text, nullable=False),
        Column("location", Text, nullable=False),
        Column("revision", Text),
        Column("phase", Text, nullable=False),
        Column("reason", Text),
        Column("message", Text),
        Column("checked_at", BigInteger),
        Column("applied_at", BigInteger),
    )


def _workflow_logs() -> None:
    op.create_table(
        "workflow_logs",
        Column("id", _NUMBER, primary_key=True),
        Column("execution_id", Text, nullable=False),
        Column("step_id", Text),
        Column("attempt", Integer, nullable=False),
        Column("level", Text, nullable=False),
        Column("message", Text, nullable=False),
        Column("context", Text),
        Column("timestamp", BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    _index("ix_logs_execution", "workflow_logs", "execution_id", "id")
    _index("ix_logs_timestamp", "workflow_logs", "timestamp")


def _workflow_schedules() -> None:
    op.create_table(
        "workflow_schedules",
        Column("id", Text, primary_key=True),
        Column("workflow_id", Text, nullable=False),
        Column("schedule_type", Text, nullable=False),
        Column("cron_expression", Text),
        Column("at", BigInteger),
        Column("timezone", Text, nullable=False),
        Column("next_run_at", BigInteger),
        Column("last_run_at", BigInteger),
        Column("inputs", Text, nullable=False),
        Column("metadata", Text, nullable=False),
        Column("policy", Text, nullable=False),
        Column("origin", Text, nullable=False),
        Column("active", Boolean, nullable=False),
        Column("reason", Text),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
    )
    _index(
        "ix_schedules_next_run",
        "workflow_schedules",
        "next_run_at",
        where="next_run_at IS NOT NULL",
    )
    _index("ix_schedules_workflow", "workflow_schedules", "workflow_id")


def _workflow_versions() -> None:
    op.create_table(
        "workflow_versions",
        Column("digest", Text, primary_key=True),
        Column("workflow_id", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("content", Text, nullable=False),
        Column("revision", Text),
        Column("created_at", BigInteger, nullable=False),
    )
    _index("ix_workflow_versions_workflow_id", "workflow_versions", "workflow_id")


def _workflow_executions() -> None:
    op.create_table(
        "workflow_executions",
        Column("id", Text, primary_key=True),
        Column("workflow_id", Text, nullable=False),
        Column("workflow_version", Text, nullable=False),
        Column("digest", Text, ForeignKey("workflow_versions.digest"), nullable=False),
        Column("status", Text, nullable=False),
        Column("inputs", Text, nullable=False),
        Column("outputs", Text),
        Column("error", Text),
        Column("started_at", BigInteger),
        Column("completed_at", BigInteger),
        Column("duration", BigInteger),
        Column("current_step", Text),
        Column("context", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("trigger", Text, nullable=False),
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
        Column("policy", Text, nullable=False),
        Column("attempt_of", Text),
        Column("claims", Integer, nullable=False, server_default="0"),
    )
    _index(
        "ix_executions_concurrency",
        "workflow_executions",
        "concurrency_key",
        "status",
        where="concurrency_key IS NOT NULL",
    )
    _index("ix_executions_created", "workflow_executions", "created_at", "id")
    _index("ix_executions_digest", "workflow_executions", "digest")
    _index(
        "ix_executions_lease", "workflow_executions", "lease_until", where="lease_until IS NOT NULL"
    )
    _index("ix_executions_owner", "workflow_executions", "owner", where="owner IS NOT NULL")
    _index(
        "ix_executions_parent", "workflow_executions", "parent_id", where="parent_id IS NOT NULL"
    )
    _index(
        "ix_executions_pending",
        "workflow_executions",
        "created_at",
        "id",
        where="started_at IS NULL AND completed_at IS NULL",
    )
    _index("ix_executions_ready", "workflow_executions", "created_at", "id", where=_READY)
    _index("ix_executions_root", "workflow_executions", "root_id")
    _index(
        "ix_executions_started", "workflow_executions", "started_at", where="started_at IS NOT NULL"
    )
    _index("ix_executions_status", "workflow_executions", "status", "created_at", "id")
    _index("ix_executions_wake", "workflow_executions", "wake_at", where="wake_at IS NOT NULL")
    _index("ix_executions_workflow", "workflow_executions", "workflow_id", "created_at", "id")
    _index(
        "ux_executions_fire",
        "workflow_executions",
        "schedule_id",
        "due_at",
        where="schedule_id IS NOT NULL",
        unique=True,
    )


def _workflows() -> None:
    op.create_table(
        "workflows",
        Column("id", Text, primary_key=True),
        Column("name", Text, nullable=False),
        Column("description", Text, nullable=False),
        Column("version", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("digest", Text, ForeignKey("workflow_versions.digest"), nullable=False),
        Column("origin", Text, nullable=False),
        Column("path", Text),
        Column("triggers", Text, nullable=False),
        Column("inputs", Text, nullable=False),
        Column("outputs", Text, nullable=False),
        Column("steps", Text, nullable=False),
        Column("error_handler", Text),
        Column("metadata", Text, nullable=False),
        Column("labels", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("updated_at", BigInteger, nullable=False),
    )
    _index("ix_workflows_digest", "workflows", "digest")
    _index("ix_workflows_name", "workflows", "name", unique=True)
    _index("ix_workflows_status", "workflows", "status")


def _execution_checkpoints() -> None:
    op.create_table(
        "execution_checkpoints",
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
        Column("context", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def _signals() -> None:
    op.create_table(
        "signals",
        Column("number", _NUMBER, primary_key=True),
        Column("id", Text, nullable=False, unique=True),
        Column(
            "execution_id",
            Text,
            ForeignKey("workflow_executions.id", ondelete="CASCADE"),
            nullable=False,
        ),
        Column("type", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("consumed_at", BigInteger),
        sqlite_autoincrement=True,
    )
    _index("ix_signals_execution", "signals", "execution_id")
    _index(
        "ix_signals_unconsumed", "signals", "execution_id", "number", where="consumed_at IS NULL"
    )
