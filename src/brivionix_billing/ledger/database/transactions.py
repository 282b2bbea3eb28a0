"""Transactions of the ledger: begun so that nothing is read that may change, and tried again where that costs nothing.

Every operation has an id and is done at most once, so trying it again is always safe: after a deadlock, a lock that
took too long, or a connection that broke while nobody knows whether the commit arrived.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InvalidatePoolError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "close",
    "create_ledger_engine",
    "require_existing_file",
    "prepare_engine",
    "run_read",
    "run_transaction",
    "run_in_transaction",
    "run_write",
]

T = TypeVar("T")
_MAX_ATTEMPTS: Final = 12
_READ: Final = "brivionix_read"
_IMMEDIATE: Final = "BEGIN IMMEDIATE"
_SINCE: Final = "brivionix_since"
_IDLE_SECONDS: Final = 1.0
"""Seconds after which a connection to PostgreSQL is not trusted to be there."""
_UNIQUE_VIOLATION: Final = "23505"
_RETRYABLE_SQLSTATES: Final = frozenset({"40001", "40P01", _UNIQUE_VIOLATION})
"""PostgreSQL: could not serialize; deadlock; another was quicker with the same payment, and the next try sees it."""
_LOCK_TIMEOUT_SECONDS: Final = 10.0
"""Seconds to wait for another transaction, on SQLite for any, on PostgreSQL for one that has the account."""
_MIN_POLL_SECONDS: Final = 0.001
_MAX_POLL_SECONDS: Final = 0.016
"""Seconds between two looks whether it is over: at the most, at first and later."""


def create_ledger_engine(url: str, *, synchronous: str = "FULL", **options: Any) -> Engine:
    """An engine for a database URL, or for the path of a SQLite file. Raises ``invalid_argument``, ``missing_extra``.

    ``synchronous`` is SQLite's: with ``FULL`` a commit is on disk before it returns; with ``NORMAL`` the machine losing
    power (not the process being killed) may lose the last ones, and never breaks the file.
    """
    url = str(url)
    if "://" not in url:
        if "@" in url:
            raise BillingError(
                "invalid_argument", "not the URL of a database: it has a user, and no scheme such as postgresql://"
            )
        url = f"sqlite:///{url}"
    try:
        if not url.isprintable():
            raise ValueError
        if make_url(url).get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError
        if make_url(url).drivername == "postgresql":
            url = "postgresql+psycopg" + url[len("postgresql") :]
        file = url.startswith("sqlite") and "poolclass" not in options
        if url.startswith("sqlite") and make_url(url).database in (None, "", ":memory:"):
            # It lives in its one connection: threads take turns.
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, **options}
            options["connect_args"] = {"check_same_thread": False, **options.get("connect_args", {})}
            file = False
        engine = create_engine(url, **options)
    except (ArgumentError, NoSuchModuleError, ValueError, TypeError):
        raise BillingError(
            "invalid_argument", "not the URL of a database: write sqlite:///ledger.db or postgresql://user@host/name"
        ) from None
    except ImportError as error:
        raise BillingError(
            "missing_extra",
            f"{error.name} is not installed; the ledger uses psycopg: write postgresql://, and "
            "pip install 'brivionix-billing[postgresql]'",
        ) from None
    prepare_engine(engine, synchronous=synchronous)
    _ENGINES.add(engine)
    if file:
        _IDLE_WRITERS[engine] = []
    if engine.dialect.name == "postgresql":
        _ping_idle(engine)
        event.listen(engine, "connect", _set_lock_timeout)
    return engine


_ENGINES: Final[WeakSet[Engine]] = WeakSet()
_IDLE_WRITERS: Final[WeakKeyDictionary[Engine, list[PoolProxiedConnection]]] = WeakKeyDictionary()
"""Of engines on SQLite files: connections that have written and lie ready. To put them into SQLAlchemy's pool and take
them out again takes a tenth of what the ledger does for a request."""
_MAX_IDLE_WRITERS: Final = 2
"""One writes at a time; and the pool must not run out of connections to read on."""
_ABANDONED_CONNECTIONS: Final[list[Any]] = []


def _take_idle_writer(kept: list[PoolProxiedConnection] | None) -> PoolProxiedConnection | None:
    try:
        return kept.pop() if kept else None
    except IndexError:  # another thread was quicker
        return None


def _abandon_after_fork() -> None:
    """A process that was forked off must not talk over its parent's connections."""
    for engine in list(_ENGINES):
        kept = _IDLE_WRITERS.get(engine, [])
        _ABANDONED_CONNECTIONS.extend(
            kept
        )  # not even closed: that would tell the file's other readers that they are gone
        kept.clear()
        engine.dispose(close=False)


def close(engine: Engine) -> None:
    """Close all connections of an engine."""
    kept = _IDLE_WRITERS.get(engine, [])
    while kept:
        kept.pop().close()
    engine.dispose()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_after_fork)


def require_existing_file(url: str) -> None:
    """Raises ``ledger_version`` for the file of a SQLite database that is not there: opening it would make it."""
    path = url.removeprefix("sqlite:///")
    if (
        ("://" not in url or path != url)
        and path not in ("", ":memory:")
        and not os.path.exists(path.partition("?")[0])
    ):
        raise BillingError("ledger_version", f"there is no ledger {safe_repr(path)}: brivionix-billing ledger migrate")


def _set_lock_timeout(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = {int(_LOCK_TIMEOUT_SECONDS * 1000)}")
    connection.commit()


def _ping_idle(engine: Engine) -> None:
    """Ask the server whether it is still there before a connection is used that has lain idle for a while.

    Asking each time, as SQLAlchemy's ``pool_pre_ping`` does, costs as much as two statements. Of a connection that was
    used just now, the first statement tells; the operation is then done again on another, and those that were used
    before that are asked as well.
    """
    lost = 0.0

    @event.listens_for(engine, "invalidate")
    def invalidate(_connection: Any, _record: ConnectionPoolEntry, _error: BaseException | None) -> None:
        nonlocal lost
        lost = time.monotonic()

    @event.listens_for(engine, "checkin")
    def checkin(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        since = record.info.get(_SINCE)
        if since is not None and since < max(lost, time.monotonic() - _IDLE_SECONDS):
            errors: Any = engine.dialect.dbapi
            try:
                engine.dialect.do_ping(connection)
            except errors.Error as error:
                raise InvalidatePoolError from error


def prepare_engine(engine: Engine, *, synchronous: str = "FULL") -> None:
    """Make an engine of your own fit for the ledger. On PostgreSQL nothing is needed.

    On SQLite, a transaction takes the write lock as it begins (``BEGIN IMMEDIATE``), since one that has read before may
    not wait for it any more; and the file is in WAL mode, so that readers do not wait for writers.
    """
    if engine.dialect.name != "sqlite" or event.contains(engine, "begin", _begin):
        return
    if synchronous not in ("FULL", "NORMAL"):
        raise BillingError("invalid_argument", f"synchronous is {safe_repr(synchronous)}; FULL or NORMAL")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_LOCK_TIMEOUT_SECONDS * 1000)}")
        tables = {row[0] for row in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables or "billing_version" in tables:  # the file of another program is left as it is
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA busy_timeout = 0")  # from here on _lock waits
        cursor.close()

    event.listen(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(_READ):
        connection.exec_driver_sql("BEGIN")
    else:
        _begin_immediate(connection.exec_driver_sql)


def _begin_immediate(execute: Callable[[str], object]) -> None:
    """Begin a transaction of SQLite that writes, as soon as no other process is in one.

    SQLite itself would look less and less often, every 100 ms in the end, while others come and go: of 16 processes
    that never rest, some got nothing until the others were through. Here all look about as often, at random times.
    """
    last, pause = time.monotonic() + _LOCK_TIMEOUT_SECONDS, _MIN_POLL_SECONDS
    while True:
        try:
            execute(_IMMEDIATE)
            return
        except Exception as error:
            if not _is_busy(getattr(error, "orig", error)):
                raise
            if time.monotonic() > last:
                raise database_error(error) from error
        time.sleep(random.uniform(_MIN_POLL_SECONDS / 2, pause))  # noqa: S311  # no secret
        pause = min(pause * 2, _MAX_POLL_SECONDS)


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
    kept = _IDLE_WRITERS.get(engine)
    for left in reversed(range(_MAX_ATTEMPTS)):
        connection = None
        try:
            connection = _take_idle_writer(kept) or engine.raw_connection()
            cursor = connection.cursor()
            if locks:
                _begin_immediate(cursor.execute)
            done = work(cursor)
            connection.commit()
            if kept is not None and len(kept) < _MAX_IDLE_WRITERS:
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
    options: dict[str, Any] = {_READ: True}
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
        return _is_busy(error)
    return getattr(error, "sqlstate", None) in _RETRYABLE_SQLSTATES


def _is_busy(error: BaseException | None) -> bool:
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


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
        if not event.contains(connection.engine, "begin", _begin):
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


def database_error(error: BaseException) -> BillingError:
    """What the database said, in one line, without values of statements."""
    orig = getattr(error, "orig", None) or error
    told = str(orig).strip().partition("\n")[0]
    if getattr(orig, "sqlstate", None) == "55P03" or _is_busy(orig):
        return BillingError(
            "ledger_unavailable",
            f"another transaction has had the ledger or the account for {_LOCK_TIMEOUT_SECONDS:.0f} seconds; if "
            "it is your own, pass "
            "its connection=, else ask again",
        )
    if "Could not decode to UTF-8" in told:
        return BillingError("journal_broken", "a text in the ledger's database is no text any more: it was changed")
    if "no such table" in told or getattr(orig, "sqlstate", None) == "42P01":
        return BillingError("ledger_version", "this database has no ledger yet: brivionix-billing ledger migrate")
    return BillingError(
        "ledger_unavailable", f"the ledger's database failed: {type(orig).__name__}: {safe_repr(told, 200)}"
    )
