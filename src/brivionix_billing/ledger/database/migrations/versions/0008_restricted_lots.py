"""Add restrictions and priorities of lots, what a hold tells of its request, and transfers. No lot has any yet."""

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
    op.add_column("billing_lot", sa.Column("moved", _AMOUNT, nullable=True))
    op.add_column("billing_lot", sa.Column("moved_paid", _AMOUNT, nullable=True))
    op.add_column("billing_lot", sa.Column("origin", _TEXT, nullable=True))
    op.add_column("billing_payment", sa.Column("tax_moved", _AMOUNT, nullable=True))
    moved = sa.text("origin IS NOT NULL")
    op.create_index("billing_lot_origin", "billing_lot", ["origin"], sqlite_where=moved, postgresql_where=moved)
