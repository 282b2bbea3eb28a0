"""Times that differ from the clock of the database, and connections behind poolers and after a failover."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.engine import create_ledger_engine
from ledger_kit import BOOK, NOW, available, got, later, opened, refused, schema, with_credits


def test_expiries_far_ahead_need_a_confirmation(database: str) -> None:
    """CASES 52: an expiry at 2936 by mistake destroys nothing; with ``ahead`` it is done, and past ones need none."""
    with opened(database) as ledger:
        with_credits(ledger)
        ledger.grant("acct", "7", reason="x", id="old", at=NOW, expires=later(60))
        ledger.grant("acct", "5", reason="x", id="gift", at=NOW, expires=NOW.replace(year=2930))
        assert ledger.expire(at=later(61)) == 1
        with refused("clock_skew"):
            ledger.expire(at=NOW.replace(year=2936))
        assert available(ledger, seconds=62) == 105
        assert ledger.expire(at=NOW.replace(year=2936), ahead=True) == 1


def test_a_skewed_machine_cannot_overdraw(database: str) -> None:
    """CASES 52: with ``max_skew``, a machine whose clock is 16 minutes off can neither hold nor settle."""
    minute, now = timedelta(minutes=1), datetime.now(UTC)
    with opened(database) as right:
        right.open_account("acct", at=now)
        right.grant("acct", "10", reason="x", id="gift", at=now)
        ledger = Ledger(right.engine, book=BOOK, max_skew=minute)
        ledger.hold("acct", "9", id="r1", at=now)
        for skewed in (now + 16 * minute, now - 16 * minute):
            with refused("clock_skew"):
                ledger.hold("acct", "8", id="r2", at=skewed)
            with refused("clock_skew"):
                ledger.settle("r1", "9", at=skewed)
        has = ledger.balance("acct", at=now)
        assert got(has.available, has.held) == (1, 9)
        for wrong in (timedelta(0), 60):
            with refused("invalid_argument"):
                Ledger(right.engine, max_skew=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("url", [None, "", "  ", 7])
def test_a_missing_url_is_an_error(url: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """CASES 58: ``None`` and an empty URL are errors, and no file named ``None`` is made."""
    monkeypatch.chdir(tmp_path)
    with refused("invalid_argument"):
        Ledger.open(url, BOOK)
    with refused("invalid_argument"):
        create_ledger_engine(url)
    assert not list(tmp_path.iterdir())


def test_driver_options_in_a_url(postgres: str) -> None:
    """CASES 53: ``prepare_threshold`` is a number or ``none``, and options that the driver rejects are errors."""
    for text, expected in (("0", 0), ("none", None)):
        with schema(postgres) as url, opened(f"{url}&prepare_threshold={text}") as ledger:
            connection = ledger.engine.raw_connection()
            driver: Any = connection.dbapi_connection
            assert driver.prepare_threshold == expected
            connection.close()
    with refused("invalid_argument"):
        create_ledger_engine(f"{postgres}&prepare_threshold=x")
    with refused("invalid_argument"):
        Ledger.open(postgres, BOOK, connect_args={"prepare_threshold": "x"})
    with refused("invalid_argument"):
        Ledger.open(f"{postgres}&row_factory=x", BOOK)


def test_behind_a_pooler_statements_are_not_prepared(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CASES 53: a connection whose server process is another one than it was told is one of a pooler."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: -1))
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        with ledger.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            assert driver.prepare_threshold is None
            assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "0"


def test_writes_recover_when_the_primary_became_read_only(postgres: str) -> None:
    """CASES 53: after a failover, a connection to the old primary fails with 25006, and another one is used."""
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        with ledger.engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            with driver.cursor() as cursor:
                cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
            driver.commit()
        ledger.charge("acct", "1", id="c", at=NOW)
        assert available(ledger) == 99


def test_amounts_with_exponents_and_expired_expiries_are_refused(ledger: Ledger) -> None:
    """CASES 59: ``1e3`` is no amount, and a token that has expired already cannot be created."""
    asks: list[Callable[[], Any]] = [
        lambda: ledger.adjust("acct", "1e3", reason="x", author="x", id="a", at=NOW),
        lambda: ledger.refund("acct", "lot-acct", id="r", at=NOW, pay="1e1"),
    ]
    for ask in asks:
        with refused("invalid_money"):
            ask()
    with refused("invalid_argument"):
        ledger.create_token("acct", id="t", at=NOW, group="default", expires=NOW)


@pytest.mark.parametrize("at", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
def test_times_at_the_limits_of_the_calendar(ledger: Ledger, at: datetime) -> None:
    """The first and last instants work, or raise a ``BillingError``: never another error."""
    ledger.grant("acct", "1", reason="x", id="g", at=NOW, expires=datetime.max.replace(tzinfo=UTC))
    if at.year > 2000:
        with refused("invalid_argument"):
            ledger.hold("acct", "1", id="h", at=at)
    else:
        ledger.hold("acct", "1", id="h", at=at)
    assert ledger.balance("acct", at=at).owed == 0
