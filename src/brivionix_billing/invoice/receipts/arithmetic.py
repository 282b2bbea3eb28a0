"""Checks the arithmetic of a receipt: lines, minimum charges and the total. It needs nothing but the receipt.

It computes in fractions, so it shares no arithmetic with the code that rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from operator import ge, gt, le, lt
from typing import Any, Final

from brivionix_billing.meters import MINIMUM_METER
from brivionix_billing.times import parse_instant

__all__ = ["arithmetic_errors"]

Json = Mapping[str, Any]
_BOUNDS: Final[Mapping[str, Callable[[int, int], bool]]] = {"over": gt, "from": ge, "up_to": le, "under": lt}
"""Bound of a context tier -> the comparison that the input tokens must pass."""


def arithmetic_errors(receipt: Json) -> Iterator[tuple[str, str]]:
    """Yield (path, message) for every place of a receipt that contradicts another one.

    The receipt must match the schema.
    """
    total = Fraction(0)
    for index, section in enumerate(receipt["charges"]):
        place = f"charges[{index}]"
        for name in ("price_since", "group_since"):
            if parse_instant(section[name]) > parse_instant(receipt["at"]):
                yield f"{place}.{name}", f"{section[name]} is after the request, {receipt['at']}"
        yield from _context_errors(f"{place}.context", section.get("context", {}))
        yield from _line_errors(place, section)
        yield from _minimum_errors(place, section)
        total += sum(map(_nominal, section["lines"]))
    if Fraction(receipt["credits"]) * Fraction(receipt["nominal_per_credit"]) != total:
        yield "credits", f"{receipt['credits']} is not the sum of the lines, which is {total} {receipt['currency']}"


def _nominal(line: list[Any]) -> Fraction:
    """Return what a line costs, in nominal quota."""
    _, quantity, per, unit_price, _, _ = line
    return Fraction(quantity) * Fraction(unit_price) / Fraction(per)


def _context_errors(place: str, context: Json) -> Iterator[tuple[str, str]]:
    for bound, is_within in _BOUNDS.items():
        if bound in context and not is_within(int(context["input_tokens"]), int(context[bound])):
            yield place, f"{context['input_tokens']} input tokens are not {bound.replace('_', ' ')} {context[bound]}"


def _line_errors(place: str, section: Json) -> Iterator[tuple[str, str]]:
    nominal = section.get("nominal_meters", [])
    for index, (name, _, _, unit_price, list_price, ratio) in enumerate(section["lines"]):
        if ratio is None:
            continue  # the group's own price
        where = f"{place}.lines[{index}] ({name})"
        if list_price is None:
            yield where, "a ratio without a list price"
            continue
        expected = Fraction(list_price) * Fraction(ratio)
        if name not in nominal:
            expected *= Fraction(section.get("exchange_rate", "1"))
        if Fraction(unit_price) != expected:
            yield where, f"the unit price {unit_price} is not list price x exchange rate x ratio"


def _minimum_errors(place: str, section: Json) -> Iterator[tuple[str, str]]:
    supplements = [line for line in section["lines"] if line[0] == MINIMUM_METER.name]
    charged = sum((_nominal(line) for line in section["lines"] if line[0] != MINIMUM_METER.name), Fraction(0))
    missing = max(Fraction(0), Fraction(section.get("minimum", "0")) - charged)
    if sum(map(_nominal, supplements)) != missing:
        yield f"{place}.lines", f"the supplement to the minimum charge must cost {missing}"
