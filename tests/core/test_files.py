"""Bounded reading of files, and writing of files that other users cannot read or redirect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from brivionix_billing import BillingError
from brivionix_billing.files import (
    PRIVATE,
    PUBLISHED,
    Access,
    atomic_write,
    atomic_write_bytes,
    create_file,
    make_folder,
    read_bounded,
)
from paths import ROOT


def test_a_file_of_the_limit_is_read(tmp_path: Path) -> None:
    """A file with exactly as many bytes as the limit is read."""
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"


def test_a_larger_file_is_rejected(tmp_path: Path) -> None:
    """One byte more than the limit is an error with the code that the caller gives."""
    path = tmp_path / "a.json"
    path.write_bytes(b"123456")
    with pytest.raises(BillingError, match=r"^the key .*: the file has more than 5 bytes$") as caught:
        read_bounded(path, 5, "the key", too_large="invalid_key")
    assert caught.value.code == "invalid_key"


@pytest.mark.parametrize("name", ["missing", "", "nul\0"])
def test_an_unreadable_file(tmp_path: Path, name: str) -> None:
    """A missing file, a folder and an impossible name are unreadable."""
    with pytest.raises(BillingError, match=r"^cannot read the checkpoint '") as caught:
        read_bounded(f"{tmp_path}/{name}", 5, "the checkpoint")
    assert caught.value.code == "file_unreadable"


# --- writing ---


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a file that nothing must write to."""
    path = tmp_path / "victim"
    path.write_text("untouched", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Set the usual umask, which lets everyone read new files."""
    old = os.umask(0o022)
    yield
    os.umask(old)


def mode(path: Path) -> int:
    """Return the permission bits of a file or folder."""
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("target", ["victim", "missing"])
def test_a_symbolic_link_is_not_written_to(tmp_path: Path, victim: Path, target: str) -> None:
    """A symbolic link under the name of the output is an error, whether or not its target exists."""
    link = tmp_path / "out.json"
    link.symlink_to(target)
    with pytest.raises(BillingError, match="it is a symbolic link; name its target"):
        atomic_write_bytes(link, b"bill")
    with pytest.raises(FileExistsError):
        create_file(link)
    assert (victim.read_text(encoding="utf-8"), (tmp_path / "missing").exists()) == ("untouched", False)


def test_a_link_that_appears_while_writing_is_replaced(tmp_path: Path, victim: Path) -> None:
    """A symbolic link that another process makes during the writing is replaced; its target stays as it is."""
    out = tmp_path / "out.json"
    with atomic_write(out) as file:
        file.write(b"bill")
        out.symlink_to(victim)
    assert (out.read_bytes(), out.is_symlink(), victim.read_bytes()) == (b"bill", False, b"untouched")


def test_a_hard_link_is_replaced(tmp_path: Path, victim: Path) -> None:
    """A file that has the name of the output as a second name keeps its content and mode."""
    out = tmp_path / "out.json"
    out.hardlink_to(victim)
    victim.chmod(0o644)
    atomic_write_bytes(out, b"bill")
    assert (out.read_bytes(), victim.read_bytes(), mode(out), mode(victim)) == (b"bill", b"untouched", 0o600, 0o644)


def test_names_of_drafts_are_random_and_never_opened_twice(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drafts have different random names. A link under the name of a draft is an error, not followed."""
    names = set()
    for _ in range(3):
        with atomic_write(tmp_path / "out"):
            names |= {path.name for path in tmp_path.glob(".brivionix-*")}
    assert len(names) == 3
    assert all(re.fullmatch(r"\.brivionix-[0-9a-f]{16}", name) for name in names)
    monkeypatch.setattr("secrets.token_hex", lambda _: "known")
    (tmp_path / ".brivionix-known").symlink_to(victim)
    with pytest.raises(BillingError, match="File exists"):
        atomic_write_bytes(tmp_path / "out", b"bill")
    assert victim.read_text(encoding="utf-8") == "untouched"


@pytest.mark.parametrize(("access", "file_mode", "folder_mode"), [(PRIVATE, 0o600, 0o700), (PUBLISHED, 0o644, 0o755)])
def test_new_files_and_folders_have_the_mode_of_their_kind(
    tmp_path: Path, access: Access, file_mode: int, folder_mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A private file and its new folders belong to the user alone, also while written; a published one is readable."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a" / "b" / "out"
    with atomic_write(path, access):
        (draft,) = path.parent.iterdir()
        assert mode(draft) == file_mode
    assert [mode(each) for each in (path, path.parent, path.parent.parent)] == [file_mode, folder_mode, folder_mode]


def test_outside_the_working_folder_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A path elsewhere with a missing folder is probably wrong. Only a folder that is itself the output is created."""
    message = r"there is no folder '.*/a'; create it, or correct the path$"
    with pytest.raises(BillingError, match=message):
        atomic_write_bytes(tmp_path / "a" / "out", b"")
    with pytest.raises(BillingError, match=message):
        make_folder(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    make_folder(tmp_path / "a")
    assert (tmp_path / "a").is_dir()


def test_an_old_mode_is_kept_for_published_files_only(tmp_path: Path) -> None:
    """A private file becomes private even if it replaces a readable one; a published file keeps its mode."""
    path = tmp_path / "out"
    for access, expected in ((PRIVATE, 0o600), (PUBLISHED, 0o640)):
        path.write_text("old")
        path.chmod(0o640)
        atomic_write_bytes(path, b"new", access)
        assert mode(path) == expected


def test_the_mode_of_another_users_file_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writable file that another user has prepared under the name of a page does not make the page writable."""
    path = tmp_path / "page.html"
    path.write_text("prepared")
    path.chmod(0o666)
    monkeypatch.setattr("os.geteuid", lambda: path.stat().st_uid + 1)
    atomic_write_bytes(path, b"page", PUBLISHED)
    assert (mode(path), path.read_bytes()) == (0o644, b"page")


def test_another_users_pipe_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe under the name of the output gets the content only if it belongs to the user or the system."""
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write_bytes(tmp_path / "out", b"mine")
        assert os.read(reader, 9) == b"mine"
        owner = os.stat(tmp_path / "out").st_uid
        monkeypatch.setattr("os.geteuid", lambda: owner + 1)
        monkeypatch.setattr("brivionix_billing.files._SYSTEM_USER", owner + 2)
        with pytest.raises(BillingError, match="it belongs to another user; name a file"):
            atomic_write_bytes(tmp_path / "out", b"secret")
        assert os.read(reader, 9) == b""
    finally:
        os.close(reader)


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    """After an error in the block, the old file is complete and no draft is left."""
    path = tmp_path / "out"
    path.write_text("old")

    def fail() -> None:
        with atomic_write(path) as file:
            file.write(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert path.read_text() == "old"


def test_files_are_written_without_the_functions_of_posix(tmp_path: Path) -> None:
    """Without O_NOFOLLOW and user ids, as on Windows, the module is imported and writes files."""
    program = (
        "import os; del os.O_NOFOLLOW, os.geteuid\n"
        "from brivionix_billing.files import atomic_write_bytes, create_file\n"
        "atomic_write_bytes('folder/out', b'a'); atomic_write_bytes('folder/out', b'b'); create_file('new').close()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "folder" / "out").read_bytes() == b"b"


def test_no_other_module_creates_files() -> None:
    """Outside of ``files.py``, no module of the package opens a file for writing or makes a folder."""
    writing = re.compile(
        r"write_text|(?<!atomic_)write_bytes|\.mkdir\(|makedirs|mkstemp|NamedTemporaryFile|os\.open\(|\.touch\("
        r"""|open\([^)\n]*["'](?:w|x|wb|xb|a|ab|r\+|r\+b)["']"""
    )
    allowed = {
        "files.py": None,
        "cli/__init__.py": ["os.open("],  # of the null device
        "cli/files.py": ['open("wb"'],  # a copy of stdin, in a new private folder
        "tables/parquet.py": ["NamedTemporaryFile"],  # a copy of stdin, private and with a random name
        "invoice/files.py": ['open("ab"'],  # appends to a list that create_file has created
    }
    package = ROOT / "src" / "brivionix_billing"
    for path in package.rglob("*.py"):
        found = writing.findall(path.read_text(encoding="utf-8"))
        expected = allowed.get(path.relative_to(package).as_posix(), [])
        assert expected is None or found == expected, path
