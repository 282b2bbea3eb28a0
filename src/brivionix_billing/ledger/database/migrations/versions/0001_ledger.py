"""Create the first tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _columns(text: str = "", null: str = "", count: str = "", amount: str = "", flag: str = "") -> list[Any]:
    kinds: list[tuple[str, Any, bool]] = [(text, _TEXT, False), (null, _TEXT, True), (count, _COUNT, False)]
    kinds += [(amount, _AMOUNT, False), (flag, sa.SmallInteger(), False)]
    return [sa.Column(name, kind, nullable=may) for names, kind, may in kinds for name in names.split()]


def upgrade() -> None:
    """Create the journal and the tables that are derived from it."""
    op.create_table(
        "billing_journal",
        *_columns("id account"),
        *_columns(count="number"),
        *_columns("kind at booked body hash"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("account", "number", name="billing_journal_number"),
    )
    op.create_index("billing_journal_at", "billing_journal", ["account", "at"])
    rare = sa.text("kind NOT IN ('hold', 'settle', 'release', 'charge', 'hold_expired')")
    op.create_index(
        "billing_journal_rare", "billing_journal", ["account", "at"], sqlite_where=rare, postgresql_where=rare
    )
    op.create_table(
        "billing_account",
        *_columns("id"),
        *_columns(count="number"),
        *_columns("head", amount="balance held owed"),
        *_columns(null="next_expiry"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "billing_lot",
        *_columns("id account", count="number"),
        *_columns("at", null="expires channel reference currency price"),
        *_columns(amount="credits remaining used expired returned paid recognised refunded", flag="live"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("channel", "reference", name="billing_lot_payment"),
    )
    live = sa.text("live = 1")
    op.create_index("billing_lot_live", "billing_lot", ["account"], sqlite_where=live, postgresql_where=live)
    op.create_index("billing_lot_account", "billing_lot", ["account"])
    op.create_table(
        "billing_hold",
        *_columns("id account", null="token", amount="credits"),
        *_columns("at expires state"),
        *_columns(null="resolved_by"),
        sa.PrimaryKeyConstraint("id"),
    )
    unresolved = sa.text("state = 'open'")
    op.create_index(
        "billing_hold_open", "billing_hold", ["account"], sqlite_where=unresolved, postgresql_where=unresolved
    )
    op.create_table(
        "billing_token",
        *_columns("id account hash name group_name"),
        *_columns(null="expires"),
        sa.Column("spending_limit", _AMOUNT, nullable=True),
        *_columns(flag="enabled"),
        *_columns(amount="spent held"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash", name="billing_token_hash"),
    )
    op.create_index("billing_token_account", "billing_token", ["account"])
    op.create_table(
        "billing_usage",
        *_columns("account quarter model token"),
        *_columns(count="requests estimated input_tokens cache_read_tokens output_tokens", amount="credits"),
        sa.PrimaryKeyConstraint("account", "quarter", "model", "token"),
    )
