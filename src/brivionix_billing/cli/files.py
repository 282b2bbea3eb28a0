"""Opens usage files and writes files atomically."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from brivionix_billing import tables
from brivionix_billing.cli.output import print_stderr
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook

__all__ = [
    "USAGE_HELP",
    "add_usage_options",
    "atomic_write",
    "atomic_write_bytes",
    "open_rereadable",
    "open_usage",
    "open_usage_file",
]

USAGE_HELP: Final = (
    "the usage: JSON Lines, JSON, CSV, TSV or Parquet, also compressed; a folder or a pattern; - is stdin"
)


def add_usage_options(parser: ArgumentParser) -> None:
    """Add the options of a command that reads usage."""
    parser.add_argument(
        "--map",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="a column of a table that has another name, such as at=created_at; may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for all rows of a table without this column, such as group=default; may be repeated",
    )


@contextmanager
def open_usage(args: Namespace, book: PriceBook) -> Iterator[Iterator[bytes]]:
    """Yield the lines of the usage that a command names."""
    options = tables.TableOptions(
        tables.parse_mapping(args.map), tables.parse_values(args.set), frozenset(book.resolver.meters), print_stderr
    )
    with tables.open_usage(args.usage, options) as lines:
        yield lines


@contextmanager
def open_usage_file(path: str) -> Iterator[IO[bytes]]:
    """Open a usage file for reading; ``-`` is stdin."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; this try must not cover the caller's block
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the usage file {safe_repr(path, 200)}: {reason}") from None
    with file:
        try:
            yield file
        except IsADirectoryError:
            raise BillingError("file_unreadable", f"{safe_repr(path, 200)} is a folder, not a usage file") from None


@contextmanager
def open_rereadable(args: Namespace, book: PriceBook) -> Iterator[Callable[[], Any]]:
    """Yield a function that opens the usage, once per reading. Stdin and pipes are copied to a temporary file."""
    path = args.usage
    if path != "-" and (os.path.isdir(path) or os.path.isfile(path) or not os.path.exists(path)):
        yield lambda: open_usage(args, book)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "usage")
        with copy.open("wb") as file, open_usage_file(path) as source:
            shutil.copyfileobj(source, file)
        copied = Namespace(**{**vars(args), "usage": str(copy)})
        yield lambda: open_usage(copied, book)


def atomic_write_bytes(path: str, content: bytes) -> None:
    """Write a file as a whole or not at all; see :func:`atomic_write`."""
    with atomic_write(path) as file:
        file.write(content)


_OPEN_FILES: Final = ("/dev/fd/", "/dev/std", "/proc/")
"""Path prefixes of files that a process has open. Other files below /dev, such as /dev/shm, are ordinary files."""


@contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """Open a file that replaces ``path`` as a whole at the end of the block, or not at all after an error.

    So a server that reads the present file never sees half of the new one. A symbolic link stays, and its target is
    replaced. Something other than a regular file, such as a pipe, is written to directly.
    """
    handed_over = False
    try:
        if os.path.exists(path) and (not os.path.isfile(path) or os.path.abspath(path).startswith(_OPEN_FILES)):
            with open(path, "wb") as file:  # a folder fails here, with its name in the error
                handed_over = True
                yield file
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        handle, draft = tempfile.mkstemp(dir=target.parent, prefix=".brivionix-")
        try:
            with os.fdopen(handle, "wb") as file:
                handed_over = True
                yield file
            os.chmod(draft, mode)
            os.replace(draft, target)
        except BaseException:
            os.unlink(draft)
            raise
    except (OSError, ValueError) as error:
        if handed_over and isinstance(error, ValueError):
            raise  # from the caller's block; the path was valid
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot write {safe_repr(path, 200)}: {reason}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
