"""Opens usage files."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from brivionix_billing import tables
from brivionix_billing.cli.arguments import with_similar_file
from brivionix_billing.cli.output import print_stderr
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import is_readable_by_others
from brivionix_billing.invoice.signing import load_private_key
from brivionix_billing.pricebook import PriceBook

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "USAGE_HELP",
    "add_usage_options",
    "load_signing_key",
    "open_rereadable",
    "open_usage",
    "open_usage_file",
    "source_position",
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
        metavar="MAP",
        help="a column of a table that has another name, such as at=created_at; or new-api, litellm, or a YAML file; "
        "may be repeated",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for all rows of a table without this column, such as group=default; may be repeated",
    )
    parser.add_argument(
        "--naive-time-zone",
        metavar="Z",
        help="the time zone of times in a table that have no offset, such as Asia/Shanghai",
    )
    parser.add_argument("--query", metavar="SQL", help="read the rows of this query instead of a file")
    parser.add_argument("--db", metavar="URL", help="the database of --query; requires the extra 'ledger'")


def source_position(args: Namespace) -> tables.SourcePosition:
    """Return how far the command has read its usage."""
    if not hasattr(args, "position"):
        args.position = tables.SourcePosition()
    position: tables.SourcePosition = args.position
    return position


@contextmanager
def open_usage(args: Namespace, book: PriceBook) -> Iterator[Iterator[bytes]]:
    """Yield the lines of the usage that a command names."""
    stated = tables.read_mappings(args.map, args.set, args.naive_time_zone)
    options = tables.TableOptions(
        stated.mapping,
        stated.values,
        frozenset(book.resolver.meters),
        print_stderr,
        stated.preset,
        position=source_position(args),
        naive_time_zone=stated.naive_time_zone,
    )
    if (args.query is None) == (not args.usage) or (args.query is None) != (args.db is None):
        raise BillingError(
            "invalid_argument", "the usage is not clear; name USAGE, or give --query SQL and --db URL, not both"
        )
    source: AbstractContextManager[Iterator[bytes]]
    if args.query is None:
        source = tables.open_usage(args.usage, options)
    else:
        source = tables.open_query(args.db, args.query, options)
    try:
        with source as lines:
            yield lines
    except BillingError as error:
        paths = [args.usage] if isinstance(args.usage, str) else args.usage or []
        raise with_similar_file(error, *(path for path in paths if path != "-")) from None


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
    source_position(args)
    path = args.usage
    if args.query is not None or path is None:
        yield lambda: open_usage(args, book)
        return
    if path != "-" and (os.path.isdir(path) or os.path.isfile(path) or not os.path.exists(path)):
        yield lambda: open_usage(args, book)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "usage")
        with copy.open("wb") as file, open_usage_file(path) as source:
            shutil.copyfileobj(source, file)
        copied = Namespace(**{**vars(args), "usage": str(copy)})
        yield lambda: open_usage(copied, book)


def load_signing_key(path: str) -> Ed25519PrivateKey:
    """Read the private key of ``--sign-key``, and print a warning if other users can read it."""
    key = load_private_key(path)
    if is_readable_by_others(path):
        print_stderr(f"warning: other users can read the private key {safe_repr(path, 200)}; run chmod 600 on it")
    return key
