"""Engines."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "LOCK_TIMEOUT_SECONDS",
    "READ_ONLY",
    "begin",
    "begin_immediate",
    "close",
    "create_ledger_engine",
    "database_error",
    "is_busy",
    "prepare_engine",
    "require_existing_file",
]

READ_ONLY: Final = "brivionix_read"
_IMMEDIATE: Final = "BEGIN IMMEDIATE"
_SINCE: Final = "brivionix_since"
_IDLE_SECONDS: Final = 1.0
"""Seconds after which a connection to PostgreSQL is not trusted to be there."""
LOCK_TIMEOUT_SECONDS: Final = 10.0
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
        IDLE_WRITERS[engine] = []
    if engine.dialect.name == "postgresql":
        _ping_idle(engine)
        event.listen(engine, "connect", _set_lock_timeout)
    return engine


_ENGINES: Final[WeakSet[Engine]] = WeakSet()
IDLE_WRITERS: Final[WeakKeyDictionary[Engine, list[PoolProxiedConnection]]] = WeakKeyDictionary()
"""Of engines on SQLite files: connections that have written and lie ready. To put them into SQLAlchemy's pool and take
them out again takes a tenth of what the ledger does for a request."""
MAX_IDLE_WRITERS: Final = 2
"""One writes at a time; and the pool must not run out of connections to read on."""
_ABANDONED_CONNECTIONS: Final[list[Any]] = []


def take_idle_writer(kept: list[PoolProxiedConnection] | None) -> PoolProxiedConnection | None:
    try:
        return kept.pop() if kept else None
    except IndexError:  # another thread was quicker
        return None


def _abandon_after_fork() -> None:
    """A process that was forked off must not talk over its parent's connections."""
    for engine in list(_ENGINES):
        kept = IDLE_WRITERS.get(engine, [])
        _ABANDONED_CONNECTIONS.extend(
            kept
        )  # not even closed: that would tell the file's other readers that they are gone
        kept.clear()
        engine.dispose(close=False)


def close(engine: Engine) -> None:
    """Close all connections of an engine."""
    kept = IDLE_WRITERS.get(engine, [])
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
        cursor.execute(f"SET lock_timeout = {int(LOCK_TIMEOUT_SECONDS * 1000)}")
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
    if engine.dialect.name != "sqlite" or event.contains(engine, "begin", begin):
        return
    if synchronous not in ("FULL", "NORMAL"):
        raise BillingError("invalid_argument", f"synchronous is {safe_repr(synchronous)}; FULL or NORMAL")

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(LOCK_TIMEOUT_SECONDS * 1000)}")
        tables = {row[0] for row in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables or "billing_version" in tables:  # the file of another program is left as it is
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA busy_timeout = 0")  # from here on _lock waits
        cursor.close()

    event.listen(engine, "begin", begin)


def begin(connection: Connection) -> None:
    """Begin a transaction of SQLite: a listener of its engine."""
    if connection.get_execution_options().get(READ_ONLY):
        connection.exec_driver_sql("BEGIN")
    else:
        begin_immediate(connection.exec_driver_sql)


def begin_immediate(execute: Callable[[str], object]) -> None:
    """Begin a transaction of SQLite that writes, as soon as no other process is in one.

    SQLite itself would look less and less often, every 100 ms in the end, while others come and go: of 16 processes
    that never rest, some got nothing until the others were through. Here all look about as often, at random times.
    """
    last, pause = time.monotonic() + LOCK_TIMEOUT_SECONDS, _MIN_POLL_SECONDS
    while True:
        try:
            execute(_IMMEDIATE)
            return
        except Exception as error:
            if not is_busy(getattr(error, "orig", error)):
                raise
            if time.monotonic() > last:
                raise database_error(error) from error
        time.sleep(random.uniform(_MIN_POLL_SECONDS / 2, pause))  # noqa: S311  # no secret
        pause = min(pause * 2, _MAX_POLL_SECONDS)


def is_busy(error: BaseException | None) -> bool:
    """Return whether SQLite waited in vain for a lock."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def database_error(error: BaseException) -> BillingError:
    """What the database said, in one line, without values of statements."""
    orig = getattr(error, "orig", None) or error
    told = str(orig).strip().partition("\n")[0]
    if getattr(orig, "sqlstate", None) == "55P03" or is_busy(orig):
        return BillingError(
            "ledger_unavailable",
            f"another transaction has had the ledger or the account for {LOCK_TIMEOUT_SECONDS:.0f} seconds; if "
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
