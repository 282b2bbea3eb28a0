"""Add the hash of the secret that a rotation replaced, and the end of its grace period."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and their index. No existing token has a replaced secret."""
    for name in ("previous_hash", "previous_expires"):
        op.add_column("billing_token", sa.Column(name, _TEXT, nullable=True))
    replaced = sa.text("previous_hash IS NOT NULL")
    op.create_index(
        "billing_token_previous",
        "billing_token",
        ["previous_hash"],
        unique=True,
        sqlite_where=replaced,
        postgresql_where=replaced,
    )
