"""The current state of an account. All rows are derived from the journal and can be rebuilt from it.

Operations and replay change rows with the same functions, those of this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.ledger.units import minor_unit
from brivionix_billing.rating import UNITS_PER_CREDIT
from brivionix_billing.topup import CREDIT_PLACES
from brivionix_billing.usage import Usage

__all__ = [
    "CLAWBACK_KINDS",
    "PAYBACK_KINDS",
    "REDUCING_KINDS",
    "AccountRow",
    "HoldRow",
    "LotDelta",
    "LotRow",
    "MemberRow",
    "OrderRow",
    "PaymentRow",
    "TokenRow",
    "UsageRow",
    "add_payment",
    "add_usage",
    "apply_freeze",
    "apply_lot_change",
    "apply_postings",
    "apply_restricted",
    "lot_value",
    "order_credits",
    "quarter_hour",
    "reverse_usage",
    "usage_counts",
]


@dataclass(slots=True)
class AccountRow:
    """An account. Its available Credits are ``balance - held``."""

    id: str
    number: int = 0
    """Number of entries in its journal."""
    head: str = ""
    """Hash of the last entry."""
    balance: int = 0
    """Credits in its lots, held or not."""
    held: int = 0
    owed: int = 0
    next_expiry: str | None = None
    """Lower bound: no hold and no lot expires earlier."""
    frozen_at: str | None = None
    """Time since which it is frozen: it gets no new holds, and no charges without a hold."""
    limits: int | None = None
    """Number of its limits by window. ``None``: none, so that requests need not read them."""
    restricted: int | None = None
    """Credits in lots that only some requests may use, held or not. ``None``: none, so requests need not choose."""
    signals: int | None = None
    """Number of its settings that raise signals. ``None``: none, so that entries need not read them."""
    subscription: str | None = None
    """Its last subscription to a plan. ``None``: none, so that requests need not read it."""


@dataclass(slots=True)
class LotRow:
    """Credits from one purchase, grant or correction.

    Invariants: ``credits == remaining + used + expired + returned + moved``, and
    ``paid == recognised + refunded + moved_paid + lot_value(lot, remaining)``.
    """

    id: str
    account: str
    number: int
    """Number of the entry that opened it. Lots are sorted by it."""
    at: str
    expires: str | None
    channel: str | None
    reference: str | None
    currency: str | None
    """``None``: a promotional lot, for which nothing was paid."""
    price: str | None
    """Quoted price per Credit. It does not include a volume discount; ``paid`` is the amount paid."""
    credits: int
    remaining: int
    used: int
    expired: int
    returned: int
    paid: int
    recognised: int
    refunded: int
    restriction: str | None = None
    """The requests that may use it, as JSON; ``None``: all."""
    priority: int | None = None
    """A lot with a lower number is used first; ``None``: the default."""
    moved: int | None = None
    """Credits that a transfer moved to another account; ``None``: none."""
    moved_paid: int | None = None
    """Their purchase price; ``None``: none."""
    origin: str | None = None
    """The lot that its Credits come from, if a transfer or a change of the plan opened it."""
    plan: str | None = None
    """The subscription without overflow whose requests may use it, besides others; ``None``: none."""

    @property
    def is_restricted(self) -> bool:
        """Whether holds of some requests cannot be covered by it, or those of others only by it."""
        return self.restriction is not None or self.plan is not None

    @property
    def gone(self) -> int:
        """Money that was paid back, or moved to other lots."""
        return self.refunded + (self.moved_paid or 0)

    @property
    def has_returned_all(self) -> bool:
        """Whether all Credits were returned or moved."""
        return self.returned + (self.moved or 0) == self.credits


@dataclass(slots=True)
class PaymentRow:
    """The parts of a received payment, in the currency of its lot. A lot without such a row has no tax and no fee.

    Invariants: ``gross == lot.paid + tax``, and ``0 <= tax_refunded <= tax``.
    """

    id: str
    """Id of the lot."""
    account: str
    currency: str
    gross: int
    tax: int
    fee: int
    coupon: int
    tax_refunded: int
    order: str | None
    tax_moved: int | None = None
    """Tax of Credits that a transfer moved to another lot; ``None``: none."""

    @property
    def tax_gone(self) -> int:
        """Tax that was paid back, or moved to other lots."""
        return self.tax_refunded + (self.tax_moved or 0)


@dataclass(slots=True)
class OrderRow:
    """A quote that the customer accepted, at a price that is valid until it expires."""

    id: str
    account: str
    channel: str
    currency: str
    credits: int
    pay: int
    """Price of the Credits, without tax."""
    tax: int
    price: str
    at: str
    expires: str
    state: str
    """``open``, ``partial``, ``paid``, ``overpaid``, ``late`` or ``cancelled``."""
    received: int
    """Payments in time, without tax, before coupons."""
    credited: int
    """Credits of all its payments."""
    subscription: str | None = None
    """The subscription whose allowance it pays for; ``None``: none."""
    starts: str | None = None
    """Start of the period that it pays for; ``None``: that of its first payment."""
    ends: str | None = None


@dataclass(slots=True)
class HoldRow:
    """Credits reserved for a request."""

    id: str
    account: str
    token: str | None
    credits: int
    at: str
    expires: str
    state: str
    """``open``, ``settled``, ``released`` or ``expired``."""
    resolved_by: str | None
    """Id of the operation that resolved it."""
    counted: str | None = None
    """The limits by window that count it, and their amounts, as JSON; ``None``: no limit counts it."""
    scope: str | None = None
    """Model, group and tags of the request, as JSON; ``None``: the account had no restricted lots."""
    member: str | None = None
    """Member of the account that made the request; ``None``: the account itself."""


@dataclass(slots=True)
class TokenRow:
    """An API token. Only the hash of its secret is stored."""

    id: str
    account: str
    hash: str
    name: str
    group: str
    expires: str | None
    limit: int | None
    """Maximum that it may spend over its life."""
    enabled: int
    spent: int
    held: int
    previous_hash: str | None = None
    """Hash of the secret that the last rotation replaced, unless it had no grace period."""
    previous_expires: str | None = None
    """End of its grace period."""
    member: str | None = None
    """Member of the account that has the token; ``None``: the account itself."""


@dataclass(slots=True)
class MemberRow:
    """A member of an account, which pays for its requests."""

    account: str
    id: str
    """Unique in the account, also among removed members."""
    state: str
    """``active``, ``frozen`` or ``removed``."""
    joined: str
    changed: str
    """Time since which it has its state."""


@dataclass(slots=True)
class UsageRow:
    """Usage of one model by one token and member in a quarter of an hour, less the charges reversed in it."""

    account: str
    quarter_hour: str
    """Start in UTC, such as ``2026-10-01T00:15``. The offset of every time zone is a multiple of 15 minutes."""
    model: str
    """``""``: priced elsewhere."""
    token: str
    """``""``: no token."""
    member: str
    """``""``: no member."""
    requests: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    credits: int = 0


class LotDelta(NamedTuple):
    """The change of one lot by an entry."""

    lot: str
    kind: str
    """``opened``, ``used``, ``expired``, ``refunded``, ``restored``; ``taken_back``: clawed back after use;
    ``written_off``: clawed back after expiry; ``reversed``: returned because the charge was reversed; ``moved_out`` and
    ``moved_in``: moved by a transfer."""
    credits: int
    money: int
    """Money paid, recognised or paid back, in the currency of the lot: whole minor units."""
    remaining: int
    """Credits in the lot after the change."""


# The kinds of lot changes are stored in the journal. The journal is hashed and never rewritten, so they keep their
# names: Credits that the documentation calls clawed back are `taken_back` here.
REDUCING_KINDS: Final = ("used", "expired", "refunded", "moved_out")
"""Kinds of lot changes that reduce the remaining Credits."""
CLAWBACK_KINDS: Final = ("taken_back", "written_off")
"""Kinds of lot changes that claw back Credits that had left the lot before."""
PAYBACK_KINDS: Final = ("refunded", *CLAWBACK_KINDS)
"""Kinds of lot changes that pay money back."""


_CREDIT_STEP: Final = UNITS_PER_CREDIT // 10**CREDIT_PLACES


def lot_value(lot: LotRow, remaining: int) -> int:
    """Return the purchase price of ``remaining`` Credits of a lot, rounded to minor units (half up).

    A decrease of this value is recognised or refunded. So changes of any size add up to the amount paid.
    """
    if lot.currency is None or not remaining:
        return 0
    minor = minor_unit(lot.currency)
    return round_quotient(lot.paid // minor * remaining, lot.credits, Rounding.HALF_UP) * minor


def apply_lot_change(lot: LotRow, kind: str, credits: int, money: int) -> LotDelta:
    """Change a lot in place. Returns the change. ``money`` is the value of the Credits."""
    if kind in REDUCING_KINDS:
        lot.remaining -= credits
    if kind == "used":
        lot.used += credits
        lot.recognised += money
    elif kind == "expired":
        lot.expired += credits
        lot.recognised += money
    elif kind == "refunded":
        lot.returned += credits
        lot.refunded += money
    elif kind in CLAWBACK_KINDS:
        if kind == "taken_back":
            lot.used -= credits
        else:
            lot.expired -= credits
        lot.returned += credits
        lot.recognised -= money
        lot.refunded += money
    elif kind == "reversed":
        lot.remaining += credits
        lot.used -= credits
        lot.recognised -= money
    elif kind == "restored":
        lot.remaining += credits
        lot.returned -= credits
        lot.refunded -= money
    elif kind == "moved_out":
        lot.moved = (lot.moved or 0) + credits or None
        lot.moved_paid = (lot.moved_paid or 0) + money or None
    elif kind not in ("opened", "moved_in"):
        raise ValueError(kind)
    return LotDelta(lot.id, kind, credits, money, lot.remaining)


def add_payment(order: OrderRow, worth: int, credits: int, *, in_time: bool) -> None:
    """Add a payment to an order in place, and set the state that follows from it."""
    order.credited += credits
    if not in_time:
        order.state = "late"
        return
    order.received += worth
    if order.state != "late":
        more = order.received - order.pay
        order.state = "partial" if more < 0 else "overpaid" if more else "paid"


def order_credits(order: OrderRow, received: int) -> int:
    """Return the Credits that an amount of money buys at the price of an order, in whole millionths of a Credit.

    The Credits of several payments are the differences of this function, so they add up to those of one payment.
    """
    return order.credits * received // order.pay // _CREDIT_STEP * _CREDIT_STEP


def apply_postings(account: AccountRow, postings: Mapping[str, int]) -> None:
    """Change the balances of an account in place."""
    held = postings.get("held", 0)
    account.balance += postings.get("available", 0) + held
    account.held += held
    account.owed -= postings.get("owed", 0)


def apply_restricted(account: AccountRow, lot: LotRow, change: int) -> None:
    """Add a change of a lot's remaining Credits to the restricted ones of its account, if the lot is restricted."""
    if lot.is_restricted:
        account.restricted = (account.restricted or 0) + change or None


def apply_freeze(account: AccountRow, kind: str, booked: str) -> None:
    """Apply an entry of kind ``account_frozen`` or ``account_unfrozen``. A frozen account stays frozen since then."""
    if kind == "account_unfrozen":
        account.frozen_at = None
    elif account.frozen_at is None:
        account.frozen_at = booked


def quarter_hour(at: str) -> str:
    """Return the start of the quarter of an hour that contains a timestamp.

    >>> quarter_hour("2026-10-01T00:29:59.999999Z")
    '2026-10-01T00:15'
    """
    return f"{at[:14]}{int(at[14:16]) // 15 * 15:02d}"


def usage_counts(usage: Usage) -> list[int]:
    """Return the counts of a request: 1 if estimated, else 0; input, cache read and output tokens."""
    return [int(usage.estimated), usage.input_tokens, usage.cache_read_tokens, usage.output_tokens]


def reverse_usage(row: UsageRow, counts: Sequence[int] | None, units: int, *, complete: bool) -> None:
    """Subtract a reversed charge from a row; its request and its counts only if all of it is reversed."""
    row.credits -= units
    if complete:
        row.requests -= 1
        estimated, input_tokens, cached, output = counts or (0, 0, 0, 0)
        row.estimated -= estimated
        row.input_tokens -= input_tokens
        row.cache_read_tokens -= cached
        row.output_tokens -= output


def add_usage(row: UsageRow, counts: Sequence[int] | None, units: int) -> None:
    """Add a request to a row. A request that was priced elsewhere has no counts."""
    row.requests += 1
    row.credits += units
    if counts is not None:
        estimated, input_tokens, cached, output = counts
        row.estimated += estimated
        row.input_tokens += input_tokens
        row.cache_read_tokens += cached
        row.output_tokens += output
