"""The amounts of a rated row, as whole numbers of the smallest part that their columns have."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import decimal_places, to_scaled
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.units import UNIT_DECIMALS

__all__ = ["DIGITS", "AmountColumns"]

DIGITS: Final = 38
"""Digits of the decimals of all engines."""


class AmountColumns:
    """The columns of amounts of one price book, and their decimal places."""

    def __init__(self, book: PriceBook) -> None:
        self.channels = tuple(book.channels())
        self.nominal_per_credit = book.nominal_per_credit
        self.places = {"credits": UNIT_DECIMALS, "nominal": UNIT_DECIMALS + decimal_places(book.nominal_per_credit)}
        for name, channel in book.channels().items():
            prices = [entry.value for entry in channel.prices.entries]
            self.places[f"cost_{name}"] = UNIT_DECIMALS + max(map(decimal_places, prices), default=0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(self.places)

    def sql_type(self, name: str) -> str:
        """Return the type of a column in SQL."""
        return f"DECIMAL({DIGITS},{self.places[name]})"

    def factor(self, name: str, price: Decimal) -> int:
        """Return the smallest parts of a column that 10^-18 Credit are, at a price of one Credit."""
        coefficient, places = to_scaled(price)
        return int(coefficient * 10 ** (self.places[name] - UNIT_DECIMALS - places))

    def stored(self, name: str, amount: Decimal) -> int:
        """Return an amount in the smallest parts of a column."""
        coefficient, places = to_scaled(amount)
        more = self.places[name] - places
        return coefficient * int(10**more) if more >= 0 else coefficient // int(10**-more)
