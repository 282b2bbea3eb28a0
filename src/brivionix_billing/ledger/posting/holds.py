"""Holds and charges: what a gateway does for each request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from brivionix_billing.decimals import plain
from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.locked_account import Desk, Draft
from brivionix_billing.ledger.projections import HoldRow, TokenRow, UsageRow, count, counts, quarter
from brivionix_billing.ledger.units import as_credits, later, shown, stamp, when
from brivionix_billing.rating import Charge
from brivionix_billing.times import iso
from brivionix_billing.usage import Usage, reported

__all__ = ["TTL", "charge", "charge_content", "hold", "hold_content", "release", "settle"]

_KEPT: Final = frozenset({"usage", "model", "service_tier"})
TTL: Final = timedelta(minutes=15)
"""How long a hold lasts if nobody resolves it. OpenAI's clients give up after 10 minutes."""


def hold_content(credits: int, ttl: timedelta, token: str | None) -> dict[str, Any]:
    """What makes two calls of ``hold`` the same. Times are not in it: who tries again does so later.

    Raises ``bad_argument`` for a ``ttl`` that is none.
    """
    if not isinstance(ttl, timedelta) or ttl <= timedelta(0):
        raise BillingError("bad_argument", f"ttl is {quoted(ttl)}; give a timedelta above zero")
    return {"credits": shown(credits), "seconds": str(ttl.total_seconds()), "token": token}


def hold(desk: Desk, id: str, credits: int, ttl: timedelta, token_id: str | None, content: Mapping[str, Any]) -> Draft:
    """Set Credits aside. Raises :class:`ShortfallError`, and what is wrong with the token."""
    draft = Draft("hold", desk.booked, content)
    expires = later(when(desk.booked), ttl)
    if token_id is not None:
        token = desk.token(token_id)
        usable(token, desk.booked)
        if token.limit is not None and token.spent + token.held + credits > token.limit:
            raise ShortfallError(
                "token_limit", f"token {quoted(token.id)}", credits, token.limit - token.spent - token.held
            )
        token.held += credits
        desk.changed(token)
    if credits > desk.available:
        raise ShortfallError("insufficient_credits", f"account {quoted(desk.account.id)}", credits, desk.available)
    draft.post("available", -credits)
    draft.post("held", credits)
    draft.result["expires"] = expires
    desk.add(HoldRow(id, desk.account.id, token_id, credits, desk.booked, expires, "open", None))
    desk.expiring(expires)
    return draft


def usable(token: TokenRow, now: str) -> None:
    """Raises ``token_disabled``, ``token_expired`` or ``token_exhausted``."""
    if not token.enabled:
        raise BillingError("token_disabled", f"token {quoted(token.id)} is disabled")
    if token.expires is not None and token.expires <= now:
        raise BillingError("token_expired", f"token {quoted(token.id)} expired at {iso(when(token.expires))}")
    if token.limit is not None and token.spent >= token.limit:
        raise BillingError(
            "token_exhausted",
            f"token {quoted(token.id)} has spent its limit of {plain(as_credits(token.limit))} Credits",
        )


def charge_content(charged: Charge | int, usage: Mapping[str, Any] | None, **more: str | None) -> dict[str, Any]:
    """What was used, as the journal keeps it: enough to make the record of a usage file from it."""
    if not isinstance(charged, Charge):
        return {"credits": shown(charged), **more}
    return {
        "credits": shown(charged.units),
        "model": charged.model,
        "group": charged.group,
        "service_tier": charged.service_tier,
        "at": iso(charged.at),
        "usage": usage_body(charged, usage),
        "price_book": charged.price_book,
        **more,
    }


def usage_body(charged: Charge, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The usage that goes into the record. Raises ``bad_argument`` if it is not what the charge was made from."""
    if body is None:
        made = _body_of(charged.usage)
        if made is None:
            raise BillingError(
                "bad_argument",
                "this charge has more than input, cached and output tokens; give usage= the body that it was read from",
            )
        return made
    try:
        read = Usage.from_response(body)
    except BillingError as error:
        raise BillingError("bad_argument", f"usage= cannot be read: {error.message}") from None
    if read != charged.usage:
        raise BillingError(
            "bad_argument", f"usage= reads as {read!r}, but the charge was made from {charged.usage!r}; give its body"
        )
    # What a model said does not belong into a journal that nobody can ever take anything out of.
    return body if body.keys() <= _KEPT else reported(body)


def _body_of(usage: Usage) -> dict[str, Any] | None:
    body: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.estimated:
        body["estimated"] = True
    return body if Usage.from_response(body) == usage else None


def settle(desk: Desk, row: HoldRow, charged: Charge | int, content: Mapping[str, Any]) -> Draft:
    """Charge what a request used, and return the rest of its hold.

    More than was held is taken from what is available; what even that does not cover is owed. A hold that has expired
    has given its Credits back, and what the request used is charged all the same. Raises ``hold_resolved``.
    """
    if row.state not in ("open", "expired"):
        raise resolved(row)
    draft = Draft("settle", stamp(charged.at) if isinstance(charged, Charge) else row.at, content)
    own = 0
    if row.state == "open":
        own = row.credits
        desk.resolve(draft, row, "settled")
    else:
        draft.result["late"] = True
        if row.token is not None:
            draft.result["token"] = row.token
        row.state, row.resolved_by = "settled", None
        desk.changed(row)
    _take(desk, draft, charged, own, row.at if own else desk.booked, row.token)
    return draft


def charge(desk: Desk, charged: Charge | int, content: Mapping[str, Any], token_id: str | None) -> Draft:
    """Charge without a hold."""
    draft = Draft("charge", stamp(charged.at) if isinstance(charged, Charge) else desk.booked, content)
    if token_id is not None:
        draft.result["token"] = desk.token(token_id).id
    _take(desk, draft, charged, 0, desk.booked, token_id)
    return draft


def _take(desk: Desk, draft: Draft, charged: Charge | int, own: int, usable_at: str, token_id: str | None) -> None:
    amount = charged.units if isinstance(charged, Charge) else charged
    taken = desk.draw(draft, min(amount, desk.available + own), usable_at)
    draft.post("available", own - taken)
    draft.post("owed", taken - amount)
    draft.post("used", amount)
    if token_id is not None:
        token = desk.token(token_id)
        token.spent += amount
        desk.changed(token)
    model, usage = (charged.model, charged.usage) if isinstance(charged, Charge) else ("", None)
    key = (desk.account.id, quarter(draft.at), model, token_id or "")
    row = desk.store.one(UsageRow, desk.store.sql.usage, *key)
    if row is None:
        row = UsageRow(*key)
        desk.add(row)
    else:
        desk.changed(row)
    if usage is not None:
        # As they were read today: a later version of this library may read a body differently.
        draft.result["counts"] = counts(usage)
    count(row, draft.result.get("counts"), amount)
    desk.repay(draft)


def release(desk: Desk, row: HoldRow, content: Mapping[str, Any]) -> Draft:
    """Give all that was held back. Raises ``hold_resolved``."""
    if row.state != "open":
        raise resolved(row)
    draft = Draft("release", row.at, content)
    desk.resolve(draft, row, "released")
    draft.post("available", row.credits)
    desk.repay(draft)
    return draft


def resolved(row: HoldRow) -> BillingError:
    """A hold is resolved once."""
    by = f" by operation {quoted(row.resolved_by)}" if row.resolved_by else ""
    return BillingError("hold_resolved", f"hold {quoted(row.id)} was {row.state}{by}; a hold is resolved once")
