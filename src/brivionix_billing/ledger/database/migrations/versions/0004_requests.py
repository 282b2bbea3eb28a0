"""Add an index of the holds that were not charged, by which the requests of a token are found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the index."""
    uncharged = sa.text("state IN ('released', 'expired')")
    op.create_index(
        "billing_hold_uncharged",
        "billing_hold",
        ["account", "token", "at"],
        sqlite_where=uncharged,
        postgresql_where=uncharged,
    )
