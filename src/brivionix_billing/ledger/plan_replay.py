"""The subscriptions of an account, as a replay of its entries derives them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.plans import (
    PlanShare,
    SubscriptionRow,
    add_allowance,
    allowance_content,
    bind_lot,
    plan_share,
    read_terms,
    replace_terms,
    subscription_row,
    terms_column,
)
from brivionix_billing.ledger.posting.orders import order_row
from brivionix_billing.ledger.projections import AccountRow, LotRow, OrderRow
from brivionix_billing.ledger.units import units_from_column

__all__ = ["PLAN_KINDS", "PlanReplay"]

PLAN_KINDS: Final = ("subscribed", "plan_order", "plan_changed", "plan_renewed", "plan_cancelled")
"""Kinds of entries that change a subscription, besides payments."""
_LOT_TERMS: Final = ("expires", "only", "priority", "plan")


class PlanReplay:
    """The subscriptions of an account. Its methods raise ``ValueError`` or ``KeyError`` if an entry does not follow."""

    def __init__(self, account: AccountRow, lots: Mapping[str, LotRow], orders: dict[str, OrderRow]) -> None:
        self._account, self._lots, self._orders = account, lots, orders
        self.subscriptions: dict[str, SubscriptionRow] = {}

    def apply(self, entry: Entry, booked: str) -> None:
        """Apply an entry before the changes of its lots."""
        if entry.kind == "top_up":
            if "period" in entry.result:
                order = self._orders[entry.content["order"]]
                if order.subscription is None or order.state not in ("open", "partial"):
                    raise ValueError(f"order {order.id}")
                self._open(self.subscriptions[order.subscription], entry, order)
            return
        if entry.kind == "subscribed":
            current = self.subscriptions.get(self._account.subscription or "")
            if current is not None and not current.has_ended(booked):
                raise ValueError(f"subscription {current.id}")
            self.subscriptions[entry.id] = subscription_row(entry.id, entry.account, entry.content, booked)
            self._account.subscription = entry.id
            return
        row = self.subscriptions[entry.content["subscription"]]
        if row.cancelled_at is not None:
            raise ValueError(f"subscription {row.id}")
        if entry.kind == "plan_renewed":
            if row.next_terms.price or (row.ends is not None and row.ends > booked):
                raise ValueError(f"subscription {row.id}")
            if units_from_column(entry.content["credits"]) != row.next_terms.credits:
                raise ValueError("credits")
            self._open(row, entry, None)
        elif entry.kind == "plan_changed":
            self._change(row, entry, booked)
        elif entry.kind == "plan_cancelled":
            row.cancelled_at, row.next_text = booked, None
        else:
            terms, stated = row.next_terms, entry.result["order"]
            if (terms.price, terms.credits) != (units_from_column(stated["pay"]), units_from_column(stated["credits"])):
                raise ValueError("order")
        self._cancel_order(row, entry)
        if "order" in entry.result:
            self._orders[entry.id] = order_row(entry.id, entry.account, entry.result["order"], booked)
            row.order = entry.id

    def _cancel_order(self, row: SubscriptionRow, entry: Entry) -> None:
        if "cancelled" in entry.result:
            order = self._orders[entry.result["cancelled"]]
            if order.state != "open" or order.id != row.order:
                raise ValueError(f"order {order.id}")
            order.state = "cancelled"

    def _open(self, row: SubscriptionRow, entry: Entry, order: OrderRow | None) -> None:
        """Add the lot of an allowance, which the entry opens."""
        starts, ends = entry.result["period"]
        if order is not None and order.starts is not None and (order.starts, order.ends) != (starts, ends):
            raise ValueError("period")
        lots, begins = row.lots, row.starts is None or starts > row.starts
        expected = allowance_content(row, row.next_terms if begins else row.terms, ends)
        stated = {name: value for name, value in entry.content.items() if name in _LOT_TERMS}
        if stated != expected:
            raise ValueError("terms")
        add_allowance(row, order, entry.id, (starts, ends))
        self._bind(row, lots)

    def _change(self, row: SubscriptionRow, entry: Entry, booked: str) -> None:
        text, result = terms_column(entry.content["terms"]), entry.result
        if "period" not in result:
            if row.starts is None:
                row.terms_text, row.next_text = text, None
            else:
                row.next_text = None if text == row.terms_text else text
            return
        starts, ends = result["period"]
        if (starts, ends) != (row.starts, row.ends) or not starts <= booked < ends:
            raise ValueError("period")
        terms, lots = read_terms(text), result["lots"]
        if any(lot["from"] not in row.lots for lot in lots):
            raise ValueError("lots")
        expected = {**allowance_content(row, terms, ends), "channel": terms.channel, "price": terms.price_per_credit}
        if any(lot.get(name) != value for lot in lots for name, value in expected.items()):
            raise ValueError("terms")
        parts = PlanShare(
            sum(units_from_column(lot["paid"]) for lot in lots), sum(units_from_column(lot["credits"]) for lot in lots)
        )
        share, order = plan_share(terms, starts, ends, booked), result.get("order")
        if order is not None:
            parts = PlanShare(
                parts.price + units_from_column(order["pay"]), parts.credits + units_from_column(order["credits"])
            )
        if parts != share and (order is not None or parts.price > share.price or parts.credits > share.credits):
            raise ValueError("share")
        old = row.lots
        replace_terms(row, text, booked, [lot["lot"] for lot in lots])
        self._bind(row, old)

    def _bind(self, row: SubscriptionRow, lots: Iterable[str]) -> None:
        for id in () if row.terms.overflow else lots:
            bind_lot(self._account, self._lots[id], row.id)

    def renews_at(self) -> list[str]:
        """Return the time at which the plan of the account is renewed without a payment, if there is one."""
        row = self.subscriptions.get(self._account.subscription or "")
        return [] if row is None or row.renews_at is None else [row.renews_at]
