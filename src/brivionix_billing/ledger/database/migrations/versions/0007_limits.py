"""Add tables for limits by window and their counters. No existing account has limits, and none counts a hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, and add the columns."""
    op.add_column("billing_account", sa.Column("limits", _COUNT, nullable=True))
    op.add_column("billing_hold", sa.Column("counted", _TEXT, nullable=True))
    op.create_table(
        "billing_limit",
        *[sa.Column(name, _TEXT, nullable=False) for name in ("id", "account", "name")],
        *[sa.Column(name, _TEXT, nullable=True) for name in ("token", "tag")],
        *[sa.Column(name, _TEXT, nullable=False) for name in ("unit", "window_name", "zone")],
        sa.Column("amount", _AMOUNT, nullable=False),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    active = sa.text("active = 1")
    op.create_index("billing_limit_active", "billing_limit", ["account"], sqlite_where=active, postgresql_where=active)
    op.create_table(
        "billing_counter",
        *[sa.Column(name, _TEXT, nullable=False) for name in ("limit_id", "starts", "account")],
        sa.Column("used", _AMOUNT, nullable=False),
        sa.PrimaryKeyConstraint("limit_id", "starts"),
    )
    op.create_index("billing_counter_account", "billing_counter", ["account"])
