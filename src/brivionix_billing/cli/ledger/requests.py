"""Subcommand of ``ledger`` that lists the requests of an account, or writes them to a file."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import open_ledger, subcommand
from brivionix_billing.cli.output import count_noun, print_rows, print_stderr
from brivionix_billing.errors import BillingError
from brivionix_billing.files import atomic_write
from brivionix_billing.tables.parquet import parquet_bytes
from brivionix_billing.tabular import format_csv, format_table
from brivionix_billing.times import Period

if TYPE_CHECKING:
    from brivionix_billing.ledger import Ledger, Request

__all__ = ["add_commands"]

_DEFAULT_LIMIT: Final = 100
_PAGE_SIZE: Final = 1000
_DECIMAL: Final = "DECIMAL(38, 18)"
_TYPES: Final = {
    "id": "VARCHAR",
    "account": "VARCHAR",
    "at": "TIMESTAMPTZ",
    "state": "VARCHAR",
    "late": "BOOLEAN",
    "token": "VARCHAR",
    "group": "VARCHAR",
    "model": "VARCHAR",
    "held": _DECIMAL,
    "credits": _DECIMAL,
    "owed": _DECIMAL,
    "estimated": "BOOLEAN",
    "input_tokens": "BIGINT",
    "cache_read_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "expires": "TIMESTAMPTZ",
    "lots": "VARCHAR",
    "member": "VARCHAR",
}
"""Columns of a file, and their types in Parquet. The cost in each currency follows."""


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = subcommand(
        commands,
        "requests",
        _requests,
        "list the requests of an account, the newest first",
        "Lists the requests of an account, the newest first: what each one cost, in Credits and money, its tokens and "
        "its state. --out writes all of them to a CSV or Parquet file.",
        at=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--period", metavar="P", help="a month (2026-10), or FROM/TO (default: all)")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="time zone of the period (default: UTC)")
    parser.add_argument("--token", metavar="TOKEN", help="only requests with this token, by its id")
    parser.add_argument("--member", metavar="MEMBER", help="only requests of this member, by its id")
    parser.add_argument("--model", metavar="M", help="only charged requests of this model")
    parser.add_argument("--open", action="store_true", help="only open holds: requests in flight")
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help=f"maximum number of requests (default: {_DEFAULT_LIMIT}, with --out: all)",
    )
    parser.add_argument("--after", metavar="CURSOR", help="continue after a page, whose cursor was printed on stderr")
    parser.add_argument(
        "--out", metavar="FILE", help="write to this file, atomically: Parquet if its name ends in .parquet, else CSV"
    )


def _requests(args: Namespace) -> int:
    limit = args.limit or (None if args.out else _DEFAULT_LIMIT)
    if args.limit is not None and args.limit < 1:
        raise BillingError("invalid_argument", f"--limit {args.limit}: must be at least 1")
    if args.open and (args.period or args.model or args.after):
        raise BillingError("invalid_argument", "--open cannot be combined with --period, --model or --after")
    with open_ledger(args) as ledger:
        listing = _Listing(ledger, args)
        rows = listing.rows(limit)
        if args.out:
            currencies = sorted({lot.paid.currency for lot in ledger.lots(args.account) if lot.paid is not None})
            count = _write(args.out, rows, currencies)
            listing.warn()
            print_stderr(f"{args.out}: {count_noun(count, 'request')}")
            return EXIT_OK
        found = list(rows)
    print_rows(found, args.format, lambda: _table(found))
    listing.warn()
    if listing.next is not None:
        print_stderr(f"there may be more; continue with --after {listing.next}")
    return EXIT_OK


class _Listing:
    """The requests that the arguments select. ``next`` is the cursor after those that were read."""

    def __init__(self, ledger: Ledger, args: Namespace) -> None:
        self._ledger, self._args = ledger, args
        self._at = parse_time_or_now(args.at)
        self.next: str | None = args.after
        self._archived: str | None = None

    def warn(self) -> None:
        """Say on stderr if requests are left out."""
        if self._archived is not None:
            print_stderr(
                f"warning: charged requests in archive file {self._archived} are not listed; restore it to list them"
            )

    def rows(self, limit: int | None) -> Iterator[dict[str, Any]]:
        """Yield up to ``limit`` requests as JSON values."""
        args = self._args
        if args.open:
            held = self._ledger.open_holds(args.account, at=self._at)
            selected = [
                request
                for request in held
                if args.token in (None, request.token) and args.member in (None, request.member)
            ]
            yield from map(self._row, selected[:limit])
            return
        period = None if args.period is None else Period.parse(args.period, args.zone)
        left = limit
        while left is None or left:
            page = self._ledger.requests(
                args.account,
                at=self._at,
                token=args.token,
                model=args.model,
                member=args.member,
                period=period,
                limit=_PAGE_SIZE if left is None else min(left, _PAGE_SIZE),
                after=self.next,
            )
            self.next = page.next
            self._archived = self._archived or page.archived
            yield from map(self._row, page.requests)
            if page.next is None:
                return
            left = None if left is None else left - len(page.requests)

    def _row(self, request: Request) -> dict[str, Any]:
        """Return a request as JSON values. In a column of a file, the lots are JSON: their number varies."""
        row = request.as_dict()
        if self._args.out or self._args.format == "csv":
            row["lots"] = json.dumps(row["lots"], ensure_ascii=False)
        return row


def _table(rows: list[dict[str, Any]]) -> str:
    heads = ["at", "id", "state", "member", "token", "group", "model"]
    counts = {"input_tokens": "input", "cache_read_tokens": "of it cached", "output_tokens": "output"}
    cells = [
        [
            *(str(row[head] or "-") for head in heads),
            *("-" if row[name] is None else str(row[name]) for name in counts),
            row["held"],
            row["credits"],
            " + ".join(f"{amount} {currency}" for currency, amount in row["cost"].items()) or "-",
        ]
        for row in rows
    ]
    for line, row in zip(cells, rows, strict=True):
        line[2] += " (late)" if row["late"] else ""
    return format_table([[*heads, *counts.values(), "held", "Credits", "cost"], *cells], left=len(heads))


def _write(path: str, rows: Iterator[dict[str, Any]], currencies: list[str]) -> int:
    """Write rows to a CSV or Parquet file. Returns their number."""
    flat = (
        {
            **{name: value for name, value in row.items() if name != "cost"},
            **{f"cost_{currency}": row["cost"].get(currency, "0") for currency in currencies},
        }
        for row in rows
    )
    types = _TYPES | {f"cost_{currency}": _DECIMAL for currency in currencies}
    if path.endswith(".parquet"):
        return _write_parquet(path, flat, types)
    with atomic_write(path) as file:
        return _write_csv(file, flat, list(types))


def _write_csv(file: IO[bytes], rows: Iterator[dict[str, Any]], columns: list[str]) -> int:
    count = 0
    file.write(format_csv([], columns).encode())
    for row in rows:
        file.write(format_csv([row], columns).partition("\n")[2].encode())
        count += 1
    return count


def _write_parquet(path: str, rows: Iterator[dict[str, Any]], types: dict[str, str]) -> int:
    cells = [[_cell(row[name]) for name in types] for row in rows]
    with atomic_write(path) as file:
        file.write(parquet_bytes(cells, types))
    return len(cells)


def _cell(value: object) -> str | None:
    return None if value is None else str(value)
