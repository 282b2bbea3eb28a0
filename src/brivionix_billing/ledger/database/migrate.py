"""From one version of the tables to the next, with Alembic. The tables may stand beside a gateway's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.tables import VERSION_TABLE

__all__ = ["SCHEMA_VERSION", "check_version", "migrate", "migrate_or_check"]

SCHEMA_VERSION: Final = "0002"
"""The version of the tables that this library works on."""

_NEWER: Final = "the library is older than the ledger; install the version that made it"
_HERE: Final = Path(__file__).parent / "migrations"


def schema_version(connection: Connection) -> str | None:
    """The version of the tables, or ``None``: there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608  # a constant
    return None if found is None else str(found)


def migrate_or_check(connection: Connection) -> None:
    """Make the tables where there are none. Raises ``ledger_version`` for those of another version."""
    if schema_version(connection) is None:
        migrate(connection)
    check_version(connection)


def check_version(connection: Connection) -> None:
    """Raises ``ledger_version`` for tables of another version, or none."""
    found = schema_version(connection)
    if found is None:
        raise BillingError("ledger_version", "this database has no ledger yet: brivionix-billing ledger migrate")
    if found != SCHEMA_VERSION:
        raise BillingError(
            "ledger_version",
            f"the tables of this ledger are of version {safe_repr(found)}, and this library works on {SCHEMA_VERSION}: "
            + (_NEWER if found > SCHEMA_VERSION else "make a backup, then: brivionix-billing ledger migrate"),
        )


def migrate(connection: Connection) -> None:
    """Bring the tables to :data:`HEAD`, within the transaction of the connection."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # Two processes that start at once must not both make the tables.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7302469081)")
    found = schema_version(connection)
    if found is not None and found > SCHEMA_VERSION:
        raise BillingError("ledger_version", f"the tables of this ledger are of version {safe_repr(found)}: {_NEWER}")
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
