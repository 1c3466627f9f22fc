"""Sources at a commit: what was applied when, what people wish of a source, who owns what."""

from alembic import op
from sqlalchemy import BigInteger, Boolean, Column, Integer, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that may be empty, and two tables."""
    op.add_column("sources", Column("observed", Text))
    op.add_column("sources", Column("commit", Text))
    op.add_column("sources", Column("problems", Text))
    op.add_column("sources", Column("failures", Integer, nullable=False, server_default="0"))
    op.add_column("sources", Column("next_at", BigInteger))
    op.add_column("workflows", Column("revision", Text))
    op.create_index("ix_workflows_origin", "workflows", ["origin"])
    op.create_table(
        "source_wishes",
        Column("source_id", Text, primary_key=True),
        Column("held", Text),
        Column("approved", Text),
        Column("requested_at", BigInteger),
    )
    op.create_table(
        "source_revisions",
        Column("source_id", Text, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False),
        Column("revision", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("applied_at", BigInteger, nullable=False),
        Column("commit", Text),
        Column("counts", Text, nullable=False),
        Column("rewritten", Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_source_revisions_revision", "source_revisions", ["revision"])


def downgrade() -> None:
    """Forget which revisions were applied, and what people wished."""
    op.drop_table("source_revisions")
    op.drop_table("source_wishes")
    op.drop_index("ix_workflows_origin", "workflows")
    op.drop_column("workflows", "revision")
    for name in ("next_at", "failures", "problems", "commit", "observed"):
        op.drop_column("sources", name)
