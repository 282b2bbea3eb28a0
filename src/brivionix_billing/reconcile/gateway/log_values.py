"""Reads the values of a row of a log: JSON in a text, numbers, and what identifies a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.reconcile.gateway.reading import RawRow

__all__ = ["fingerprint", "missing_columns", "parse_object", "parse_row", "sum_products", "to_fraction"]

_MAX_NUMBER_LENGTH: Final = 400
_MAX_EXPONENT: Final = 400
_NUMBER_TYPES: Final = frozenset({int, float, str})


def parse_row(raw: RawRow, place: str) -> Mapping[str, Any]:
    """Return a row. Raises ``file_unreadable`` with the place, the name of the log, if it is no JSON object."""
    if not isinstance(raw, str):
        return raw
    try:
        row = json.loads(raw)
    except ValueError as error:
        # Its position counts from the start of this row, so a line number would name another one.
        problem = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise _unreadable(place, raw, f"is not valid JSON ({problem})") from None
    except RecursionError as error:
        raise _unreadable(place, raw, f"is not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise _unreadable(place, raw, "is no JSON object")
    return row


def _unreadable(place: str, raw: str, problem: str) -> BillingError:
    text = f"the log {place} has a row that {problem}: {safe_repr(raw.strip(), 60)}; export it again"
    return BillingError("file_unreadable", text)


def missing_columns(row: Mapping[str, Any], place: str, problem: str) -> BillingError:
    """Return the error of a row without the columns that every row has. ``place`` is the name of the log."""
    if "usage" in row and "account" in row:
        problem = (
            "is usage of this library, not the log of a gateway; bill it with 'invoice', or compare a provider's "
            "report with it by 'reconcile provider --usage'"
        )
    return BillingError("file_unreadable", f"the log {place} {problem}")


def parse_object(value: object) -> dict[str, Any]:
    """Return a JSON object that may be stored as text; empty if it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else {}
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def to_fraction(value: object) -> Fraction | None:
    """Return the exact value of a JSON number as it is written; ``None`` if it is no finite number."""
    # The same numbers, such as ratios, are on most rows.
    return _parse_number(value) if type(value) in _NUMBER_TYPES else None


@lru_cache(maxsize=4096, typed=True)
def _parse_number(value: float | str) -> Fraction | None:
    if type(value) is int:
        return Fraction(value)
    text = str(value)
    _, marker, exponent = text.lower().partition("e")
    try:
        # Without a limit, the number 1e999999999 takes all memory. A float has at most 309 digits.
        if len(text) > _MAX_NUMBER_LENGTH or (marker and abs(int(exponent)) > _MAX_EXPONENT):
            return None
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None


def sum_products(factors: Iterable[tuple[int | Fraction, Fraction]]) -> Fraction:
    """Return the exact sum of products. It is reduced once, which is faster than after each operation."""
    total, scale = 0, 1
    for quantity, price in factors:
        denominator = quantity.denominator * price.denominator
        total = total * denominator + quantity.numerator * price.numerator * scale
        scale *= denominator
    return Fraction(total, scale)


def fingerprint(values: tuple[object, ...]) -> int:
    """Return a hash of the values that identify a call. Hashes of a million calls take less memory than the values."""
    try:
        return hash(values)
    except TypeError:
        return hash(repr(values))
