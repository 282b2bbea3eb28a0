"""Money and exact decimals: types, rounding, allocation, and numbers as text."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_HALF_UP, ROUND_UP, Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import oracle
from brivionix_billing import BillingError, Money, Payable, Rounding
from brivionix_billing.decimals import (
    after_discount,
    decimal_from_scaled,
    decimal_places,
    divide_exactly,
    format_plain,
    multiply,
    parse_decimal,
    to_scaled,
)
from brivionix_billing.money import allocate, minor_digits, total
from samples import D, code_of

numbers = st.builds(decimal_from_scaled, st.integers(-(10**30), 10**30), st.integers(0, 24))
CURRENCIES = {"CNY": 2, "USD": 2, "JPY": 0, "KWD": 3}
HUGE = 10**5000


@given(numbers, numbers)
def test_arithmetic_is_exact(a: Decimal, b: Decimal) -> None:
    """Sums, differences, products and negations of amounts equal those of fractions, with any number of digits."""
    x, y = Money(a, "CNY"), Money(b, "CNY")
    assert Fraction((x + y).amount) == Fraction(a) + Fraction(b)
    assert Fraction((x - y).amount) == Fraction(a) - Fraction(b)
    assert Fraction((x * b).amount) == Fraction((b * x).amount) == Fraction(a) * Fraction(b)
    assert Fraction((-x).amount) == -Fraction(a)
    assert total("CNY", [x, y, x]) == x + y + x
    assert Fraction(multiply(a, b)) == Fraction(a) * Fraction(b)


@given(numbers)
def test_a_number_is_formatted_in_full_and_parses_back(value: Decimal) -> None:
    """``format_plain`` writes all digits without exponent or trailing zeros, and the text parses to the number."""
    text = format_plain(value)
    assert parse_decimal(text) == value
    assert Fraction(text) == Fraction(value)
    assert "e" not in text.lower()
    assert "." not in text or text[-1] not in ".0"
    coefficient, scale = to_scaled(value)
    assert Fraction(coefficient, 10**scale) == Fraction(value)
    assert decimal_places(value) == (len(text.partition(".")[2]))
    assert Fraction(after_discount(value)) == 1 - Fraction(value)


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_divide_exactly_returns_integers_only(numerator: int, denominator: int) -> None:
    """``divide_exactly`` returns the quotient if it is an integer, else ``None``."""
    exact = Fraction(numerator, denominator)
    assert divide_exactly(numerator, denominator) == (exact.numerator if exact.denominator == 1 else None)


@given(numbers, st.sampled_from(sorted(CURRENCIES)), st.sampled_from(list(Rounding)))
def test_a_rounded_amount_matches_the_oracle(amount: Decimal, currency: str, mode: Rounding) -> None:
    """A rounded amount is that of the oracle, in minor units of the currency, and parses back from its text."""
    payable = Money(amount, currency).rounded(mode)
    assert payable.minor == oracle.round_to_integer(Fraction(amount) * 10 ** CURRENCIES[currency], mode.value)
    assert Payable(str(payable.amount), currency) == payable
    assert payable.money == Money(payable.amount, currency)
    assert -payable.amount.as_tuple().exponent == CURRENCIES[currency] == minor_digits(currency)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["0.125", "0.135", "0.1251", "-0.125", "-0.135", "0.12", "-0.121", "0", "0.001"])
def test_rounding_modes_match_decimal(text: str) -> None:
    """The four modes round like those of ``decimal``, for negative amounts and halves too."""
    modes = {
        Rounding.HALF_UP: ROUND_HALF_UP,
        Rounding.HALF_EVEN: ROUND_HALF_EVEN,
        Rounding.UP: ROUND_UP,
        Rounding.DOWN: ROUND_DOWN,
    }
    for mode, decimal_mode in modes.items():
        assert Money(text, "CNY").rounded(mode).amount == D(text).quantize(D("0.01"), decimal_mode)
    assert set(modes) == set(Rounding)


def test_a_rounding_mode_may_be_given_by_value() -> None:
    """The value of a rounding mode selects that mode, and an unknown value is ``invalid_argument``."""
    half = Money("0.125", "CNY")
    assert [half.rounded(mode.value).minor for mode in Rounding] == [half.rounded(mode).minor for mode in Rounding]  # type: ignore[arg-type]
    for unknown in ("ROUND_HALF_UP", "", None, 5):
        with pytest.raises(BillingError, match="use one of half_up, half_even, up, down") as caught:
            half.rounded(unknown)  # type: ignore[arg-type]
        assert code_of(caught) == "invalid_argument"


weights = st.lists(st.integers(0, 10**20), min_size=1, max_size=12).filter(any)


@given(st.integers(0, 10**15), weights)
def test_allocated_parts_are_fair_and_add_up(amount: int, given_weights: list[int]) -> None:
    """Parts match the oracle, add up to the amount, and differ from the exact share by less than 1."""
    parts = allocate(amount, given_weights)
    assert parts == oracle.allocate(amount, given_weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, given_weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(given_weights))) < 1
        assert weight or not part
    assert allocate(-amount, given_weights) == [-part for part in parts]


@given(st.integers(1, 10**15), weights)
def test_negative_weights_allocate_like_positive_ones(amount: int, given_weights: list[int]) -> None:
    """Negative weights give the same parts as positive ones, and the parts add up to the amount."""
    negative = allocate(amount, [-weight for weight in given_weights])
    assert negative == allocate(amount, given_weights)
    assert sum(negative) == amount


def test_impossible_allocations_are_rejected() -> None:
    """An amount without positive weights, or weights of both signs, is ``invalid_argument``."""
    assert allocate(0, []) == []
    assert allocate(0, [0, 0]) == [0, 0]
    assert allocate(0, [1, 2]) == [0, 0]
    for amount, given_weights in ((5, []), (5, [0, 0]), (5, [3, -1])):
        with pytest.raises(BillingError) as caught:
            allocate(amount, given_weights)
        assert code_of(caught) == "invalid_argument"


NOT_MONEY: list[Any] = [
    0.1,
    True,
    None,
    "1,5",
    "010",
    ".5",
    "1_000",
    "nan",
    "1e999",
    "",
    " 1",
    "+1",
    "\u0661",
    "9" * 61,
]
NOT_MONEY += [b"1", [1], D("NaN"), D("sNaN"), D("Infinity"), D("1e1001"), D("1e-1001"), D(HUGE), HUGE, 1j]


@pytest.mark.parametrize("value", NOT_MONEY, ids=range(len(NOT_MONEY)))
def test_an_inexact_amount_is_rejected(value: Any) -> None:
    """Floats, booleans, texts that are not plain numbers, NaN and infinity are ``invalid_money``."""
    with pytest.raises(BillingError) as caught:
        Money(value, "CNY")
    assert code_of(caught) == "invalid_money"
    assert len(str(caught.value)) < 200


def test_amounts_beyond_the_limits_are_rejected() -> None:
    """10^1000 and 10^-1000 are valid amounts, and arithmetic beyond them is ``invalid_money``."""
    large, fine = Money(D("1e1000"), "CNY"), Money(D("1e-1000"), "CNY")
    assert format_plain(large.amount) == "1" + "0" * 1000
    assert (fine + large).amount > 0
    for amount, factor in ((large, D(10)), (fine, D("0.1")), (large, D("1e1000"))):
        with pytest.raises(BillingError) as caught:
            amount * factor
        assert code_of(caught) == "invalid_money"


@pytest.mark.parametrize("currency", ["cny", "RMB", "", "XXX", None, 1, ["CNY"], "BTC"])
def test_a_currency_must_be_an_iso_code(currency: Any) -> None:
    """Anything except an active ISO 4217 code is ``unknown_currency``."""
    construct: Any
    for construct in (lambda: Money(1, currency), lambda: Payable(1, currency), lambda: minor_digits(currency)):
        with pytest.raises(BillingError, match="ISO 4217") as caught:
            construct()
        assert code_of(caught) == "unknown_currency"


def test_currencies_do_not_mix() -> None:
    """Amounts of two currencies are not equal and cannot be added."""
    with pytest.raises(BillingError, match=r"1 USD cannot be added to an amount in CNY") as caught:
        Money(1, "CNY") + Money(1, "USD")
    assert code_of(caught) == "currency_mismatch"
    assert Money(1, "CNY") != Money(1, "USD")
    assert Money("1.50", "CNY") == Money("1.5", "CNY")
    assert hash(Money("1.50", "CNY")) == hash(Money("1.5", "CNY"))
    assert total("JPY", []) == Money(0, "JPY")
    assert Money(1, "CNY") != 1
    assert Payable(1, "CNY") != Money("0.01", "CNY")
    amount: Any = Money(1, "CNY")
    for other in (1.5, True, amount, "2"):
        with pytest.raises(TypeError):
            amount * other
    for other in (1, D(1), 1.5, "1 CNY"):
        with pytest.raises(TypeError):
            amount + other
        with pytest.raises(TypeError):
            amount - other


def test_a_payable_is_a_number_of_minor_units() -> None:
    """A payable amount has the minor digits of its currency, and more decimal places are rejected."""
    assert [str(Payable(5, currency)) for currency in ("CNY", "JPY", "KWD")] == ["0.05 CNY", "5 JPY", "0.005 KWD"]
    assert Payable("0.50", "CNY") == Payable(50, "CNY")
    assert Payable("-1e1", "JPY").minor == -10
    assert repr(Payable(-50, "CNY")) == "Payable('-0.50', 'CNY')"
    assert str(Money("0.8500", "CNY")) == "0.85 CNY"
    for value in ("0.005", 0.5, True, None, "x"):
        with pytest.raises(BillingError) as caught:
            Payable(value, "CNY")  # type: ignore[arg-type]
        assert code_of(caught) == "invalid_money"


def test_an_unknown_rounding_name_is_rejected() -> None:
    """A name rounds like its member, and an unknown name is ``invalid_argument``."""
    assert Money("0.855", "CNY").rounded("half_up") == Payable(86, "CNY")  # type: ignore[arg-type]  # a name, not a member
    with pytest.raises(BillingError) as caught:
        Money("0.855", "CNY").rounded("banana")  # type: ignore[arg-type]  # on purpose
    assert caught.value.code == "invalid_argument"
