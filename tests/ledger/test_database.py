"""Tables and their versions, threads, processes, async connections, and errors of the database."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import column as column_of
from sqlalchemy import insert
from sqlalchemy import table as table_of
from sqlalchemy.ext.asyncio import create_async_engine

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger, LedgerThreadPool
from brivionix_billing.ledger.database import migrate as migrating
from brivionix_billing.ledger.database.engine import create_ledger_engine
from brivionix_billing.ledger.database.tables import METADATA, VERSION_TABLE
from ledger_kit import BOOK, NOW, later, opened, quote, refused, schema, tables, with_credits
from paths import DATA

STORED = DATA / "ledger_version_1.db"
"""A ledger of version 0001."""
OLD_FILE = DATA / "ledger_0_1_0.db"
"""A file that the library of commit d6da35d (0.1.0) wrote: 2 accounts, 36 entries of 14 kinds."""


def test_migrations_create_the_tables_of_the_code(database: str) -> None:
    """The migrations create the tables of the metadata, and the last one has the version of the library."""
    with opened(database) as ledger, ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_heads() == (migrating.SCHEMA_VERSION,)
    assert ScriptDirectory(str(Path(migrating.__file__).parent / "migrations")).get_heads() == [
        migrating.SCHEMA_VERSION
    ]


def test_a_filled_ledger_is_migrated_to_a_later_version(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer library rejects older tables until they are migrated, and then the older library rejects them."""
    with opened(database) as ledger:
        with_credits(ledger)
        before = tables(ledger)
        folder = tmp_path / "migrations"
        source = Path(migrating.__file__).parent / "migrations"
        (folder / "versions").mkdir(parents=True)
        for path in (source / "env.py", *source.glob("versions/*.py")):
            (folder / path.relative_to(source)).write_text(path.read_text("utf-8"), "utf-8")
        current, later = migrating.SCHEMA_VERSION, f"{int(migrating.SCHEMA_VERSION) + 1:04d}"
        (folder / "versions" / f"{later}_next.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n\n"
            f'revision = "{later}"\ndown_revision = "{current}"\n\n\n'
            "def upgrade() -> None:\n"
            '    op.add_column("billing_account", sa.Column("note", sa.Text(), nullable=True))\n',
            "utf-8",
        )
        with monkeypatch.context() as newer:
            newer.setattr(migrating, "SCHEMA_VERSION", later)
            newer.setattr(migrating, "_FOLDER", folder)
            with pytest.raises(BillingError) as caught, opened(database):
                pass
            assert caught.value.code == "ledger_version"
            assert "ledger migrate" in str(caught.value)
            ledger.migrate()
            with opened(database) as moved:
                assert moved.verify() == []
                assert tables(moved) == before
        with pytest.raises(BillingError, match=current), opened(database):
            pass


def _fill_version_1(url: str) -> None:
    """Make the tables of version 0001 and copy the rows of the stored database into them."""
    folder = Path(migrating.__file__).parent / "migrations"
    engine = create_ledger_engine(url)
    with engine.begin() as connection, closing(sqlite3.connect(STORED)) as stored:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder))
        command.upgrade(config, "0001")
        for (name,) in stored.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            if name not in METADATA.tables:
                continue
            rows = stored.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in rows.description]
            table = table_of(name, *map(column_of, columns))
            connection.execute(insert(table), [dict(zip(columns, row, strict=True)) for row in rows])
    engine.dispose()


def test_a_ledger_of_version_1_is_migrated(database: str) -> None:
    """A filled ledger of version 0001 is refused, is migrated, and verifies then."""
    _fill_version_1(database)
    with refused("ledger_version"), opened(database):
        pass
    with Ledger(create_ledger_engine(database)) as ledger:
        ledger.migrate()
    with opened(database) as ledger:
        assert len(list(ledger.accounts())) == 3
        assert ledger.verify() == []


def test_concurrent_starts_create_the_tables_once(postgres: str) -> None:
    """Four gateways that start at the same time on an empty database all succeed."""
    with schema(postgres) as url:
        failed: list[BaseException] = []

        def start() -> None:
            try:
                Ledger.open(url, BOOK).close()
            except BaseException as error:
                failed.append(error)

        starting = [threading.Thread(target=start) for _ in range(4)]
        for thread in starting:
            thread.start()
        for thread in starting:
            thread.join()
        assert failed == []


def test_an_async_connection_of_the_caller_works(postgres: str) -> None:
    """``await connection.run_sync(...)`` runs an operation in a transaction of an async engine."""

    async def main(url: str, ledger: Ledger) -> None:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+psycopg_async://"))
        async with engine.begin() as connection:
            await connection.run_sync(lambda sync: ledger.hold("acct", "1", id="r1", at=NOW, connection=sync))
            await connection.run_sync(lambda sync: ledger.settle("r1", "0.5", at=NOW, connection=sync))
        await engine.dispose()

    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        asyncio.run(main(url, ledger))
        assert str(ledger.balance("acct", at=NOW).available) == "99.5"
        assert ledger.verify() == []


def test_many_threads_share_one_ledger(ledger: Ledger) -> None:
    """More threads than connections of the pool can read and write at the same time."""
    failed: list[BaseException] = []

    def requests(first: int) -> None:
        try:
            for number in range(first, first + 15):
                ledger.hold("acct", "0.01", id=f"r{number}", at=NOW)
                ledger.balance("acct", at=NOW)
                ledger.settle(f"r{number}", "0.01", at=NOW)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=requests, args=(100 * number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ledger.balance("acct", at=NOW).available == 97
    assert ledger.verify() == []


def test_a_forked_process_opens_its_own_connections(database: str) -> None:
    """A parent process and its forked children use the same ledger object without losing operations."""
    code = (
        "import os, sys\nsys.path.insert(0, 'tests/support')\nfrom ledger_kit import *\n"
        f"with opened({database!r}) as ledger:\n"
        "    with_credits(ledger)\n"
        "    ledger.hold('acct', '1', id='parent', at=NOW)\n"
        "    children = []\n"
        "    for number in range(3):\n"
        "        child = os.fork()\n"
        "        if not child:\n"
        "            ledger.hold('acct', '1', id=f'child-{number}', at=NOW)\n"
        "            os._exit(0)\n"
        "        children.append(child)\n"
        "    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]\n"
        "    ledger.settle('parent', '1', at=NOW)\n"
        "    assert ledger.verify() == []\n"
        "    print(ledger.balance('acct', at=NOW).held)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 3


def test_a_thread_pool_runs_operations_of_an_event_loop(ledger: Ledger) -> None:
    """Concurrent requests of one event loop get their results and errors."""

    async def one(threads: LedgerThreadPool, index: int) -> None:
        await threads.run(ledger.hold, "acct", "2", id=f"r{index}", at=NOW)
        await threads.run(ledger.settle, f"r{index}", "1", at=NOW)

    async def main() -> None:
        threads = LedgerThreadPool()
        await asyncio.gather(*(one(threads, index) for index in range(40)))
        with pytest.raises(BillingError):
            await threads.run(ledger.hold, "acct", "1000", id="more", at=NOW)
        threads.close()

    asyncio.run(main())
    assert ledger.balance("acct", at=NOW).available == 60


def test_a_started_operation_is_finished_before_its_task_is_cancelled() -> None:
    """A cancelled task ends only after its operation has ended."""
    begun, go_on, done = threading.Event(), threading.Event(), []

    def operation() -> None:
        begun.set()
        assert go_on.wait(10)
        done.append(True)

    async def main() -> None:
        threads = LedgerThreadPool()
        task = asyncio.create_task(threads.run(operation))
        await asyncio.to_thread(begun.wait, 10)
        for _ in range(2):  # also if it is cancelled again
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)  # a cancellable task would end within these turns of the loop
            assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]
        threads.close()

    asyncio.run(main())


def test_text_is_compared_byte_by_byte_in_any_locale(postgres: str) -> None:
    """All text columns have the collation C: in other collations, ``2026`` may sort after ``~``."""
    with schema(postgres) as url, opened(url) as ledger, ledger.engine.connect() as connection:
        columns = connection.exec_driver_sql(
            "SELECT table_name, column_name, collation_name FROM information_schema.columns "
            "WHERE table_schema = current_schema() AND data_type = 'text'"
        ).all()
        assert len(columns) > 30
        assert {collation for _, _, collation in columns} == {"C"}


def test_a_payment_credited_concurrently_is_credited_once(postgres: str) -> None:
    """Of two concurrent top-ups with one payment, one credits it, and the other raises ``payment_already_credited``."""
    with schema(postgres) as url, opened(url) as ledger:
        for account in ("a", "b"):
            ledger.open_account(account, at=NOW)
        outcomes: list[str] = []
        gate = threading.Barrier(2)

        def pay(account: str, number: int) -> None:
            gate.wait(10)
            try:
                ledger.top_up(account, quote("17"), reference=f"pi-{number}", id=f"{account}-{number}", at=NOW)
                outcomes.append("credited")
            except BillingError as error:
                outcomes.append(error.code)

        for number in range(15):
            paying = [threading.Thread(target=pay, args=(account, number)) for account in ("a", "b")]
            for thread in paying:
                thread.start()
            for thread in paying:
                thread.join()
        assert sorted(outcomes) == ["credited"] * 15 + ["payment_already_credited"] * 15


def test_operations_wait_for_rebuild(postgres: str) -> None:
    """Operations during a rebuild wait for it and succeed."""
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        failed: list[BaseException] = []
        stop = threading.Event()

        def requests() -> None:
            number = 0
            try:
                while not stop.is_set():
                    ledger.hold("acct", "0.001", id=f"r{number}", at=NOW)
                    ledger.settle(f"r{number}", "0.001", at=NOW)
                    number += 1
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=requests)
        thread.start()
        for _ in range(10):
            ledger.rebuild()
        stop.set()
        thread.join()
        assert failed == []
        assert ledger.verify() == []


def test_an_operation_is_retried_after_a_lost_connection(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation whose connection is lost twice is done once, without an error for the caller."""
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        broken: list[int] = []
        commits = psycopg.Connection.commit

        def commit(connection: Any) -> None:
            if len(broken) < 2:
                broken.append(connection.info.backend_pid)
                with psycopg.connect(postgres, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (broken[-1],))
            commits(connection)

        monkeypatch.setattr(psycopg.Connection, "commit", commit)
        entry = ledger.hold("acct", "1", id="r1", at=NOW)
        assert len(broken) == 2
        assert not entry.repeated
        assert ledger.balance("acct", at=NOW).held == 1


def test_a_retry_after_a_lost_commit_returns_the_secret(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the connection breaks after the commit, the retry finds the token and returns its secret."""
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        broken: list[int] = []
        commits = psycopg.Connection.commit

        def commit(connection: Any) -> None:
            commits(connection)
            if not broken:
                broken.append(connection.info.backend_pid)
                with psycopg.connect(postgres, autocommit=True) as other:
                    other.execute("SELECT pg_terminate_backend(%s)", (broken[-1],))
                connection.execute("SELECT 1")

        monkeypatch.setattr(psycopg.Connection, "commit", commit)
        token = ledger.create_token("acct", id="tok", at=NOW, group="default")
        assert broken
        assert token.secret is not None
        assert ledger.authenticate(token.secret, at=NOW).id == "tok"
        assert sum(entry.kind == "token" for entry in ledger.journal("acct")) == 1


def test_errors_of_the_database_are_billing_errors(ledger: Ledger, tmp_path: Path) -> None:
    """Errors of a driver are raised as ``BillingError`` with a code."""
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE billing_hold")
    with pytest.raises(BillingError) as caught:
        ledger.hold("acct", "1", id="r1", at=NOW)
    assert caught.value.code == "ledger_version"
    with pytest.raises(BillingError) as caught, opened(f"sqlite:///{tmp_path}"):
        pass
    assert (caught.value.code, caught.value.http_status) == ("ledger_unavailable", 503)
    for url in ("mysql://root@host/db", "what://", "nonsense+driver://x"):
        with pytest.raises(BillingError) as caught:
            Ledger.open(url)
        assert caught.value.code in ("invalid_argument", "missing_extra")


def test_expire_posts_expiries_of_all_accounts(ledger: Ledger) -> None:
    """``expire`` posts the expiries of idle accounts, once."""
    ledger.open_account("idle", at=NOW)
    ledger.grant("idle", "5", reason="x", id="gift", at=NOW, expires=later(10))
    ledger.hold("acct", "5", id="r1", at=NOW)
    assert ledger.expire(at=later(5)) == 0
    assert ledger.expire(at=later(86_400)) == 2
    assert ledger.expire(at=later(86_400)) == 0
    assert list(ledger.accounts()) == ["acct", "idle"]
    assert ledger.lots("idle")[0].expired == 5


def test_the_schema_can_be_distributed_by_account() -> None:
    """No table has a sequence or a foreign key, and each has the account of its rows."""
    for name, table in METADATA.tables.items():
        assert not table.foreign_keys
        assert not any(column.autoincrement is True or column.server_default for column in table.columns)
        assert name == "billing_account" or "account" in table.columns


def test_a_file_of_an_earlier_commit_is_migrated(tmp_path: Path) -> None:
    """A file of 0.1.0 is refused, migrated as it is, verifies with the same heads, and can be used."""
    path = tmp_path / "ledger.db"
    path.write_bytes(OLD_FILE.read_bytes())
    with closing(sqlite3.connect(path)) as old:
        heads = {
            account: (number, hash)
            for account, number, hash in old.execute("SELECT id, number, head FROM billing_account")
        }
    url = f"sqlite:///{path}"
    with refused("ledger_version"), opened(url):
        pass
    with Ledger(create_ledger_engine(url)) as ledger:
        ledger.migrate()
    with opened(url) as ledger:
        assert ledger.verify(heads) == []
        assert ledger.checkpoint() == heads
        assert str(ledger.statement("acct_1", "2026-10").closing) == "101.70905"
        ledger.hold("acct_1", "1", id="new", at=later(86400 * 60))
        assert ledger.verify() == []
