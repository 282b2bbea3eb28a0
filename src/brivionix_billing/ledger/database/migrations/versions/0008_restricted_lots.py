"""Add restrictions and priorities of lots, and what a hold tells of its request. No existing lot is restricted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns."""
    op.add_column("billing_account", sa.Column("restricted", _AMOUNT, nullable=True))
    op.add_column("billing_lot", sa.Column("restriction", _TEXT, nullable=True))
    op.add_column("billing_lot", sa.Column("priority", sa.SmallInteger(), nullable=True))
    op.add_column("billing_hold", sa.Column("scope", _TEXT, nullable=True))
