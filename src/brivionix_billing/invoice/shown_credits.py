"""Credits as the pages of a bill show them: all with the decimal places of the bill, and adding up as shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from brivionix_billing.decimals import Rounding, format_scaled, round_to_places, to_scaled
from brivionix_billing.money import allocate

__all__ = ["ShownBalance", "allocate_credits", "round_credits", "shown_balance", "shown_savings"]


class ShownBalance(NamedTuple):
    """The rounded amounts of a balance: opening + movements - used + rounding = closing."""

    opening: str
    movements: list[str]
    used: str
    rounding: str | None
    """What the rounded amounts lack to add up, or ``None`` if they do."""
    closing: str


def round_credits(document: Mapping[str, Any], amount: str) -> str:
    """Round an exact amount of Credits, half up, to the decimal places of the bill."""
    return format_scaled(_rounded(document, amount), _digits(document))


def allocate_credits(document: Mapping[str, Any], total: str, amounts: Sequence[str]) -> list[str]:
    """Allocate a rounded amount to its exact parts by the largest remainder.

    Parts of different signs, as some notes have, are rounded one by one instead.
    """
    weights, _ = _to_common_scale(amounts)
    if min(weights, default=0) < 0 < max(weights, default=0) or not any(weights):
        return [round_credits(document, amount) for amount in amounts]
    return [format_scaled(part, _digits(document)) for part in allocate(_rounded(document, total), weights)]


def shown_savings(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the rounded savings by ``list``, ``cache`` and ``group``: list - cache - group = rounded total.

    ``list`` is rounded half up. The rest of the difference to the total goes to ``cache`` and ``group`` by the largest
    remainder, so each of them is less than one unit of the last place from its exact amount.
    """
    saved, digits = document["savings"], _digits(document)
    whole = _rounded(document, saved["list"])
    exact, places = _to_common_scale([saved["cache"], saved["group"]])
    parts = [divmod(coefficient * 10**digits, 10**places) for coefficient in exact]
    units = [floor for floor, _ in parts]
    missing = whole - _rounded(document, document["totals"]["rounded"]["credits"]) - sum(units)
    for index in sorted(range(len(units)), key=lambda index: -parts[index][1])[:missing]:
        units[index] += 1
    shown = zip(("list", "cache", "group"), (whole, *units), strict=True)
    return {name: format_scaled(amount, digits) for name, amount in shown}


def shown_balance(document: Mapping[str, Any]) -> ShownBalance | None:
    """Return the rounded balance of a bill, or ``None`` if it has none.

    Each amount is rounded half up, because the closing balance of a bill is the opening balance of the next one.
    """
    balance, digits = document["balance"], _digits(document)
    if balance is None:
        return None
    opening, closing = _rounded(document, balance["opening"]), _rounded(document, balance["closing"])
    movements = [_rounded(document, movement["credits"]) for movement in balance["movements"]]
    used = _rounded(document, document["totals"]["rounded"]["credits"])
    rounding = closing - (opening + sum(movements) - used)
    return ShownBalance(
        format_scaled(opening, digits),
        [format_scaled(amount, digits) for amount in movements],
        format_scaled(-used, digits),
        format_scaled(rounding, digits) if rounding else None,
        format_scaled(closing, digits),
    )


def _digits(document: Mapping[str, Any]) -> int:
    digits: int = document["rounding"]["credit_digits"]
    return digits


def _rounded(document: Mapping[str, Any], amount: str) -> int:
    return round_to_places(Decimal(amount), _digits(document), Rounding.HALF_UP)


def _to_common_scale(amounts: Sequence[str]) -> tuple[list[int], int]:
    """Return the amounts as whole numbers of a common unit, and its decimal places."""
    scaled = [to_scaled(Decimal(amount)) for amount in amounts]
    places = max((own for _, own in scaled), default=0)
    return [coefficient * 10 ** (places - own) for coefficient, own in scaled], places
