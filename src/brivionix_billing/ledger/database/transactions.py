"""Transactions of the ledger, with retries after transient errors.

Every operation is idempotent, so a retry is always safe: after a deadlock, a lock timeout, or a connection that broke
during the commit.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.database.engine import (
    READ_ONLY,
    begin_immediate,
    database_error,
    idle_writers,
    is_busy,
    is_prepared,
    keep_writer,
    take_writer,
)

__all__ = [
    "SharedTransaction",
    "UndoError",
    "run_in_transaction",
    "run_lookup",
    "run_read",
    "run_transaction",
    "run_write",
]

T = TypeVar("T")
_MAX_ATTEMPTS: Final = 12
_UNIQUE_VIOLATION: Final = "23505"
_READ_ONLY_TRANSACTION: Final = "25006"
_RETRYABLE_SQLSTATES: Final = frozenset({"40001", "40P01", _UNIQUE_VIOLATION})
"""PostgreSQL: serialization failure; deadlock; a concurrent operation credited the same payment, which a retry sees."""


def run_transaction(engine: Engine, work: Callable[[Connection], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run ``work`` in a transaction of its own, with retries after transient errors. Raises ``ledger_unavailable``."""
    for attempts_left in reversed(range(_MAX_ATTEMPTS)):
        try:
            with engine.begin() as connection:
                return _translate_driver_errors(engine, connection, work)
        except _TransientError as transient:
            failure: BaseException = transient.error
        except DBAPIError as error:
            if not _is_transient(engine, error.orig, error.connection_invalidated):
                raise database_error(error) from error
            failure = error
        except SQLAlchemyError as error:  # for example, the pool had no free connection within its timeout
            raise database_error(error) from error
        _back_off(attempts_left, failure, sleep)
    raise AssertionError("unreachable")


def _back_off(attempts_left: int, failure: BaseException, sleep: Callable[[float], None]) -> None:
    """Wait before the next attempt, for a random time, so that colliding operations do not collide again."""
    if not attempts_left:
        raise database_error(failure) from failure
    sleep(random.uniform(0.001, 0.02) * (_MAX_ATTEMPTS - attempts_left))  # noqa: S311  # not a secret


def run_write(engine: Engine, work: Callable[[Any], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run ``work`` on a cursor of the driver, in a transaction of its own, with retries after transient errors.

    Every request uses this function, so it bypasses SQLAlchemy: it takes a connection and lets the driver begin and
    commit. SQLAlchemy's own steps would take as long as the statements of a hold. Raises ``ledger_unavailable``.
    """
    return _run_on_cursor(engine, work, sleep, locks=engine.dialect.name == "sqlite")


def run_lookup(engine: Engine, work: Callable[[Any], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Run ``work``, which executes one query, on a cursor of the driver; with retries as :func:`run_write`.

    A single query sees one state of the database without a transaction around it. Raises ``ledger_unavailable``.
    """
    return _run_on_cursor(engine, work, sleep, locks=False)


def _run_on_cursor(engine: Engine, work: Callable[[Any], T], sleep: Callable[[float], None], *, locks: bool) -> T:
    errors: Any = engine.dialect.dbapi
    idle = idle_writers(engine)
    for attempts_left in reversed(range(_MAX_ATTEMPTS)):
        connection = None
        try:
            connection = take_writer(engine, idle)
            cursor = connection.cursor()
            if locks:
                begin_immediate(cursor.execute)
            result = work(cursor)
            connection.commit()
            if keep_writer(idle, connection):
                connection = None
            return result
        except errors.Error as error:
            if not _is_retryable(engine, connection, error):
                raise database_error(error) from error
            failure: BaseException = error
        except SQLAlchemyError as error:  # for example, the pool had no free connection within its timeout
            raise database_error(error) from error
        finally:
            if connection is not None:
                connection.close()  # returns it to the pool, which rolls back an open transaction
        _back_off(attempts_left, failure, sleep)
    raise AssertionError("unreachable")


class UndoError(Exception):
    """An operation failed after it had written, and has no savepoint: the shared transaction must be rolled back."""


class SharedTransaction:
    """A transaction of :func:`run_write` on SQLite that several operations share.

    With ``savepoints``, each operation is under its own. Usually an operation that fails has written nothing, so that
    none is needed, and the copies that SQLite keeps of changed pages for savepoints are saved.
    """

    __slots__ = ("_cursor", "_savepoints")

    def __init__(self, cursor: Any, *, savepoints: bool) -> None:
        self._cursor, self._savepoints = cursor, savepoints

    def run(self, work: Callable[[Any], T]) -> T:
        """Run ``work``. If it raises a :class:`BillingError`, it has changed nothing, and the transaction goes on.

        After any other error, such as :class:`UndoError` or a full disk, the transaction must be rolled back.
        """
        return self._run_with_savepoint(work) if self._savepoints else self._run_without_savepoint(work)

    def _run_without_savepoint(self, work: Callable[[Any], T]) -> T:
        changes = self._cursor.connection.total_changes
        try:
            return work(self._cursor)
        except BillingError as error:
            if self._cursor.connection.total_changes != changes:
                raise UndoError from error
            raise

    def _run_with_savepoint(self, work: Callable[[Any], T]) -> T:
        execute = self._cursor.execute
        execute("SAVEPOINT operation")
        try:
            result = work(self._cursor)
        except BillingError:
            execute("ROLLBACK TO operation")
            execute("RELEASE operation")
            raise
        execute("RELEASE operation")
        return result

    def look_up(self, work: Callable[[Any], T]) -> T:
        """Run ``work``, which executes one query."""
        return work(self._cursor)


def run_read(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Run ``work`` in a read transaction, which sees one state of the database. Raises ``ledger_unavailable``."""
    options: dict[str, Any] = {READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return run_transaction(engine.execution_options(**options), work)


def run_in_transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Run ``work`` in the caller's transaction, under a savepoint.

    Raises ``ledger_unavailable``, and ``invalid_argument`` if the connection cannot guarantee a transaction.
    """
    if not isinstance(connection, Connection):
        raise BillingError(
            "invalid_argument",
            f"connection= is a {type(connection).__name__}; use a SQLAlchemy Connection, such as session.connection()",
        )
    if not connection.in_transaction():
        raise BillingError(
            "invalid_argument", "connection= is in no transaction; use: with engine.begin() as connection"
        )
    if connection.dialect.name == "sqlite":
        if not is_prepared(connection.engine):
            raise BillingError(
                "invalid_argument", "the engine of connection= is not prepared; call prepare_engine(engine) once"
            )
    elif getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise BillingError(
            "invalid_argument", "connection= commits every statement (AUTOCOMMIT); use another isolation level"
        )
    for attempts_left in (1, 0):
        try:
            with connection.begin_nested():
                return _translate_driver_errors(connection.engine, connection, work)
        except _TransientError as transient:
            # A unique violation affects only the savepoint. After other errors, the caller must retry the transaction.
            if not attempts_left or getattr(transient.error, "sqlstate", None) != _UNIQUE_VIOLATION:
                raise database_error(transient.error) from transient.error
        except DBAPIError as error:
            raise database_error(error) from error
    raise AssertionError("unreachable")


class _TransientError(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _translate_driver_errors(engine: Engine, connection: Connection, work: Callable[[Connection], T]) -> T:
    """Run ``work``, and translate the driver's errors: the ledger uses its cursor, without SQLAlchemy in between."""
    errors: Any = engine.dialect.dbapi
    try:
        return work(connection)
    except errors.Error as error:
        if _is_retryable(engine, connection.connection, error):
            raise _TransientError(error) from error
        raise database_error(error) from error


def _is_retryable(engine: Engine, connection: PoolProxiedConnection | None, error: Any) -> bool:
    """Return whether a retry may succeed. Removes a broken connection from the pool."""
    if connection is None:
        return _is_transient(engine, error, False)
    is_disconnect = engine.dialect.is_disconnect(error, connection.dbapi_connection, None)
    if getattr(error, "sqlstate", None) == _READ_ONLY_TRANSACTION and connection.dbapi_connection is not None:
        # After a failover, the old primary is read-only. Another connection may reach the new one.
        is_disconnect = not getattr(connection.dbapi_connection, "read_only", None)
    if is_disconnect:
        connection.invalidate(error)
    return _is_transient(engine, error, is_disconnect)


def _is_transient(engine: Engine, error: BaseException | None, is_disconnect: bool) -> bool:
    """Return whether an error of the driver is transient."""
    if is_disconnect:
        return True
    if engine.dialect.name == "sqlite":
        return is_busy(error)
    return getattr(error, "sqlstate", None) in _RETRYABLE_SQLSTATES
