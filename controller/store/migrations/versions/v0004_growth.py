"""A million executions: each question finds its rows, in order, through an index of its own."""

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_EXECUTIONS = "workflow_executions"
_PARTIAL = {"ix_executions_wake": "wake_at", "ix_executions_lease": "lease_until"}


def _index(name: str, *columns: str, where: str | None = None) -> None:
    condition = None if where is None else text(where)
    op.create_index(
        name, _EXECUTIONS, list(columns), sqlite_where=condition, postgresql_where=condition
    )


def upgrade() -> None:
    """Order what is due at one instant; find a workflow's failures, and what a schedule began."""
    for name, column in _PARTIAL.items():
        op.drop_index(name, _EXECUTIONS)
        _index(name, column, "id", where=f"{column} IS NOT NULL")
    _index("ix_executions_workflow_status", "workflow_id", "status", "created_at", "id")
    _index(
        "ix_executions_going_fire",
        "schedule_id",
        "due_at",
        where="schedule_id IS NOT NULL AND completed_at IS NULL",
    )


def downgrade() -> None:
    """As it was."""
    op.drop_index("ix_executions_going_fire", _EXECUTIONS)
    op.drop_index("ix_executions_workflow_status", _EXECUTIONS)
    for name, column in _PARTIAL.items():
        op.drop_index(name, _EXECUTIONS)
        _index(name, column, where=f"{column} IS NOT NULL")
