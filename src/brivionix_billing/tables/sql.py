"""Rows of a database as lines of a usage file, read with SQLAlchemy."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

from brivionix_billing.errors import BillingError, missing_extra
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.mappings import columns_of

__all__ = ["open_query"]

_ROWS = 10_000


@contextmanager
def open_query(url: str, query: str, options: TableOptions | None = None) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a usage file for the rows of a query. The database streams them, if it can.

    Raises ``missing_extra`` without SQLAlchemy, and ``file_unreadable`` if the database or the query fails. The message
    has no password.
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
        try:
            with engine.connect().execution_options(stream_results=True) as connection:
                if engine.dialect.name == "sqlite":
                    # SQLite commits DROP TABLE and its like at once. Other databases roll it back.
                    connection.exec_driver_sql("PRAGMA query_only = ON")
                result = connection.execute(sqlalchemy.text(query))
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


def _reason(error: Exception) -> str:
    """Return the first line of an error. Further lines of SQLAlchemy quote the statement."""
    return (str(getattr(error, "orig", None) or error).splitlines() or [type(error).__name__])[0]
