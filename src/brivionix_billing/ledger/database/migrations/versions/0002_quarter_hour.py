"""Rename ``billing_usage.quarter``: a quarter is three months in accounting."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Rename the column; SQLite and PostgreSQL also rename it in the primary key."""
    op.execute("ALTER TABLE billing_usage RENAME COLUMN quarter TO quarter_hour")
