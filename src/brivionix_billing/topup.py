"""Top-up: what Credits cost on a payment channel, and what money buys there.

Money comes in whole minor units, Credits in millionths, so each payable amount buys exactly one number of Credits: the
most that it pays for. Every quote is such a pair. That is why the quote, the charge and the credit are the same
figures, and why quoting a quote's Credits, or its payment, gives the same quote back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_plain,
    parse_decimal,
    round_quotient,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import Money, Payable, minor_digits
from brivionix_billing.times import Timeline, as_utc, format_instant

__all__ = [
    "CREDIT_PLACES",
    "DEFAULT_LOT_ORDER",
    "LOT_ORDER_RULES",
    "Channel",
    "Quote",
    "VolumeDiscount",
    "VolumeDiscountTier",
]

CREDIT_PLACES: Final = 6
"""Credits are sold in steps of 0.000001."""

LOT_ORDER_RULES: Final = {
    "expiring": "what expires sooner is used first, what never expires last",
    "promotional": "Credits that were given are used before those that were paid for",
    "paid": "Credits that were paid for are used before those that were given",
    "oldest": "what came first is used first",
    "newest": "what came last is used first",
}
"""By what the Credits of an account are put in the order of use."""

DEFAULT_LOT_ORDER: Final = ("expiring", "promotional", "oldest")
"""The rules that hold where a price file names none; the first that tells two lots apart decides."""

_MAX_AMOUNT: Final = 10**15

# The two roundings of a top-up. A payment is rounded up to the next coin, so the seller is never short; what it buys is
# then all that the coin pays for, so the buyer is not short either.
_PAYMENT_ROUNDING: Final = Rounding.UP
_BUY: Final = Rounding.DOWN


class VolumeDiscountTier(NamedTuple):
    """A threshold of a volume discount: it holds at ``at_least`` Credits and above."""

    at_least: Decimal
    discount: Decimal


class VolumeDiscount(NamedTuple):
    """A volume discount: on all Credits bought, or only on those above each threshold."""

    applies_to: str
    steps: tuple[VolumeDiscountTier, ...]


class Quote(NamedTuple):
    """What is paid and what is credited for it."""

    channel: str
    at: datetime
    pay: Payable
    credits: Decimal
    """Credited for exactly this payment."""
    requested_credits: Decimal | None
    """The Credits asked for; a coin may buy a few millionths more."""
    price_per_credit: Decimal
    undiscounted: Money
    """What the Credits would cost without a volume discount, exact."""
    discount: Money
    """``undiscounted`` less the payment, where a volume discount makes that more than zero; else zero."""


class _CostSegment(NamedTuple):
    """From ``start`` Credits (in millionths) on, the cost is ``base + (credits - start) * slope``."""

    start: int
    base: int
    slope: int


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to pay for Credits, with its dated prices and volume discounts."""

    name: str
    currency: str
    prices: Timeline[Decimal]
    volumes: Timeline[VolumeDiscount]
    smallest: Decimal | None = None
    largest: Decimal | None = None

    def price(self, at: datetime) -> Decimal:
        """Money per Credit at a time. Raises ``unknown_channel`` where none holds."""
        price = self.prices.at(as_utc(at)).value
        if price is None:
            raise BillingError("unknown_channel", f"channel {self.name} has no price at {format_instant(at)}")
        return price

    def quote(
        self,
        *,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | Decimal | int | str | None = None,
    ) -> Quote:
        """A quote for so many Credits, or for so much money (one of the two).

        Give ``pay`` as a :class:`Payable` where the money was paid already: then ``currency_mismatch`` tells that it
        was in another currency. Raises ``amount_out_of_range`` outside the channel's smallest and largest payment,
        ``invalid_money`` for what is no amount or finer than a coin (or than 0.000001 Credit).
        """
        if (credits is None) == (pay is None):
            raise BillingError("invalid_argument", "give either credits or pay, not both")
        at = as_utc(at)
        price = self.price(at)
        segments, unit = self._cost_curve(price, self.volumes.at(at).value)
        asked = None
        if credits is not None:
            asked = _amount(credits, "Credits")
            wanted = _to_steps(asked, CREDIT_PLACES, "Credits are sold in steps of 0.000001")
            paid = _min_payment_for(segments, wanted, unit)
        else:
            if isinstance(pay, Payable):
                if pay.currency != self.currency:
                    raise BillingError(
                        "currency_mismatch", f"channel {self.name} is paid in {self.currency}, not {pay}"
                    )
                pay = pay.amount
            offered = _amount(pay, self.currency)
            paid = _to_steps(offered, minor_digits(self.currency), f"{self.currency} has no coin that small")
            # Where a coin buys less than the smallest step of Credits, no coin is taken that buys nothing.
            paid = _min_payment_for(segments, _max_credits_for(segments, paid * unit), unit)
            if not paid:
                raise BillingError(
                    "amount_out_of_range",
                    f"{format_plain(offered)} {self.currency} buys less than 0.000001 Credit; pay more",
                )
        bought = _max_credits_for(segments, paid * unit)
        if bought > _MAX_AMOUNT * 10**CREDIT_PLACES:
            raise BillingError("amount_out_of_range", f"{paid} buys more than 10^15 Credits; nobody tops up so much")
        payable = Payable(paid, self.currency)
        self._check_payment_limits(payable)
        got = decimal_from_scaled(bought, CREDIT_PLACES)
        full = Money(price, self.currency) * got
        saved = full - payable.money
        # The payment was rounded up: a discount smaller than that saves nothing.
        discounted = len(segments) > 1 and bought >= segments[1].start and saved.amount > 0
        return Quote(
            self.name,
            at,
            payable,
            got,
            asked,
            price,
            full,
            saved if discounted else Money(0, self.currency),
        )

    def _check_payment_limits(self, pay: Payable) -> None:
        for bound, word, out in (
            (self.smallest, "smallest", self.smallest is not None and pay.amount < self.smallest),
            (self.largest, "largest", self.largest is not None and pay.amount > self.largest),
        ):
            if out and bound is not None:
                raise BillingError(
                    "amount_out_of_range",
                    f"{pay} is not possible by {self.name}: the {word} payment is {format_plain(bound)} "
                    f"{self.currency}",
                )

    def _cost_curve(self, price: Decimal, volume: VolumeDiscount | None) -> tuple[list[_CostSegment], int]:
        """The cost curve in whole numbers, and how many of its units make one minor unit of money."""
        (p, places), rates = to_scaled(price), [Decimal(0)]
        starts = [0]
        for step in volume.steps if volume else ():
            starts.append(_to_steps(step.at_least, CREDIT_PLACES, "a threshold is finer than 0.000001 Credit"))
            rates.append(step.discount)
        scale = max(to_scaled(rate)[1] for rate in rates)
        slopes = [p * (10**scale - to_scaled(rate)[0] * 10 ** (scale - to_scaled(rate)[1])) for rate in rates]
        segments: list[_CostSegment] = []
        base = 0
        for index, (start, slope) in enumerate(zip(starts, slopes, strict=True)):
            if volume is not None and volume.applies_to == "all":
                base = start * slope
            elif index:
                base += (start - starts[index - 1]) * slopes[index - 1]
            segments.append(_CostSegment(start, base, slope))
        unit_places = places + scale + CREDIT_PLACES - minor_digits(self.currency)
        if unit_places < 0:
            lift = 10**-unit_places
            segments = [_CostSegment(s.start, s.base * lift, s.slope * lift) for s in segments]
            unit_places = 0
        return segments, 10**unit_places


def _min_payment_for(segments: list[_CostSegment], wanted: int, unit: int) -> int:
    """The fewest minor units that buy at least ``wanted``.

    Where a discount on all Credits makes more cost less, nobody is asked to pay more for less.
    """
    costs = []
    for index, segment in enumerate(segments):
        beyond = segments[index + 1].start if index + 1 < len(segments) else None
        if beyond is None or wanted < beyond:
            costs.append(segment.base + (max(wanted, segment.start) - segment.start) * segment.slope)
    return round_quotient(min(costs), unit, _PAYMENT_ROUNDING)


def _max_credits_for(segments: list[_CostSegment], money: int) -> int:
    for segment in reversed(segments):
        if money >= segment.base:
            return segment.start + round_quotient(money - segment.base, segment.slope, _BUY)
    return 0


def _amount(value: Decimal | int | str | None, what: str) -> Decimal:
    if isinstance(value, str):
        value = parse_decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise BillingError(
            "invalid_money", f"{safe_repr(value)} is no amount of {what}; give a str, an int or a Decimal"
        )
    number = Decimal(value)
    to_scaled(number)
    if number > _MAX_AMOUNT:
        raise BillingError("amount_out_of_range", f"{safe_repr(str(number))} {what}: nobody tops up more than 10^15")
    if number <= 0:
        raise BillingError("amount_out_of_range", f"{format_plain(number)} {what}: an amount is above zero")
    return number


def _to_steps(value: Decimal, places: int, why: str) -> int:
    coefficient, has = to_scaled(value)
    steps: int
    steps, rest = divmod(coefficient * 10**places, 10**has)
    if rest:
        raise BillingError("invalid_money", f"{format_plain(value)} is too fine: {why}")
    return steps
