"""Shared code of the subcommands of ``ledger``: database, operation ids, results.

The ledger is imported inside functions: its extra may be missing, and other commands must not wait for the import.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.output import print_rows, print_stderr
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import MAX_COMPARED_NAMES, BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from brivionix_billing.ledger import Entry, Ledger

__all__ = [
    "ENVIRONMENT",
    "add_id",
    "add_lot_terms",
    "add_period",
    "print_entry",
    "engine_from_args",
    "lot_terms",
    "parse_optional_time",
    "open_ledger",
    "redacted_url",
    "subcommand",
    "open_ledger_for_update",
    "warn_open_holds",
]

ENVIRONMENT: Final = "BRIVIONIX_LEDGER"
"""Environment variable with the database, used without ``--db``."""
_DEFAULT: Final = "sqlite:///ledger.db"
_ID_ARGUMENTS: Final = ("account", "lot", "operation", "hold", "token", "order", "to", "member", "subscription")
"""Arguments that are ids in the ledger."""
_FORMATS: Final = ("table", "json", "csv")
_MAX_WARNINGS: Final = 20
"""Maximum number of accounts that warnings name."""


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
    """Add a subcommand with the shared options. Returns its parser, to which the caller adds its own options."""
    parser: ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=description or f"{help[:1].upper()}{help[1:]}.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--db",
        metavar="URL|FILE",
        help=f"database of the ledger: a SQLite file, or a URL such as postgresql://user@host/name "
        f"(default: the environment variable {ENVIRONMENT}, or {_DEFAULT})",
    )
    if at:
        parser.add_argument("--at", metavar="T", help="current time for the ledger (default: now)")
    if formats:
        parser.add_argument(
            "--format", choices=formats, default=formats[0], help=f"output format (default: {formats[0]})"
        )
    if prices:
        add_prices(parser)
    parser.set_defaults(run=run)
    return parser


def add_id(parser: ArgumentParser, becomes: str = "") -> None:
    """Add the id of an operation."""
    note = f" It becomes the id of the {becomes}." if becomes else ""
    parser.add_argument(
        "--id",
        required=True,
        metavar="ID",
        help="idempotency key of the operation, such as the id of the event that causes it. Running the command again "
        f"with the same content changes nothing; with other content it is an error.{note}",
    )


def add_period(parser: ArgumentParser) -> None:
    """Add the options of a period."""
    parser.add_argument("--period", required=True, metavar="P", help="a month (2026-10), or FROM/TO")
    parser.add_argument(
        "--zone", default="UTC", metavar="Z", help="time zone of the period and its days (default: UTC)"
    )


def add_lot_terms(parser: ArgumentParser) -> None:
    """Add the options of a new lot: expiry, restriction and priority."""
    parser.add_argument("--expires", metavar="T", help="expiry of the Credits (default: never)")
    for kind, metavar in (("model", "M"), ("group", "G"), ("tag", "NAME=VALUE")):
        pattern = "" if kind == "tag" else ", or of those that match a pattern such as gpt-*"
        parser.add_argument(
            f"--only-{kind}",
            action="append",
            default=[],
            metavar=metavar,
            help=f"only requests with this {kind} may use the Credits{pattern}; repeat it for others",
        )
    parser.add_argument(
        "--priority",
        type=int,
        metavar="N",
        help="0 to 100: of the lots that a request may use, one with a lower number is used first (default: 50)",
    )


def lot_terms(args: Namespace, book: PriceBook) -> dict[str, Any]:
    """Return expiry, restriction and priority of a new lot, as the ledger's operations take them.

    Raises ``unknown_model`` and ``unknown_group`` if nothing in the price file matches: no request could use the lot.
    """
    from brivionix_billing.ledger import DEFAULT_PRIORITY, Restriction

    for kind, names, known in (
        ("model", args.only_model, book.model_names),
        ("group", args.only_group, book.group_names),
    ):
        for name in names:
            if not any(map(matcher([name]), known)):
                raise BillingError(
                    f"unknown_{kind}",
                    f"--only-{kind} {safe_repr(name)} matches no {kind} of the price file; use the name of one as on "
                    "bills, or a pattern",
                )
    only = None
    if args.only_model or args.only_group or args.only_tag:
        only = Restriction(models=args.only_model, groups=args.only_group, tags=args.only_tag)
    priority = DEFAULT_PRIORITY if args.priority is None else args.priority
    return {"expires": parse_optional_time(args.expires), "only": only, "priority": priority}


def parse_optional_time(text: str | None) -> datetime | None:
    """Parse the time of an optional option."""
    return None if text is None else parse_instant(text)


def engine_from_args(args: Namespace, *, new: bool = False) -> Engine:
    """Create an engine for the database of the arguments.

    A SQLite file that does not exist is an error, unless ``new``: the driver would create it, and a typing error in
    its name would show an empty ledger.
    """
    from brivionix_billing.ledger.database.engine import create_ledger_engine

    url = (os.environ.get(ENVIRONMENT, "").strip() or _DEFAULT) if args.db is None else args.db
    if not url or not url.isprintable():
        # The URL is not quoted: it may contain a password.
        raise BillingError("invalid_argument", "--db is empty or has unprintable characters")
    engine = create_ledger_engine(url)
    if engine.dialect.name != "sqlite":
        return engine
    path = engine.url.database
    if not path or path == ":memory:" or engine.url.query:
        raise BillingError(
            "invalid_argument", "--db has no file or has options; use a file, such as sqlite:///ledger.db"
        )
    if not new and not os.path.exists(path):
        raise BillingError(
            "file_unreadable",
            f"there is no ledger {safe_repr(path, 200)}; if the name is correct, create it: "
            f"brivionix-billing ledger migrate --db {redacted_url(engine)}",
        )
    return engine


def _require_printable(name: str, value: str) -> None:
    """Raise ``invalid_argument`` for bytes that are no text: no database can look them up."""
    if not value.isprintable():
        raise BillingError("invalid_argument", f"{name} is {safe_repr(value, 200)}; use printable characters only")


def redacted_url(engine: Engine) -> str:
    """Return the URL for display: without the password, and without options, which may contain it as well."""
    return engine.url.set(drivername=engine.dialect.name, query={}).render_as_string(hide_password=True)


@contextmanager
def open_ledger(args: Namespace, book: PriceBook | None = None) -> Iterator[Ledger]:
    """Open the ledger, which must exist. ``book`` has the order in which lots are consumed."""
    from brivionix_billing.ledger import Ledger
    from brivionix_billing.ledger.database.engine import close
    from brivionix_billing.ledger.database.migrate import check_version, schema_version
    from brivionix_billing.ledger.database.transactions import run_read
    from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER

    for name in _ID_ARGUMENTS:
        argument = getattr(args, name, None)
        for value in [argument] if isinstance(argument, str) else argument or ():
            _require_printable(name.upper(), value)
    engine = engine_from_args(args)

    def check(connection: Any) -> None:
        # Checked first, because this message names the database and the command with --db.
        if schema_version(connection) is None:
            raise BillingError(
                "ledger_version",
                f"there is no ledger in {redacted_url(engine)}; if the database is correct, create the tables: "
                f"brivionix-billing ledger migrate --db {redacted_url(engine)}",
            )
        check_version(connection)

    ledger = Ledger(engine, lot_order=DEFAULT_LOT_ORDER if book is None else book.lot_order, book=book)
    try:
        run_read(engine, check)
        yield ledger
    except BillingError as error:
        raise _with_suggestion(error, args, ledger) from None
    finally:
        close(engine)


def _with_suggestion(error: BillingError, args: Namespace, ledger: Ledger) -> BillingError:
    """Return the error with the account that was probably meant.

    Only the command line suggests accounts: a gateway must not disclose to a customer which others exist.
    """
    if error.code != "unknown_account":
        return error
    known = list(islice(ledger.accounts(), MAX_COMPARED_NAMES + 1))
    given = (getattr(args, name, None) for name in ("account", "to"))
    wrong = next((name for name in given if isinstance(name, str) and name not in known), None)
    return BillingError(error.code, error.message, near=(wrong, known))


@contextmanager
def open_ledger_for_update(args: Namespace) -> Iterator[tuple[Ledger, PriceBook, datetime]]:
    """Open the ledger for an operation. Yields the ledger, the price book and the current time.

    Every operation first posts expiries and settles debt. Both need the lot order of the price file.
    """
    import brivionix_billing.ledger  # noqa: F401  # report a missing extra before reading any file

    book = load_book(args)
    at = parse_time_or_now(args.at)
    with open_ledger(args, book) as ledger:
        yield ledger, book, at


def print_entry(args: Namespace, ledger: Ledger, entry: Entry, at: datetime, message: str) -> int:
    """Print the result of an operation and the balance of its account. Returns the exit status."""
    balance = ledger.balance(entry.account, at=at)
    content, result = entry.content, entry.result
    paid = content.get("gross", content.get("paid"))
    pay = f"{paid} {content['currency']}" if entry.kind == "top_up" else entry.refund_amount
    row = {
        "id": entry.id,
        "account": entry.account,
        "number": entry.number,
        "kind": entry.kind,
        "at": format_instant(entry.at),
        "credits": content["credits"] if entry.kind == "adjust" else format_plain(entry.credits),
        "pay": None if pay is None else str(pay),
        "channel": content.get("channel", result.get("channel")),
        "reference": content.get("reference", result.get("reference")),
        "expires": None if entry.expires is None else format_instant(entry.expires),
        "repeated": entry.repeated,
        "available": format_plain(balance.available),
        **({} if not balance.restricted else {"restricted": format_plain(balance.restricted)}),
        "held": format_plain(balance.held),
        "owed": format_plain(balance.owed),
    }

    def render_text() -> str:
        note = "\nThis operation was done before; this call changed nothing." if entry.repeated else ""
        restricted = f" ({row['restricted']} of them restricted)" if "restricted" in row else ""
        return (
            f"{message}{note}\n{entry.account}: {row['available']} Credits available{restricted}, {row['held']} held, "
            f"{row['owed']} owed"
        )

    print_rows([row], args.format, render_text)
    return EXIT_OK


def warn_open_holds(accounts: Iterable[tuple[str, int]]) -> None:
    """Warn about accounts with open holds: while there are any, usage may still be added to the period."""
    unresolved = [(account, holds) for account, holds in accounts if holds]
    for account, holds in unresolved[:_MAX_WARNINGS]:
        plural = holds != 1
        print_stderr(
            f"warning: account {account} has {holds} open hold{'s' if plural else ''} from "
            f"the period or before; {'their' if plural else 'its'} usage may still be added"
        )
    if len(unresolved) > _MAX_WARNINGS:
        print_stderr(f"... and {len(unresolved) - _MAX_WARNINGS} more accounts")
