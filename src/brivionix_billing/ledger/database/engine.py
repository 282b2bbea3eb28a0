"""Engines: their set-up for SQLite and PostgreSQL, their connections, and the errors of the database."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qsl, unquote
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Connection, Engine, PoolProxiedConnection, QueuePool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from brivionix_billing.errors import BillingError, missing_extra, safe_repr
from brivionix_billing.files import create_file

__all__ = [
    "READ_ONLY",
    "begin_immediate",
    "close",
    "create_ledger_engine",
    "database_error",
    "idle_writers",
    "is_busy",
    "is_prepared",
    "keep_writer",
    "prepare_engine",
    "require_existing_file",
    "require_url",
    "take_writer",
]

READ_ONLY: Final = "brivionix_read"
"""Execution option of a connection that does not write."""
_CHECKED_IN_AT: Final = "brivionix_since"
"""Key of a pooled connection: the monotonic time at which it became idle."""
_IDLE_SECONDS: Final = 1.0
"""Idle time after which a connection to PostgreSQL is tested before use, in seconds."""
_LOCK_TIMEOUT_SECONDS: Final = 10.0
"""Maximum wait for another transaction, in seconds: for any writer on SQLite, for the same account on PostgreSQL."""
_MIN_POLL_SECONDS: Final = 0.001
_MAX_POLL_SECONDS: Final = 0.016
"""Bounds of the pause between two attempts to lock a SQLite database, in seconds."""

IdleWriters = list[PoolProxiedConnection]
_ENGINES: Final[WeakSet[Engine]] = WeakSet()
_IDLE_WRITERS: Final[WeakKeyDictionary[Engine, IdleWriters]] = WeakKeyDictionary()
"""Idle write connections of engines on SQLite files. Checking them into SQLAlchemy's pool and out again would take a
tenth of the time that the ledger takes for a request."""
_MAX_IDLE_WRITERS: Final = 2
"""SQLite has one writer at a time, and the pool must have connections left for readers."""
_ABANDONED_CONNECTIONS: Final[list[Any]] = []
"""Connections that a forked process inherited. Closing one would release file locks of its parent, so they are kept."""


def create_ledger_engine(url: str, *, synchronous: str = "FULL", **options: Any) -> Engine:
    """Create an engine for a database URL, or for the path of a SQLite file.

    ``synchronous`` is the setting of SQLite. With ``FULL``, a commit is on disk before it returns. With ``NORMAL``, a
    power failure (but not a crash of the process) may lose the last commits; it never corrupts the file.

    Raises ``invalid_argument``, ``missing_extra``.
    """
    require_url(url)
    url = str(url) if isinstance(url, str) else url.render_as_string(hide_password=False)
    if "://" not in url:
        if "@" in url:
            raise BillingError(
                "invalid_argument", "not a database URL: it has a user but no scheme; add one, such as postgresql://"
            )
        url = f"sqlite:///{url}"
    try:
        if not url.isprintable():
            raise ValueError
        if make_url(url).get_backend_name() not in ("sqlite", "postgresql"):
            raise ValueError
        if make_url(url).drivername == "postgresql":
            url = "postgresql+psycopg" + url[len("postgresql") :]
        is_file = url.startswith("sqlite") and "poolclass" not in options
        if url.startswith("sqlite") and make_url(url).database in (None, "", ":memory:"):
            # A database in memory exists in one connection only, which the threads share.
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0, **options}
            options["connect_args"] = {"check_same_thread": False, **options.get("connect_args", {})}
            is_file = False
        url, options = _convert_driver_options(url, options)
        engine = create_engine(url, **options)
    except (ArgumentError, NoSuchModuleError, ValueError, TypeError):
        raise BillingError(
            "invalid_argument", "not a database URL; use sqlite:///ledger.db or postgresql://user@host/name"
        ) from None
    except ImportError as error:
        what = f"{error.name} is not installed: the ledger uses psycopg and URLs that begin with postgresql://; it"
        raise missing_extra(what, "postgresql") from None
    prepare_engine(engine, synchronous=synchronous)
    event.listen(engine, "do_connect", _connect)
    _ENGINES.add(engine)
    if is_file:
        _IDLE_WRITERS[engine] = []
    if engine.dialect.name == "postgresql":
        _ping_idle(engine)
        event.listen(engine, "connect", _set_lock_timeout)
    return engine


def require_url(url: Any) -> None:
    """Raise ``invalid_argument`` if a URL is missing: ``None`` would name a file, and an empty one be in memory."""
    if not isinstance(url, str | URL) or not str(url).strip():
        raise BillingError(
            "invalid_argument",
            f"the database URL is {safe_repr(url) if url is None or url == '' else 'not a text'}; use a file, "
            "sqlite:///ledger.db or postgresql://user@host/name",
        )


def _convert_driver_options(url: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Convert options in a URL that psycopg needs as numbers. Raises ``ValueError``."""
    parsed = make_url(url)
    threshold = parsed.query.get("prepare_threshold")
    if threshold is None or parsed.get_backend_name() != "postgresql":
        return url, options
    number = None if threshold == "none" else int(str(threshold))
    arguments = {**options.get("connect_args", {}), "prepare_threshold": number}
    url = parsed.difference_update_query(["prepare_threshold"]).render_as_string(hide_password=False)
    return url, {**options, "connect_args": arguments}


def _connect(dialect: Any, _record: Any, arguments: Any, options: dict[str, Any]) -> Any:
    """Connect. Raises ``invalid_argument`` for options that the driver rejects with another error than its own."""
    try:
        return dialect.connect(*arguments, **options)
    except (TypeError, ValueError) as error:
        raise BillingError(
            "invalid_argument", f"the driver of the database rejects an option: {type(error).__name__}; check the URL"
        ) from None


def require_existing_file(url: str) -> None:
    """Raise ``ledger_version`` if the file of a SQLite database does not exist. Opening it would create it."""
    path = url.removeprefix("sqlite:///")
    is_sqlite = "://" not in url or path != url
    if is_sqlite and path not in ("", ":memory:") and not os.path.exists(path.partition("?")[0]):
        raise BillingError(
            "ledger_version", f"there is no ledger {safe_repr(path)}; run brivionix-billing ledger migrate"
        )


# --- connections ---


def idle_writers(engine: Engine) -> IdleWriters | None:
    """Return the list of idle writers of an engine; ``None`` if it keeps none, because it is on no SQLite file."""
    return _IDLE_WRITERS.get(engine)


def take_writer(engine: Engine, idle: IdleWriters | None) -> PoolProxiedConnection:
    """Return a connection for writing: an idle writer, or one from the pool."""
    try:
        if idle:
            return idle.pop()
    except IndexError:  # another thread took it
        pass
    return engine.raw_connection()


def keep_writer(idle: IdleWriters | None, connection: PoolProxiedConnection) -> bool:
    """Keep a connection as an idle writer. Returns false if the caller must return it to the pool."""
    if idle is None or len(idle) >= _MAX_IDLE_WRITERS:
        return False
    idle.append(connection)
    return True


def close(engine: Engine) -> None:
    """Close all connections of an engine."""
    idle = _IDLE_WRITERS.get(engine, [])
    while idle:
        idle.pop().close()
    engine.dispose()


def _abandon_after_fork() -> None:
    """Make a forked process open its own connections."""
    for engine in list(_ENGINES):
        idle = _IDLE_WRITERS.get(engine, [])
        _ABANDONED_CONNECTIONS.extend(idle)
        idle.clear()
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_after_fork)


def _set_lock_timeout(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        if cursor.fetchone()[0] != connection.info.backend_pid:
            # A pooler such as PgBouncer in transaction mode gives each transaction another session, in which statements
            # are not prepared and settings are those of others.
            connection.prepare_threshold = None
            connection.commit()
            return
        cursor.execute(f"SET lock_timeout = {int(_LOCK_TIMEOUT_SECONDS * 1000)}")
    connection.commit()


def _ping_idle(engine: Engine) -> None:
    """Test an idle connection to PostgreSQL before it is used.

    Testing every connection, as SQLAlchemy's ``pool_pre_ping`` does, costs as much as two statements. If a connection
    that was used recently is lost, its first statement fails. Then the operation is retried on another connection, and
    all connections that were idle before the loss are tested as well.
    """
    lost_at = 0.0

    @event.listens_for(engine, "invalidate")
    def invalidate(_connection: Any, _record: ConnectionPoolEntry, _error: BaseException | None) -> None:
        nonlocal lost_at
        lost_at = time.monotonic()

    @event.listens_for(engine, "checkin")
    def checkin(_connection: Any, record: ConnectionPoolEntry) -> None:
        record.info[_CHECKED_IN_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def checkout(connection: Any, record: ConnectionPoolEntry, _proxy: Any) -> None:
        idle_since = record.info.get(_CHECKED_IN_AT)
        if idle_since is not None and idle_since < max(lost_at, time.monotonic() - _IDLE_SECONDS):
            errors: Any = engine.dialect.dbapi
            try:
                engine.dialect.do_ping(connection)
            except errors.Error as error:
                raise InvalidatePoolError from error


# --- transactions of SQLite ---


def prepare_engine(engine: Engine, *, synchronous: str = "FULL") -> None:
    """Prepare an engine of the caller for the ledger. On PostgreSQL, nothing is necessary.

    On SQLite, a transaction takes the write lock when it begins (``BEGIN IMMEDIATE``), because a transaction that has
    already read cannot wait for the lock. The file is set to WAL mode, so that readers do not wait for writers.
    """
    if engine.dialect.name != "sqlite" or is_prepared(engine):
        return
    if synchronous not in ("FULL", "NORMAL"):
        raise BillingError("invalid_argument", f"synchronous is {safe_repr(synchronous)}; use FULL or NORMAL")

    event.listen(engine, "do_connect", _create_database_file)

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin transactions
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_LOCK_TIMEOUT_SECONDS * 1000)}")
        tables = {row[0] for row in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not tables or "billing_version" in tables:  # do not change the file of another program
            cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute(f"PRAGMA synchronous = {synchronous}")
        cursor.execute("PRAGMA busy_timeout = 0")  # from now on, `begin_immediate` waits
        cursor.close()

    event.listen(engine, "begin", _begin)


def _create_database_file(_dialect: Any, _record: Any, arguments: list[Any], _options: dict[str, Any]) -> None:
    """Create the file of a new database for its user alone. SQLite gives its ``-wal`` and ``-shm`` the same mode."""
    name = str(arguments[0]) if arguments else ""
    if name.startswith("file:"):  # a URI
        name, _, query = name.removeprefix("file:").partition("?")
        mode = dict(parse_qsl(query)).get("mode", "rwc")
        name = unquote(name) if mode == "rwc" else ""  # the other modes create no file
    if name in ("", ":memory:") or os.path.exists(name):
        return
    try:
        create_file(name).close()
    except FileExistsError:
        if os.path.islink(name):
            raise BillingError(
                "ledger_unavailable",
                f"{safe_repr(name, 200)} is a symbolic link to no file; name its target",
            ) from None
    except OSError:
        pass  # SQLite reports it


def is_prepared(engine: Engine) -> bool:
    """Return whether an engine on SQLite was prepared by :func:`prepare_engine`."""
    return event.contains(engine, "begin", _begin)


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get(READ_ONLY):
        connection.exec_driver_sql("BEGIN")
    else:
        begin_immediate(connection.exec_driver_sql)


def begin_immediate(execute: Callable[[str], object]) -> None:
    """Begin a write transaction of SQLite as soon as no other process is in one.

    SQLite's own busy handler polls more and more rarely, every 100 ms in the end. Of 16 processes that write
    continuously, some got no lock until the others had finished. Here all processes poll about equally often, at random
    intervals.
    """
    deadline, pause = time.monotonic() + _LOCK_TIMEOUT_SECONDS, _MIN_POLL_SECONDS
    while True:
        try:
            execute("BEGIN IMMEDIATE")
            return
        except Exception as error:
            if not is_busy(getattr(error, "orig", error)):
                raise
            if time.monotonic() > deadline:
                raise database_error(error) from error
        time.sleep(random.uniform(_MIN_POLL_SECONDS / 2, pause))  # noqa: S311  # not a secret
        pause = min(pause * 2, _MAX_POLL_SECONDS)


# --- errors ---


def is_busy(error: BaseException | None) -> bool:
    """Return whether SQLite could not get a lock."""
    return str(getattr(error, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def database_error(error: BaseException) -> BillingError:
    """Convert an error of the database to one line, without values of statements."""
    orig = getattr(error, "orig", None) or error
    message = str(orig).strip().partition("\n")[0]
    if getattr(orig, "sqlstate", None) == "55P03" or is_busy(orig):
        return BillingError(
            "ledger_unavailable",
            f"another transaction has locked the ledger or the account for {_LOCK_TIMEOUT_SECONDS:.0f} seconds; if it "
            "is your own, pass its connection=, otherwise retry",
        )
    if "Could not decode to UTF-8" in message:
        return BillingError("journal_broken", "a text in the database is not UTF-8: it was altered; restore a backup")
    if "no such table" in message or getattr(orig, "sqlstate", None) == "42P01":
        return BillingError("ledger_version", "the database has no ledger; run brivionix-billing ledger migrate")
    return BillingError(
        "ledger_unavailable", f"the ledger's database failed: {type(orig).__name__}: {safe_repr(message, 200)}"
    )
