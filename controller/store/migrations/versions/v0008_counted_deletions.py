"""Of a source, which workflows that went count together, whatever restarts meanwhile."""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Since when they count for what waits, and when a person approved."""
    op.add_column("sources", Column("counted_from", BigInteger))
    op.add_column("sources", Column("approved_at", BigInteger))


def downgrade() -> None:
    """Forget both."""
    op.drop_column("sources", "approved_at")
    op.drop_column("sources", "counted_from")
