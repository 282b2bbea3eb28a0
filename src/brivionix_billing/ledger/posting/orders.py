"""Entries of orders, and of received payments with their parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.decimals import Rounding, format_plain, round_quotient
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.posting.allowances import order_period, paid_subscription, plan_content, post_allowance
from brivionix_billing.ledger.posting.payments import open_lot
from brivionix_billing.ledger.projections import OrderRow, PaymentRow, add_payment, order_credits
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.units import to_units, units_from_column, units_to_payable, units_to_text
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.topup import Quote

__all__ = [
    "cancel_order",
    "create_order",
    "money_units",
    "order_content",
    "order_row",
    "payment_credits",
    "payment_row",
    "receive",
    "require_order",
]

_PAYABLE_STATES: Final = ("open", "partial")


def money_units(amount: str | None) -> int:
    """Convert an amount in the format of the journal to units; ``None`` is 0."""
    return 0 if amount is None else units_from_column(amount) if amount[0] != "-" else -units_from_column(amount[1:])


def order_content(quote: Quote, tax: Payable | None, expires: str) -> dict[str, Any]:
    """Return the content of an order. Raises ``invalid_argument``, ``currency_mismatch``."""
    if not isinstance(quote, Quote):
        raise BillingError("invalid_argument", f"{safe_repr(quote)} is not a quote; use PriceBook.quote")
    if tax is not None and (not isinstance(tax, Payable) or tax.currency != quote.pay.currency or tax.minor < 0):
        raise BillingError("currency_mismatch", f"tax is {safe_repr(tax)}; use a Payable in {quote.pay.currency}")
    return {
        "credits": units_to_text(to_units(quote.credits, "the Credits of the quote")),
        "pay": str(quote.pay.amount),
        "currency": quote.pay.currency,
        "channel": quote.channel,
        "price_per_credit": format_plain(quote.price_per_credit),
        "quoted": format_timestamp(quote.at),
        "expires": expires,
        **({} if tax is None or not tax.minor else {"tax": str(tax.amount)}),
    }


def order_row(id: str, account: str, content: Mapping[str, Any], at: str) -> OrderRow:
    """Return the row of a new order."""
    return OrderRow(
        id,
        account,
        content["channel"],
        content["currency"],
        units_from_column(content["credits"]),
        money_units(content["pay"]),
        money_units(content.get("tax")),
        content["price_per_credit"],
        at,
        content["expires"],
        "open",
        0,
        0,
        content.get("subscription"),
        content.get("starts"),
        content.get("ends"),
    )


def payment_row(lot: str, account: str, content: Mapping[str, Any]) -> PaymentRow:
    """Return the row of a payment from the content of its entry."""
    gross, tax, fee, coupon = (money_units(content.get(name)) for name in ("gross", "tax", "fee", "coupon"))
    return PaymentRow(lot, account, content["currency"], gross, tax, fee, coupon, 0, content.get("order"))


def payment_credits(order: OrderRow, worth: int) -> int:
    """Return the Credits of the next payment of an order. A payment too small for the step of a sale is exact."""
    credits = order_credits(order, order.received + worth) - order_credits(order, order.received)
    return credits or order.credits * worth // order.pay


def create_order(account: LockedAccount, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Create an order. Raises ``invalid_argument`` if it has already expired."""
    if content["expires"] <= account.booked_at:
        raise BillingError(
            "invalid_argument", f"expires is {content['expires']}; it must be later than the time of the operation"
        )
    account.add_row(order_row(id, account.id, content, account.booked_at))
    return EntryDraft("order", account.booked_at, content)


def require_order(account: LockedAccount, id: str) -> OrderRow:
    """Return an order of an account. Raises ``unknown_order``."""
    order = account.store.fetch_one(OrderRow, account.store.sql.order, require_id(id, "the order"))
    if order is None or order.account != account.id:
        raise unknown_order_error(id)
    return order


def unknown_order_error(id: str) -> BillingError:
    """Build the error of an order that does not exist, or not yet."""
    return BillingError("unknown_order", f"there is no order {safe_repr(id)} of this account; retry if it is in flight")


def cancel_order(account: LockedAccount, id: str, content: Mapping[str, Any]) -> EntryDraft:
    """Cancel an order that is not paid. Raises ``unknown_order``, ``order_closed``."""
    order = require_order(account, id)
    if order.state != "open":
        raise BillingError("order_closed", f"order {safe_repr(id)} is {order.state}; only an open order is cancelled")
    order.state = "cancelled"
    account.mark_changed(order)
    return EntryDraft("order_cancelled", account.booked_at, content)


def receive(
    account: LockedAccount, id: str, payment: ReceivedPayment, given: Mapping[str, Any], book: PriceBook | None
) -> EntryDraft:
    """Open the lot of a received payment.

    In time, an order gives its price, also for a part of its amount or for more. Otherwise the price is that of the
    time of the payment, without the limits of the channel.
    """
    order = require_order(account, given["order"]) if "order" in given else None
    tax, in_time = payment.tax, False
    if order is not None:
        if (order.currency, order.channel) != (payment.gross.currency, payment.channel):
            raise BillingError(
                "currency_mismatch",
                f"order {safe_repr(order.id)} is paid in {order.currency} by {order.channel}, but {payment.gross} came "
                f"by {payment.channel}; post it without the order, or pay it back",
            )
        tax = _tax_of_order(order, payment) if tax is None else tax
        in_time = order.state != "cancelled" and format_timestamp(payment.at) < order.expires
    paid = payment.minus(tax)
    worth = Payable(paid.minor + (payment.coupon.minor if payment.coupon else 0), paid.currency)
    if order is not None and in_time:
        credits, price = payment_credits(order, money_units(str(worth.amount))), order.price
    else:
        credits, price = _credits_at(book, payment, worth)
    plan = paid_subscription(account, order) if order is not None and in_time else None
    period = None if plan is None or order is None else order_period(account, plan, order)
    content = {
        "credits": units_to_text(credits),
        "paid": str(paid.amount),
        "price_per_credit": price,
        **given,
        **({} if tax is None or not tax.minor else {"tax": str(tax.amount)}),
        **({} if plan is None or period is None else plan_content(plan, period, given)),
    }
    draft = open_lot(account, id, "top_up", credits, content, paid)
    account.add_row(payment_row(id, account.id, content))
    if plan is not None and period is not None:
        post_allowance(account, plan, order, id, period)
        draft.result["period"] = list(period)
    if order is not None:
        add_payment(order, money_units(str(worth.amount)), credits, in_time=in_time)
        account.mark_changed(order)
        draft.result |= {"in_time": in_time, "order": order.state}
    return draft


def _tax_of_order(order: OrderRow, payment: ReceivedPayment) -> Payable | None:
    """Return the share of an order's tax in a payment."""
    if not order.tax:
        return None
    tax = units_to_payable(order.tax, order.currency).minor
    due = tax + units_to_payable(order.pay, order.currency).minor
    return Payable(round_quotient(payment.gross.minor * tax, due, Rounding.HALF_UP), order.currency)


def _credits_at(book: PriceBook | None, payment: ReceivedPayment, worth: Payable) -> tuple[int, str]:
    """Return the Credits and the price of a payment at its time. Raises ``invalid_argument``, ``unknown_channel``."""
    if book is None:
        raise BillingError(
            "invalid_argument", "a payment without a valid order needs a price; open the ledger with book="
        )
    quote = book.quote(payment.channel, at=payment.at, pay=worth, received=True)
    return to_units(quote.credits, "a payment"), format_plain(quote.price_per_credit)
