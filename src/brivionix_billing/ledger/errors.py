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

    def __init__(
        self,
        code: str,
        owner: str,
        needed: int,
        available: int,
        restricted: int = 0,
        plan: str | None = None,
        resets: datetime | None = None,
        *,
        hidden_from: str | None = None,
    ) -> None:
        self._arguments = (code, owner, needed, available, restricted, plan, resets)
        self.hidden_from = hidden_from
        """The member whose request is refused: its clients must not learn the other amounts, which are those of the
        account that pays for it. ``None``: they may."""
        available = max(0, available)
        self.needed: Decimal = units_to_credits(needed)
        self.available: Decimal = units_to_credits(available)
        self.shortfall: Decimal = units_to_credits(needed - available)
        self.restricted: Decimal = units_to_credits(max(0, restricted))
        """Further Credits, which only other requests may use, or which their holds need."""
        self.plan = plan
        """Name of the plan without overflow whose allowance does not cover the request; ``None``: none."""
        self.resets = resets
        """End of its period, from which a renewal opens the next allowance. It is in the past if none was paid."""
        kind = "Credits available" if code == "insufficient_credits" else "Credits left of its limit"
        until = "" if resets is None else f"; plan {safe_repr(plan)} (no overflow) is until {format_instant(resets)}"
        if hidden_from is not None:
            super().__init__(
                code,
                f"{owner} does not have the {format_plain(self.needed)} Credits available that a request of member "
                f"{safe_repr(hidden_from)} needs{until}",
            )
            return
        super().__init__(
            code,
            f"{owner} has {format_plain(self.available)} {kind}, but {format_plain(self.needed)} are needed: "
            f"{format_plain(self.shortfall)} short"
            + (f"; {format_plain(self.restricted)} more are for other requests only" if self.restricted else "")
            + until,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), *self._arguments, hidden_from=self.hidden_from), ()


class LimitReachedError(BillingError):
    """A limit by window does not cover a request (``limit_reached``)."""

    def __init__(
        self,
        limit: str,
        unit: str,
        amount: int,
        used: int,
        requested: int,
        resets: datetime | None,
        *,
        now: datetime,
        member: str | None = None,
        hidden_from: str | None = None,
    ) -> None:
        self._arguments = (limit, unit, amount, used, requested, resets)
        self._now = now
        self.member = member
        """The member that the limit is for; ``None``: it is not that of a member."""
        self.hidden_from = hidden_from
        """The member whose request is refused by a limit of the whole account: its clients must not learn ``amount``
        and ``used``. ``None``: they may."""
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
        subject = f"limit {safe_repr(limit)}" + ("" if member is None else f" of member {safe_repr(member)}")
        if hidden_from is None:
            use = f"{format_plain(self.used)} of {format_plain(self.amount)} {name} are used in its window, and "
        else:
            use = f"it is reached for member {safe_repr(hidden_from)}: "
        super().__init__("limit_reached", f"{subject}: {use}{format_plain(self.requested)} more are requested; {again}")

    def __reduce__(self) -> tuple[Any, ...]:
        named = {"now": self._now, "member": self.member, "hidden_from": self.hidden_from}
        return partial(type(self), *self._arguments, **named), ()  # type: ignore[arg-type]  # they are those of __init__
