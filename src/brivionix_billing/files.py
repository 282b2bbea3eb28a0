"""Reads files up to a size limit, and writes every file of this package.

No other module creates a file. A file is private to its user, unless the caller says that it is :data:`PUBLISHED`. A
new file is created exclusively, so no other user can prepare a link under its name. A replaced file is written under a
random name first, and takes the place of the old one as a whole.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "PRIVATE",
    "PUBLISHED",
    "Access",
    "append_line",
    "atomic_write",
    "atomic_write_bytes",
    "create_file",
    "durable_draft",
    "is_readable_by_others",
    "make_folder",
    "move_new",
    "read_bounded",
    "similar_files",
]


class Access(NamedTuple):
    """Who may read a new file. The modes are those before the umask. On Windows, the rights of the folder apply."""

    file_mode: int
    folder_mode: int


PRIVATE: Final = Access(0o600, 0o700)
"""Only the user. For all that has accounts, usage or prices paid: bills, lists of records, ledgers, exports."""
PUBLISHED: Final = Access(0o666, 0o777)
"""As the umask says. For pricing pages with their JSON, which a web server reads, and for price files."""

_OPEN_FILES: Final = ("/dev/fd/", "/dev/std", "/proc/")
"""Path prefixes of files that a process has open. Other files below /dev, such as /dev/shm, are ordinary files."""
_SYSTEM_USER: Final = 0
_LINK: Final = "it is a symbolic link; name its target"
_NO_FOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag


def read_bounded(path: str | Path, limit: int, what: str = "", *, too_large: str = "invalid_document") -> bytes:
    """Return the content of a file of at most ``limit`` bytes.

    ``what`` names the file in a message, such as ``the key``. Raises ``file_unreadable`` if it cannot be read, and an
    error with the code ``too_large`` if it has more bytes.
    """
    name = " ".join(filter(None, (what, safe_repr(str(path), 200))))
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        near = similar_files(path) if isinstance(error, FileNotFoundError) else None
        raise BillingError("file_unreadable", f"cannot read {name}: {_reason(error)}", near=near) from None
    if len(content) > limit:
        raise BillingError(too_large, f"{name}: the file has more than {limit} bytes")
    return content


def create_file(path: str | Path, *, binary: bool = False) -> IO[Any]:
    """Create a private file and open it for writing bytes, or text in UTF-8 with the line ends as they are.

    Raises ``FileExistsError`` if there is anything at the path, such as a symbolic link, and other ``OSError``.
    """
    if binary:
        return open(path, "xb", opener=_opener(PRIVATE.file_mode))
    return open(path, "x", encoding="utf-8", newline="", opener=_opener(PRIVATE.file_mode))


@contextmanager
def durable_draft(folder: str | Path) -> Iterator[tuple[IO[bytes], Callable[[str], bool]]]:
    """Create a private file without a name, which is removed at the end of the block. Yields it and a function.

    The function names the file: it is on disk as a whole when this returns. It returns false if there is anything
    with this name already, which stays as it is. Raises ``file_unreadable``.
    """
    draft = Path(folder) / f".brivionix-{secrets.token_hex(8)}"

    def name_file(name: str) -> bool:
        file.flush()
        os.fsync(file.fileno())
        try:
            os.link(draft, draft.with_name(name))  # unlike a move, it never replaces a file, and is never half done
        except FileExistsError:
            return False
        _sync_folder(draft.parent)
        return True

    try:
        with create_file(draft, binary=True) as file:
            yield file, name_file
    except OSError as error:
        raise BillingError("file_unreadable", f"cannot write {safe_repr(str(folder), 200)}: {_reason(error)}") from None
    finally:
        with suppress(OSError):
            os.unlink(draft)


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder to disk. Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append_line(path: str | Path, line: bytes, *, create: bool) -> None:
    """Append a line to a private file, on disk before this returns. A last line that was cut off stays one of its own.

    With ``create``, there must be nothing at the path, else the file must exist. A symbolic link is not followed.
    Raises ``file_unreadable``.
    """
    flags = os.O_RDWR | os.O_APPEND | _NO_FOLLOW | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | (os.O_CREAT | os.O_EXCL if create else 0), PRIVATE.file_mode)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
                line = b"\n" + line
            file.write(line)
            os.fsync(handle)
    except (OSError, ValueError) as error:
        problem = _LINK if not create and os.path.islink(path) else _reason(error)
        raise BillingError("file_unreadable", f"cannot write {safe_repr(str(path), 200)}: {problem}") from None


def similar_files(path: str | Path) -> tuple[str, list[str]] | None:
    """Return the name of a missing file and the names in its folder, for a suggestion."""
    folder, name = os.path.split(path)
    with suppress(OSError, ValueError):
        return name, os.listdir(folder or ".")
    return None


def make_folder(path: str | Path, access: Access = PRIVATE) -> None:
    """Create a folder. An existing folder keeps its mode. Raises ``OSError``, and ``file_unreadable``.

    Missing parents are created only in the working folder: elsewhere, the path is probably wrong.
    """
    missing = _missing_folders(Path(path))
    if len(missing) > 1:
        _require_near(missing[-1])
    for folder in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            folder.mkdir(mode=access.folder_mode)
    try:
        Path(path).mkdir(exist_ok=True)
    except FileExistsError:
        raise BillingError("file_unreadable", f"{safe_repr(str(path), 200)} is a file; name a folder") from None


def _missing_folders(folder: Path) -> list[Path]:
    """Return a folder and its parents, as far as they do not exist, the outermost last."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    return missing


def _require_near(folder: Path) -> None:
    """Raise ``file_unreadable`` if a folder that does not exist is not in the working folder."""
    if not folder.resolve().is_relative_to(Path.cwd()):
        name = safe_repr(str(folder), 200)
        raise BillingError("file_unreadable", f"there is no folder {name}; create it, or correct the path")


def move_new(source: Path, target: Path) -> None:
    """Move a file or a folder to a path where there is nothing. Of two processes with the same path, one goes on.

    Raises ``FileExistsError`` if there is anything at the path, and other ``OSError``.
    """
    # Created exclusively first, because a rename replaces a file.
    if source.is_dir():
        target.mkdir(PRIVATE.folder_mode)
        target.rmdir()  # Windows does not rename over a folder
    else:
        create_file(target).close()
    os.replace(source, target)


def atomic_write_bytes(path: str | Path, content: bytes, access: Access = PRIVATE) -> None:
    """Write a file as a whole or not at all; see :func:`atomic_write`."""
    with atomic_write(path, access) as file:
        file.write(content)


@contextmanager
def atomic_write(path: str | Path, access: Access = PRIVATE) -> Iterator[IO[bytes]]:
    """Open a file that replaces ``path`` as a whole at the end of the block, or not at all after an error.

    So a server that reads the present file never sees half of the new one. A missing folder is created in the working
    folder, and is an error elsewhere. A published
    file keeps its mode. Something other than a regular file, such as a pipe, is written to directly if it belongs to
    the user or the system. Raises ``file_unreadable``, also for a symbolic link.
    """
    path = str(path)
    handed_over = False
    try:
        if os.path.exists(path) and os.path.abspath(path).startswith(_OPEN_FILES):
            with open(path, "wb") as file:
                handed_over = True
                yield file
            return
        if os.path.islink(path):
            raise BillingError("file_unreadable", f"cannot write {safe_repr(path, 200)}: {_LINK}")
        if os.path.exists(path) and not os.path.isfile(path):
            with _open_device(path) as file:
                handed_over = True
                yield file
            return
        target = Path(path)
        if missing := _missing_folders(target.parent):
            _require_near(missing[-1])
            make_folder(target.parent, access)
        draft = target.with_name(f".brivionix-{secrets.token_hex(8)}")
        try:
            with open(draft, "xb", opener=_opener(access.file_mode)) as file:
                handed_over = True
                yield file
            if access is PUBLISHED:
                _copy_mode(target, draft)
            os.replace(draft, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(draft)
            raise
    except (OSError, ValueError) as error:
        if handed_over and isinstance(error, ValueError):
            raise  # from the caller's block; the path was valid
        raise BillingError("file_unreadable", f"cannot write {safe_repr(path, 200)}: {_reason(error)}") from None


def is_readable_by_others(path: str | Path) -> bool:
    """Return whether other users than the owner may read a file. On Windows, modes do not tell: false."""
    try:
        return os.name == "posix" and bool(os.stat(path).st_mode & 0o077)
    except (OSError, ValueError):
        return False


def _opener(mode: int) -> Any:
    return lambda path, flags: os.open(path, flags | _NO_FOLLOW, mode)


def _open_device(path: str) -> IO[bytes]:
    """Open a pipe or device. Another user's pipe would hand the content to that user."""
    file = open(path, "wb", opener=lambda name, _: os.open(name, os.O_WRONLY | _NO_FOLLOW))  # noqa: SIM115  # returned
    if os.name == "posix" and os.fstat(file.fileno()).st_uid not in (_SYSTEM_USER, os.geteuid()):
        file.close()
        raise PermissionError(None, "it belongs to another user; name a file")
    return file


def _copy_mode(source: Path, target: Path) -> None:
    """Copy the mode of a file, unless it belongs to another user, who could have prepared it."""
    with suppress(FileNotFoundError):
        status = source.stat(follow_symlinks=False)
        if os.name != "posix" or status.st_uid == os.geteuid():
            target.chmod(status.st_mode & 0o777)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
