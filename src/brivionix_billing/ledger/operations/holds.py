"""Operations of a request: hold, settle, release, charge."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import ApiToken
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_new_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import holds
from brivionix_billing.ledger.posting.holds import DEFAULT_HOLD_TTL
from brivionix_billing.ledger.posting.limits import tags_content, validate_expectation
from brivionix_billing.ledger.restrictions import request_scope
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
        tags: Mapping[str, str] | None = None,
        tokens: int | None = None,
        expected: Decimal | int | str = 1,
        model: str | None = None,
        group: str | None = None,
        member: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Hold the maximum cost of a request. ``id`` is the id of the request.

        The hold is released by itself after ``ttl``. A ``token`` from :meth:`authenticate` is checked again, also its
        secret. Limits by window count the hold, the request, and ``tokens``, its maximum number of input and output
        tokens; those of a ``WorstCase`` or ``Charge`` are known. With ``expected``, they count this share of it until
        it is settled, above 0 and at most 1: see :meth:`set_limit`.

        Restricted lots count only if the request may use them: by its ``model`` and ``group`` (those of a
        ``WorstCase`` or ``Charge`` are known, and the group of the token is the default) and its tags.

        The request is of the member that has the token; ``member`` names the one of a request without such a token.

        Raises :class:`ShortfallError` (``insufficient_credits``, or ``token_limit`` of the token),
        :class:`LimitReachedError`, ``token_changed`` if the group of the token has changed, ``unknown_account``,
        ``unknown_member``, and the errors of :meth:`authenticate`.
        """
        require_new_id(id, "the hold", MAX_ID_LENGTH)
        if id.endswith((":settle", ":release")):
            raise BillingError(
                "invalid_argument",
                f"the hold is {safe_repr(id)}: ids ending in :settle or :release are reserved; use another id",
            )
        token_id = token.id if isinstance(token, ApiToken) else token
        amount = to_units(credits, "a hold")
        content = holds.hold_content(amount, ttl, token_id, tags, member)
        expectation = validate_expectation(credits, tokens, expected)
        scope = request_scope(credits, model, group, tags)
        return self._run_operation(
            account,
            id,
            "hold",
            content,
            at,
            lambda locked: holds.hold(locked, id, amount, ttl, token, content, expectation, scope),
            connection,
        )

    def settle(
        self,
        hold: str,
        charge: Amount,
        *,
        at: datetime,
        id: str | None = None,
        usage: Mapping[str, Any] | None = None,
        upstream: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge the actual cost of a request, and release the rest of its hold.

        ``charge`` is a :class:`Charge`, or Credits if the request was priced elsewhere. ``usage`` is the body that the
        charge was made from; it is stored in the journal, and usage files and bills are made from it. ``upstream`` is
        the name of the upstream in the price file if its conventions were applied; the ledger must then know the price
        book. A cost above the hold is taken from the available Credits, and the rest is owed. A request
        whose hold has expired is still charged.

        ``id`` defaults to ``HOLD:settle``. Raises ``unknown_hold``, and ``hold_resolved`` if another operation has
        settled or released the hold.
        """
        amount = charge if isinstance(charge, Charge) else to_units(charge, "a charge")
        content = {"hold": hold, **self._charge_content(amount, usage, upstream)}
        return self._run_hold_operation(
            hold, "settle", id, at, content, lambda locked, row: holds.settle(locked, row, amount, content), connection
        )

    def release(self, hold: str, *, at: datetime, id: str | None = None, connection: Connection | None = None) -> Entry:
        """Release a hold: its request failed and costs nothing.

        ``id`` defaults to ``HOLD:release``. Raises ``unknown_hold``, and ``hold_resolved`` also if it has expired.
        """
        content = {"hold": hold}
        return self._run_hold_operation(
            hold, "release", id, at, content, lambda locked, row: holds.release(locked, row, content), connection
        )

    def charge(
        self,
        account: str,
        charge: Amount,
        *,
        id: str,
        at: datetime,
        usage: Mapping[str, Any] | None = None,
        upstream: str | None = None,
        token: ApiToken | str | None = None,
        tags: Mapping[str, str] | None = None,
        member: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge usage without a hold, for example that of a batch. Credits that are not available are owed.

        ``member``: see :meth:`hold`.

        Limits by window count it, but never refuse it. Credits that were priced elsewhere have no model and no group,
        so they use no lots that are restricted to any.
        """
        token_id = token.id if isinstance(token, ApiToken) else token
        amount = charge if isinstance(charge, Charge) else to_units(charge, "a charge")
        content = {"token": token_id, **self._charge_content(amount, usage, upstream), **tags_content(tags)}
        content |= holds.member_content(member)
        return self._run_operation(
            account,
            id,
            "charge",
            content,
            at,
            lambda locked: holds.charge_without_hold(locked, amount, content, token_id),
            connection,
        )

    def _charge_content(
        self, charge: Charge | int, usage: Mapping[str, Any] | None, upstream: str | None
    ) -> dict[str, Any]:
        if upstream is None:
            return holds.charge_content(charge, usage)
        if self.book is None:
            raise BillingError(
                "invalid_argument",
                f"upstream={safe_repr(upstream)}: open the ledger with the price book that declares it",
            )
        return holds.charge_content(charge, usage, upstream, self.book.conventions(upstream))
