"""What the commands share: reading inputs, writing results, telling progress."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.tabular import format_csv
from brivionix_billing.times import parse_instant

__all__ = [
    "add_workers",
    "worker_count",
    "EXIT_OK",
    "EXIT_NEGATIVE",
    "EXIT_ERROR",
    "add_prices",
    "as_json",
    "require_distinct_paths",
    "print_rows",
    "load_book",
    "parse_time_or_now",
    "open_usage_file",
    "progress",
    "open_rereadable",
    "atomic_write_bytes",
    "atomic_write",
    "print_stderr",
]

EXIT_OK: Final = 0
EXIT_NEGATIVE: Final = 1
EXIT_ERROR: Final = 2
_WORTH_WORKERS: Final = 32 * 1024 * 1024


def add_prices(parser: ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--prices", metavar="FILE", default="pricing.yaml", help="the price file (pricing.yaml)")


def load_book(args: Namespace) -> PriceBook:
    """The price book that ``--prices`` names."""
    return PriceBook.load(args.prices)


def print_stderr(message: str) -> None:
    """A line for people, on stderr."""
    text = "\n".join(escape_unprintable(line) for line in message.splitlines())
    print(
        text.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8"),
        file=sys.stderr,
    )


def parse_time_or_now(text: str | None) -> datetime:
    """The time that ``--at`` gives, or now: a command may read the clock, the library does not."""
    return datetime.now(UTC) if text is None else parse_instant(text)


@contextmanager
def open_usage_file(path: str) -> Iterator[IO[bytes]]:
    """A usage file for reading; ``-`` is stdin."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; the try must not cover what is done with it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the usage file {safe_repr(path, 200)}: {reason}") from None
    with file:
        try:
            yield file
        except IsADirectoryError:
            raise BillingError("file_unreadable", f"{safe_repr(path, 200)} is a folder, not a usage file") from None


@contextmanager
def open_rereadable(path: str) -> Iterator[Callable[[], Any]]:
    """A usage file that can be read more than once: stdin and pipes are kept in a temporary file."""
    if path != "-" and (os.path.isfile(path) or not os.path.exists(path)):
        yield lambda: open_usage_file(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "usage.jsonl")
        with copy.open("wb") as file, open_usage_file(path) as source:  # stdin, or a pipe: read once
            shutil.copyfileobj(source, file)
        yield lambda: open_usage_file(str(copy))


def add_workers(parser: ArgumentParser) -> None:
    """The option of commands that read large usage files."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read the usage file (as many as pay off)"
    )


def worker_count(args: Namespace) -> int:
    """How many processes shall read the usage file: for a small one, starting any costs more than it saves."""
    if args.workers is not None:
        if not 0 <= args.workers <= 64:
            raise BillingError("invalid_argument", f"--workers {args.workers} is not a number from 0 to 64")
        return int(args.workers)
    try:
        large = os.path.getsize(args.usage) >= _WORTH_WORKERS
    except (OSError, ValueError, TypeError):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores) if large and cores > 1 else 0


def progress() -> Callable[[int, int], None] | None:
    """Tells how far the reading is, on a terminal only."""
    if not sys.stderr.isatty():
        return None

    def show(lines: int, size: int) -> None:
        print(f"\r{lines:,} lines, {size / 1e6:,.0f} MB", end="", file=sys.stderr, flush=True)

    return show


def print_rows(rows: Sequence[Mapping[str, Any]], kind: str, people: Callable[[], str]) -> None:
    """Rows as JSON, as CSV, or as people read them."""
    if kind == "json":
        print_stdout(as_json(list(rows)))
    elif kind == "csv":
        print_stdout(format_csv(rows))
    else:
        shown = people() + "\n"
        print_stdout("".join(c if c.isprintable() or c == "\n" else escape_unprintable(c) for c in shown))


def as_json(value: Any) -> str:
    """JSON for a terminal: letters of all scripts stay, what a terminal might obey is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_stdout(text: str) -> None:
    """Text on stdout, in UTF-8 whatever the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def require_distinct_paths(*paths: str | None) -> None:
    """Raises ``invalid_argument`` where one file is named for two things: to replace what one reads is a slip."""
    named = [path for path in paths if path]
    for index, path in enumerate(named):
        if any(os.path.realpath(path) == os.path.realpath(other) for other in named[:index]):
            raise BillingError("invalid_argument", f"{safe_repr(path, 200)} is named twice; name another file")


def atomic_write_bytes(path: str, content: bytes) -> None:
    """Write a file whole or not at all; see :func:`replacing`."""
    with atomic_write(path) as file:
        file.write(content)


_OPEN_FILES: Final = ("/dev/fd/", "/dev/std", "/proc/")
"""Paths of files that a process has open. Others below /dev, such as those in /dev/shm, are files like any other."""


@contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """A file to be written whole or not at all: a server may be reading the one that stands there.

    A link stays, and what it leads to is replaced; what is no file, such as a pipe, is just written to.
    """
    handed_over = False
    try:
        if os.path.exists(path) and (not os.path.isfile(path) or os.path.abspath(path).startswith(_OPEN_FILES)):
            with open(path, "wb") as file:  # a folder fails here, by its name
                handed_over = True
                yield file
            return
        place = Path(os.path.realpath(path))
        place.parent.mkdir(parents=True, exist_ok=True)
        mode = place.stat().st_mode & 0o777 if place.exists() else 0o666 & ~_umask()
        handle, draft = tempfile.mkstemp(dir=place.parent, prefix=".brivionix-")  # a name that nobody has
        try:
            with os.fdopen(handle, "wb") as file:
                handed_over = True
                yield file
            os.chmod(draft, mode)
            os.replace(draft, place)
        except BaseException:
            os.unlink(draft)
            raise
    except (OSError, ValueError) as error:
        if handed_over and isinstance(error, ValueError):
            raise  # not of the file, whose name was sound
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot write {safe_repr(path, 200)}: {reason}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
