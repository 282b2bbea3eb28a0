"""Add tables for the parts of payments, and for orders. Existing entries have neither."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _text(names: str, *, null: bool = False) -> list[Any]:
    return [sa.Column(name, _TEXT, nullable=null) for name in names.split()]


def _amounts(names: str) -> list[Any]:
    return [sa.Column(name, _AMOUNT, nullable=False) for name in names.split()]


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "billing_payment",
        *_text("id account currency"),
        *_amounts("gross tax fee coupon tax_refunded"),
        *_text("order_id", null=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("billing_payment_account", "billing_payment", ["account"])
    op.create_table(
        "billing_order",
        *_text("id account channel currency"),
        *_amounts("credits pay tax"),
        *_text("price at expires state"),
        *_amounts("received credited"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("billing_order_account", "billing_order", ["account"])
