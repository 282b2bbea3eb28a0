"""The quickstarts work as written: in an empty folder, with the wheel, and without this source tree."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from examples.gateway.recorded_provider import create_provider
from examples.gateway.threaded_server import ThreadedServer
from paths import ROOT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the examples use sed and cp")
PAGES = {path.stem: path for path in (ROOT / "docs").glob("quickstart-*.md")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this source tree."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with the wheel, and with the other packages of the tests by a path.

    A path in a .pth file adds a folder, but does not read the .pth files in it, so the editable source is not found.
    """
    folder = tmp_path_factory.mktemp("venv")
    venv.EnvBuilder(symlinks=True).create(folder)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder / "bin" / "python"


def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """The wheel contains every file of the package."""
    there = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("brivionix_billing/")}
    package = ROOT / "src" / "brivionix_billing"
    ours = {str(path.relative_to(ROOT / "src")) for path in package.rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} == there
    assert "brivionix_billing/pages/assets/pricing.html" in there


def test_there_is_a_quickstart_per_role() -> None:
    """Gateways, pricing pages and finance have one each."""
    assert sorted(PAGES) == ["quickstart-finance", "quickstart-gateway", "quickstart-pricing-page"]


@pytest.mark.parametrize("name", PAGES)
def test_a_quickstart_works_as_written(name: str, python: Path, tmp_path: Path) -> None:
    """Each command prints the documented output; the service of the gateway answers the real SDK, and charges it."""
    with ExitStack() as stack:
        url = ""
        if name == "quickstart-gateway":
            pytest.importorskip("fastapi")
            url = stack.enter_context(ThreadedServer(create_provider())).url
        command = [str(python), "-I", str(ROOT / "tests/support/quickstart_run.py"), str(PAGES[name]), url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith(" commands\n")
