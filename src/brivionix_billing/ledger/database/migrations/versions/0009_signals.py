"""Add tables for signals and the settings that raise them. No existing account has any."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables, and add the column."""
    op.add_column("billing_account", sa.Column("signals", _COUNT, nullable=True))
    op.create_table(
        "billing_signal_setting",
        *[sa.Column(name, _TEXT, nullable=False) for name in ("account", "name", "kind")],
        *[sa.Column(name, _AMOUNT, nullable=False) for name in ("threshold", "credits")],
        sa.Column("cap", _AMOUNT, nullable=True),
        sa.Column("zone", _TEXT, nullable=False),
        sa.Column("limit_name", _TEXT, nullable=True),
        sa.Column("active", sa.SmallInteger(), nullable=False),
        *[sa.Column(name, _TEXT, nullable=True) for name in ("quiet", "month")],
        sa.Column("month_credits", _AMOUNT, nullable=False),
        sa.PrimaryKeyConstraint("account", "name"),
    )
    op.create_table(
        "billing_signal",
        sa.Column("account", _TEXT, nullable=False),
        sa.Column("number", _COUNT, nullable=False, autoincrement=False),
        *[sa.Column(name, _TEXT, nullable=False) for name in ("name", "kind", "at", "operation", "content")],
        *[sa.Column(name, _TEXT, nullable=True) for name in ("acknowledged_by", "leased_until")],
        sa.PrimaryKeyConstraint("account", "number"),
    )
    pending = sa.text("acknowledged_by IS NULL")
    op.create_index(
        "billing_signal_pending",
        "billing_signal",
        ["account", "number"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
