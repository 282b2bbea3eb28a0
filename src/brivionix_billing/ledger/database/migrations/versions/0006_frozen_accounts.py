"""Add the time since which an account is frozen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the column. No existing account is frozen."""
    text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.add_column("billing_account", sa.Column("frozen_at", text, nullable=True))
