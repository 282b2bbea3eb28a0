"""Add the table of archived entries. No entry is archived yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "billing_archive",
        sa.Column("account", _TEXT, nullable=False),
        sa.Column("through", _COUNT, nullable=False, autoincrement=False),
        *[sa.Column(name, _TEXT, nullable=False) for name in ("hash", "file")],
        *[sa.Column(name, _COUNT, nullable=False) for name in ("position", "length")],
        *[sa.Column(name, _TEXT, nullable=False) for name in ("digest", "state", "holds", "usage", "kept")],
        sa.PrimaryKeyConstraint("account", "through"),
    )
