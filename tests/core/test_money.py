"""Money and exact numbers: types, rounding by name, sharing out, and numbers as text."""

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
    """Sum, difference, product and negation of amounts are those of fractions, however many digits they have."""
    x, y = Money(a, "CNY"), Money(b, "CNY")
    assert Fraction((x + y).amount) == Fraction(a) + Fraction(b)
    assert Fraction((x - y).amount) == Fraction(a) - Fraction(b)
    assert Fraction((x * b).amount) == Fraction((b * x).amount) == Fraction(a) * Fraction(b)
    assert Fraction((-x).amount) == -Fraction(a)
    assert total("CNY", [x, y, x]) == x + y + x
    assert Fraction(multiply(a, b)) == Fraction(a) * Fraction(b)


@given(numbers)
def test_numbers_as_text_and_digits(value: Decimal) -> None:
    """``plain`` writes every digit, no exponent and no idle zero, and reads back; ``to_scaled`` is the number."""
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
def test_divide_is_exact_or_nothing(numerator: int, denominator: int) -> None:
    """``divide`` gives the quotient only where it is whole."""
    exact = Fraction(numerator, denominator)
    assert divide_exactly(numerator, denominator) == (exact.numerator if exact.denominator == 1 else None)


@given(numbers, st.sampled_from(sorted(CURRENCIES)), st.sampled_from(list(Rounding)))
def test_rounding_is_the_named_one(amount: Decimal, currency: str, mode: Rounding) -> None:
    """A payable amount is the oracle's rounding to the currency's coins, and reads the same as text."""
    paid = Money(amount, currency).rounded(mode)
    assert paid.minor == oracle.rounded(Fraction(amount) * 10 ** CURRENCIES[currency], mode.value)
    assert Payable(str(paid.amount), currency) == paid
    assert paid.money == Money(paid.amount, currency)
    assert -paid.amount.as_tuple().exponent == CURRENCIES[currency] == minor_digits(currency)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["0.125", "0.135", "0.1251", "-0.125", "-0.135", "0.12", "-0.121", "0", "0.001"])
def test_rounding_agrees_with_decimal(text: str) -> None:
    """The four modes are those of ``decimal``, on both sides of zero and at the half."""
    modes = {
        Rounding.HALF_UP: ROUND_HALF_UP,
        Rounding.HALF_EVEN: ROUND_HALF_EVEN,
        Rounding.UP: ROUND_UP,
        Rounding.DOWN: ROUND_DOWN,
    }
    for mode, other in modes.items():
        assert Money(text, "CNY").rounded(mode).amount == D(text).quantize(D("0.01"), other)
    assert set(modes) == set(Rounding)


def test_a_rounding_may_be_named_by_its_word() -> None:
    """The word of a rounding means that rounding; a word that is none is ``invalid_argument``, not some default."""
    half = Money("0.125", "CNY")
    assert [half.rounded(mode.value).minor for mode in Rounding] == [half.rounded(mode).minor for mode in Rounding]  # type: ignore[arg-type]
    for wrong in ("ROUND_HALF_UP", "", None, 5):
        with pytest.raises(BillingError, match="use one of half_up, half_even, up, down") as caught:
            half.rounded(wrong)  # type: ignore[arg-type]
        assert code_of(caught) == "invalid_argument"


weights = st.lists(st.integers(0, 10**20), min_size=1, max_size=12).filter(any)


@given(st.integers(0, 10**15), weights)
def test_parts_sum_and_are_fair(amount: int, given_weights: list[int]) -> None:
    """Parts are the oracle's, sum to the amount, lie within 1 of the exact share, and nothing goes to a zero."""
    parts = allocate(amount, given_weights)
    assert parts == oracle.allocated(amount, given_weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, given_weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(given_weights))) < 1
        assert weight or not part
    assert allocate(-amount, given_weights) == [-part for part in parts]


@given(st.integers(1, 10**15), weights)
def test_negative_weights_share_like_positive_ones(amount: int, given_weights: list[int]) -> None:
    """Weights of one sign share out alike; the parts still sum to the amount."""
    negative = allocate(amount, [-weight for weight in given_weights])
    assert negative == allocate(amount, given_weights)
    assert sum(negative) == amount


def test_allocation_refuses_what_has_no_answer() -> None:
    """Nothing to share over, or weights of both signs, is ``invalid_argument``; nothing over nothing is nothing."""
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
def test_what_is_no_exact_amount_is_refused(value: Any) -> None:
    """Floats, truth values, texts that are no plain numbers and not-numbers are ``invalid_money``."""
    with pytest.raises(BillingError) as caught:
        Money(value, "CNY")
    assert code_of(caught) == "invalid_money"
    assert len(str(caught.value)) < 200


def test_large_numbers_are_kept_or_refused_but_never_broken() -> None:
    """10^1000 and 10^-1000 are the last amounts; beyond them arithmetic is refused, not a crash."""
    large, fine = Money(D("1e1000"), "CNY"), Money(D("1e-1000"), "CNY")
    assert format_plain(large.amount) == "1" + "0" * 1000
    assert (fine + large).amount > 0
    for amount, factor in ((large, D(10)), (fine, D("0.1")), (large, D("1e1000"))):
        with pytest.raises(BillingError) as caught:
            amount * factor
        assert code_of(caught) == "invalid_money"


@pytest.mark.parametrize("currency", ["cny", "RMB", "", "XXX", None, 1, ["CNY"], "BTC"])
def test_a_currency_is_an_iso_code(currency: Any) -> None:
    """What is no active ISO 4217 code is ``unknown_currency``."""
    make: Any
    for make in (lambda: Money(1, currency), lambda: Payable(1, currency), lambda: minor_digits(currency)):
        with pytest.raises(BillingError, match="ISO 4217") as caught:
            make()
        assert code_of(caught) == "unknown_currency"


def test_currencies_do_not_mix() -> None:
    """Amounts of two currencies are neither added nor equal; a sum of nothing is zero of the named one."""
    with pytest.raises(BillingError, match=r"1 USD cannot be added to an amount in CNY") as caught:
        Money(1, "CNY") + Money(1, "USD")
    assert code_of(caught) == "currency_mismatch"
    assert Money(1, "CNY") != Money(1, "USD")
    assert Money("1.50", "CNY") == Money("1.5", "CNY")
    assert hash(Money("1.50", "CNY")) == hash(Money("1.5", "CNY"))
    assert total("JPY", []) == Money(0, "JPY")
    assert Money(1, "CNY") != 1
    assert Payable(1, "CNY") != Money("0.01", "CNY")
    one: Any = Money(1, "CNY")
    for other in (1.5, True, one, "2"):
        with pytest.raises(TypeError):
            one * other
    for other in (1, D(1), 1.5, "1 CNY"):
        with pytest.raises(TypeError):
            one + other
        with pytest.raises(TypeError):
            one - other


def test_a_payable_is_whole_coins() -> None:
    """A payable amount reads and shows all its minor digits, and refuses what is finer."""
    assert [str(Payable(5, currency)) for currency in ("CNY", "JPY", "KWD")] == ["0.05 CNY", "5 JPY", "0.005 KWD"]
    assert Payable("0.50", "CNY") == Payable(50, "CNY")
    assert Payable("-1e1", "JPY").minor == -10
    assert repr(Payable(-50, "CNY")) == "Payable('-0.50', 'CNY')"
    assert str(Money("0.8500", "CNY")) == "0.85 CNY"
    for value in ("0.005", 0.5, True, None, "x"):
        with pytest.raises(BillingError) as caught:
            Payable(value, "CNY")  # type: ignore[arg-type]
        assert code_of(caught) == "invalid_money"


def test_a_rounding_given_by_its_name_is_that_rounding() -> None:
    """A name rounds as its member does; a name that is none is an error, never another rounding."""
    assert Money("0.855", "CNY").rounded("half_up") == Payable(86, "CNY")  # type: ignore[arg-type]  # a plain name
    with pytest.raises(BillingError) as caught:
        Money("0.855", "CNY").rounded("banana")  # type: ignore[arg-type]  # on purpose
    assert caught.value.code == "invalid_argument"
