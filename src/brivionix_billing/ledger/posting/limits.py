"""Entries that set limits by window, and their check when a request is held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.errors import LimitReachedError
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.limits import (
    LIMIT_UNITS,
    CountedRequest,
    CounterRow,
    LimitRow,
    apply_limit,
    charged_amounts,
    matching_limits,
)
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.members import require_present
from brivionix_billing.ledger.signals import follow_limit
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import Amount, to_units, units_to_text
from brivionix_billing.ledger.windows import parse_window
from brivionix_billing.rating import UNITS_PER_CREDIT, Charge
from brivionix_billing.text_checks import require_text
from brivionix_billing.tokens import WorstCase

__all__ = [
    "Expectation",
    "count_charge",
    "count_hold",
    "limit_content",
    "remove_limit",
    "set_limit",
    "tags_content",
    "validate_expectation",
    "window_use",
]

_MAX_LIMITS: Final = 20
"""Maximum number of limits of an account, and of each member: each costs a request up to two statements."""
_MAX_TAGS: Final = 20


class Expectation(NamedTuple):
    """What the limits by window count of a hold until it is resolved."""

    tokens: int | None
    """Maximum number of tokens; ``None``: unknown."""
    share: int
    """The part of the hold and of the tokens that is counted, in units of 10^-18, above 0 and at most 1."""


def validate_expectation(amount: Amount, tokens: int | None, share: Decimal | int | str) -> Expectation:
    """Return what limits count of a hold. The tokens of a worst case or charge are its own.

    Raises ``invalid_argument``.
    """
    if tokens is None and isinstance(amount, WorstCase):
        tokens = amount.input_tokens + amount.output_tokens
    elif tokens is None and isinstance(amount, Charge):
        tokens = amount.usage.input_tokens + amount.usage.output_tokens
    elif tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or not 0 <= tokens <= 10**15):
        raise BillingError("invalid_argument", f"tokens is {safe_repr(tokens)}; use an int from 0 to 10^15")
    units = UNITS_PER_CREDIT if type(share) is int and share == 1 else to_units(share, "the expected share")
    if not 0 < units <= UNITS_PER_CREDIT:
        raise BillingError("invalid_argument", f"expected is {safe_repr(share)}; use a share above 0 and at most 1")
    return Expectation(tokens, units)


def tags_content(tags: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the tags of a request in the format of the journal. Raises ``invalid_argument``."""
    if not tags:
        return {}
    if not isinstance(tags, Mapping) or len(tags) > _MAX_TAGS:
        raise BillingError("invalid_argument", f"tags is {safe_repr(tags)}; use a dict with at most {_MAX_TAGS} tags")
    for key, value in tags.items():
        if "=" in require_text("the name of a tag", key):
            raise BillingError("invalid_argument", f"the tag {safe_repr(key)} has the character =; remove it")
        require_text(f"the tag {safe_repr(key)}", value)
    return {"tags": dict(tags)}


def limit_content(
    name: str,
    amount: Amount,
    unit: str,
    window: str,
    zone: str,
    token: str | None,
    tag: str | None,
    member: str | None = None,
) -> dict[str, Any]:
    """Return the content of an entry that sets a limit. Raises ``invalid_argument`` and ``invalid_period``."""
    if unit not in LIMIT_UNITS:
        raise BillingError("invalid_argument", f"unit is {safe_repr(unit)}; use {', '.join(LIMIT_UNITS)}")
    units = to_units(amount, "the amount of a limit")
    if unit != "credits" and units % UNITS_PER_CREDIT:
        raise BillingError("invalid_argument", f"the amount is {safe_repr(amount)}; use a whole number of {unit}")
    parse_window(require_text("the window", window), require_text("the time zone", zone))
    if sum(subject is not None for subject in (token, tag, member)) > 1:
        raise BillingError("invalid_argument", "a limit has a token, a tag or a member, not several; keep one of them")
    if tag is not None:
        key, equals, value = require_text("the tag", tag).partition("=")
        if not (key and equals and value):
            raise BillingError("invalid_argument", f"tag is {safe_repr(tag)}; write it as name=value")
    return {
        "limit": require_text("the name of a limit", name),
        "amount": units_to_text(units),
        "unit": unit,
        "window": window,
        "zone": zone,
        "token": None if token is None else require_id(token, "the token"),
        "tag": tag,
        **({} if member is None else {"member": require_id(member, "the member")}),
    }


def set_limit(account: LockedAccount, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Set a limit, or change one of the same name. Raises ``unknown_token``, ``unknown_member``, ``member_removed``."""
    draft = EntryDraft("set_limit", account.booked_at, content)
    name, member = content["limit"], content.get("member")
    if content["token"] is not None:
        account.token(content["token"])
    if member is not None:
        require_present(account, member)
    active = account.limits.all()
    current = next((limit for limit in active if limit.name == name), None)
    if current is not None and current.member != member:
        owner = "no member" if current.member is None else f"member {safe_repr(current.member)}"
        raise BillingError(
            "invalid_argument",
            f"limit {safe_repr(name)} of account {safe_repr(account.id)} is that of {owner}; use another name",
        )
    if current is None and sum(limit.member == member for limit in active) >= _MAX_LIMITS:
        owner = f"account {safe_repr(account.id)}" if member is None else f"member {safe_repr(member)}"
        raise BillingError("invalid_argument", f"{owner} has {_MAX_LIMITS} limits; remove one before adding one")
    _change_limits(account, apply_limit(active, id, account.id, content))
    for setting in follow_limit(account.signal_settings.all(), content):
        account.mark_changed(setting)
    return draft


def remove_limit(account: LockedAccount, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Remove a limit. Raises ``invalid_argument`` if the account has none of this name."""
    draft, active = EntryDraft("remove_limit", account.booked_at, content), account.limits.all()
    current = next((limit for limit in active if limit.name == content["limit"]), None)
    if current is None:
        names = ", ".join(safe_repr(limit.name) for limit in active[:_MAX_LIMITS]) or "none"
        raise BillingError(
            "invalid_argument",
            f"account {safe_repr(account.id)} has no limit {safe_repr(content['limit'])}; its limits are: {names}",
        )
    if current.member is not None:
        draft.result["member"] = current.member
    _change_limits(account, apply_limit(active, id, account.id, content))
    return draft


def _change_limits(account: LockedAccount, rows: list[LimitRow]) -> None:
    """Write changed and new limits, and keep their number in the row of the account."""
    for row in rows:
        if account.limits.add(row):
            account.add_row(row)
        else:
            account.mark_changed(row)
    account.row.limits = len(account.limits.all()) or None


def count_hold(
    account: LockedAccount,
    credits: int,
    token: str | None,
    member: str | None,
    content: Mapping[str, Any],
    expected: Expectation,
) -> CountedRequest | None:
    """Check a hold against the limits of its account and member, and count it. Returns ``None`` if no limit applies.

    Raises :class:`LimitReachedError` for the limit that resets last, and ``invalid_argument`` if a limit counts
    tokens, and their number is unknown.
    """
    tokens = None if expected.tokens is None else _part(expected.tokens * UNITS_PER_CREDIT, expected.share)
    counted = CountedRequest((), _part(credits, expected.share), tokens)
    amounts = counted.amounts
    when = parse_timestamp(account.booked_at)
    applied: list[tuple[LimitRow, str]] = []
    refusals: list[LimitReachedError] = []
    for limit in matching_limits(account.limits.of(member), token, content.get("tags")):
        use = window_use(account, limit, when)
        if use is None:
            continue
        if limit.unit == "tokens" and tokens is None:
            raise BillingError(
                "invalid_argument",
                f"limit {safe_repr(limit.name)} counts tokens: pass tokens= to hold, or a WorstCase as the amount",
            )
        applied.append((limit, use.current))
        amount, used = amounts[limit.unit], use.used
        if used + amount > limit.amount:
            # A member may know the use of its own limits, and of its token, but not that of other members.
            hidden_from = member if limit.member is None and limit.token is None else None
            refusals.append(
                LimitReachedError(
                    limit.name,
                    limit.unit,
                    limit.amount,
                    used,
                    amount,
                    use.resets(amount),
                    now=when,
                    member=limit.member,
                    hidden_from=hidden_from,
                )
            )
    if refusals:
        # The request can succeed when the last one has reset. None: it never can.
        raise max(refusals, key=lambda refusal: (refusal.resets is None, refusal.resets or when))
    if not applied:
        return None
    for limit, start in applied:
        if amounts[limit.unit]:
            account.change_counter(limit, start, amounts[limit.unit])
    return CountedRequest(tuple([limit.id for limit, _ in applied]), counted.credits, tokens)


def _part(amount: int, share: int) -> int:
    """Return the share of an amount, rounded up."""
    return -(-amount * share // UNITS_PER_CREDIT)


def count_charge(account: LockedAccount, draft: EntryDraft, token: str | None, member: str | None) -> None:
    """Count a charge without a hold, at its own time. It is never refused: its tokens were used."""
    when = parse_timestamp(draft.at)
    limits = [
        limit.id
        for limit in matching_limits(account.limits.of(member), token, draft.content.get("tags"))
        if limit.parsed_window.counters(when) is not None
    ]
    if limits:
        draft.result["counted"] = {"limits": limits}
        account.count(member, limits, draft.at, charged_amounts(draft.postings["used"], draft.result.get("counts")))


class WindowUse(NamedTuple):
    """The use of a limit in its window at one instant."""

    limit: LimitRow
    at: datetime
    current: str
    """Start of the counter of a request at this instant."""
    counters: Sequence[CounterRow]
    """All counters that count at this instant, the earliest first."""

    @property
    def used(self) -> int:
        """What is used in the window."""
        return sum([counter.used for counter in self.counters])

    @property
    def first_reset(self) -> datetime | None:
        """The end of a calendar window. Of a rolling one, the time from which its oldest use no longer counts."""
        window = self.limit.parsed_window
        oldest = next((counter.starts for counter in self.counters if counter.used), None)
        if oldest is None and window.is_rolling:
            return None
        return window.end(oldest or self.current, self.at)

    def resets(self, amount: int) -> datetime | None:
        """Return the latest time at which an amount is left again; ``None`` if the limit is below the amount."""
        missing = self.used + amount - self.limit.amount
        if amount > self.limit.amount:
            return None
        for counter in self.counters:
            missing -= counter.used
            if missing <= 0:
                return self.limit.parsed_window.end(counter.starts, self.at)
        raise AssertionError("unreachable: without its use, the window has room for the amount")


def window_use(account: LockedAccount, limit: LimitRow, at: datetime) -> WindowUse | None:
    """Return the use of a limit at an instant; ``None`` if its window does not include it."""
    range = limit.parsed_window.counters(at)
    if range is None:
        return None
    return WindowUse(limit, at, range.current, account.counters(limit, range.first, range.last))
