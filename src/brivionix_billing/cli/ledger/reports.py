"""Subcommands of ``ledger`` that tell what happened: journal, statements, usage, and what bills are made from."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now, require_distinct_paths
from brivionix_billing.cli.files import atomic_write, atomic_write_bytes
from brivionix_billing.cli.ledger.common import add_period, open_ledger, subcommand
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.customers import UNKNOWN_CUSTOMER, Customer, read_customers
from brivionix_billing.tabular import format_table
from brivionix_billing.times import Period, format_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import Entry, Ledger, Statement

__all__ = ["add_commands"]

_NAMED: Final = 20


def add_commands(commands: Any) -> None:
    """Add these subcommands to the parser."""
    parser = subcommand(
        commands,
        "journal",
        _journal,
        "the entries of an account, a line each",
        "The journal of an account: an entry a line, as JSON, in order.",
        formats=("json", "table"),
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--after", type=int, default=0, metavar="N", help="only entries behind this number (0)")

    parser = subcommand(
        commands,
        "statement",
        _statement,
        "an account over a period: opening, what came and went, usage, closing",
        formats=("table", "json"),
    )
    parser.add_argument("account", metavar="ACCOUNT")
    add_period(parser)

    parser = subcommand(commands, "usage", _usage, "what was used in a period, by day and model")
    _add_who(parser)
    add_period(parser)
    parser.add_argument("--by-token", action="store_true", help="and by token")

    parser = subcommand(
        commands,
        "records",
        _records,
        "the requests of a period as a usage file, from which bills are made",
        "Writes every charged request of the period as a record of a usage file (JSON Lines), for 'invoice' and "
        "'verify'. Credits that were charged at prices of elsewhere have no record: an error, unless they are skipped.",
        formats=(),
    )
    _add_who(parser)
    add_period(parser)
    parser.add_argument("--skip-unpriced", action="store_true", help="leave out Credits that were priced elsewhere")
    parser.add_argument("--out", metavar="FILE", help="write it there, whole or not at all (stdout)")

    parser = subcommand(
        commands,
        "customers",
        _customers,
        "the balances of a period, for 'invoice --customers'",
        "Writes the file that 'invoice --customers' takes: of every account the balance of its statement. Names, tax "
        "numbers, details and channels come from another such file, --base.",
        formats=(),
    )
    add_period(parser)
    parser.add_argument("--base", metavar="FILE.json", help="a customers file with names; its balances are replaced")
    parser.add_argument("--out", metavar="FILE", help="write it there, whole or not at all (stdout)")
    add_prices(parser)


def _add_who(parser: ArgumentParser) -> None:
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("account", metavar="ACCOUNT", nargs="?")
    who.add_argument("--all", action="store_true", help="every account")


def _selected_accounts(args: Namespace, ledger: Ledger) -> Iterable[str]:
    return ledger.accounts() if args.all else [args.account]


def _journal(args: Namespace) -> int:
    if args.after < 0:
        raise BillingError("invalid_argument", f"--after {args.after}: entries are numbered from 1")
    with open_ledger(args) as ledger:
        ledger.balance(
            args.account, at=parse_time_or_now(None)
        )  # with --after, an account that is not there would go unnoticed
        entries = ledger.journal(args.account, after=args.after)
        if args.format == "json":
            for entry in entries:
                print(json.dumps(entry.as_dict()))
            return EXIT_OK
        books = ("available", "held", "owed")
        heads = ["number", "at", "kind", "id", "credits", *books]
        rows = [[*_entry(entry), *(_change(entry, book) for book in books)] for entry in entries]
        print_rows([], "table", lambda: format_table([heads, *rows], left=4))
    return EXIT_OK


def _entry(entry: Entry) -> list[str]:
    return [str(entry.number), format_instant(entry.at), entry.kind, entry.id, format_plain(entry.credits)]


def _change(entry: Entry, book: str) -> str:
    amount = entry.as_dict()["postings"].get(book, "0")
    if book == "owed":  # kept as a balance below zero, told as what it is
        amount = format_plain(entry.owed)
    return amount if amount[0] in "-0" else f"+{amount}"


def _statement(args: Namespace) -> int:
    period = Period.parse(args.period, args.zone)
    with open_ledger(args) as ledger:
        found = ledger.statement(args.account, period)
    if args.format == "json":
        print_stdout(as_json(found.as_dict()))
    else:
        print_rows([], "table", lambda: _format_statement(found))
    _warn_open_holds([found])
    return EXIT_OK


def _format_statement(found: Statement) -> str:
    requests = sum(line.requests for line in found.usage)
    rows = [["", "Credits"], ["opening", format_plain(found.opening)]]
    rows += [[movement.label, format_plain(movement.credits)] for movement in found.movements]
    rows.append([f"used by {requests} request{'s' if requests != 1 else ''}", format_plain(found.used.copy_negate())])
    rows.append(["closing", format_plain(found.closing)])
    told = f"Account {found.account}, {found.period}, days of {found.period.zone}\n\n{format_table(rows, left=1)}"
    if found.usage:
        told += "\n\n" + _usage_table([line.as_dict() for line in found.usage])
    return told


def _usage(args: Namespace) -> int:
    period = Period.parse(args.period, args.zone)
    with open_ledger(args) as ledger:
        rows = [
            {"account": account, **line.as_dict()}
            for account in _selected_accounts(args, ledger)
            for line in ledger.usage(account, period, by_token=args.by_token)
        ]
    keys = ("account", "token") if args.by_token else ("account",)
    if not args.by_token:
        rows = [{key: value for key, value in row.items() if key != "token"} for row in rows]
    print_rows(rows, args.format, lambda: _usage_table(rows, *keys))
    return EXIT_OK


_COUNTS: Final = {
    "requests": "requests",
    "estimated": "estimated",
    "input_tokens": "input",
    "cache_read_tokens": "of it cached",
    "output_tokens": "output",
    "credits": "Credits",
}


def _usage_table(rows: list[dict[str, Any]], *keys: str) -> str:
    heads = [*keys, "day", "model"]
    cells = [[*(row[head] or "-" for head in heads), *(str(row[name]) for name in _COUNTS)] for row in rows]
    return format_table([[*heads, *_COUNTS.values()], *cells], left=len(heads))


def _records(args: Namespace) -> int:
    period = Period.parse(args.period, args.zone)
    requests = accounts = 0
    with open_ledger(args) as ledger, _line_writer(args.out) as put:
        for account in _selected_accounts(args, ledger):
            before = requests
            for record in ledger.records(account, period, skip_unpriced=args.skip_unpriced):
                put(json.dumps(record))
                requests += 1
            accounts += requests > before
    print_stderr(
        f"{requests} request{'s' if requests != 1 else ''} of {accounts} account{'s' if accounts != 1 else ''}"
    )
    return EXIT_OK


@contextmanager
def _line_writer(path: str | None) -> Iterator[Any]:
    """Puts lines into a file, or on stdout."""
    if path is None:
        yield print
        return
    with atomic_write(path) as file:
        yield lambda line: file.write(line.encode() + b"\n")


def _customers(args: Namespace) -> int:
    require_distinct_paths(args.base, args.out)
    period = Period.parse(args.period, args.zone)
    base = {} if args.base is None else read_customers(args.base, load_book(args))
    said = {account: _customer_dict(customer) for account, customer in base.items()}
    unresolved = []
    with open_ledger(args) as ledger:
        for account in ledger.accounts():
            statement = ledger.statement(account, period)
            said[account] = {
                **_customer_dict(base.get(account, UNKNOWN_CUSTOMER)),
                "balance": statement.balance().as_dict(),
            }
            if statement.open_holds:
                unresolved.append(statement)
    content = as_json(said)
    if args.out is None:
        print_stdout(content)
    else:
        atomic_write_bytes(args.out, content.encode())
        print_stderr(f"{args.out}: {len(said)} account{'s' if len(said) != 1 else ''}")
    _warn_open_holds(unresolved)
    return EXIT_OK


def _customer_dict(customer: Customer) -> dict[str, Any]:
    """A customer as the file tells it."""
    told = {
        "name": customer.name,
        "tax_number": customer.tax_number,
        "details": list(customer.details),
        "channel": customer.channel,
        "balance": None if customer.balance is None else customer.balance.as_dict(),
    }
    return {key: value for key, value in told.items() if value}


def _warn_open_holds(statements: list[Statement]) -> None:
    """A period is closed when nothing can be added to it any more."""
    waiting = [statement for statement in statements if statement.open_holds]
    for statement in waiting[:_NAMED]:
        many = statement.open_holds != 1
        print_stderr(
            f"account {statement.account}: {statement.open_holds} request{'s' if many else ''} of the period or before "
            f"{'are' if many else 'is'} not resolved; what {'they use' if many else 'it uses'} may still be added"
        )
    if len(waiting) > _NAMED:
        print_stderr(f"... and {len(waiting) - _NAMED} more accounts")
