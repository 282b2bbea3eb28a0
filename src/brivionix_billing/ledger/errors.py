"""The refusal that carries a figure."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.units import units_to_credits

__all__ = ["ShortfallError"]


class ShortfallError(BillingError):
    """Not enough Credits (``insufficient_credits``), or not enough left of a token's limit (``token_limit``)."""

    def __init__(self, code: str, who: str, needed: int, there: int) -> None:
        self._from = (code, who, needed, there)
        there = max(0, there)
        self.needed: Decimal = units_to_credits(needed)
        self.available: Decimal = units_to_credits(there)
        self.shortfall: Decimal = units_to_credits(needed - there)
        what = "Credits available" if code == "insufficient_credits" else "Credits left of its limit"
        super().__init__(
            code,
            f"{who} has {format_plain(self.available)} {what}, and {format_plain(self.needed)} are needed: "
            f"{format_plain(self.shortfall)} short",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._from), ()
