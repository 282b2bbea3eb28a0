"""Plans of accounts: subscriptions, their periods, and the lots of their allowances.

A subscription keeps the terms that it was made with, and every entry states the period that it opens, so the journal
can be replayed without a price book and without a calendar.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.journal_text import read_column
from brivionix_billing.ledger.projections import AccountRow, LotRow, OrderRow, apply_restricted
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY
from brivionix_billing.ledger.timestamps import format_timestamp, parse_timestamp
from brivionix_billing.ledger.units import minor_unit, units_from_column, units_to_text
from brivionix_billing.rating import UNITS_PER_CREDIT
from brivionix_billing.times import load_zone
from brivionix_billing.topup import CREDIT_PLACES

__all__ = [
    "PlanShare",
    "PlanTerms",
    "SubscriptionRow",
    "add_allowance",
    "allowance_content",
    "bind_lot",
    "next_period",
    "period_at",
    "plan_share",
    "read_terms",
    "replace_terms",
    "share_credits",
    "start_period",
    "subscription_row",
    "terms_column",
    "unused_credits",
]

_CREDIT_STEP: Final = UNITS_PER_CREDIT // 10**CREDIT_PLACES


class PlanTerms(NamedTuple):
    """The terms of a plan, read from the journal. Amounts are in units of 10^-18."""

    plan: str
    credits: int
    period: str
    zone: str
    channel: str | None
    currency: str | None
    price: int
    """Price of a period, without tax; 0: the plan is free."""
    only: Mapping[str, Any] | None
    priority: int
    rollover: bool
    overflow: bool

    @property
    def calendar(self) -> tuple[str, str]:
        """What the start of the next period depends on, besides the first one."""
        return self.period, self.zone

    @property
    def price_per_credit(self) -> str:
        """Price of a Credit, rounded half up to 10^-18, as an entry states it."""
        return units_to_text(round_quotient(self.price * UNITS_PER_CREDIT, self.credits, Rounding.HALF_UP))


@lru_cache(maxsize=1024)
def read_terms(text: str) -> PlanTerms:
    """Read terms from their column."""
    return read_column(text, _read_terms)


def _read_terms(value: Mapping[str, Any]) -> PlanTerms:
    return PlanTerms(
        value["plan"],
        units_from_column(value["credits"]),
        value["period"],
        value["zone"],
        value.get("channel"),
        value.get("currency"),
        units_from_column(value.get("price", "0")),
        value.get("only"),
        value["priority"],
        value.get("rollover", False),
        value.get("overflow", True),
    )


def terms_column(value: Mapping[str, Any]) -> str:
    """Return the column of terms in the format of the journal."""
    return canonical_json(value).decode()


@dataclass(slots=True)
class SubscriptionRow:
    """A subscription of an account to a plan. An account has at most one that has not ended."""

    id: str
    account: str
    at: str
    terms_text: str
    next_text: str | None
    """Terms from the next period on, if they change."""
    anchor: str | None
    """Start of the first period, from which the dates of all others follow; ``None``: it was not paid yet."""
    starts: str | None
    """Start of the latest period for which an allowance was opened."""
    ends: str | None
    since: str | None
    """Time from which ``lots`` cover the period: its start, or the last change of the plan."""
    lots_text: str
    """Lots of the allowance, as a JSON list of ids."""
    order: str | None
    """The last order of the subscription."""
    cancelled_at: str | None
    """Time of its cancellation. It ends at the end of its period."""

    @property
    def terms(self) -> PlanTerms:
        """Terms of the current period."""
        return read_terms(self.terms_text)

    @property
    def next_terms(self) -> PlanTerms:
        """Terms of the next period."""
        return read_terms(self.next_text or self.terms_text)

    @property
    def lots(self) -> list[str]:
        """Ids of the lots of the allowance."""
        return read_column(self.lots_text, list, list)

    def set_lots(self, ids: list[str]) -> None:
        """Replace the lots of the allowance."""
        self.lots_text = canonical_json(ids).decode()

    def has_ended(self, now: str) -> bool:
        """Return whether it was cancelled and its period is over."""
        return self.cancelled_at is not None and (self.ends is None or self.ends <= now)

    @property
    def renews_at(self) -> str | None:
        """Time from which the ledger opens the next allowance by itself: that of a free plan."""
        return self.ends if self.cancelled_at is None and not self.next_terms.price else None


def subscription_row(id: str, account: str, content: Mapping[str, Any], at: str) -> SubscriptionRow:
    """Return the row of a new subscription."""
    return SubscriptionRow(id, account, at, terms_column(content["terms"]), *(None,) * 5, "[]", None, None)


def _boundary(anchor: datetime, number: int, terms: PlanTerms) -> datetime:
    """Return the start of a period; ``anchor`` is that of number 0. It has the local time of the anchor.

    A month without the day of the anchor starts on its last day. A local time that is skipped or repeated when clocks
    change counts by the offset before the change.
    """
    if not number:
        return anchor
    local = anchor.astimezone(load_zone(terms.zone))
    if terms.period == "month":
        years, month = divmod(local.month - 1 + number, 12)
        year = local.year + years
        day = date(year, month + 1, min(local.day, monthrange(year, month + 1)[1]))
    else:
        day = local.date() + number * timedelta(days=7 if terms.period == "week" else 1)
    return datetime.combine(day, local.time().replace(fold=0), local.tzinfo).astimezone(UTC)


def period_at(anchor: str, terms: PlanTerms, at: str) -> tuple[str, str]:
    """Return start and end of the period that includes ``at``. Raises ``invalid_time`` after the year 9999."""
    first, now = parse_timestamp(anchor), parse_timestamp(at)
    days = (now - first).days
    number = days // {"day": 1, "week": 7, "month": 31}[terms.period]
    try:
        while number and _boundary(first, number, terms) > now:
            number -= 1
        while (end := _boundary(first, number + 1, terms)) <= now:
            number += 1
        return format_timestamp(_boundary(first, number, terms)), format_timestamp(end)
    except (OverflowError, ValueError):
        raise BillingError("invalid_time", f"the period of plan {safe_repr(terms.plan)} ends after 9999") from None


def next_period(row: SubscriptionRow, now: str) -> tuple[str, str]:
    """Return start and end of the period to renew: the one after the latest, or the current one if that is later.

    If the next plan has another kind of period or another time zone, its first period starts at the end of the latest
    one, or now.
    """
    if row.anchor is None or row.ends is None:
        return period_at(now, row.next_terms, now)
    start = max(row.ends, now)
    anchor = row.anchor if row.next_terms.calendar == row.terms.calendar else start
    return period_at(anchor, row.next_terms, start)


def allowance_content(row: SubscriptionRow, terms: PlanTerms, ends: str) -> dict[str, Any]:
    """Return what the lots of an allowance have in common, in the format of the journal."""
    return {
        **({} if terms.rollover else {"expires": ends}),
        **({} if terms.only is None else {"only": terms.only}),
        **({} if terms.priority == DEFAULT_PRIORITY else {"priority": terms.priority}),
        **({} if terms.overflow else {"plan": row.id}),
    }


def start_period(row: SubscriptionRow, starts: str, ends: str) -> None:
    """Begin a period in place, with the terms that were set for it, and without any lots yet."""
    if row.anchor is None or row.next_terms.calendar != row.terms.calendar:
        row.anchor = starts
    row.terms_text, row.next_text = row.next_text or row.terms_text, None
    row.starts, row.ends, row.since = starts, ends, starts
    row.set_lots([])


def add_allowance(row: SubscriptionRow, order: OrderRow | None, lot: str, period: tuple[str, str]) -> None:
    """Add a lot of an allowance in place. The first lot of a later period begins that period."""
    if row.starts is None or period[0] > row.starts:
        start_period(row, *period)
    if period[0] == row.starts:
        row.set_lots([*row.lots, lot])
    if order is not None:
        order.starts, order.ends = period


def replace_terms(row: SubscriptionRow, terms: str, now: str, lots: list[str]) -> None:
    """Change the plan within a period in place: ``lots`` cover the rest of the period."""
    row.terms_text, row.next_text = terms, None
    row.since = None if row.starts is None else now
    row.set_lots(lots)


def bind_lot(account: AccountRow, lot: LotRow, subscription: str) -> bool:
    """Let requests without overflow use a lot, in place. Returns whether it changed."""
    if lot.plan == subscription:
        return False
    if not lot.is_restricted:
        lot.plan = subscription
        apply_restricted(account, lot, lot.remaining)
    lot.plan = subscription
    return True


class PlanShare(NamedTuple):
    """The part of a period's price and Credits that belongs to its rest, in units of 10^-18."""

    price: int
    """Rounded half up to minor units."""
    credits: int
    """Rounded down to millionths of a Credit."""


def plan_share(terms: PlanTerms, starts: str, ends: str, now: str) -> PlanShare:
    """Return the share of a plan in the rest of a period. Nothing if either part rounds to nothing."""
    left, whole = _microseconds(now, ends), _microseconds(starts, ends)
    minor = minor_unit(str(terms.currency))
    price = round_quotient(terms.price // minor * left, whole, Rounding.HALF_UP) * minor
    credits = terms.credits * left // whole // _CREDIT_STEP * _CREDIT_STEP
    return PlanShare(price, credits) if price and credits else PlanShare(0, 0)


def share_credits(share: PlanShare, money: int) -> int:
    """Return the Credits of a share that a part of its price buys, rounded down to millionths of a Credit."""
    return share.credits * money // share.price // _CREDIT_STEP * _CREDIT_STEP if share.price else 0


def unused_credits(lot: LotRow, row: SubscriptionRow, now: str) -> int:
    """Return the Credits of a lot that belong to the rest of its period, rounded down to 10^-18."""
    since, ends = str(row.since), str(row.ends)
    return lot.credits * _microseconds(now, ends) // _microseconds(since, ends)


def _microseconds(start: str, end: str) -> int:
    return (parse_timestamp(end) - parse_timestamp(start)) // timedelta(microseconds=1)
