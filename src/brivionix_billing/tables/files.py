"""Opens usage by its path: a file, a folder, or a pattern of names."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.content import usage_blocks
from brivionix_billing.usage.record_file import split_lines

__all__ = ["UsageLines", "find_files", "open_usage"]

_ENDINGS: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_COMPRESSED: Final = (".gz", ".bz2", ".zst")


def find_files(path: str) -> list[str]:
    """Return the files of a path in the order of their names: itself, the usage files of a folder, or of a pattern.

    Within a folder, only files whose names end like usage are read. Raises ``file_unreadable`` if there are none.
    """
    if os.path.isdir(path):
        found = sorted(str(file) for file in Path(path).rglob("*") if file.is_file() and _is_usage_name(file.name))
        if not found:
            raise BillingError(
                "file_unreadable",
                f"the folder {safe_repr(path, 200)} has no files that end with {', '.join(_ENDINGS)}, also with "
                f"{', '.join(_COMPRESSED)}",
            )
        return found
    if glob.has_magic(path) and not os.path.exists(path):
        found = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
        if not found:
            raise BillingError("file_unreadable", f"no file matches {safe_repr(path, 200)}")
        return found
    return [path]


def _is_usage_name(name: str) -> bool:
    lower = name.lower()
    for ending in _COMPRESSED:
        lower = lower.removesuffix(ending)
    return lower.endswith(_ENDINGS) and not lower.startswith(".")


class UsageLines(Iterator[bytes]):
    """The lines of a usage file for the usage of some files. An engine may read the files instead of the lines."""

    def __init__(self, blocks: Generator[bytes, None, None], files: Sequence[str], options: TableOptions) -> None:
        self._blocks, self.files, self.options = blocks, files, options
        self._begun: Iterator[bytes] = iter(())
        """The lines that are left of the block that was begun."""
        self._lines = self._read_lines()

    def __iter__(self) -> Iterator[bytes]:
        return self._lines  # it is faster by itself

    def __next__(self) -> bytes:
        return next(self._lines)

    def _read_lines(self) -> Iterator[bytes]:
        for block in self._blocks:
            self._begun = iter(split_lines(block))
            yield from self._begun

    def blocks(self) -> Iterator[bytes]:
        """Yield the lines that are left, one or more at a time."""
        if begun := b"".join(self._begun):
            yield begun
        yield from self._blocks

    def close(self) -> None:
        """Close the file that is being read."""
        self._blocks.close()


@contextmanager
def open_usage(path: str | Sequence[str], options: TableOptions | None = None) -> Iterator[UsageLines]:
    """Yield the lines of a usage file for the usage at a path, or at several; ``-`` is stdin.

    Several files follow one another.

    Raises ``file_unreadable`` and ``invalid_argument``, with the path.
    """
    paths = [path] if isinstance(path, str) else path
    files = [file for each in paths for file in (["-"] if each == "-" else find_files(each))]

    options = options or TableOptions()
    position = options.position
    sizes = [_size(file) for file in files]
    position.total, position.done = sum(sizes) if all(sizes) else 0, 0

    def blocks() -> Generator[bytes, None, None]:
        for file, size in zip(files, sizes, strict=True):
            where = "stdin" if file == "-" else safe_repr(file, 200)
            source = nullcontext(sys.stdin.buffer) if file == "-" else _open(file)
            try:
                with source as content:
                    position.size, position.fraction_of_file = size, partial(_fraction, content, size)
                    for block in usage_blocks(content, options):
                        yield block if block.endswith(b"\n") else block + b"\n"
                position.done, position.size = position.done + size, 0
            except OSError as error:
                raise BillingError("file_unreadable", f"cannot read the usage {where}: {error.strerror}") from None
            except BillingError as error:
                if error.code in ("file_unreadable", "invalid_argument", "missing_extra"):
                    raise BillingError(error.code, f"{where}: {error}") from None
                raise
        options.note_skipped()

    opened = UsageLines(blocks(), files, options)
    try:
        yield opened
    finally:
        opened.close()


def _size(path: str) -> int:
    """Return the size of a file; 0 if it is none."""
    try:
        return os.path.getsize(path) if os.path.isfile(path) else 0
    except (OSError, ValueError):
        return 0


def _fraction(file: IO[bytes], size: int) -> float:
    return file.tell() / size if size and not file.closed else 0.0


def _open(path: str) -> IO[bytes]:
    try:
        return open(path, "rb")
    except (OSError, ValueError) as error:  # a name with a NUL byte is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the usage {safe_repr(path, 200)}: {reason}") from None
