"""Converts the numbers of a source to prices, exactly, or rejects them with a reason.

Sources are JSON, and many of them are written by programs that compute with doubles: 2e-7 becomes
``2.0000000000000002e-07``. A price file does not hold so many digits. Such a number is read as the decimal that was
meant, if there is one close enough, and a note has both. Nothing else is ever rounded.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    decimal_places,
    divide_exactly,
    format_plain,
    multiply,
    parse_decimal,
    round_to_places,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.units import PER, steps_per_price

__all__ = ["InexactError", "Row", "RowError", "exact_ratio", "fits_price", "parse_number"]

_MAX_PRICE: Final = Decimal(1_000_000)
_UNIT_PLACES: Final = 18
"""Decimal places of the price of one token, call, second and so on."""
_MAX_ADJUSTED: Final = 30
"""Numbers of 10^31 and more, or less than 10^-30, are not prices."""
_NOISE_STEPS: Final = 4
"""Maximum distance, in doubles, between a number with float noise and the decimal that was meant."""
_NOISE_DIGITS: Final = 15
"""Significant digits that every double can hold."""


class RowError(Exception):
    """A row that cannot be imported, with the field and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


class InexactError(RowError):
    """A price with more digits than a price file holds."""


class _Converted(NamedTuple):
    price: Decimal
    noise: bool


def parse_number(value: object, field: str) -> Decimal:
    """Return a number of a source that is not negative. Raises :class:`RowError`.

    Some sources have strings of plain decimals.
    """
    if isinstance(value, str):
        try:
            number = parse_decimal(value)
        except BillingError:
            raise RowError(field, f"{safe_repr(value)} is not a plain decimal number") from None
    elif isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise RowError(field, f"{safe_repr(value)} is not a number")
    elif isinstance(value, int) and abs(value) >= 10**_MAX_ADJUSTED:
        raise RowError(field, "the number is too large")
    else:
        number = Decimal(value)
    if not number.is_finite():
        raise RowError(field, f"{number} is not a finite number")
    if number and abs(number.adjusted()) > _MAX_ADJUSTED:
        raise RowError(field, "the number is too large or too small for a price")
    if number < 0:
        raise RowError(field, f"the price is negative ({number})")
    return number


def fits_price(price: Decimal, meter: str, per: int | None = None) -> bool:
    """Return whether a price file holds this price: the smallest quantity costs a whole number of 10^-18."""
    if decimal_places(price) > _UNIT_PLACES:
        return False
    coefficient, places = to_scaled(price)
    return divide_exactly(coefficient * 10**_UNIT_PLACES, steps_per_price(meter, per) * 10**places) is not None


def exact_ratio(numerator: Decimal, denominator: Decimal, places: int = 6) -> Decimal | None:
    """Return ``numerator / denominator`` if it has at most ``places`` decimal places, else ``None``."""
    (n, n_places), (d, d_places) = to_scaled(numerator), to_scaled(denominator)
    if not d:
        return None
    scaled = divide_exactly(n * 10 ** (d_places + places), d * 10**n_places)
    return None if scaled is None else decimal_from_scaled(scaled, places)


def _convert(value: Decimal, scale: Decimal, meter: str, per: int | None) -> _Converted | None:
    price = multiply(value, scale)
    if fits_price(price, meter, per):
        return _Converted(price, False)
    meant = _without_noise(value)
    if meant is not None:
        price = multiply(meant, scale)
        if fits_price(price, meter, per):
            return _Converted(price, True)
    return None


def _without_noise(value: Decimal) -> Decimal | None:
    """Return the decimal of at most 15 digits that a double with float noise stands for, if there is one."""
    places = _NOISE_DIGITS - 1 - value.adjusted()
    if places < 0:
        return None
    short = decimal_from_scaled(round_to_places(value, places, Rounding.HALF_EVEN), places)
    return short if abs(_double_position(value) - _double_position(short)) <= _NOISE_STEPS else None


def _double_position(value: Decimal) -> int:
    """Return the position of the nearest double among all positive doubles."""
    position: int = struct.unpack(">q", struct.pack(">d", float(value)))[0]
    return position


class Row:
    """Reads the prices of one row of a source, and collects the notes about it."""

    def __init__(self, catalog: Catalog, model: str) -> None:
        self.catalog, self.model = catalog, model

    def price(
        self, field: str, value: object, meter: str, scale: int | Decimal = 1, *, per: int | None = None
    ) -> Decimal:
        """Return the price of a meter. ``scale`` converts the source's unit to the price file's.

        Raises :class:`RowError` if the value is not a price that the price file holds.
        """
        number = parse_number(value, field)
        converted = _convert(number, Decimal(scale), meter, per)
        if converted is None:
            raise InexactError(
                field,
                f"{format_plain(number)} has more digits than a price file holds",
            )
        if converted.price > _MAX_PRICE:
            raise RowError(field, f"{format_plain(number)} is more than a price file allows")
        if converted.noise:
            self.catalog.note(
                "float_noise",
                f"{format_plain(number)} was read as "
                f"{format_plain(converted.price)} per {PER.get(meter, 1) if per is None else per}",
                self.model,
                field,
            )
        return converted.price

    def number(self, field: str, value: object) -> Decimal:
        """Return a ratio or factor, without float noise. Raises :class:`RowError`."""
        number = parse_number(value, field)
        if decimal_places(number) <= 12:
            return number
        meant = _without_noise(number)
        if meant is None or decimal_places(meant) > 12:
            raise RowError(field, f"{format_plain(number)} has more than 12 decimal places")
        self.catalog.note("float_noise", f"{format_plain(number)} was read as {format_plain(meant)}", self.model, field)
        return meant
