"""Add subscriptions to plans. No existing account has any."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table, and add the columns."""
    op.add_column("billing_account", sa.Column("subscription", _TEXT, nullable=True))
    op.add_column("billing_lot", sa.Column("plan", _TEXT, nullable=True))
    for name in ("subscription", "starts", "ends"):
        op.add_column("billing_order", sa.Column(name, _TEXT, nullable=True))
    op.create_table(
        "billing_subscription",
        *[sa.Column(name, _TEXT, nullable=False) for name in ("id", "account", "at", "terms")],
        *[sa.Column(name, _TEXT, nullable=True) for name in ("next_terms", "anchor", "starts", "ends", "since")],
        sa.Column("lots", _TEXT, nullable=False),
        *[sa.Column(name, _TEXT, nullable=True) for name in ("order_id", "cancelled_at")],
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("billing_subscription_account", "billing_subscription", ["account"])
    due = sa.text("cancelled_at IS NULL")
    op.create_index(
        "billing_subscription_due", "billing_subscription", ["ends", "id"], sqlite_where=due, postgresql_where=due
    )
