"""Credits as pages of a bill show them: rounded to the places of the bill, near their exact amounts, and adding up."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.decimals import decimal_from_scaled, format_plain, format_scaled
from brivionix_billing.invoice.shown_credits import allocate_credits, shown_balance, shown_savings

_UNITS = st.one_of(st.integers(-5, 5), st.integers(-(10**12), 10**12))
"""Amounts in units of 10^-9 Credit."""
_DIGITS = st.integers(0, 9)


def exact(units: int) -> str:
    return format_plain(decimal_from_scaled(units, 9))


def half_up(units: int, digits: int) -> Fraction:
    """Round half away from zero."""
    scaled = abs(Fraction(units, 10**9)) * 10**digits
    rounded = Fraction(int(scaled + Fraction(1, 2)), 10**digits)
    return rounded if units >= 0 else -rounded


def document(digits: int, charged: int, **parts: Any) -> Any:
    rounded = format_scaled(int(half_up(charged, digits) * 10**digits), digits)
    return {"rounding": {"credit_digits": digits}, "totals": {"rounded": {"credits": rounded}}, **parts}


def places(text: str) -> int:
    return len(text.partition(".")[2])


@given(_DIGITS, _UNITS, _UNITS, _UNITS)
def test_shown_savings_add_up(digits: int, charged: int, cache: int, group: int) -> None:
    """List - cache - group is the rounded total, and each amount is less than one unit of the last place away."""
    given_savings = {"list": charged + cache + group, "cache": cache, "group": group}
    savings = {name: exact(units) for name, units in given_savings.items()}
    bill = document(digits, charged, savings=savings)
    shown = shown_savings(bill)
    figures = {name: Fraction(text) for name, text in shown.items()}
    assert figures["list"] - figures["cache"] - figures["group"] == Fraction(bill["totals"]["rounded"]["credits"])
    assert figures["list"] == half_up(given_savings["list"], digits)
    assert {places(text) for text in shown.values()} == {digits}
    for name, units in given_savings.items():
        assert abs(figures[name] - Fraction(units, 10**9)) < Fraction(1, 10**digits)


@given(_DIGITS, _UNITS, st.lists(_UNITS, max_size=4), _UNITS)
def test_a_shown_balance_adds_up(digits: int, opening: int, movements: list[int], charged: int) -> None:
    """Every amount is rounded half up, and a line for the rounding, only if there is any, makes them add up."""
    closing = opening + sum(movements) - charged
    balance = {
        "opening": exact(opening),
        "movements": [{"label": "x", "credits": exact(units)} for units in movements],
        "closing": exact(closing),
    }
    shown = shown_balance(document(digits, charged, balance=balance))
    assert shown is not None
    given_units = [opening, *movements, closing]
    assert [Fraction(text) for text in (shown.opening, *shown.movements, shown.closing)] == [
        half_up(units, digits) for units in given_units
    ]
    rounding = Fraction(shown.rounding or 0)
    parts = [shown.opening, *shown.movements, shown.used]
    assert sum(map(Fraction, parts)) + rounding == Fraction(shown.closing)
    assert (shown.rounding is None) == (rounding == 0)


@given(_DIGITS, st.lists(st.integers(0, 10**12), min_size=1, max_size=5))
def test_shown_parts_add_up_to_the_shown_total(digits: int, parts: list[int]) -> None:
    """Parts of one sign add up to the rounded total, and a part that is zero stays zero."""
    bill = document(digits, sum(parts))
    shown = allocate_credits(bill, bill["totals"]["rounded"]["credits"], [exact(units) for units in parts])
    assert sum(map(Fraction, shown)) == Fraction(bill["totals"]["rounded"]["credits"])
    assert all(Fraction(text) == 0 for text, units in zip(shown, parts, strict=True) if not units)
    assert all(places(text) == digits for text in shown)


def test_parts_of_different_signs_are_rounded_one_by_one() -> None:
    """Some notes have them; a largest remainder of both signs is not defined."""
    bill = document(2, 0)
    assert allocate_credits(bill, "0.00", ["0.005", "-0.005", "0.0049"]) == ["0.01", "-0.01", "0.00"]
