"""Holds and charges: what a gateway does for each request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import require_usable_token
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.projections import HoldRow, UsageRow, add_usage, quarter_hour, usage_counts
from brivionix_billing.ledger.timestamps import expiry_timestamp, format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_to_text
from brivionix_billing.rating import Charge
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage, billable_body

__all__ = ["DEFAULT_HOLD_TTL", "charge", "charge_content", "hold", "hold_content", "release", "settle"]

_KEPT_KEYS: Final = frozenset({"usage", "model", "service_tier"})
DEFAULT_HOLD_TTL: Final = timedelta(minutes=15)
"""How long a hold lasts if nobody resolves it. OpenAI's clients give up after 10 minutes."""


def hold_content(credits: int, ttl: timedelta, token: str | None) -> dict[str, Any]:
    """What makes two calls of ``hold`` the same. Times are not in it: who tries again does so later.

    Raises ``invalid_argument`` for a ``ttl`` that is none.
    """
    if not isinstance(ttl, timedelta) or ttl <= timedelta(0):
        raise BillingError("invalid_argument", f"ttl is {safe_repr(ttl)}; give a timedelta above zero")
    return {"credits": units_to_text(credits), "seconds": str(ttl.total_seconds()), "token": token}


def hold(
    desk: LockedAccount, id: str, credits: int, ttl: timedelta, token_id: str | None, content: Mapping[str, Any]
) -> EntryDraft:
    """Set Credits aside. Raises :class:`ShortfallError`, and what is wrong with the token."""
    draft = EntryDraft("hold", desk.booked_at, content)
    expires = expiry_timestamp(parse_timestamp(desk.booked_at), ttl)
    if token_id is not None:
        token = desk.token(token_id)
        require_usable_token(token, desk.booked_at)
        if token.limit is not None and token.spent + token.held + credits > token.limit:
            raise ShortfallError(
                "token_limit", f"token {safe_repr(token.id)}", credits, token.limit - token.spent - token.held
            )
        token.held += credits
        desk.mark_changed(token)
    if credits > desk.available:
        raise ShortfallError("insufficient_credits", f"account {safe_repr(desk.account.id)}", credits, desk.available)
    draft.post("available", -credits)
    draft.post("held", credits)
    draft.result["expires"] = expires
    desk.add_row(HoldRow(id, desk.account.id, token_id, credits, desk.booked_at, expires, "open", None))
    desk.note_expiry(expires)
    return draft


def charge_content(charged: Charge | int, usage: Mapping[str, Any] | None, **more: str | None) -> dict[str, Any]:
    """What was used, as the journal keeps it: enough to make the record of a usage file from it."""
    if not isinstance(charged, Charge):
        return {"credits": units_to_text(charged), **more}
    return {
        "credits": units_to_text(charged.units),
        "model": charged.model,
        "group": charged.group,
        "service_tier": charged.service_tier,
        "at": format_instant(charged.at),
        "usage": journal_usage(charged, usage),
        "price_book": charged.price_book_digest,
        **more,
    }


def journal_usage(charged: Charge, body: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """The usage that goes into the record. Raises ``invalid_argument`` if it is not what the charge was made from."""
    if body is None:
        made = _minimal_usage_body(charged.usage)
        if made is None:
            raise BillingError(
                "invalid_argument",
                "this charge has more than input, cached and output tokens; give usage= the body that it was read from",
            )
        return made
    try:
        read = Usage.from_response(body)
    except BillingError as error:
        raise BillingError("invalid_argument", f"usage= cannot be read: {error.message}") from None
    if read != charged.usage:
        raise BillingError(
            "invalid_argument",
            f"usage= reads as {read!r}, but the charge was made from {charged.usage!r}; give its body",
        )
    # What a model said does not belong into a journal that nobody can ever take anything out of.
    return body if body.keys() <= _KEPT_KEYS else billable_body(body)


def _minimal_usage_body(usage: Usage) -> dict[str, Any] | None:
    body: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.estimated:
        body["estimated"] = True
    return body if Usage.from_response(body) == usage else None


def settle(desk: LockedAccount, row: HoldRow, charged: Charge | int, content: Mapping[str, Any]) -> EntryDraft:
    """Charge what a request used, and return the rest of its hold.

    More than was held is taken from what is available; what even that does not cover is owed. A hold that has expired
    has given its Credits back, and what the request used is charged all the same. Raises ``hold_resolved``.
    """
    if row.state not in ("open", "expired"):
        raise hold_resolved_error(row)
    draft = EntryDraft("settle", format_timestamp(charged.at) if isinstance(charged, Charge) else row.at, content)
    own = 0
    if row.state == "open":
        own = row.credits
        desk.resolve_hold(draft, row, "settled")
    else:
        draft.result["late"] = True
        if row.token is not None:
            draft.result["token"] = row.token
        row.state, row.resolved_by = "settled", None
        desk.mark_changed(row)
    _post_charge(desk, draft, charged, own, row.at if own else desk.booked_at, row.token)
    return draft


def charge(desk: LockedAccount, charged: Charge | int, content: Mapping[str, Any], token_id: str | None) -> EntryDraft:
    """Charge without a hold."""
    draft = EntryDraft(
        "charge", format_timestamp(charged.at) if isinstance(charged, Charge) else desk.booked_at, content
    )
    if token_id is not None:
        draft.result["token"] = desk.token(token_id).id
    _post_charge(desk, draft, charged, 0, desk.booked_at, token_id)
    return draft


def _post_charge(
    desk: LockedAccount, draft: EntryDraft, charged: Charge | int, own: int, usable_at: str, token_id: str | None
) -> None:
    amount = charged.units if isinstance(charged, Charge) else charged
    taken = desk.consume_lots(draft, min(amount, desk.available + own), usable_at)
    draft.post("available", own - taken)
    draft.post("owed", taken - amount)
    draft.post("used", amount)
    if token_id is not None:
        token = desk.token(token_id)
        token.spent += amount
        desk.mark_changed(token)
    model, usage = (charged.model, charged.usage) if isinstance(charged, Charge) else ("", None)
    key = (desk.account.id, quarter_hour(draft.at), model, token_id or "")
    row = desk.store.fetch_one(UsageRow, desk.store.sql.usage, *key)
    if row is None:
        row = UsageRow(*key)
        desk.add_row(row)
    else:
        desk.mark_changed(row)
    if usage is not None:
        # As they were read today: a later version of this library may read a body differently.
        draft.result["counts"] = usage_counts(usage)
    add_usage(row, draft.result.get("counts"), amount)
    desk.repay_owed(draft)


def release(desk: LockedAccount, row: HoldRow, content: Mapping[str, Any]) -> EntryDraft:
    """Give all that was held back. Raises ``hold_resolved``."""
    if row.state != "open":
        raise hold_resolved_error(row)
    draft = EntryDraft("release", row.at, content)
    desk.resolve_hold(draft, row, "released")
    draft.post("available", row.credits)
    desk.repay_owed(draft)
    return draft


def hold_resolved_error(row: HoldRow) -> BillingError:
    """A hold is resolved once."""
    by = f" by operation {safe_repr(row.resolved_by)}" if row.resolved_by else ""
    return BillingError("hold_resolved", f"hold {safe_repr(row.id)} was {row.state}{by}; a hold is resolved once")
