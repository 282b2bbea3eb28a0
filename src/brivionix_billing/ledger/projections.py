"""What the ledger knows of an account at one time. All of it follows from the journal, and can be made from it again.

Every change of a row is made by the functions here, whether an operation is going on or the journal is replayed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from brivionix_billing.decimals import Rounding, round_quotient
from brivionix_billing.ledger.units import minor_unit
from brivionix_billing.usage import Usage

__all__ = [
    "AccountRow",
    "PAYBACK_KINDS",
    "HoldRow",
    "LotDelta",
    "LotRow",
    "TokenRow",
    "UsageRow",
    "add_usage",
    "usage_counts",
    "apply_lot_change",
    "apply_postings",
    "quarter_hour",
    "lot_value",
]


@dataclass(slots=True)
class AccountRow:
    """An account. Available is ``balance - held``."""

    id: str
    number: int = 0
    """Entries in its journal."""
    head: str = ""
    """Hash of the last of them."""
    balance: int = 0
    """Credits in its lots, held or not."""
    held: int = 0
    owed: int = 0
    next_expiry: str | None = None
    """No hold and no lot expires before this."""


@dataclass(slots=True)
class LotRow:
    """Credits that came in at once. ``credits == remaining + used + expired + returned``.

    ``paid == recognised + refunded + value of what remains``.
    """

    id: str
    account: str
    number: int
    """Of the entry that brought it: lots in their order."""
    at: str
    expires: str | None
    channel: str | None
    reference: str | None
    currency: str | None
    """``None``: promotional, nothing was paid."""
    price: str | None
    """Of a Credit on the channel, as quoted. A volume discount is not in it: what was paid is ``paid``."""
    credits: int
    remaining: int
    used: int
    expired: int
    returned: int
    paid: int
    recognised: int
    refunded: int


@dataclass(slots=True)
class HoldRow:
    """Credits set aside for a request."""

    id: str
    account: str
    token: str | None
    credits: int
    at: str
    expires: str
    state: str
    """``open``, ``settled``, ``released`` or ``expired``."""
    resolved_by: str | None
    """The operation that did."""


@dataclass(slots=True)
class TokenRow:
    """An API token. Only the hash of its secret is kept."""

    id: str
    account: str
    hash: str
    name: str
    group: str
    expires: str | None
    limit: int | None
    """Credits that it may spend over its life."""
    enabled: int
    spent: int
    held: int


@dataclass(slots=True)
class UsageRow:
    """What one token used of one model in a quarter of an hour."""

    account: str
    quarter_hour: str
    """Its begin, ``2026-10-01T00:15``, in UTC. The offset of every time zone is whole quarters."""
    model: str
    """``""``: priced elsewhere."""
    token: str
    """``""``: no token."""
    requests: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    credits: int = 0


class LotDelta(NamedTuple):
    """What an entry did to a lot."""

    lot: str
    kind: str
    """``opened``, ``used``, ``expired``, ``refunded``, ``taken_back`` (after it was used), ``written_off`` (after it
    had expired), ``restored``."""
    credits: int
    money: int
    """Of the lot's currency, whole coins: paid, recognised, or given back."""
    remaining: int
    """Credits in the lot afterwards."""


# These words are in journals, which are hashed and never rewritten: they cannot be renamed. `taken_back` is what the
# documentation calls clawed back.
PAYBACK_KINDS: Final = ("refunded", "taken_back", "written_off")
"""Kinds of lot changes by which a payment goes back."""


def lot_value(lot: LotRow, remaining: int) -> int:
    """What ``remaining`` Credits of a lot are worth at the price they were bought for, rounded to coins (half up).

    Recognised and refunded is what this falls by. So however small the steps are, they add up to what was paid.
    """
    if lot.currency is None or not remaining:
        return 0
    one = minor_unit(lot.currency)
    return round_quotient(lot.paid // one * remaining, lot.credits, Rounding.HALF_UP) * one


def apply_lot_change(lot: LotRow, how: str, credits: int, money: int) -> LotDelta:
    """Change a lot. ``money`` is what the move is worth."""
    if how in ("used", "expired", "refunded"):
        lot.remaining -= credits
    if how == "used":
        lot.used += credits
        lot.recognised += money
    elif how == "expired":
        lot.expired += credits
        lot.recognised += money
    elif how == "refunded":
        lot.returned += credits
        lot.refunded += money
    elif how in ("taken_back", "written_off"):
        if how == "taken_back":
            lot.used -= credits
        else:
            lot.expired -= credits
        lot.returned += credits
        lot.recognised -= money
        lot.refunded += money
    elif how == "restored":
        lot.remaining += credits
        lot.returned -= credits
        lot.refunded -= money
    elif how != "opened":
        raise ValueError(how)
    return LotDelta(lot.id, how, credits, money, lot.remaining)


def apply_postings(account: AccountRow, postings: Mapping[str, int]) -> None:
    """Change the balances of an account."""
    held = postings.get("held", 0)
    account.balance += postings.get("available", 0) + held
    account.held += held
    account.owed -= postings.get("owed", 0)


def quarter_hour(at: str) -> str:
    """The quarter of an hour that holds a time.

    >>> quarter_hour("2026-10-01T00:29:59.999999Z")
    '2026-10-01T00:15'
    """
    return f"{at[:14]}{int(at[14:16]) // 15 * 15:02d}"


def usage_counts(usage: Usage) -> list[int]:
    """What is counted of a request: estimated or not, input, cached and output tokens."""
    return [int(usage.estimated), usage.input_tokens, usage.cache_read_tokens, usage.output_tokens]


def add_usage(row: UsageRow, counts: Sequence[int] | None, units: int) -> None:
    """Take in a request; of one that was priced elsewhere, no tokens are known."""
    row.requests += 1
    row.credits += units
    if counts is not None:
        estimated, input_tokens, cached, output = counts
        row.estimated += estimated
        row.input_tokens += input_tokens
        row.cache_read_tokens += cached
        row.output_tokens += output
