"""Holds and charges: what a gateway does for each request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import ApiToken
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_new_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import holds
from brivionix_billing.ledger.posting.holds import DEFAULT_HOLD_TTL
from brivionix_billing.ledger.units import Amount, to_units
from brivionix_billing.rating import Charge

__all__ = ["Holds"]


class Holds(LedgerBase):
    """Operations of a request."""

    def hold(
        self,
        account: str,
        credits: Amount,
        *,
        id: str,
        at: datetime,
        ttl: timedelta = DEFAULT_HOLD_TTL,
        token: ApiToken | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Set aside what a request may cost at the most; ``id`` is the request's.

        After ``ttl`` it returns by itself. Raises :class:`ShortfallError` (``insufficient_credits``, or ``token_limit``
        of the token), ``unknown_account``, and what :meth:`authenticate` raises.
        """
        require_new_id(id, "the hold", MAX_ID_LENGTH)
        if id.endswith((":settle", ":release")):
            raise BillingError(
                "invalid_argument", f"the hold is {safe_repr(id)}: that would be the id of another one's end"
            )
        token = token.id if isinstance(token, ApiToken) else token
        amount = to_units(credits, "a hold")
        content = holds.hold_content(amount, ttl, token)
        return self._run_operation(
            account, id, "hold", content, at, lambda d: holds.hold(d, id, amount, ttl, token, content), connection
        )

    def settle(
        self,
        hold: str,
        charge: Amount,
        *,
        at: datetime,
        id: str | None = None,
        usage: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge what a request used, and return the rest of its hold.

        ``charge`` is a :class:`Charge`, or Credits where the price was made elsewhere. ``usage`` is the body that the
        charge was made from; it goes into the journal, and from there into usage files and bills. What costs more than
        was held is taken from what is available, and the rest is owed. A hold that has expired is charged all the same.

        ``id`` is ``HOLD:settle`` if you give none. Raises ``unknown_hold``, ``hold_resolved`` if it was settled or
        released by another operation.
        """
        charged = charge if isinstance(charge, Charge) else to_units(charge, "a charge")
        content = {"hold": hold, **holds.charge_content(charged, usage)}
        return self._run_hold_operation(
            hold, "settle", id, at, content, lambda d, row: holds.settle(d, row, charged, content), connection
        )

    def release(self, hold: str, *, at: datetime, id: str | None = None, connection: Connection | None = None) -> Entry:
        """Return all that was held: the request failed and costs nothing.

        ``id`` is ``HOLD:release`` if you give none. Raises ``unknown_hold``, ``hold_resolved`` (also if it expired).
        """
        content = {"hold": hold}
        return self._run_hold_operation(
            hold, "release", id, at, content, lambda d, row: holds.release(d, row, content), connection
        )

    def charge(
        self,
        account: str,
        charge: Amount,
        *,
        id: str,
        at: datetime,
        usage: Mapping[str, Any] | None = None,
        token: ApiToken | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge without a hold: what a batch used, say. What is not covered is owed."""
        token = token.id if isinstance(token, ApiToken) else token
        charged = charge if isinstance(charge, Charge) else to_units(charge, "a charge")
        content = {"token": token, **holds.charge_content(charged, usage)}
        return self._run_operation(
            account, id, "charge", content, at, lambda d: holds.charge(d, charged, content, token), connection
        )
