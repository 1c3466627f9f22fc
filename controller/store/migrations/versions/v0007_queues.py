"""Fires of a schedule wait for each other beside whatever their workflow's concurrency says."""

from alembic import op
from sqlalchemy import Column, Text, text

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_EXECUTIONS = "workflow_executions"
_GOING = text("queue IS NOT NULL AND completed_at IS NULL")
_NAME = "ix_executions_queue"


def upgrade() -> None:
    """What went by the key of an execution, and is not ended, goes by a column of its own."""
    op.add_column(_EXECUTIONS, Column("queue", Text))
    op.execute(
        "UPDATE workflow_executions SET queue = concurrency_key, concurrency_key = NULL,"
        " concurrency_max = NULL WHERE completed_at IS NULL"
        " AND concurrency_key IN ('schedule ' || schedule_id, 'backfill ' || schedule_id)"
    )
    op.create_index(
        _NAME, _EXECUTIONS, ["queue", "status"], sqlite_where=_GOING, postgresql_where=_GOING
    )


def downgrade() -> None:
    """An execution that has no key of its own goes by its queue again."""
    op.execute(
        "UPDATE workflow_executions SET concurrency_key = queue, concurrency_max = 1"
        " WHERE queue IS NOT NULL AND concurrency_key IS NULL"
    )
    op.drop_index(_NAME, _EXECUTIONS)
    op.drop_column(_EXECUTIONS, "queue")
