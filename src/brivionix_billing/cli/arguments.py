"""Arguments that several commands share, their values, and the exit statuses."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from brivionix_billing.decimals import parse_plain_decimal
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.messages import resolve_locale
from brivionix_billing.tables import find_files
from brivionix_billing.times import parse_instant

__all__ = [
    "EXIT_OK",
    "EXIT_NEGATIVE",
    "EXIT_ERROR",
    "add_prices",
    "add_locale",
    "load_book",
    "with_similar_file",
    "parse_time_or_now",
    "plain_amount",
    "add_workers",
    "worker_count",
    "require_distinct_paths",
]

EXIT_OK: Final = 0
"""Exit status of a command that did what it was asked for."""
EXIT_NEGATIVE: Final = 1
"""Exit status of a check with a negative result, such as a bill that does not verify."""
EXIT_ERROR: Final = 2
"""Exit status for invalid input, including a usage file with rejected records."""

_PARALLEL_MIN_BYTES: Final = 32 * 1024 * 1024
"""Size from which a file is read by several processes, in bytes."""


def add_prices(parser: ArgumentParser) -> None:
    """Add the option of every command that reads a price file."""
    parser.add_argument("--prices", metavar="FILE", default="pricing.yaml", help="the price file (pricing.yaml)")


def add_locale(parser: ArgumentParser, help_text: str) -> None:
    """Add the option of every command that writes texts for readers."""
    parser.add_argument("--locale", type=_locale, metavar="en|zh_CN", default="en", help=help_text)


def _locale(name: str) -> str:
    try:
        return resolve_locale(name)
    except BillingError as error:
        raise ArgumentTypeError(str(error)) from None


def load_book(args: Namespace, option: str = "prices") -> PriceBook:
    """Load the price book that an option names. A file that cannot be read is an error that names this option."""
    path = getattr(args, option)
    try:
        return PriceBook.load(path)
    except BillingError as error:
        if error.code == "file_unreadable":
            error = BillingError(error.code, f"{error.message}; name one by --{option}")
        raise with_similar_file(error, path) from None


def with_similar_file(error: BillingError, *paths: str) -> BillingError:
    """Return an error with a suggestion, if a file does not exist and its folder has a similar one."""
    path = next((each for each in paths if not os.path.lexists(each)), None)
    if path is None or error.code != "file_unreadable" or error.suggestion:
        return error
    folder, name = os.path.split(path)
    with suppress(OSError, ValueError):
        return BillingError(error.code, error.message, near=(name, os.listdir(folder or ".")))
    return error


def parse_time_or_now(text: str | None) -> datetime:
    """Return the time that ``--at`` gives, or now: a command may read the clock, the library does not."""
    return datetime.now(UTC) if text is None else parse_instant(text)


def plain_amount(text: str | None) -> str | None:
    """Return an amount as it was written. Raises ``invalid_money``, also for ``1e3``: most likely it is an error."""
    if text is not None:
        parse_plain_decimal(text)
    return text


def add_workers(parser: ArgumentParser, work: str = "read the usage file") -> None:
    """Add the option of commands that read large files."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help=f"processes that {work}, 0 to 64 (none for a small file, a few for a large one)",
    )


def worker_count(args: Namespace, option: str | None = "usage") -> int:
    """Return the number of processes that read the files which an option names, or without one, that do other work.

    For small files it is 0: starting a process costs more time than it saves.
    """
    if args.workers is not None:
        if not 0 <= args.workers <= 64:
            raise BillingError("invalid_argument", f"--workers {args.workers} is out of range; use 0 to 64")
        return int(args.workers)
    if option is not None and not _is_large(getattr(args, option)):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores) if cores > 1 else 0


def _is_large(named: str | list[str] | None) -> bool:
    try:
        files = [file for path in ([named] if isinstance(named, str) else named or []) for file in find_files(path)]
        return sum(map(os.path.getsize, files)) >= _PARALLEL_MIN_BYTES
    except (OSError, ValueError, TypeError, BillingError):
        return False


def require_distinct_paths(*paths: str | None) -> None:
    """Raise ``invalid_argument`` if two arguments name the same file: writing one would destroy the other."""
    named = [path for path in paths if path]
    for index, path in enumerate(named):
        if any(os.path.realpath(path) == os.path.realpath(other) for other in named[:index]):
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(path, 200)} is named twice: it is also an input or another output; name another file",
            )
