"""The error that carries the missing amount."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.units import units_to_credits

__all__ = ["ShortfallError"]


class ShortfallError(BillingError):
    """An account (``insufficient_credits``) or the limit of a token (``token_limit``) does not cover an amount."""

    def __init__(self, code: str, owner: str, needed: int, available: int) -> None:
        self._arguments = (code, owner, needed, available)
        available = max(0, available)
        self.needed: Decimal = units_to_credits(needed)
        self.available: Decimal = units_to_credits(available)
        self.shortfall: Decimal = units_to_credits(needed - available)
        kind = "Credits available" if code == "insufficient_credits" else "Credits left of its limit"
        super().__init__(
            code,
            f"{owner} has {format_plain(self.available)} {kind}, but {format_plain(self.needed)} are needed: "
            f"{format_plain(self.shortfall)} short",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._arguments), ()
