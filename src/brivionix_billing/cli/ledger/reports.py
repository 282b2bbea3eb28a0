"""Subcommands of ``ledger`` for reports: journal, statement, usage, and the inputs of bills."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, require_distinct_paths
from brivionix_billing.cli.ledger.account_pages import add_page_options, require_pages, write_pages
from brivionix_billing.cli.ledger.common import add_period, open_ledger, subcommand, warn_open_holds
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.files import atomic_write, atomic_write_bytes
from brivionix_billing.invoice.customers import UNKNOWN_CUSTOMER, Customer, read_customers
from brivionix_billing.tabular import format_table
from brivionix_billing.times import Period, format_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import Entry, Ledger, Statement, UsageLine

__all__ = ["add_commands"]

_BALANCES: Final = ("available", "held", "owed")
"""Subaccounts in the table of a journal."""


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    parser = subcommand(
        commands,
        "journal",
        _journal,
        "list the entries of an account",
        "Lists the journal of an account in order, one entry per line, as JSON.",
        formats=("json", "table"),
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument(
        "--after", type=int, default=0, metavar="N", help="only entries with a number above N (default: 0)"
    )

    parser = subcommand(
        commands,
        "statement",
        _statement,
        "show the statement of a period: opening, movements, usage, closing",
        formats=("table", "json"),
    )
    parser.add_argument("account", metavar="ACCOUNT")
    add_period(parser)
    add_page_options(parser)

    parser = subcommand(commands, "usage", _usage, "list the usage in a period, by day and model, or by other keys")
    _add_account_or_all(parser)
    add_period(parser)
    parser.add_argument(
        "--by",
        default="day,model",
        metavar="KEYS",
        help="keys, separated by commas: hour, day, month, model, token, member, group (default: day,model)",
    )
    parser.add_argument("--by-token", action="store_true", help="list it by token, too")

    parser = subcommand(
        commands,
        "records",
        _records,
        "write the requests of a period as a usage file, from which bills are made",
        "Writes every charged request of the period as a record of a usage file (JSON Lines), for 'invoice' and "
        "'verify'. Charges that were priced elsewhere have no record: they are an error, unless they are skipped.",
        formats=(),
    )
    _add_account_or_all(parser)
    add_period(parser)
    parser.add_argument("--skip-unpriced", action="store_true", help="leave out charges that were priced elsewhere")
    parser.add_argument("--estimated", action="store_true", help="only requests whose usage is an estimate")
    parser.add_argument("--out", metavar="FILE", help="write to this file, atomically (default: stdout)")

    parser = subcommand(
        commands,
        "customers",
        _customers,
        "write the balances of a period, for 'invoice --customers'",
        "Writes the file for 'invoice --customers', with the balance of every account in the period. Names, tax "
        "numbers, details and channels are copied from another such file, --base.",
        formats=(),
    )
    add_period(parser)
    parser.add_argument("--base", metavar="FILE.json", help="customers file with names; its balances are replaced")
    parser.add_argument("--out", metavar="FILE", help="write to this file, atomically (default: stdout)")
    add_prices(parser)


def _add_account_or_all(parser: ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("account", metavar="ACCOUNT", nargs="?")
    group.add_argument("--all", action="store_true", help="every account")


def _selected_accounts(args: Namespace, ledger: Ledger) -> Iterable[str]:
    return ledger.accounts() if args.all else [args.account]


def _journal(args: Namespace) -> int:
    if args.after < 0:
        raise BillingError("invalid_argument", f"--after {args.after}: must be at least 0")
    with open_ledger(args) as ledger:
        entries = ledger.journal(args.account, after=args.after)
        if args.format == "json":
            for entry in entries:
                print(json.dumps(entry.as_dict()))
            return EXIT_OK
        heads = ["number", "at", "kind", "id", "credits", *_BALANCES]
        rows = [[*_entry_cells(entry), *(_change(entry, name) for name in _BALANCES)] for entry in entries]
        print_rows([], "table", lambda: format_table([heads, *rows], left=4))
    return EXIT_OK


def _entry_cells(entry: Entry) -> list[str]:
    return [str(entry.number), format_instant(entry.at), entry.kind, entry.id, format_plain(entry.credits)]


def _change(entry: Entry, subaccount: str) -> str:
    amount = entry.as_dict()["postings"].get(subaccount, "0")
    if subaccount == "owed":  # its postings are negative, but the table shows the debt
        amount = format_plain(entry.owed)
    return amount if amount[0] in "-0" else f"+{amount}"


def _statement(args: Namespace) -> int:
    require_pages(args)
    period = Period.parse(args.period, args.zone)
    with open_ledger(args) as ledger:
        statement = ledger.statement(args.account, period)
    write_pages(args, "statement", statement.as_dict())
    if args.format == "json":
        print_stdout(as_json(statement.as_dict()))
    else:
        print_rows([], "table", lambda: _format_statement(statement))
    warn_open_holds([(statement.account, statement.open_holds)])
    return EXIT_OK


def _format_statement(statement: Statement) -> str:
    requests = sum(line.requests for line in statement.usage)
    rows = [["", "Credits"], ["opening", format_plain(statement.opening)]]
    rows += [[movement.label, format_plain(movement.credits)] for movement in statement.movements]
    rows += [[f"{movement.label} (deducted from used)", ""] for movement in statement.reversals]
    used = format_plain(statement.used.copy_negate())
    rows.append([f"used by {requests} request{'s' if requests != 1 else ''}", used])
    rows.append(["closing", format_plain(statement.closing)])
    period = statement.period
    text = f"Account {statement.account}, {period}, days of {period.zone}\n\n{format_table(rows, left=1)}"
    if statement.usage:
        text += "\n\n" + _usage_table([line.as_dict() for line in statement.usage], "day", "model")
    if statement.members:
        rows_by_member = [{**line.as_dict(), "member": line.member} for line in statement.members]
        text += "\n\n" + _usage_table(rows_by_member, "member")
    return text


def _usage(args: Namespace) -> int:
    period = Period.parse(args.period, args.zone)
    by = args.by.split(",")
    # The table shows the token first, as before there were other keys.
    keys = ["token", *by] if args.by_token and "token" not in by else by
    with open_ledger(args) as ledger:
        lines = [
            (account, line)
            for account in _selected_accounts(args, ledger)
            for line in ledger.usage(account, period, by=by, by_token=args.by_token)
        ]
        if not lines:
            _note_usage(args, period, ledger)
    rows = [
        {"account": account, **{key: getattr(line, key) for key in _KEY_ORDER if key in keys}, **_counts(line)}
        for account, line in lines
    ]
    print_rows(rows, args.format, lambda: _usage_table(rows, "account", *keys))
    return EXIT_OK


def _note_usage(args: Namespace, period: Period, ledger: Ledger) -> None:
    """Print when there is usage, for a period without any."""
    bounds = [found for account in _selected_accounts(args, ledger) if (found := ledger.usage_bounds(account))]
    whose = "any account" if args.all else f"account {args.account}"
    if bounds:
        first, last = min(first for first, _ in bounds), max(last for _, last in bounds)
        advice = f"there is usage from {first.date()} to {last.date()} (UTC); check --period and --zone"
    else:
        advice = "there is none in any other period either; check --db"
    print_stderr(f"note: {args.period} ({period}): no usage of {whose}; {advice}")


_KEY_ORDER: Final = ("hour", "day", "month", "model", "token", "member", "group")
"""Order of the keys in JSON and CSV."""


def _counts(line: UsageLine) -> dict[str, Any]:
    values = line.as_dict()
    return {name: values[name] for name in _COUNTS}


_COUNTS: Final = {
    "requests": "requests",
    "estimated": "estimated",
    "input_tokens": "input",
    "cache_read_tokens": "of it cached",
    "output_tokens": "output",
    "credits": "Credits",
}


def _usage_table(rows: list[dict[str, Any]], *heads: str) -> str:
    cells = [[*(row[head] or "-" for head in heads), *(str(row[name]) for name in _COUNTS)] for row in rows]
    return format_table([[*heads, *_COUNTS.values()], *cells], left=len(heads))


def _records(args: Namespace) -> int:
    period = Period.parse(args.period, args.zone)
    requests = accounts = 0
    with open_ledger(args) as ledger, _line_writer(args.out) as write_line:
        for account in _selected_accounts(args, ledger):
            before = requests
            for record in ledger.records(
                account, period, skip_unpriced=args.skip_unpriced, estimated_only=args.estimated
            ):
                write_line(json.dumps(record))
                requests += 1
            accounts += requests > before
    print_stderr(
        f"{requests} request{'s' if requests != 1 else ''} of {accounts} account{'s' if accounts != 1 else ''}"
    )
    return EXIT_OK


@contextmanager
def _line_writer(path: str | None) -> Iterator[Callable[[str], object]]:
    """Yield a function that writes a line to a file, or to stdout."""
    if path is None:
        yield print
        return
    with atomic_write(path) as file:
        yield lambda line: file.write(line.encode() + b"\n")


def _customers(args: Namespace) -> int:
    require_distinct_paths(args.base, args.out)
    period = Period.parse(args.period, args.zone)
    base = {} if args.base is None else read_customers(args.base, load_book(args))
    customers = {account: _customer_dict(customer) for account, customer in base.items()}
    unresolved = []
    with open_ledger(args) as ledger:
        for account in ledger.accounts():
            statement = ledger.statement(account, period)
            customers[account] = {
                **_customer_dict(base.get(account, UNKNOWN_CUSTOMER)),
                "balance": statement.balance().as_dict(),
            }
            if statement.open_holds:
                unresolved.append((account, statement.open_holds))
    content = as_json(customers)
    if args.out is None:
        print_stdout(content)
    else:
        atomic_write_bytes(args.out, content.encode())
        print_stderr(f"{args.out}: {len(customers)} account{'s' if len(customers) != 1 else ''}")
    warn_open_holds(unresolved)
    return EXIT_OK


def _customer_dict(customer: Customer) -> dict[str, Any]:
    """Return a customer as JSON values, without empty ones."""
    values = {
        "name": customer.name,
        "tax_number": customer.tax_number,
        "details": list(customer.details),
        "channel": customer.channel,
        "balance": None if customer.balance is None else customer.balance.as_dict(),
    }
    return {key: value for key, value in values.items() if value}
