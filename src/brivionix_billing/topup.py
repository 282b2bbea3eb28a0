"""Top-ups: the price of Credits on a payment channel, and the Credits that a payment buys.

Money has whole minor units and Credits have millionths, so each payable amount buys exactly one number of Credits: the
maximum that it pays for. Every quote is such a pair. So the quote, the payment and the credited amount are the same
figures, and quoting the Credits of a quote, or its payment, returns the same quote.
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
    "Channel",
    "Quote",
    "VolumeDiscount",
    "VolumeDiscountTier",
]

CREDIT_PLACES: Final = 6
"""Decimal places of Credits that are sold: steps of 0.000001."""

_MAX_AMOUNT: Final = 10**15

# The two roundings of a top-up. A payment is rounded up to the next minor unit, so the seller never receives too
# little. It then buys all that it pays for, so the buyer does not either.
_PAYMENT_ROUNDING: Final = Rounding.UP
_BUY: Final = Rounding.DOWN


class VolumeDiscountTier(NamedTuple):
    """A tier of a volume discount: it applies from ``at_least`` Credits."""

    at_least: Decimal
    discount: Decimal


class VolumeDiscount(NamedTuple):
    """A volume discount, on all Credits of a purchase (``all``) or on those above each threshold (``above``)."""

    applies_to: str
    steps: tuple[VolumeDiscountTier, ...]


class Quote(NamedTuple):
    """A payment and the Credits that it buys."""

    channel: str
    at: datetime
    pay: Payable
    credits: Decimal
    """Credits for exactly this payment."""
    requested_credits: Decimal | None
    """The Credits that the caller requested; the payment may buy a few millionths more."""
    price_per_credit: Decimal
    undiscounted: Money
    """The exact price of the Credits without a volume discount."""
    discount: Money
    """``undiscounted`` less the payment if a volume discount makes that more than zero, else zero."""


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
    min_payment: Decimal | None = None
    max_payment: Decimal | None = None

    def price(self, at: datetime) -> Decimal:
        """Return the price of a Credit at a time. Raises ``unknown_channel`` if none is effective."""
        price = self.prices.at(as_utc(at)).value
        if price is None:
            raise BillingError("unknown_channel", f"channel {self.name} has no price at {format_instant(at)}; add one")
        return price

    def quote(
        self,
        *,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | Decimal | int | str | None = None,
        received: bool = False,
    ) -> Quote:
        """Return a quote for an amount of Credits, or for a payment (one of the two).

        ``received`` means that the money of ``pay`` has arrived: it is credited whatever its amount is, and the minimum
        and maximum payment of the channel do not apply.

        Pass ``pay`` as a :class:`Payable` if the money was paid already; ``currency_mismatch`` is then raised if it
        was in another currency. Raises ``amount_out_of_range`` outside the minimum and maximum payment of the channel,
        ``invalid_money`` for an amount with more decimal places than the currency (or than Credits) has.
        """
        if (credits is None) == (pay is None):
            raise BillingError("invalid_argument", "give either credits or pay")
        at = as_utc(at)
        price = self.price(at)
        segments, unit = self._cost_curve(price, self.volumes.at(at).value)
        requested = None
        if credits is not None:
            requested = _amount(credits, "Credits")
            wanted = _to_steps(requested, CREDIT_PLACES, "Credits are sold in steps of 0.000001")
            paid = _min_payment_for(segments, wanted, unit)
        else:
            if isinstance(pay, Payable):
                if pay.currency != self.currency:
                    raise BillingError(
                        "currency_mismatch",
                        f"channel {self.name} is paid in {self.currency}, not {pay}; use another channel",
                    )
                pay = pay.amount
            offered = _amount(pay, self.currency)
            digits = minor_digits(self.currency)
            paid = _to_steps(offered, digits, f"{self.currency} has {digits or 'none'}")
            # If a minor unit buys less than the smallest step of Credits, none is taken that buys nothing.
            least = _min_payment_for(segments, _max_credits_for(segments, paid * unit), unit)
            paid = paid if received and least else least
            if not paid:
                raise BillingError(
                    "amount_out_of_range",
                    f"{format_plain(offered)} {self.currency} buys less than 0.000001 Credit; pay more",
                )
        bought = _max_credits_for(segments, paid * unit)
        if bought > _MAX_AMOUNT * 10**CREDIT_PLACES:
            raise BillingError("amount_out_of_range", f"{paid} minor units buy more than 10^15 Credits; pay less")
        payable = Payable(paid, self.currency)
        if not received:
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
            requested,
            price,
            full,
            saved if discounted else Money(0, self.currency),
        )

    def _check_payment_limits(self, pay: Payable) -> None:
        least, most = self.min_payment, self.max_payment
        if least is not None and pay.amount < least:
            raise BillingError(
                "amount_out_of_range",
                f"{pay} is below the minimum payment of {self.name}; pay at least {format_plain(least)} "
                f"{self.currency}",
            )
        if most is not None and pay.amount > most:
            raise BillingError(
                "amount_out_of_range",
                f"{pay} is above the maximum payment of {self.name}; pay at most {format_plain(most)} {self.currency}",
            )

    def _cost_curve(self, price: Decimal, volume: VolumeDiscount | None) -> tuple[list[_CostSegment], int]:
        """Return the cost curve in whole numbers, and the number of its units per minor unit of money."""
        (p, places), rates = to_scaled(price), [Decimal(0)]
        starts = [0]
        for step in volume.steps if volume else ():
            starts.append(_to_steps(step.at_least, CREDIT_PLACES, "a threshold has at most 6 decimal places"))
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
    """Return the smallest payment, in minor units, that buys at least ``wanted``.

    If a discount on all Credits makes a larger purchase cheaper, the cheaper one is quoted.
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
            "invalid_money", f"{safe_repr(value)} is not an amount of {what}; use a str, an int or a Decimal"
        )
    number = Decimal(value)
    to_scaled(number)
    if number > _MAX_AMOUNT:
        raise BillingError(
            "amount_out_of_range", f"{safe_repr(str(number))} {what} is above the maximum; use at most 10^15"
        )
    if number <= 0:
        raise BillingError(
            "amount_out_of_range", f"{format_plain(number)} {what} is not above zero; use a positive amount"
        )
    return number


def _to_steps(value: Decimal, places: int, why: str) -> int:
    coefficient, has = to_scaled(value)
    steps: int
    steps, rest = divmod(coefficient * 10**places, 10**has)
    if rest:
        raise BillingError("invalid_money", f"{format_plain(value)} has too many decimal places: {why}")
    return steps
