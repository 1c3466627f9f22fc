"""What begins is written in few places, and where the newest stand together."""

from alembic import op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_EXECUTIONS = "workflow_executions"
_ENDED = "status IN ('completed', 'failed', 'cancelled')"
_GOING_KEY = "concurrency_key IS NOT NULL AND completed_at IS NULL"
_INSIDE = "parent_id IS NOT NULL"


def _index(name: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else text(where)
    op.create_index(
        name,
        _EXECUTIONS,
        list(columns),
        unique=unique,
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _drop(*names: str) -> None:
    for name in names:
        op.drop_index(name, _EXECUTIONS)


_CHANGED = (
    "ix_executions_workflow_status",
    "ix_executions_concurrency",
    "ix_executions_root",
    "ux_executions_fire",
)


def upgrade() -> None:
    """By its status only what has ended, by its key only what has not, by its root what is below.

    A fire is unique by its time first: all that is due at once stands together. Nothing is asked
    for by when it started.
    """
    _drop("ix_executions_started", *_CHANGED)
    _index(
        "ix_executions_workflow_status", "workflow_id", "status", "created_at", "id", where=_ENDED
    )
    _index("ix_executions_concurrency", "concurrency_key", "status", where=_GOING_KEY)
    _index("ix_executions_root", "root_id", where=_INSIDE)
    _index(
        "ux_executions_fire", "due_at", "schedule_id", where="schedule_id IS NOT NULL", unique=True
    )


def downgrade() -> None:
    """As it was."""
    _drop(*_CHANGED)
    _index("ix_executions_started", "started_at", where="started_at IS NOT NULL")
    _index("ix_executions_workflow_status", "workflow_id", "status", "created_at", "id")
    _index(
        "ix_executions_concurrency",
        "concurrency_key",
        "status",
        where="concurrency_key IS NOT NULL",
    )
    _index("ix_executions_root", "root_id")
    _index(
        "ux_executions_fire", "schedule_id", "due_at", where="schedule_id IS NOT NULL", unique=True
    )
