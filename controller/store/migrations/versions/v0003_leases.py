"""Several controllers: what one of them does at a time."""

from alembic import op
from sqlalchemy import BigInteger, Column, Text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table."""
    op.create_table(
        "leases",
        Column("name", Text, primary_key=True),
        Column("owner", Text, nullable=False),
        Column("lease_until", BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("leases")
