"""Texts of amounts and of times in the columns of the ledger."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import MAX_UNITS, to_signed_units, units_from_column, units_to_column, units_to_text
from ledger_kit import refused

UNITS = (
    st.integers(-MAX_UNITS, MAX_UNITS)
    | st.integers(-(10**19), 10**19)
    | st.sampled_from([0, 10**17, 10**18, -(10**18)])
)


@given(UNITS)
def test_a_column_has_the_exact_amount_with_18_places(units: int) -> None:
    """The text of an amount is its decimal number with 18 places, and an entry has it without trailing zeros."""
    text = units_to_column(units)
    assert re.fullmatch(r"-?(0|[1-9][0-9]*)\.[0-9]{18}", text)
    assert Fraction(text) == Fraction(units, 10**18)
    assert units_from_column(text) == units_from_column(units_to_text(units)) == units
    assert units_to_text(units) == re.sub(r"\.?0*$", "", text)


@given(
    st.from_regex(r"-?(0|[1-9][0-9]{0,33})(\.[0-9]{1,22})?", fullmatch=True)
    | st.from_regex(r"-?[1-9][0-9]{0,2}\.[0-9]{18}0{0,4}", fullmatch=True)
)
def test_an_amount_of_the_caller_is_exact_or_refused(text: str) -> None:
    """A text, and the Decimal of it, are the units of their fraction, if these are whole and small enough."""
    units = Fraction(text) * 10**18
    is_amount = units.denominator == 1 and abs(units) < MAX_UNITS
    for amount in (text, Decimal(text)):
        if is_amount:
            assert to_signed_units(amount, "an amount") == units
        else:
            with refused("invalid_money"):
                to_signed_units(amount, "an amount")


@pytest.mark.parametrize("text", ["", ".", "1.5.000000000000000000", "1.00000000000000000x", "0.5.", "1,5", "nan"])
def test_a_text_that_is_no_amount_is_not_read(text: str) -> None:
    """A text that was altered raises ``ValueError``, which names the row further up."""
    with pytest.raises(ValueError, match="invalid literal"):
        units_from_column(text)


@given(
    st.timedeltas(timedelta(), timedelta(days=3_652_000)),
    st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
def test_a_timestamp_is_the_instant_in_utc_with_microseconds(since: timedelta, zone: timezone) -> None:
    """A timestamp is the time in ISO 8601 with ``Z``, and is read as the same instant."""
    at = (datetime(1, 1, 2, tzinfo=UTC) + since).astimezone(zone)
    text = format_timestamp(at)
    assert text == at.astimezone(UTC).isoformat("T", "microseconds").replace("+00:00", "Z")
    assert parse_timestamp(text) == at
