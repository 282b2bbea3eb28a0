"""Errors that carry amounts."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.units import units_to_credits
from brivionix_billing.times import format_instant

__all__ = ["LimitReachedError", "ShortfallError"]


class ShortfallError(BillingError):
    """An account (``insufficient_credits``) or the limit of a token (``token_limit``) does not cover an amount."""

    def __init__(self, code: str, owner: str, needed: int, available: int, restricted: int = 0) -> None:
        self._arguments = (code, owner, needed, available, restricted)
        available = max(0, available)
        self.needed: Decimal = units_to_credits(needed)
        self.available: Decimal = units_to_credits(available)
        self.shortfall: Decimal = units_to_credits(needed - available)
        self.restricted: Decimal = units_to_credits(max(0, restricted))
        """Further Credits, which only other requests may use, or which their holds need."""
        kind = "Credits available" if code == "insufficient_credits" else "Credits left of its limit"
        super().__init__(
            code,
            f"{owner} has {format_plain(self.available)} {kind}, but {format_plain(self.needed)} are needed: "
            f"{format_plain(self.shortfall)} short"
            + (f"; {format_plain(self.restricted)} more are for other requests only" if self.restricted else ""),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._arguments), ()


class LimitReachedError(BillingError):
    """A limit by window does not cover a request (``limit_reached``)."""

    def __init__(
        self, limit: str, unit: str, amount: int, used: int, requested: int, resets: datetime | None, *, now: datetime
    ) -> None:
        self._arguments = (limit, unit, amount, used, requested, resets)
        self._now = now
        self.limit = limit
        """Name of the limit."""
        self.unit = unit
        """``credits``, ``requests`` or ``tokens``."""
        self.amount: Decimal = units_to_credits(amount)
        self.used: Decimal = units_to_credits(used)
        """Used in the window, with the holds of open requests."""
        self.requested: Decimal = units_to_credits(requested)
        self.resets = resets
        """Latest time at which enough is left again; ``None``: never, because the limit is below the request."""
        self.retry_seconds: int | None = None if resets is None else -(-(resets - now) // timedelta(seconds=1))
        """Seconds from the time of the request to the reset, rounded up."""
        name = "Credits" if unit == "credits" else unit
        again = "raise the limit" if resets is None else f"retry after {format_instant(resets)}"
        super().__init__(
            "limit_reached",
            f"limit {safe_repr(limit)}: {format_plain(self.used)} of {format_plain(self.amount)} {name} are used in "
            f"its window, and {format_plain(self.requested)} more are requested; {again}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._arguments, now=self._now), ()
