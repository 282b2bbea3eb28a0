"""How a ledger on PostgreSQL grows: times of operations and sizes of indexes with few and with millions of entries.

One account is filled through the ledger in SQLite. Then it is copied to PostgreSQL many times, each time with other ids
and with the hashes that follow, so that the journal of every account is valid and ``verify`` accepts it.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final

import psycopg

from brivionix_billing import Usage
from brivionix_billing.ledger import Ledger
from ledger_pairs import BOOK, postgresql

START: Final = datetime(2026, 10, 1, tzinfo=UTC)
SPACING: Final = timedelta(seconds=8)
BODY: Final = {"usage": {"input_tokens": 12_000, "output_tokens": 800, "total_tokens": 12_800}}
TEMPLATE: Final = "z00"
"""Account of the template. No hash, number or text of its journal contains it, but its ids."""
TABLES: Final = ("account", "lot", "hold", "token", "usage")
WARM_UP: Final = 5
ROUNDS: Final = 60


def fill(path: Path, pairs: int) -> None:
    """Fill a ledger in SQLite with pairs of hold and settle of one account."""
    usage = Usage.from_response(BODY)
    with Ledger.open(f"sqlite:///{path}", BOOK, synchronous="NORMAL") as ledger:
        quote = BOOK.quote("rmb", at=START, pay="850000")
        ledger.open_account(TEMPLATE, at=START)
        ledger.top_up(TEMPLATE, quote, reference=f"{TEMPLATE}-pi", id=f"{TEMPLATE}-lot", at=START)
        ledger.create_token(TEMPLATE, id=f"{TEMPLATE}-tok", at=START, group="default", secret="x" * 40)
        for first in range(0, pairs, 1000):
            operations: list[Callable[..., Any]] = []
            for number in range(first, min(first + 1000, pairs)):
                at, id = START + SPACING * number, f"{TEMPLATE}-r{number}"
                charge = BOOK.rate(usage, model="gpt-5.4-mini", group="default", at=at)
                operations.append(partial(ledger.hold, TEMPLATE, "0.1", id=id, at=at, token=f"{TEMPLATE}-tok"))
                operations.append(partial(ledger.settle, id, charge, usage=BODY, at=at))
            results = ledger.run_grouped(operations)
            assert not any(isinstance(result, Exception) for result in results)


def copy_accounts(template: Path, url: str, accounts: int, seconds: float) -> int:
    """Copy the account of the template into a ledger on PostgreSQL, with other ids and their hashes.

    No further account is copied after some seconds. Returns the number of accounts.
    """
    end = time.monotonic() + seconds
    with sqlite3.connect(template) as source, psycopg.connect(url) as target:
        for number in range(accounts):
            name = f"z{number:02d}"
            head = _copy_journal(source, target, name)
            for table in TABLES:
                rows = source.execute(f"SELECT * FROM billing_{table}")
                columns = [column[0] for column in rows.description]
                with target.cursor().copy(f"COPY billing_{table} ({', '.join(columns)}) FROM STDIN") as copy:
                    for row in rows:
                        values = dict(zip(columns, (_renamed(value, name) for value in row), strict=True))
                        if table == "account":
                            values["head"] = head
                        if table == "token":
                            values["hash"] = _token_hash(name)
                        copy.write_row(list(values.values()))
            target.commit()
            print(f"  {number + 1} accounts copied", file=sys.stderr, flush=True)
            if time.monotonic() > end:
                break
    return number + 1


def _renamed(value: Any, name: str) -> Any:
    return value.replace(TEMPLATE, name) if isinstance(value, str) else value


def _token_hash(name: str) -> str:
    return sha256(f"secret of {name}".encode()).hexdigest()


def _copy_journal(source: sqlite3.Connection, target: psycopg.Connection[Any], name: str) -> str:
    """Copy the journal. Returns the hash of its last entry."""
    old_token = source.execute("SELECT hash FROM billing_token").fetchone()[0]
    head = ""
    rows = source.execute("SELECT id, account, number, kind, at, booked, body FROM billing_journal ORDER BY number")
    columns = "id, account, number, kind, at, booked, body, hash"
    with target.cursor().copy(f"COPY billing_journal ({columns}) FROM STDIN") as copy:
        for id, account, number, kind, at, booked, body in rows:
            previous = body.index('"previous":"') + 12
            end = body.index('"', previous)
            text = _renamed(body[:previous], name) + head + _renamed(body[end:], name)
            text = text.replace(old_token, _token_hash(name))
            head = sha256(text.encode()).hexdigest()
            copy.write_row((_renamed(id, name), _renamed(account, name), number, kind, at, booked, text, head))
    return head


class Account:
    """The first account of a ledger, and the times of operations on it."""

    def __init__(self, url: str, entries: int) -> None:
        self.ledger, self.times = Ledger.open(url, BOOK), dict[str, list[float]]()
        self._now = START + SPACING * entries
        self._charge = BOOK.rate(Usage.from_response(BODY), model="gpt-5.4-mini", group="default", at=self._now)

    def run(self, number: int) -> None:
        """Run each operation once."""
        ledger, now, account, id = self.ledger, self._now, "z00", f"new{number}"
        self._timed("balance", ledger.balance, account, at=now)
        self._timed("hold", ledger.hold, account, "0.1", id=id, at=now, token=f"{account}-tok")
        self._timed("settle", ledger.settle, id, self._charge, usage=BODY, at=now)
        self._timed("newest 100 requests", ledger.requests, account, at=now)

    def _timed(self, name: str, operation: Callable[..., Any], *args: Any, **options: Any) -> None:
        begin = time.perf_counter()
        operation(*args, **options)
        self.times.setdefault(name, []).append(time.perf_counter() - begin)


def report_sizes(url: str) -> None:
    """Print the size of each table and index above 1 MB."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname, relkind, pg_relation_size(oid) FROM pg_class "
            "WHERE relname LIKE 'billing_%' AND pg_relation_size(oid) > 1000000 ORDER BY 3 DESC"
        )
        for name, kind, size in rows:
            print(f"  {'index' if kind == 'i' else 'table'} {name}: {size / 1e6:.0f} MB")


def compare(few: Account, many: Account) -> None:
    """Print the times of operations on both ledgers, which take turns, and the median of the rounds' ratios."""
    for number in range(WARM_UP + ROUNDS):
        few.run(number)
        many.run(number)
    for name, before in few.times.items():
        pairs = list(zip(before[WARM_UP:], many.times[name][WARM_UP:], strict=True))
        small, large = (median(each) * 1000 for each in zip(*pairs, strict=True))
        ratios = sorted(after / base for base, after in pairs)
        middle = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-len(ratios) // 4]:.2f}"
        print(f"{name}: {small:.2f} ms, {large:.2f} ms; {median(ratios):.2f} times (middle half {middle})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--pairs", type=int, default=50_000, help="pairs of hold and settle of each account")
    parser.add_argument("--accounts", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3600, help="copy no further account after this time")
    parser.add_argument("--template", help="a filled template, to use again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as folder, postgresql() as server:
        small, large = Path(folder) / "small.db", Path(args.template or f"{folder}/large.db")
        fill(small, 5_000)
        if args.template is None:
            fill(large, args.pairs)
        with sqlite3.connect(large) as source:
            (count,) = source.execute("SELECT COUNT(*) FROM billing_journal").fetchone()
        measured = []
        for name, template, accounts, entries in (("small", small, 1, 10_003), ("large", large, args.accounts, count)):
            url = server.create(name)
            Ledger.open(url, BOOK).close()
            copied = copy_accounts(template, url, accounts, args.seconds)
            print(f"{name}: {copied} accounts, {entries * copied} entries", flush=True)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
            measured.append(Account(url, entries // 2))
        compare(*measured)
        for account in measured:
            account.ledger.close()
        report_sizes(server.url("large"))


if __name__ == "__main__":
    main()
