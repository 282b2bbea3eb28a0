"""Operations on limits by window."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from brivionix_billing.ledger import limit_reports
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.limit_reports import Limit
from brivionix_billing.ledger.limits import LimitUnit
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import limits as posting
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import Amount
from brivionix_billing.text_checks import require_text

__all__ = ["Limits"]


class Limits(LedgerBase):
    """Operations on limits by window."""

    def set_limit(
        self,
        account: str,
        name: str,
        amount: Amount,
        *,
        unit: LimitUnit = "credits",
        window: str,
        zone: str = "UTC",
        token: str | None = None,
        tag: str | None = None,
        member: str | None = None,
        id: str,
        at: datetime,
        connection: Connection | None = None,
    ) -> Entry:
        """Set a limit on what an account uses in a window, or one of its tokens or members, or requests with a tag.

        ``window`` is ``hour``, ``day``, ``week`` or ``month`` in the time ``zone``, rolling hours such as ``5h``, or
        times of the day such as ``22:00-06:00``. ``unit`` is ``credits``, ``requests`` or ``tokens``. ``token`` is
        the id of a token, and ``tag`` is ``name=value``. :meth:`hold` raises ``limit_reached`` if it would exceed a
        limit. A limit counts the requests that are held or charged after it was set.

        With the ``name`` of an existing limit, the amount is changed. With another window, unit or subject, it counts
        anew. A limit does not change its member: use another name. Raises ``invalid_argument``, ``invalid_period``
        for an unknown zone, ``unknown_token``, ``unknown_member`` and ``member_removed``.
        """
        content = posting.limit_content(name, amount, unit, window, zone, token, tag, member)
        return self._run_operation(
            account, id, "set_limit", content, at, lambda locked: posting.set_limit(locked, id, content), connection
        )

    def remove_limit(
        self, account: str, name: str, *, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Remove a limit. Raises ``invalid_argument`` if the account has none of this name."""
        content = {"limit": require_text("the name of a limit", name)}
        return self._run_operation(
            account,
            id,
            "remove_limit",
            content,
            at,
            lambda locked: posting.remove_limit(locked, id, content),
            connection,
        )

    def limits(
        self,
        account: str,
        *,
        at: datetime,
        member: str | None = None,
        include_members: bool = True,
        connection: Connection | None = None,
    ) -> list[Limit]:
        """Return the limits of an account, sorted by name, with their use at ``at``, the current time.

        With ``member``, only those of this member, also if it was removed; else none of removed members. Without
        ``include_members``, only those of no member. Raises ``unknown_member``.
        """
        now = format_timestamp(at)
        return self._run_read(
            lambda store: limit_reports.limits(store, account, now, member, include_members), connection
        )
