"""Helpers of the ledger's tests: databases, an account with Credits, and the rows of all tables."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from brivionix_billing import BillingError, Charge, Payable, PriceBook, Usage
from brivionix_billing.ledger import Ledger, ReceivedPayment
from brivionix_billing.ledger.database.tables import METADATA
from brivionix_billing.topup import Quote

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
BOOK = PriceBook.load("pricing.yaml")
_NUMBERS = itertools.count()


def later(seconds: float) -> datetime:
    """Return the time some seconds after ``NOW``."""
    return NOW + timedelta(seconds=seconds)


@contextmanager
def schema(server: str) -> Iterator[str]:
    """Yield the URL of a new schema on a PostgreSQL server."""
    name = f"t{os.getpid()}_{next(_NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {name}")
        yield f"{server}&options=-csearch_path%3D{name}"
        connection.execute(f"DROP SCHEMA {name} CASCADE")


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Ledger]:
    """Open a ledger, and close it at the end."""
    ledger = Ledger.open(url, BOOK, synchronous="NORMAL", **options)
    try:
        yield ledger
    finally:
        ledger.close()


def quote(pay: str, channel: str = "rmb") -> Quote:
    """Quote a payment at ``NOW``."""
    return BOOK.quote(channel, at=NOW, pay=pay)


def payment(gross: str, seconds: float, reference: str, channel: str = "stripe", **parts: Payable) -> ReceivedPayment:
    """Build a payment some seconds after ``NOW``, in the currency of its channel, with a fee of two minor units."""
    currency = BOOK.channel(channel).currency
    fee = Payable(2, currency)
    return ReceivedPayment(
        channel=channel, reference=reference, gross=Payable(gross, currency), at=later(seconds), **{"fee": fee, **parts}
    )


def with_credits(ledger: Ledger, pay: str = "85", account: str = "acct") -> Ledger:
    """Open an account with purchased Credits, by default 100 for 85 CNY. Returns the same ledger."""
    ledger.open_account(account, at=NOW)
    ledger.top_up(account, quote(pay), reference=f"pay-{account}", id=f"lot-{account}", at=NOW)
    return ledger


def body(input_tokens: int = 12_000, cached: int = 10_000, output: int = 800) -> dict[str, Any]:
    """Build a usage body in OpenAI's format."""
    return {
        "usage": {
            "prompt_tokens": input_tokens,
            "completion_tokens": output,
            "total_tokens": input_tokens + output,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    }


def charge(of: dict[str, Any] | None = None, at: datetime = NOW, model: str = "gpt-5.4-mini") -> Charge:
    """Rate a body, by default for 0.00585 Credits."""
    return BOOK.rate(Usage.from_response(of or body()), model=model, group="default", at=at)


def tables(ledger: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of all tables, sorted.

    ``next_expiry`` is left out, because it is only a lower bound. ``leased_until`` is not in the journal.
    """
    rows_by_table = {}
    with ledger.engine.connect() as connection:
        for name, table in METADATA.tables.items():
            names = (column.name for column in table.columns)
            columns = [name for name in names if name not in ("next_expiry", "leased_until")]
            rows = connection.exec_driver_sql(f"SELECT {', '.join(columns)} FROM {name}").all()
            rows_by_table[name] = sorted(tuple(map(str, row)) for row in rows)
    return rows_by_table


def refused(code: str) -> pytest.RaisesExc[BillingError]:
    """Expect a :class:`BillingError` with this code."""
    return pytest.RaisesExc(BillingError, check=lambda error: error.code == code)


def got(*figures: Any) -> tuple[Any, ...]:
    """Return figures as a tuple for a comparison: a Decimal equals an int of the same value."""
    return figures


def traced(ledger: Ledger) -> list[str]:
    """Return the list to which the statements of a SQLite ledger are added from now on."""
    statements: list[str] = []

    @event.listens_for(ledger.engine, "connect")
    def connect(connection: Any, _record: Any) -> None:
        connection.set_trace_callback(statements.append)

    ledger.close()  # existing connections are not traced; the next operation opens one
    return statements


def available(ledger: Ledger, account: str = "acct", seconds: float = 0) -> Decimal:
    """Return the available Credits of an account."""
    return ledger.balance(account, at=later(seconds)).available


def forge(ledger: Ledger, old: str, new: str) -> None:
    """Replace a text in the last entry, with a matching hash."""
    with ledger.engine.begin() as connection:
        number, text = connection.exec_driver_sql(
            "SELECT number, body FROM billing_journal ORDER BY number DESC LIMIT 1"
        ).one()
        text = text.replace(old, new)
        hash = sha256(text.encode()).hexdigest()
        connection.exec_driver_sql(
            "UPDATE billing_journal SET body = ?, hash = ? WHERE number = ?", (text, hash, number)
        )
        connection.exec_driver_sql("UPDATE billing_account SET head = ?", (hash,))
