"""A price file with prices of many days: every day has its price, in whatever order the days are rated."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import PriceBook, Usage
from samples import utc

START, DAYS = date(2026, 1, 1), 60
TEXT = """\
version: 1
credit: {{currency: USD, nominal_per_credit: 1}}
models:
  m: {{released: 2026-01-01, prices: [{prices}]}}
groups:
  g: {{terms: [{terms}]}}
"""
PRICES = [f"{{from: {START + timedelta(days=day)}, standard: {{input: {day + 1}, output: 1}}}}" for day in range(DAYS)]
TERMS = [f'{{from: {START + timedelta(days=7 * week)}, ratio: {week + 1}, models: ["*"]}}' for week in range(9)]


def book() -> PriceBook:
    """Return a new book, which has resolved no prices yet."""
    return PriceBook.loads(TEXT.format(prices=", ".join(PRICES), terms=", ".join(TERMS)))


def noon(day: int) -> datetime:
    """Return noon of a day of the file."""
    return utc(f"{START}T12:00:00") + timedelta(days=day)


@given(st.randoms(use_true_random=False))
def test_each_day_has_its_price_in_any_order(chance: Random) -> None:
    """Rating the days in any order, each twice, gives the price of the day, and the same rate card both times."""
    prices, usage = book(), Usage(1_000_000)
    days = [*range(DAYS), *range(DAYS)]
    chance.shuffle(days)
    cards: dict[int, object] = {}
    for day in days:
        charge = prices.rate(usage, model="m", group="g", at=noon(day))
        assert charge.credits == Decimal((day + 1) * (day // 7 + 1))
        (card,) = prices.rate_cards("m", group="g", at=noon(day))
        assert cards.setdefault(day, card) is card
