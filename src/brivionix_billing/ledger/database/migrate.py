"""Migrations of the tables, with Alembic. The tables may share a database with those of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.database.tables import VERSION_TABLE

__all__ = ["SCHEMA_VERSION", "check_version", "migrate", "migrate_or_check", "schema_version"]

SCHEMA_VERSION: Final = "0012"
"""The version of the tables that this library uses."""

_NEWER: Final = "the ledger is newer than the library; install the version that migrated it"
_FOLDER: Final = Path(__file__).parent / "migrations"
_LOCK_ID: Final = 7302469081
"""Id of the advisory lock of PostgreSQL for migrations."""


def schema_version(connection: Connection) -> str | None:
    """Return the version of the tables, or ``None`` if there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608  # a constant
    return None if version is None else str(version)


def migrate_or_check(connection: Connection) -> None:
    """Create the tables if there are none. Raises ``ledger_version`` if they have another version."""
    if schema_version(connection) is None:
        migrate(connection)
    check_version(connection)


def check_version(connection: Connection) -> None:
    """Raise ``ledger_version`` if the tables are missing or have another version."""
    version = schema_version(connection)
    if version is None:
        raise BillingError("ledger_version", "the database has no ledger; run brivionix-billing ledger migrate")
    if version != SCHEMA_VERSION:
        raise BillingError(
            "ledger_version",
            f"the ledger has tables of version {safe_repr(version)}, but the library uses {SCHEMA_VERSION}: "
            + (_NEWER if version > SCHEMA_VERSION else "make a backup, then run brivionix-billing ledger migrate"),
        )


def migrate(connection: Connection) -> None:
    """Migrate the tables to :data:`SCHEMA_VERSION`, in the transaction of the connection."""
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        # Processes that start at the same time must not create the tables twice.
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
    version = schema_version(connection)
    if version is not None and version > SCHEMA_VERSION:
        raise BillingError("ledger_version", f"the ledger has tables of version {safe_repr(version)}: {_NEWER}")
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
