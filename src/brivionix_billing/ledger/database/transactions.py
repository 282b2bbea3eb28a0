"""Transactions of the ledger: begun so that nothing is read that may change, and tried again where that costs nothing.

Every operation has an id and is done at most once, so trying it again is always safe: after a deadlock, a lock that
took too long, or a connection that broke while nobody knows whether the commit arrived.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, PoolProxiedConnection, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.database.engine import (
    IDLE_WRITERS,
    MAX_IDLE_WRITERS,
    READ_ONLY,
    begin,
    begin_immediate,
    database_error,
    is_busy,
    take_idle_writer,
)

__all__ = ["run_in_transaction", "run_read", "run_transaction", "run_write"]

T = TypeVar("T")
_MAX_ATTEMPTS: Final = 12
_UNIQUE_VIOLATION: Final = "23505"
_RETRYABLE_SQLSTATES: Final = frozenset({"40001", "40P01", _UNIQUE_VIOLATION})
"""PostgreSQL: could not serialize; deadlock; another was quicker with the same payment, and the next try sees it."""


def run_transaction(engine: Engine, work: Callable[[Connection], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """Do ``work`` in a transaction of its own, again if it could not be done through no fault of its own.

    Raises ``ledger_unavailable``.
    """
    for left in reversed(range(_MAX_ATTEMPTS)):
        try:
            with engine.begin() as connection:
                return translate_driver_errors(engine, connection, work)
        except _RetryError as again:
            failed: BaseException = again.error
        except DBAPIError as error:
            if not _is_transient(engine, error.orig, error.connection_invalidated):
                raise database_error(error) from error
            failed = error
        except SQLAlchemyError as error:  # such as a pool that had no connection left, after waiting for one
            raise database_error(error) from error
        _back_off(left, failed, sleep)
    raise AssertionError("unreachable")


def _back_off(left: int, failed: BaseException, sleep: Callable[[float], None]) -> None:
    """Before the next try. Those who collided must not collide again: they wait unequally long."""
    if not left:
        raise database_error(failed) from failed
    sleep(random.uniform(0.001, 0.02) * (_MAX_ATTEMPTS - left))  # noqa: S311  # no secret


def run_write(engine: Engine, work: Callable[[Any], T], sleep: Callable[[float], None] = time.sleep) -> T:
    """The same for ``work`` that needs no more than a cursor of the driver: what every request does, so it is short.

    It takes the connection out of the engine's pool and asks the driver itself to begin and commit. What SQLAlchemy
    would do in between takes as long as the statements of a hold.
    """
    errors: Any = engine.dialect.dbapi
    locks = engine.dialect.name == "sqlite"
    kept = IDLE_WRITERS.get(engine)
    for left in reversed(range(_MAX_ATTEMPTS)):
        connection = None
        try:
            connection = take_idle_writer(kept) or engine.raw_connection()
            cursor = connection.cursor()
            if locks:
                begin_immediate(cursor.execute)
            done = work(cursor)
            connection.commit()
            if kept is not None and len(kept) < MAX_IDLE_WRITERS:
                kept.append(connection)
                connection = None
            return done
        except errors.Error as error:
            if not _is_retryable(engine, connection, error):
                raise database_error(error) from error
            failed: BaseException = error
        except SQLAlchemyError as error:  # such as a pool that had no connection left, after waiting for one
            raise database_error(error) from error
        finally:
            if connection is not None:
                connection.close()  # back to the pool, which rolls back what was not committed
        _back_off(left, failed, sleep)
    raise AssertionError("unreachable")


def run_read(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Read from one state of the database."""
    options: dict[str, Any] = {READ_ONLY: True}
    if engine.dialect.name == "postgresql":
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return run_transaction(engine.execution_options(**options), work)


class _RetryError(Exception):
    def __init__(self, error: BaseException) -> None:
        self.error = error


def translate_driver_errors(engine: Engine, connection: Connection, work: Callable[[Connection], T]) -> T:
    """Errors of the driver itself as SQLAlchemy would tell them: the ledger goes straight to its cursor."""
    errors: Any = engine.dialect.dbapi
    try:
        return work(connection)
    except errors.Error as error:
        if _is_retryable(engine, connection.connection, error):
            raise _RetryError(error) from error
        raise database_error(error) from error


def _is_retryable(engine: Engine, connection: PoolProxiedConnection | None, error: Any) -> bool:
    """Whether it may go well the next time. A connection that broke leaves the pool."""
    if connection is None:
        return _is_transient(engine, error, False)
    gone = engine.dialect.is_disconnect(error, connection.dbapi_connection, None)
    if gone:
        connection.invalidate(error)
    return _is_transient(engine, error, gone)


def _is_transient(engine: Engine, error: BaseException | None, gone: bool) -> bool:
    """Whether it may go well the next time."""
    if gone:
        return True
    if engine.dialect.name == "sqlite":
        return is_busy(error)
    return getattr(error, "sqlstate", None) in _RETRYABLE_SQLSTATES


def run_in_transaction(connection: Connection, work: Callable[[Connection], T]) -> T:
    """Do ``work`` in the caller's transaction, all of it or nothing.

    Raises ``invalid_argument`` for a connection that it could not be sure on, ``ledger_unavailable``.
    """
    if not isinstance(connection, Connection):
        raise BillingError(
            "invalid_argument",
            f"connection= is a {type(connection).__name__}; give a Connection of SQLAlchemy (session.connection())",
        )
    if not connection.in_transaction():
        raise BillingError(
            "invalid_argument", "connection= is in no transaction; use: with engine.begin() as connection"
        )
    if connection.dialect.name == "sqlite":
        if not event.contains(connection.engine, "begin", begin):
            raise BillingError(
                "invalid_argument", "connection= is of an engine that is not made fit: prepare(engine) once"
            )
    elif getattr(connection.connection.dbapi_connection, "autocommit", False):
        raise BillingError(
            "invalid_argument", "connection= commits by itself (AUTOCOMMIT); nothing would be held together"
        )
    for left in (1, 0):
        try:
            with connection.begin_nested():
                return translate_driver_errors(connection.engine, connection, work)
        except _RetryError as again:
            if not left or getattr(again.error, "sqlstate", None) != _UNIQUE_VIOLATION:
                raise database_error(again.error) from again.error
        except DBAPIError as error:
            raise database_error(error) from error
    raise AssertionError("unreachable")
