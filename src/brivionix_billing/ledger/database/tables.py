"""The tables as SQLAlchemy metadata. The scripts in ``migrations/`` create them.

``billing_journal`` is the source of truth and is append-only. All other tables are projections of it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = ["REQUEST_KINDS", "METADATA", "VERSION_TABLE"]

METADATA: Final = MetaData()
VERSION_TABLE: Final = "billing_version"

_AMOUNT: Final = Numeric(48, 18).with_variant(Text(), "sqlite")
"""SQLite would convert a NUMERIC to a float, so it has text. Both are written with 18 decimal places."""
_COUNT: Final = BigInteger().with_variant(Integer(), "sqlite")


_TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Ids and timestamps are compared byte by byte, independent of the locale of the database."""


def _text_column(name: str, *, key: bool = False, null: bool = False) -> Column[Any]:
    return Column(name, _TEXT, primary_key=key, nullable=null)


def _amount_column(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, _AMOUNT, nullable=null)


def _count_column(name: str) -> Column[Any]:
    return Column(name, _COUNT, nullable=False)


REQUEST_KINDS: Final = "'hold', 'settle', 'release', 'charge', 'hold_expired'"
"""Kinds of entries that requests post. A statement reads sums of usage instead of them, and only the other entries."""
JOURNAL: Final = Table(
    "billing_journal",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _count_column("number"),
    _text_column("kind"),
    _text_column("at"),
    _text_column("booked"),
    _text_column("body"),
    _text_column("hash"),
    UniqueConstraint("account", "number", name="billing_journal_number"),
    Index("billing_journal_at", "account", "at"),
    Index(
        "billing_journal_rare",
        "account",
        "at",
        sqlite_where=text(f"kind NOT IN ({REQUEST_KINDS})"),
        postgresql_where=text(f"kind NOT IN ({REQUEST_KINDS})"),
    ),
)
ACCOUNT: Final = Table(
    "billing_account",
    METADATA,
    _text_column("id", key=True),
    _count_column("number"),
    _text_column("head"),
    _amount_column("balance"),
    _amount_column("held"),
    _amount_column("owed"),
    _text_column("next_expiry", null=True),
    _text_column("frozen_at", null=True),
    Column("limits", _COUNT, nullable=True),
    _amount_column("restricted", null=True),
    Column("signals", _COUNT, nullable=True),
    _text_column("subscription", null=True),
)
ARCHIVE: Final = Table(
    "billing_archive",
    METADATA,
    _text_column("account", key=True),
    Column("through", _COUNT, primary_key=True, nullable=False, autoincrement=False),
    *[_text_column(name) for name in ("hash", "file")],
    *[_count_column(name) for name in ("position", "length")],
    *[_text_column(name) for name in ("digest", "state", "holds", "usage", "kept")],
)
LOT: Final = Table(
    "billing_lot",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _count_column("number"),
    _text_column("at"),
    _text_column("expires", null=True),
    _text_column("channel", null=True),
    _text_column("reference", null=True),
    _text_column("currency", null=True),
    _text_column("price", null=True),
    _amount_column("credits"),
    _amount_column("remaining"),
    _amount_column("used"),
    _amount_column("expired"),
    _amount_column("returned"),
    _amount_column("paid"),
    _amount_column("recognised"),
    _amount_column("refunded"),
    Column("live", SmallInteger, nullable=False),
    _text_column("restriction", null=True),
    Column("priority", SmallInteger, nullable=True),
    _amount_column("moved", null=True),
    _amount_column("moved_paid", null=True),
    _text_column("origin", null=True),
    _text_column("plan", null=True),
    UniqueConstraint("channel", "reference", name="billing_lot_payment"),
    Index("billing_lot_live", "account", sqlite_where=text("live = 1"), postgresql_where=text("live = 1")),
    Index("billing_lot_account", "account"),
    Index(
        "billing_lot_origin",
        "origin",
        sqlite_where=text("origin IS NOT NULL"),
        postgresql_where=text("origin IS NOT NULL"),
    ),
)
UNCHARGED_HOLD: Final = "state IN ('released', 'expired')"
"""Holds whose requests were not charged. Requests of a token are found by an index of them, and by the usage."""
HOLD: Final = Table(
    "billing_hold",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("token", null=True),
    _amount_column("credits"),
    _text_column("at"),
    _text_column("expires"),
    _text_column("state"),
    _text_column("resolved_by", null=True),
    _text_column("counted", null=True),
    _text_column("scope", null=True),
    _text_column("member", null=True),
    Index("billing_hold_open", "account", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    Index(
        "billing_hold_uncharged",
        *("account", "token", "at"),
        sqlite_where=text(UNCHARGED_HOLD),
        postgresql_where=text(UNCHARGED_HOLD),
    ),
    Index(
        "billing_hold_member",
        *("account", "member", "at"),
        sqlite_where=text(f"member IS NOT NULL AND {UNCHARGED_HOLD}"),
        postgresql_where=text(f"member IS NOT NULL AND {UNCHARGED_HOLD}"),
    ),
)
PAYMENT: Final = Table(
    "billing_payment",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("currency"),
    _amount_column("gross"),
    _amount_column("tax"),
    _amount_column("fee"),
    _amount_column("coupon"),
    _amount_column("tax_refunded"),
    _text_column("order_id", null=True),
    _amount_column("tax_moved", null=True),
    Index("billing_payment_account", "account"),
)
ORDER: Final = Table(
    "billing_order",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("channel"),
    _text_column("currency"),
    _amount_column("credits"),
    _amount_column("pay"),
    _amount_column("tax"),
    _text_column("price"),
    _text_column("at"),
    _text_column("expires"),
    _text_column("state"),
    _amount_column("received"),
    _amount_column("credited"),
    *[_text_column(name, null=True) for name in ("subscription", "starts", "ends")],
    Index("billing_order_account", "account"),
)
TOKEN: Final = Table(
    "billing_token",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("hash"),
    _text_column("name"),
    _text_column("group_name"),
    _text_column("expires", null=True),
    _amount_column("spending_limit", null=True),
    Column("enabled", SmallInteger, nullable=False),
    _amount_column("spent"),
    _amount_column("held"),
    _text_column("previous_hash", null=True),
    _text_column("previous_expires", null=True),
    _text_column("member", null=True),
    UniqueConstraint("hash", name="billing_token_hash"),
    Index(
        "billing_token_previous",
        "previous_hash",
        unique=True,
        sqlite_where=text("previous_hash IS NOT NULL"),
        postgresql_where=text("previous_hash IS NOT NULL"),
    ),
    Index("billing_token_account", "account"),
)
USAGE: Final = Table(
    "billing_usage",
    METADATA,
    _text_column("account", key=True),
    _text_column("quarter_hour", key=True),
    _text_column("model", key=True),
    _text_column("token", key=True),
    _text_column("member", key=True),
    _count_column("requests"),
    _count_column("estimated"),
    _count_column("input_tokens"),
    _count_column("cache_read_tokens"),
    _count_column("output_tokens"),
    _amount_column("credits"),
)
MEMBER: Final = Table(
    "billing_member",
    METADATA,
    _text_column("account", key=True),
    _text_column("id", key=True),
    _text_column("state"),
    _text_column("joined"),
    _text_column("changed"),
)
LIMIT: Final = Table(
    "billing_limit",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("name"),
    _text_column("token", null=True),
    _text_column("tag", null=True),
    _text_column("unit"),
    _text_column("window_name"),
    _text_column("zone"),
    _amount_column("amount"),
    Column("active", SmallInteger, nullable=False),
    _text_column("member", null=True),
    Index(
        "billing_limit_active",
        *("account", "member"),
        sqlite_where=text("active = 1"),
        postgresql_where=text("active = 1"),
    ),
)
COUNTER: Final = Table(
    "billing_counter",
    METADATA,
    _text_column("limit_id", key=True),
    _text_column("starts", key=True),
    _text_column("account"),
    _amount_column("used"),
    Index("billing_counter_account", "account"),
)
SIGNAL_SETTING: Final = Table(
    "billing_signal_setting",
    METADATA,
    _text_column("account", key=True),
    _text_column("name", key=True),
    _text_column("kind"),
    _amount_column("threshold"),
    _amount_column("credits"),
    _amount_column("cap", null=True),
    _text_column("zone"),
    _text_column("limit_name", null=True),
    Column("active", SmallInteger, nullable=False),
    _text_column("quiet", null=True),
    _text_column("month", null=True),
    _amount_column("month_credits"),
    _text_column("member", null=True),
    Index(
        "billing_signal_setting_active",
        *("account", "member"),
        sqlite_where=text("active = 1"),
        postgresql_where=text("active = 1"),
    ),
)
SIGNAL: Final = Table(
    "billing_signal",
    METADATA,
    _text_column("account", key=True),
    Column("number", _COUNT, primary_key=True, nullable=False, autoincrement=False),
    _text_column("name"),
    _text_column("kind"),
    _text_column("at"),
    _text_column("operation"),
    _text_column("content"),
    _text_column("acknowledged_by", null=True),
    _text_column("leased_until", null=True),
    Index(
        "billing_signal_pending",
        *("account", "number"),
        sqlite_where=text("acknowledged_by IS NULL"),
        postgresql_where=text("acknowledged_by IS NULL"),
    ),
)
SUBSCRIPTION: Final = Table(
    "billing_subscription",
    METADATA,
    _text_column("id", key=True),
    _text_column("account"),
    _text_column("at"),
    _text_column("terms"),
    *[_text_column(name, null=True) for name in ("next_terms", "anchor", "starts", "ends", "since")],
    _text_column("lots"),
    *[_text_column(name, null=True) for name in ("order_id", "cancelled_at")],
    Index("billing_subscription_account", "account"),
    Index(
        "billing_subscription_due",
        *("ends", "id"),
        sqlite_where=text("cancelled_at IS NULL"),
        postgresql_where=text("cancelled_at IS NULL"),
    ),
)
