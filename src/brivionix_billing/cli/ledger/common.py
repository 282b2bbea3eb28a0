"""What the subcommands of ``ledger`` share: which database, which operation, how results are shown.

The ledger itself is imported inside functions: its extra may be missing, and other commands must not wait for it.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.output import print_rows
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from brivionix_billing.ledger import Entry, Ledger

__all__ = [
    "ENVIRONMENT",
    "add_id",
    "add_period",
    "print_entry",
    "engine_from_args",
    "parse_optional_time",
    "open_ledger",
    "redacted_url",
    "subcommand",
    "open_ledger_for_update",
]

ENVIRONMENT: Final = "BRIVIONIX_LEDGER"
_DEFAULT: Final = "sqlite:///ledger.db"
_NAMES: Final = ("account", "lot", "operation", "hold", "token")
"""Arguments that name something in the ledger."""
_FORMATS: Final = ("table", "json", "csv")


def subcommand(
    commands: Any,
    name: str,
    run: Callable[[Namespace], int],
    help: str,
    description: str = "",
    *,
    at: bool = False,
    prices: bool = False,
    formats: Sequence[str] = _FORMATS,
) -> ArgumentParser:
    """A subcommand with the options that all have; a caller adds its own."""
    parser: ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description or f"{help[:1].upper()}{help[1:]}.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--db",
        metavar="URL|FILE",
        help=f"the ledger's database: a SQLite file, or a URL such as postgresql://user@host/name "
        f"(what the environment says in {ENVIRONMENT}, else {_DEFAULT})",
    )
    if at:
        parser.add_argument("--at", metavar="T", help="the time that counts as now (now)")
    if formats:
        parser.add_argument("--format", choices=formats, default=formats[0], help=f"({formats[0]})")
    if prices:
        add_prices(parser)
    parser.set_defaults(run=run)
    return parser


def add_id(parser: ArgumentParser, becomes: str = "") -> None:
    """The id of an operation that writes."""
    also = f" It becomes the id of the {becomes}." if becomes else ""
    parser.add_argument(
        "--id",
        required=True,
        metavar="ID",
        help="your own name for this operation, such as the id of the event that asks for it. The same id with the "
        f"same content is done once, so running the command again is safe; with other content it is refused.{also}",
    )


def add_period(parser: ArgumentParser) -> None:
    """The options about a period."""
    parser.add_argument("--period", required=True, metavar="P", help="a month (2026-10), or FROM/TO")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="whose midnights bound it, and its days (UTC)")


def parse_optional_time(text: str | None) -> datetime | None:
    """The time of an option that may be left out."""
    return None if text is None else parse_instant(text)


def engine_from_args(args: Namespace, *, new: bool = False) -> Engine:
    """An engine for the database that is named.

    A SQLite file that does not exist is an error unless ``new``: the driver would make it, and a slip of the pen in its
    name would show an empty ledger.
    """
    from brivionix_billing.ledger.database.transactions import create_ledger_engine

    named = (os.environ.get(ENVIRONMENT, "").strip() or _DEFAULT) if args.db is None else args.db
    if not named or not named.isprintable():
        # Without its text: there may be a password in it.
        raise BillingError("invalid_argument", "--db is empty, or has characters that are not printable")
    engine = create_ledger_engine(named)
    if engine.dialect.name != "sqlite":
        return engine
    path = engine.url.database
    if not path or path == ":memory:" or engine.url.query:
        raise BillingError("invalid_argument", "name the file of the ledger: sqlite:///ledger.db, without options")
    if not new and not os.path.exists(path):
        raise BillingError(
            "file_unreadable",
            f"there is no ledger {safe_repr(path, 200)}; if the name is right, this makes it: "
            f"brivionix-billing ledger migrate --db {redacted_url(engine)}",
        )
    return engine


def _check_text(what: str, value: str) -> None:
    """Bytes of the command line that are no text cannot be asked for in any database."""
    if not value.isprintable():
        raise BillingError(
            "invalid_argument", f"{what} is {safe_repr(value, 200)}; it has characters that are not printable"
        )


def redacted_url(engine: Engine) -> str:
    """The URL as it may be shown: without the password, which may stand among the options as well."""
    return engine.url.set(drivername=engine.dialect.name, query={}).render_as_string(hide_password=True)


@contextmanager
def open_ledger(args: Namespace, book: PriceBook | None = None) -> Iterator[Ledger]:
    """The ledger, which must be there. ``book`` says in which order lots are used."""
    from brivionix_billing.ledger import Ledger
    from brivionix_billing.ledger.database.migrate import check_version, schema_version
    from brivionix_billing.ledger.database.transactions import close, run_read
    from brivionix_billing.topup import DEFAULT_LOT_ORDER

    for name in _NAMES:
        given = getattr(args, name, None)
        for value in [given] if isinstance(given, str) else given or ():
            _check_text(name.upper(), value)
    engine = engine_from_args(args)

    def check(connection: Any) -> None:
        # Asked first, to name the database, and the command that makes its tables.
        if schema_version(connection) is None:
            raise BillingError(
                "ledger_version",
                f"there is no ledger in {redacted_url(engine)} yet; if that is the right database, this makes its "
                "tables: "
                f"brivionix-billing ledger migrate --db {redacted_url(engine)}",
            )
        check_version(connection)

    try:
        run_read(engine, check)
        yield Ledger(engine, lot_order=DEFAULT_LOT_ORDER if book is None else book.lot_order)
    finally:
        close(engine)


@contextmanager
def open_ledger_for_update(args: Namespace) -> Iterator[tuple[Ledger, PriceBook, datetime]]:
    """The ledger, the price book, and the time that counts as now.

    Whatever is booked on an account first books what has expired, and pays what is owed; for both the order in which
    lots are used must be that of the price file.
    """
    import brivionix_billing.ledger  # noqa: F401  # that it is not installed is told before anything is read

    book = load_book(args)
    at = parse_time_or_now(args.at)
    with open_ledger(args, book) as ledger:
        yield ledger, book, at


def print_entry(args: Namespace, ledger: Ledger, entry: Entry, at: datetime, what: str) -> int:
    """Show what an operation did, and what the account has now."""
    has = ledger.balance(entry.account, at=at)
    said, result = entry.content, entry.result
    pay = f"{said['paid']} {said['currency']}" if entry.kind == "top_up" else entry.refund_amount
    row = {
        "id": entry.id,
        "account": entry.account,
        "number": entry.number,
        "kind": entry.kind,
        "at": format_instant(entry.at),
        "credits": said["credits"] if entry.kind == "adjust" else format_plain(entry.credits),
        "pay": None if pay is None else str(pay),
        "channel": said.get("channel", result.get("channel")),
        "reference": said.get("reference", result.get("reference")),
        "expires": None if entry.expires is None else format_instant(entry.expires),
        "repeated": entry.repeated,
        "available": format_plain(has.available),
        "held": format_plain(has.held),
        "owed": format_plain(has.owed),
    }

    def people() -> str:
        again = "\nThis was done before, and nothing was done now." if entry.repeated else ""
        return (
            f"{what}{again}\n{entry.account}: {row['available']} Credits available, {row['held']} held, "
            f"{row['owed']} owed"
        )

    print_rows([row], args.format, people)
    return EXIT_OK
