"""Entries of holds and charges, which a gateway posts for each request."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import ApiToken, require_unchanged_token, require_usable_token
from brivionix_billing.ledger.errors import ShortfallError
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.limits import charged_amounts
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.accounts import require_not_frozen
from brivionix_billing.ledger.posting.limits import Expectation, count_charge, count_hold, tags_content
from brivionix_billing.ledger.posting.members import request_member
from brivionix_billing.ledger.posting.plan_scope import binding_plan
from brivionix_billing.ledger.projections import HoldRow, UsageRow, add_usage, quarter_hour, usage_counts
from brivionix_billing.ledger.restrictions import RequestScope, charge_scope
from brivionix_billing.ledger.timestamps import expiry_timestamp, format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import units_to_text
from brivionix_billing.rating import Charge
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Conventions, Usage
from brivionix_billing.usage.extraction import billable_body

__all__ = [
    "DEFAULT_HOLD_TTL",
    "charge_content",
    "charge_without_hold",
    "hold",
    "hold_content",
    "member_content",
    "release",
    "settle",
]

_KEPT_KEYS: Final = frozenset({"usage", "model", "service_tier"})
"""A body with only these keys is stored as it is."""
DEFAULT_HOLD_TTL: Final = timedelta(minutes=15)
"""Lifetime of a hold that is not resolved. It is longer than the timeout of OpenAI's clients, 10 minutes."""


def hold_content(
    credits: int,
    ttl: timedelta,
    token: str | None,
    tags: Mapping[str, str] | None = None,
    member: str | None = None,
) -> dict[str, Any]:
    """Return the content that identifies a repeated ``hold``. It has no times, because a retry happens later.

    Raises ``invalid_argument`` if ``ttl`` is not a positive timedelta.
    """
    if not isinstance(ttl, timedelta) or ttl <= timedelta(0):
        raise BillingError("invalid_argument", f"ttl is {safe_repr(ttl)}; use a timedelta above zero")
    seconds = str(ttl.total_seconds())
    return {
        "credits": units_to_text(credits),
        "seconds": seconds,
        "token": token,
        **tags_content(tags),
        **member_content(member),
    }


def member_content(member: str | None) -> dict[str, str]:
    """Return the member that the gateway states, in the format of the journal. Raises ``invalid_argument``."""
    return {} if member is None else {"member": require_id(member, "the member")}


def hold(
    account: LockedAccount,
    id: str,
    credits: int,
    ttl: timedelta,
    api_token: ApiToken | str | None,
    content: Mapping[str, Any],
    expected: Expectation,
    scope: RequestScope,
) -> EntryDraft:
    """Hold Credits. A ``scope`` without a group is in the group of the token.

    Raises :class:`ShortfallError`, :class:`LimitReachedError`, ``account_frozen``, and the errors of an unusable token
    or member.
    """
    require_not_frozen(account)
    draft = EntryDraft("hold", account.booked_at, content)
    expires = expiry_timestamp(parse_timestamp(account.booked_at), ttl)
    token_id, group, token = content["token"], scope.group, None
    if token_id is not None:
        token = account.token(token_id)
        group = group or token.group
        if isinstance(api_token, ApiToken):
            require_unchanged_token(token, api_token, account.booked_at)
        require_usable_token(token, account.booked_at)
    member = request_member(account, token, content.get("member"))
    if token is not None:
        if token.limit is not None and token.spent + token.held + credits > token.limit:
            raise ShortfallError(
                "token_limit", f"token {safe_repr(token.id)}", credits, token.limit - token.spent - token.held
            )
        token.held += credits
        account.mark_changed(token)
    plan = binding_plan(account)
    scope = scope if plan is None else scope._replace(plan=plan.id)
    if account.row.restricted or plan is not None:
        scope = scope._replace(group=group)
    available = account.usable(scope)
    if credits > available:
        use = f", for {scope.label}," if account.row.restricted else ""
        raise ShortfallError(
            "insufficient_credits",
            f"account {safe_repr(account.id)}{use}",
            credits,
            available,
            account.available - available,
            None if plan is None else plan.terms.plan,
            None if plan is None else parse_timestamp(str(plan.ends)),
            hidden_from=member,
        )
    counted = count_hold(account, credits, token_id, member, content, expected) if account.row.limits else None
    draft.post("available", -credits)
    draft.post("held", credits)
    draft.result["expires"] = expires
    row = HoldRow(id, account.id, token_id, credits, account.booked_at, expires, "open", None)
    if counted is not None:
        draft.result["counted"] = counted.as_dict()
        row.counted = counted.to_column(draft.result["counted"])
    if account.row.restricted or plan is not None:
        draft.result["scope"], row.scope = scope.as_dict(), scope.as_column()
    if member is not None:
        draft.result["member"] = row.member = member
    account.add_row(row)
    account.note_expiry(expires)
    return draft


def charge_content(
    charge: Charge | int,
    usage: Mapping[str, Any] | None,
    upstream: str | None = None,
    conventions: Conventions | None = None,
) -> dict[str, Any]:
    """Return a charge in the format of the journal, from which a record of a usage file can be made.

    ``conventions`` are those of the ``upstream``, by which ``usage`` is read.
    """
    if not isinstance(charge, Charge):
        return {"credits": units_to_text(charge)}
    card = charge.card
    stated = {"region": card.variation.region, "mode": card.variation.mode, "upstream": upstream}
    return {
        "credits": units_to_text(charge.units),
        "model": card.router or card.model,
        "group": charge.group,
        "service_tier": charge.service_tier,
        "at": format_instant(charge.at),
        "usage": journal_usage(charge, usage, conventions),
        "price_book": charge.price_book_digest,
        **{name: value for name, value in stated.items() if value is not None},
    }


def journal_usage(
    charge: Charge, body: Mapping[str, Any] | None, conventions: Conventions | None = None
) -> Mapping[str, Any]:
    """Return the usage to store. Raises ``invalid_argument`` if the charge was not made from it."""
    if body is None:
        minimal = _minimal_usage_body(charge.usage)
        if minimal is None:
            raise BillingError(
                "invalid_argument",
                "the charge has more meters than input, cached and output tokens; pass the response body as usage=",
            )
        return minimal
    try:
        usage = Usage.from_response(body, conventions=conventions)
    except BillingError as error:
        raise BillingError("invalid_argument", f"usage= cannot be read: {error.message}") from None
    notes = charge.usage.extras.notes if charge.usage.extras else None
    if usage != charge.usage and (notes is None or usage != notes.reported):
        raise BillingError(
            "invalid_argument",
            f"usage= reads as {usage!r}, but the charge was made from {charge.usage!r}; pass the body of the charge",
        )
    # Never store model output: the journal is append-only.
    return body if body.keys() <= _KEPT_KEYS else billable_body(body)


def _minimal_usage_body(usage: Usage) -> dict[str, Any] | None:
    """Return a body of common counts, or ``None`` if the usage has other counts."""
    body: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
    if usage.estimated:
        body["estimated"] = True
    return body if Usage.from_response(body) == usage else None


def settle(account: LockedAccount, row: HoldRow, charge: Charge | int, content: Mapping[str, Any]) -> EntryDraft:
    """Charge the actual usage of a request, and release the rest of its hold.

    A charge above the hold is taken from the available Credits; what they do not cover is owed. An expired hold has
    already released its Credits, but the request is still charged. Raises ``hold_resolved``.
    """
    if row.state not in ("open", "expired"):
        raise hold_resolved_error(row)
    draft = EntryDraft("settle", format_timestamp(charge.at) if isinstance(charge, Charge) else row.at, content)
    held, was_open = 0, row.state == "open"
    if was_open:
        held = row.credits
        account.resolve_hold(draft, row, "settled")
    else:
        draft.result["late"] = True
        if row.token is not None:
            draft.result["token"] = row.token
        if row.member is not None:
            draft.result["member"] = row.member
        row.state, row.resolved_by = "settled", None
        account.mark_changed(row)
    scope = charge_scope(charge, RequestScope.from_column(row.scope)) if account.row.restricted else None
    _post_charge(account, draft, charge, held, row.at if held else account.booked_at, row.token, scope, row.member)
    if row.counted is not None:
        used = charged_amounts(draft.postings["used"], draft.result.get("counts"))
        account.recount(row, was_open=was_open, used=used)
    return draft


def charge_without_hold(
    account: LockedAccount, charge: Charge | int, content: Mapping[str, Any], token_id: str | None
) -> EntryDraft:
    """Charge usage that had no hold. Raises ``unknown_token``, ``account_frozen`` and the errors of a member."""
    require_not_frozen(account)
    at = format_timestamp(charge.at) if isinstance(charge, Charge) else account.booked_at
    draft = EntryDraft("charge", at, content)
    token = None if token_id is None else account.token(token_id)
    if token is not None:
        draft.result["token"] = token.id
    member = request_member(account, token, content.get("member"))
    if member is not None:
        draft.result["member"] = member
    scope = charge_scope(charge, RequestScope(None, None, content.get("tags", {}))) if account.row.restricted else None
    _post_charge(account, draft, charge, 0, account.booked_at, token_id, scope, member)
    if account.row.limits:
        count_charge(account, draft, token_id, member)
    return draft


def _post_charge(
    account: LockedAccount,
    draft: EntryDraft,
    charge: Charge | int,
    held: int,
    usable_at: str,
    token_id: str | None,
    scope: RequestScope | None,
    member: str | None,
) -> None:
    """Post a charge. ``held``: Credits of the resolved hold; ``usable_at``: lots that expired later can be used."""
    amount = charge.units if isinstance(charge, Charge) else charge
    consumed = account.consume_lots(draft, min(amount, account.available + held), usable_at, scope)
    draft.post("available", held - consumed)
    draft.post("owed", consumed - amount)
    draft.post("used", amount)
    if token_id is not None:
        token = account.token(token_id)
        token.spent += amount
        account.mark_changed(token)
    usage = charge.usage if isinstance(charge, Charge) else None
    key = (account.id, quarter_hour(draft.at), draft.content.get("model", ""), token_id or "", member or "")
    row = account.store.fetch_one(UsageRow, account.store.sql.usage, *key)
    if row is None:
        row = UsageRow(*key)
        account.add_row(row)
    else:
        account.mark_changed(row)
    if usage is not None:
        # The counts are stored, because a later version of this library may read the body differently.
        draft.result["counts"] = usage_counts(usage)
    add_usage(row, draft.result.get("counts"), amount)
    account.repay_owed(draft)


def release(account: LockedAccount, row: HoldRow, content: Mapping[str, Any]) -> EntryDraft:
    """Release all Credits of a hold. Raises ``hold_resolved``."""
    if row.state != "open":
        raise hold_resolved_error(row)
    draft = EntryDraft("release", row.at, content)
    account.resolve_hold(draft, row, "released")
    draft.post("available", row.credits)
    account.repay_owed(draft)
    return draft


def hold_resolved_error(row: HoldRow) -> BillingError:
    """Build the error of a hold that was resolved before."""
    by = f" by operation {safe_repr(row.resolved_by)}" if row.resolved_by else ""
    return BillingError("hold_resolved", f"hold {safe_repr(row.id)} was {row.state}{by}; a hold is resolved only once")
