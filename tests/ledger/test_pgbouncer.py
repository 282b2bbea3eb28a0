"""The ledger behind a real PgBouncer in transaction mode; skipped if the program is not installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from brivionix_billing.ledger import Ledger
from ledger_kit import BOOK, NOW, got, with_credits

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
DATABASE = "pooled"


@pytest.fixture
def pooled(postgres: str, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database behind PgBouncer, which has two connections to the server."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed (Debian: apt install pgbouncer)")
    server = make_url(postgres)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, number = server.query.get("host", server.host), server.port or server.query.get("port", 5432)
    (tmp_path / "users.txt").write_text(f'"{server.username}" ""\n')
    (tmp_path / "pgbouncer.ini").write_text(
        f"[databases]\n{DATABASE} = host={host} port={number} dbname={DATABASE} user={server.username}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\nunix_socket_dir =\n"
        f"auth_file = {tmp_path / 'users.txt'}\npool_mode = transaction\ndefault_pool_size = 2\n"
    )
    for path in (tmp_path, *tmp_path.iterdir(), *tmp_path.parents[:3]):
        path.chmod(path.stat().st_mode | 0o055 if path.is_dir() else 0o644)
    command = [PGBOUNCER, str(tmp_path / "pgbouncer.ini")]
    if os.getuid() == 0:  # it refuses to run as root
        command[1:1] = ["-u", pwd.getpwuid(os.stat(str(host)).st_uid).pw_name]  # the user of the server
    log = (tmp_path / "log").open("wb")
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        yield f"postgresql://{server.username}@127.0.0.1:{port}/{DATABASE}"
    finally:
        process.terminate()
        process.wait()
        log.close()
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def test_the_ledger_works_behind_pgbouncer(pooled: str) -> None:
    """CASES 53: eight threads hold and settle 160 times over two pooled connections, and none of them fails."""
    with Ledger.open(pooled, BOOK) as ledger:
        with_credits(ledger)

        def cycle(number: int) -> None:
            ledger.hold("acct", "0.5", id=f"r{number}", at=NOW)
            ledger.settle(f"r{number}", "0.25", at=NOW)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(cycle, range(160)))
        has = ledger.balance("acct", at=NOW)
        assert got(has.available, has.held) == (60, 0)
        assert ledger.verify() == []
