"""What retention looks at, past all that is going on or has a parent, is in an index of its own."""

from alembic import op
from sqlalchemy import text

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_NAME = "ix_executions_ended_root"


def upgrade() -> None:
    """Count the newest without a look at their rows."""
    condition = text("parent_id IS NULL AND completed_at IS NOT NULL")
    op.create_index(
        _NAME,
        "workflow_executions",
        ["workflow_id", "created_at", "id"],
        sqlite_where=condition,
        postgresql_where=condition,
    )


def downgrade() -> None:
    """As it was."""
    op.drop_index(_NAME, "workflow_executions")
