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

from brivionix_billing.errors import BillingError, ascii_safe, quoted
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.tabular import as_csv
from brivionix_billing.times import parse_instant

__all__ = [
    "add_workers",
    "workers_for",
    "DONE",
    "NO",
    "WRONG",
    "add_prices",
    "as_json",
    "distinct",
    "emit",
    "load_book",
    "now_or",
    "opened",
    "progress",
    "reopenable",
    "replace_file",
    "replacing",
    "tell",
]

DONE: Final = 0
NO: Final = 1
WRONG: Final = 2
_WORTH_WORKERS: Final = 32 * 1024 * 1024


def add_prices(parser: ArgumentParser) -> None:
    """The option that every command has."""
    parser.add_argument("--prices", metavar="FILE", default="pricing.yaml", help="the price file (pricing.yaml)")


def load_book(args: Namespace) -> PriceBook:
    """The price book that ``--prices`` names."""
    return PriceBook.load(args.prices)


def tell(message: str) -> None:
    """A line for people, on stderr."""
    text = "\n".join(ascii_safe(line) for line in message.splitlines())
    print(
        text.encode(sys.stderr.encoding or "utf-8", "backslashreplace").decode(sys.stderr.encoding or "utf-8"),
        file=sys.stderr,
    )


def now_or(text: str | None) -> datetime:
    """The time that ``--at`` gives, or now: a command may read the clock, the library does not."""
    return datetime.now(UTC) if text is None else parse_instant(text)


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A usage file for reading; ``-`` is stdin."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115  # closed below; the try must not cover what is done with it
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the usage file {quoted(path, 200)}: {reason}") from None
    with file:
        try:
            yield file
        except IsADirectoryError:
            raise BillingError("file_unreadable", f"{quoted(path, 200)} is a folder, not a usage file") from None


@contextmanager
def reopenable(path: str) -> Iterator[Callable[[], Any]]:
    """A usage file that can be read more than once: stdin and pipes are kept in a temporary file."""
    if path != "-" and (os.path.isfile(path) or not os.path.exists(path)):
        yield lambda: opened(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "usage.jsonl")
        with copy.open("wb") as file, opened(path) as source:  # stdin, or a pipe: read once
            shutil.copyfileobj(source, file)
        yield lambda: opened(str(copy))


def add_workers(parser: ArgumentParser) -> None:
    """The option of commands that read large usage files."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that read the usage file (as many as pay off)"
    )


def workers_for(args: Namespace) -> int:
    """How many processes shall read the usage file: for a small one, starting any costs more than it saves."""
    if args.workers is not None:
        if not 0 <= args.workers <= 64:
            raise BillingError("bad_argument", f"--workers {args.workers} is not a number from 0 to 64")
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


def emit(rows: Sequence[Mapping[str, Any]], kind: str, people: Callable[[], str]) -> None:
    """Rows as JSON, as CSV, or as people read them."""
    if kind == "json":
        write(as_json(list(rows)))
    elif kind == "csv":
        write(as_csv(rows))
    else:
        shown = people() + "\n"
        write("".join(c if c.isprintable() or c == "\n" else ascii_safe(c) for c in shown))


def as_json(value: Any) -> str:
    """JSON for a terminal: letters of all scripts stay, what a terminal might obey is escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def write(text: str) -> None:
    """Text on stdout, in UTF-8 whatever the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def distinct(*paths: str | None) -> None:
    """Raises ``bad_argument`` where one file is named for two things: to replace what one reads is a slip."""
    named = [path for path in paths if path]
    for index, path in enumerate(named):
        if any(os.path.realpath(path) == os.path.realpath(other) for other in named[:index]):
            raise BillingError("bad_argument", f"{quoted(path, 200)} is named twice; name another file")


def replace_file(path: str, content: bytes) -> None:
    """Write a file whole or not at all; see :func:`replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """A file to be written whole or not at all: a server may be reading the one that stands there.

    A link stays, and what it leads to is replaced; what is no file, such as a pipe, is just written to.
    """
    handed_over = False
    try:
        if os.path.exists(path) and (not os.path.isfile(path) or os.path.abspath(path).startswith(("/dev/", "/proc/"))):
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
        raise BillingError("file_unreadable", f"cannot write {quoted(path, 200)}: {reason}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
