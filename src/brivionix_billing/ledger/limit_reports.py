"""Limits by window as they are shown: what is used, what is left, and when it resets."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from brivionix_billing.decimals import format_plain
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.posting.limits import window_use
from brivionix_billing.ledger.projections import MemberRow
from brivionix_billing.ledger.reports import require_account
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits
from brivionix_billing.times import format_instant

__all__ = ["Limit", "limits"]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit by window, and its use at one time."""

    account: str
    name: str
    token: str | None
    """Id of the token that it limits; ``None``: all."""
    tag: str | None
    """Tag of the requests that it limits, such as ``project=x``; ``None``: all."""
    unit: str
    """``credits``, ``requests`` or ``tokens``."""
    window: str
    zone: str
    amount: Decimal
    used: Decimal
    """Used in the window, with the holds of open requests. It is above ``amount`` if charges were above holds."""
    resets: datetime | None
    """End of the window. Of a rolling one, the time at which its oldest use no longer counts; ``None``: no use, or
    a time of the day that the window does not include."""
    member: str | None = None
    """Member that it limits; ``None``: it is not that of a member."""

    @property
    def left(self) -> Decimal:
        """What is left of the amount, at least 0."""
        return max(Decimal(0), self.amount - self.used)

    def as_dict(self) -> dict[str, str | None]:
        """Return the limit as JSON values; amounts are strings."""
        return {
            "account": self.account,
            "name": self.name,
            "token": self.token,
            "tag": self.tag,
            "member": self.member,
            "unit": self.unit,
            "window": self.window,
            "zone": self.zone,
            "amount": format_plain(self.amount),
            "used": format_plain(self.used),
            "left": format_plain(self.left),
            "resets": None if self.resets is None else format_instant(self.resets),
        }


def limits(store: Store, account: str, now: str, member: str | None, include_members: bool) -> list[Limit]:
    """Return the limits of an account: see :meth:`Ledger.limits`."""
    locked = LockedAccount(store.dry_run(), require_account(store, account), now)
    post_due(locked)  # holds that have expired no longer count
    shown = []
    if member is not None:
        rows = [row for row in locked.limits.of(locked.member(member).id) if row.member is not None]
    elif include_members:
        rows = locked.limits.all()
        if any(row.member is not None for row in rows):
            members = store.fetch_all(MemberRow, store.sql.members, account)
            removed = {member.id for member in members if member.state == "removed"}
            rows = [row for row in rows if row.member not in removed]
    else:
        rows = locked.limits.of(None)
    for row in rows:
        use = window_use(locked, row, parse_timestamp(now))
        shown.append(
            Limit(
                account,
                row.name,
                row.token,
                row.tag,
                row.unit,
                row.window,
                row.zone,
                units_to_credits(row.amount),
                units_to_credits(0 if use is None else use.used),
                None if use is None else use.first_reset,
                row.member,
            )
        )
    return shown
