"""What the tests of the ledger share: databases, one account that has some Credits, and what all tables hold."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from brivionix_billing import BillingError, Charge, PriceBook, Usage
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.tables import METADATA
from brivionix_billing.topup import Quote

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOOK = PriceBook.load("pricing.yaml")
_NUMBERS = itertools.count()


def later(seconds: float) -> datetime:
    """So many seconds after the begin of the tests' day."""
    return NOW + timedelta(seconds=seconds)


@contextmanager
def schema(server: str) -> Iterator[str]:
    """The URL of a schema of its own on a PostgreSQL server."""
    name = f"t{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield f"{server}&options=-csearch_path%3D{name}"
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Ledger]:
    """A ledger, closed in the end."""
    ledger = Ledger.open(url, BOOK, synchronous="NORMAL", **options)
    try:
        yield ledger
    finally:
        ledger.close()


def quote(pay: str, channel: str = "rmb") -> Quote:
    """What so much money buys."""
    return BOOK.quote(channel, at=NOW, pay=pay)


def with_credits(ledger: Ledger, pay: str = "85", account: str = "acct") -> Ledger:
    """The same ledger, with an account that has bought Credits: 100 for 85 CNY."""
    ledger.open_account(account, at=NOW)
    ledger.top_up(account, quote(pay), reference=f"pay-{account}", id=f"lot-{account}", at=NOW)
    return ledger


def body(input_tokens: int = 12_000, cached: int = 10_000, output: int = 800) -> dict[str, Any]:
    """A usage as OpenAI reports it."""
    return {
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output,
            "total_tokens": input_tokens + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    }


def charge(of: dict[str, Any] | None = None, at: datetime = NOW, model: str = "gpt-5.4-mini") -> Charge:
    """Its charge: 0.00585 Credits by default."""
    return BOOK.rate(Usage.from_response(of or body()), model=model, group="default", at=at)


def tables(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in order; without the bound in ``next_expiry``, which may be as early as it likes."""
    found = {}
    with ledger.engine.connect() as connection:
        for name, table in METADATA.tables.items():
            columns = [column.name for column in table.columns if column.name != "next_expiry"]
            rows = connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}").all()
            found[name] = sorted(tuple(map(str, row)) for row in rows)
    return found


def refused(code: str) -> pytest.RaisesExc[BillingError]:
    """``with refused("unknown_hold"):`` is that it is refused, with this code."""
    return pytest.RaisesExc(BillingError, check=lambda error: error.code == code)


def got(*figures: Any) -> tuple[Any, ...]:
    """Figures to be compared: a Decimal equals the whole number that it is."""
    return figures


def available(ledger: Ledger, account: str = "acct", seconds: float = 0) -> Decimal:
    """What an account can spend."""
    return ledger.balance(account, at=later(seconds)).available
