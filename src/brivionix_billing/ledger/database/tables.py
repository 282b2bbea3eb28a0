"""The tables, as SQLAlchemy knows them. Migrations make them; see ``migrations/``.

Only ``billing_journal`` is the truth. All other tables are projections of it.
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
"""SQLite would make a float of a NUMERIC; as text it stays exact. Written with 18 digits behind the point in both."""
_COUNT: Final = BigInteger().with_variant(Integer(), "sqlite")


_TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Ids and times are compared byte by byte, whatever language the database speaks."""


def _text(name: str, *, key: bool = False, null: bool = False) -> Column[Any]:
    return Column(name, _TEXT, primary_key=key, nullable=null)


def _amount(name: str, *, null: bool = False) -> Column[Any]:
    return Column(name, _AMOUNT, nullable=null)


def _count(name: str) -> Column[Any]:
    return Column(name, _COUNT, nullable=False)


REQUEST_KINDS: Final = "'hold', 'settle', 'release', 'charge', 'hold_expired'"
"""The kinds of entries that every request makes. Statements sum up its usage by quarter, and read the others only."""
JOURNAL: Final = Table(
    "billing_journal",
    METADATA,
    _text("id", key=True),
    _text("account"),
    _count("number"),
    _text("kind"),
    _text("at"),
    _text("booked"),
    _text("body"),
    _text("hash"),
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
    _text("id", key=True),
    _count("number"),
    _text("head"),
    _amount("balance"),
    _amount("held"),
    _amount("owed"),
    _text("next_expiry", null=True),
)
LOT: Final = Table(
    "billing_lot",
    METADATA,
    _text("id", key=True),
    _text("account"),
    _count("number"),
    _text("at"),
    _text("expires", null=True),
    _text("channel", null=True),
    _text("reference", null=True),
    _text("currency", null=True),
    _text("price", null=True),
    _amount("credits"),
    _amount("remaining"),
    _amount("used"),
    _amount("expired"),
    _amount("returned"),
    _amount("paid"),
    _amount("recognised"),
    _amount("refunded"),
    Column("live", SmallInteger, nullable=False),
    UniqueConstraint("channel", "reference", name="billing_lot_payment"),
    Index("billing_lot_live", "account", sqlite_where=text("live = 1"), postgresql_where=text("live = 1")),
    Index("billing_lot_account", "account"),
)
HOLD: Final = Table(
    "billing_hold",
    METADATA,
    _text("id", key=True),
    _text("account"),
    _text("token", null=True),
    _amount("credits"),
    _text("at"),
    _text("expires"),
    _text("state"),
    _text("resolved_by", null=True),
    Index("billing_hold_open", "account", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
)
TOKEN: Final = Table(
    "billing_token",
    METADATA,
    _text("id", key=True),
    _text("account"),
    _text("hash"),
    _text("name"),
    _text("group_name"),
    _text("expires", null=True),
    _amount("spending_limit", null=True),
    Column("enabled", SmallInteger, nullable=False),
    _amount("spent"),
    _amount("held"),
    UniqueConstraint("hash", name="billing_token_hash"),
    Index("billing_token_account", "account"),
)
USAGE: Final = Table(
    "billing_usage",
    METADATA,
    _text("account", key=True),
    _text("quarter", key=True),
    _text("model", key=True),
    _text("token", key=True),
    _count("requests"),
    _count("estimated"),
    _count("input_tokens"),
    _count("cache_read_tokens"),
    _count("output_tokens"),
    _amount("credits"),
)
