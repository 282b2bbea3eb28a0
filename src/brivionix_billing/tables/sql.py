"""Rows of a database as lines of a usage file, read with SQLAlchemy."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.mappings import columns_of

if TYPE_CHECKING:
    from sqlalchemy import Engine

__all__ = ["open_query", "require_database"]

_ROWS = 10_000


@contextmanager
def open_query(url: str, query: str, options: TableOptions | None = None) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a usage file for the rows of a query. The database streams them, if it can.

    Raises ``missing_extra`` without SQLAlchemy, and ``file_unreadable`` if the database or the query fails or is no
    query. The message has no password.
    """
    try:
        import sqlalchemy
    except ImportError:
        raise missing_extra("usage from a database", "ledger", "export it as CSV") from None
    options = options or TableOptions()

    def lines() -> Generator[bytes, None, None]:
        try:
            engine = sqlalchemy.create_engine(url)
        except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError) as error:
            raise BillingError(
                "file_unreadable",
                f"the database of --db cannot be used: {_reason(error)}; write driver://user@host/name",
            ) from None
        require_database(engine)
        try:
            with engine.connect().execution_options(stream_results=True) as connection:
                if engine.dialect.name == "sqlite":
                    # SQLite commits DROP TABLE and its like at once. Other databases roll it back.
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                # A query has no parameters, so a colon in it (a time, a label) is only a colon.
                result = connection.execute(sqlalchemy.text(query.replace(":", r"\:")))
                if not result.returns_rows:
                    raise BillingError("file_unreadable", "the query returns no rows; write a SELECT")
                columns = columns_of(list(result.keys()), options)
                for batch in result.partitions(_ROWS):
                    for row in batch:
                        yield columns.line(row)
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise BillingError("file_unreadable", f"the query failed: {_reason(error)}") from None
        finally:
            engine.dispose()
        options.note_skipped()

    opened = lines()
    try:
        yield opened
    finally:
        opened.close()


def require_database(engine: Engine) -> None:
    """Raise ``file_unreadable`` if a file of SQLite does not exist. SQLite would create it, and find no table in it."""
    path = engine.url.database
    is_file = engine.dialect.name == "sqlite" and path and path != ":memory:" and not path.startswith("file:")
    if is_file and not os.path.exists(str(path)):
        # A URL may have a password, in whatever part of it.
        raise BillingError("file_unreadable", "there is no file at the path of --db; check the URL")


def _reason(error: Exception) -> str:
    """Return the first line of an error. Further lines of SQLAlchemy quote the statement."""
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
