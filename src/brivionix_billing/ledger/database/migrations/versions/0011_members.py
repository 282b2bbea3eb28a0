"""Add members of accounts, which have their own tokens, limits, requests and usage. No account has any yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_AMOUNT = sa.Numeric(48, 18).with_variant(sa.Text(), "sqlite")
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_KEYS = ("account", "quarter_hour", "model", "token", "member")
_COUNTS = ("requests", "estimated", "input_tokens", "cache_read_tokens", "output_tokens")


def upgrade() -> None:
    """Create the table and the columns, and make the member a part of the key of the usage."""
    op.create_table(
        "billing_member",
        *[sa.Column(name, _TEXT, nullable=False) for name in ("account", "id", "state", "joined", "changed")],
        sa.PrimaryKeyConstraint("account", "id"),
    )
    for table in ("billing_token", "billing_hold", "billing_limit", "billing_signal_setting"):
        op.add_column(table, sa.Column("member", _TEXT, nullable=True))
    op.drop_index("billing_limit_active", "billing_limit")
    for name, table in (
        ("billing_limit_active", "billing_limit"),
        ("billing_signal_setting_active", "billing_signal_setting"),
    ):
        _create_partial_index(name, table, ["account", "member"], "active = 1")
    uncharged = "member IS NOT NULL AND state IN ('released', 'expired')"
    _create_partial_index("billing_hold_member", "billing_hold", ["account", "member", "at"], uncharged)
    if op.get_bind().dialect.name == "postgresql":
        # A new table would not have the grants of the old one.
        op.add_column("billing_usage", sa.Column("member", _TEXT, nullable=False, server_default=""))
        op.alter_column("billing_usage", "member", server_default=None)
        op.drop_constraint("billing_usage_pkey", "billing_usage", type_="primary")
        op.create_primary_key("billing_usage_pkey", "billing_usage", list(_KEYS))
        return
    op.rename_table("billing_usage", "billing_usage_before")
    op.create_table(
        "billing_usage",
        *[sa.Column(name, _TEXT, nullable=False) for name in _KEYS],
        *[sa.Column(name, _COUNT, nullable=False) for name in _COUNTS],
        sa.Column("credits", _AMOUNT, nullable=False),
        sa.PrimaryKeyConstraint(*_KEYS),
    )
    names = ", ".join((*_KEYS[:-1], *_COUNTS, "credits"))
    op.execute(f"INSERT INTO billing_usage ({names}, member) SELECT {names}, '' FROM billing_usage_before")  # noqa: S608
    op.drop_table("billing_usage_before")


def _create_partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
