"""Files of archived entries: the texts of the entries of some accounts, one per line, as they were hashed.

Each account has a part of the file, which is a member of the gzip file, so ``zcat`` reads the whole file. A part has
all entries of its account from one number to another. Each names the hash of the entry before, so a part proves itself
from the hash of its last entry.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable, Iterator
from hashlib import sha256
from json import loads
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.archived_entries import ArchiveRow

__all__ = ["ArchiveFolder", "PartWriter", "WrittenPart"]

_CHUNK: Final = 1 << 20
_MAX_LINE: Final = 64 << 20
"""Maximum size of one entry, in bytes."""


class WrittenPart(NamedTuple):
    """A part of a file."""

    position: int
    length: int
    digest: str


class PartWriter:
    """Writes the part of one account at the end of a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._position = file.seek(0, io.SEEK_END)
        self._digest = sha256()
        self._zip = zlib.compressobj(wbits=31)  # a gzip member, without a name and a time

    def write(self, text: str) -> None:
        """Write the text of an entry."""
        self._put(self._zip.compress(text.encode() + b"\n"))

    def finish(self) -> WrittenPart:
        """End the part."""
        self._put(self._zip.flush())
        return WrittenPart(self._position, self._file.tell() - self._position, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the part from the file."""
        self._file.seek(self._position)
        self._file.truncate()

    def _put(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class ArchiveFolder:
    """A folder with the files of archived entries."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def texts(self, part: ArchiveRow) -> Iterator[str]:
        """Yield the texts of the entries in a part, after its digest was checked.

        Raises ``file_unreadable``, and ``archive_broken`` if the file was altered.
        """
        path = self.path / Path(part.file).name
        try:
            with open(path, "rb") as file:
                if not _has_part(file, part):
                    raise _altered_error(path, part, "its digest differs")
                yield from _lines(file, part, path)
        except OSError as error:
            raise BillingError(
                "file_unreadable",
                f"cannot read the archive file {safe_repr(str(path), 200)}: {error.strerror or error}; name the folder "
                "that has it",
            ) from None

    def has(self, part: ArchiveRow) -> bool:
        """Return whether the file of a part exists and has its bytes."""
        try:
            with open(self.path / Path(part.file).name, "rb") as file:
                return _has_part(file, part)
        except OSError:
            return False

    def check(self, part: ArchiveRow, number: int, head: str) -> int:
        """Check that a part has the entries after a number, in a chain from ``head`` to its last one.

        Returns their number. Raises as :meth:`texts`.
        """
        first = number
        for text in self.texts(part):
            try:
                entry: Any = loads(text)
                follows = (entry["account"], entry["number"], entry["previous"]) == (part.account, number + 1, head)
            except (ValueError, KeyError, TypeError, RecursionError):
                follows = False
            if not follows:
                raise _altered_error(self.path / part.file, part, f"entry {number + 1} is missing")
            number, head = number + 1, sha256(text.encode()).hexdigest()
        if (number, head) != (part.through, part.hash):
            raise _altered_error(self.path / part.file, part, f"it ends with entry {number}")
        return number - first


def _lines(file: IO[bytes], part: ArchiveRow, path: Path) -> Iterator[str]:
    rest = b""
    try:
        for data in _decompress(_read(file, part)):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield line.decode()
            if len(rest) > _MAX_LINE:
                raise _altered_error(path, part, "a line is too long")
    except (zlib.error, UnicodeDecodeError) as error:
        raise _altered_error(path, part, str(error)) from None
    if rest:
        raise _altered_error(path, part, "it is cut off")


def _decompress(chunks: Iterable[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    for chunk in chunks:
        data = chunk
        while data:
            yield unzip.decompress(data, _CHUNK)
            data = unzip.unconsumed_tail
    yield unzip.flush()
    if not unzip.eof:
        raise zlib.error("it is cut off")


def _has_part(file: IO[bytes], part: ArchiveRow) -> bool:
    digest = sha256()
    for data in _read(file, part):
        digest.update(data)
    return digest.hexdigest() == part.digest


def _read(file: IO[bytes], part: ArchiveRow) -> Iterator[bytes]:
    """Yield the bytes of a part."""
    file.seek(part.position)
    left = part.length
    while left and (data := file.read(min(left, _CHUNK))):
        left -= len(data)
        yield data


def _altered_error(path: Path, part: ArchiveRow, problem: str) -> BillingError:
    return BillingError(
        "archive_broken",
        f"archive file {safe_repr(str(path), 200)}: the entries of {safe_repr(part.account)} were altered: {problem}",
    )
