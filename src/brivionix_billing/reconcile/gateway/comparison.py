"""Compares the prices and the ratio that a row states with those of the price file."""

from __future__ import annotations

from fractions import Fraction
from typing import Final, NamedTuple

from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.reconcile.gateway.new_api_call import Call, Part
from brivionix_billing.reconcile.gateway.offers import Alternative, Offer, Offers

__all__ = ["Comparison", "agrees_with_book", "close", "is_rounded", "lists_agree", "part_agrees", "show", "tools_agree"]

_TOLERANCE: Final = Fraction(2, 1_000_000)
"""Ratios are doubles, and gateways write few digits of a ratio that is no short decimal."""
_HALF: Final = Fraction(1, 2) + Fraction(1, 1_000_000)


class Comparison(NamedTuple):
    """What a row is compared with."""

    offers: Offers
    cards: CardSet
    offer: Offer
    ratio: Fraction
    """The ratio of the group that the price file has, or that was agreed with the user's group."""
    is_user_ratio: bool

    def alternatives(self, call: Call) -> list[Alternative]:
        """Return the offers under other conditions."""
        return list(self.offers.alternatives(self.cards, call.at, call.input_total))


def close(stated: Fraction, expected: Fraction | None) -> bool:
    """Return whether two prices are the same, but for the digits that a ratio cannot have."""
    if expected is None:
        return False
    left, right = stated.numerator * expected.denominator, expected.numerator * stated.denominator
    return left == right or abs(left - right) * _TOLERANCE.denominator <= _TOLERANCE.numerator * max(
        abs(left), abs(right)
    )


def is_rounded(stated: Fraction, expected: Fraction) -> bool:
    """Return whether a ratio is another one, rounded to the four or more decimal places that it has."""
    for places in range(4, 13):
        if 10**places % stated.denominator == 0:
            distance: Fraction = abs(stated - expected) * 10**places
            return distance <= _HALF
    return False


def part_agrees(part: Part, call: Call, offer: Offer) -> bool:
    """Return whether the price of one kind of tokens is that of an offer."""
    price = offer.price(part.kind)
    if close(part.price, price):
        return True
    base = offer.price("input")
    if price is None or not base or part.relative is None or not close(call.model_ratio or Fraction(0), base):
        return False
    return is_rounded(part.relative, price / base)


def tools_agree(call: Call, offer: Offer) -> bool:
    """Return whether all fees of tools are those of an offer."""
    return all(close(tool.price, offer.price(tool.meter)) for tool in call.tools)


def lists_agree(call: Call, offer: Offer) -> bool:
    """Return whether the prices before the ratio of the group are those of an offer, for all that was consumed."""
    requested = offer.listed.get("request", Fraction(0))
    if call.mode == "expression":
        return close(call.base, offer.total(call.quantities, call.factor))
    if call.mode in ("request", "task"):
        return bool(call.parts) and close(call.parts[0].price, offer.call_price())
    return not requested and all(part_agrees(part, call, offer) for part in call.parts)


def agrees_with_book(call: Call, compared: Comparison) -> bool:
    """Return whether all prices that a row states are those of the price file, for all that was consumed."""
    offer, ratio = compared.offer, compared.ratio
    if close(call.ratio, ratio):
        return lists_agree(call, offer) and tools_agree(call, offer)
    if call.mode != "ratio" or not ratio or offer.listed.get("request"):
        return False
    # A ratio of the model and one of the group may differ from the price file's, and give the same price.
    scale = call.ratio / ratio
    tools = all(close(tool.price * scale, offer.price(tool.meter)) for tool in call.tools)
    return bool(call.parts) and tools and all(close(part.price * scale, offer.price(part.kind)) for part in call.parts)


def show(value: Fraction) -> str:
    """Return a number for people."""
    try:
        return f"{float(value):.10g}"
    except OverflowError:
        return "a number above 1e308"
