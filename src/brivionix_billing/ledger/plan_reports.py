"""Subscriptions to plans, as the gateway reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from brivionix_billing.decimals import format_plain
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.locked_account import LockedAccount
from brivionix_billing.ledger.plans import SubscriptionRow
from brivionix_billing.ledger.posting.allowances import post_due
from brivionix_billing.ledger.reports import PAGE_SIZE, require_account
from brivionix_billing.ledger.restrictions import Restriction
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_to_credits, units_to_payable
from brivionix_billing.money import Payable
from brivionix_billing.times import format_instant

__all__ = ["Subscription", "SubscriptionState", "due_renewals", "subscriptions"]

SubscriptionState = Literal["unpaid", "active", "past_due", "cancelled", "ended"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription of an account to a plan."""

    id: str
    account: str
    at: datetime
    state: SubscriptionState
    """``unpaid``: its first period; ``past_due``: a later one. ``cancelled``: it ends at ``ends``. ``ended``."""
    plan: str
    channel: str | None
    price: Payable | None
    """Price of a period, without tax; ``None``: the plan is free."""
    credits: Decimal
    """Allowance of a period."""
    period: str
    zone: str
    only: Restriction | None
    """The requests that may use the allowance; ``None``: all."""
    rollover: bool
    overflow: bool
    starts: datetime | None
    """Start of the latest period that was paid, or begun by a free plan; ``None``: none was."""
    ends: datetime | None
    lots: tuple[str, ...]
    """Lots of its allowance."""
    remaining: Decimal
    """Credits in these lots."""
    next_plan: str | None
    """Plan of the next period; ``None``: there is none, because it was cancelled."""
    next_price: Payable | None
    """Price of the next period, without tax; ``None``: it is free, or there is none."""
    order: str | None
    """Its last order."""
    cancelled_at: datetime | None

    def as_dict(self) -> dict[str, Any]:
        """Return the subscription as JSON values; amounts are strings."""
        return {name: _to_json(getattr(self, name)) for name in self.__slots__}


def _to_json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_plain(value)
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, Restriction):
        return value.as_dict()
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Payable) else value


def subscriptions(store: Store, account: str, now: str) -> list[Subscription]:
    """Return all subscriptions of an account, the current one last: see :meth:`Ledger.subscriptions`."""
    locked = LockedAccount(store.dry_run(), require_account(store, account), now)
    post_due(locked)  # a free plan begins its period by itself
    current = locked.subscription
    if current is None:
        return []
    rows = store.fetch_all(SubscriptionRow, store.sql.subscriptions, account)
    return [_from_row(locked, row, now) for row in (*(row for row in rows if row.id != current.id), current)]


def due_renewals(store: Store, before: str, now: str, after: tuple[str, str]) -> Iterator[Subscription]:
    """Yield a page of the subscriptions whose period ends until ``before`` and whose next one costs money."""
    end, id = after
    for row in store.fetch_all(SubscriptionRow, store.sql.due_subscriptions, before, end, end, id, PAGE_SIZE):
        locked = LockedAccount(store.dry_run(), require_account(store, row.account), now)
        post_due(locked)
        yield _from_row(locked, row, now)


def _from_row(account: LockedAccount, row: SubscriptionRow, now: str) -> Subscription:
    terms, ends = row.terms, row.ends
    state: SubscriptionState = "active"
    if row.cancelled_at is not None:
        state = "ended" if row.has_ended(now) else "cancelled"
    elif ends is None:
        state = "unpaid"
    elif ends <= now:
        state = "past_due"
    following = None if row.cancelled_at is not None else row.next_terms
    return Subscription(
        row.id,
        row.account,
        parse_timestamp(row.at),
        state,
        terms.plan,
        terms.channel,
        _price(terms.price, terms.currency),
        units_to_credits(terms.credits),
        terms.period,
        terms.zone,
        None if terms.only is None else Restriction.from_dict(terms.only),
        terms.rollover,
        terms.overflow,
        _time(row.starts),
        _time(ends),
        tuple(row.lots),
        units_to_credits(sum(account.lot(lot).remaining for lot in row.lots)),
        None if following is None else following.plan,
        None if following is None else _price(following.price, following.currency),
        row.order,
        _time(row.cancelled_at),
    )


def _price(units: int, currency: str | None) -> Payable | None:
    return None if currency is None else units_to_payable(units, currency)


def _time(text: str | None) -> datetime | None:
    return None if text is None else parse_timestamp(text)
