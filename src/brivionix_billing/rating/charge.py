"""The charge of one request. It stores its inputs, so that every figure can be derived again."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple, cast, final

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_count,
    format_plain,
    format_trimmed,
    multiply,
    multiply_count,
    round_quotient,
    to_scaled,
)
from brivionix_billing.meters import format_quantity
from brivionix_billing.money import Money
from brivionix_billing.rating import explanation
from brivionix_billing.rating.rate_card import UNIT_DECIMALS, RateCard, Variation
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage
from brivionix_billing.usage.notes import Unaccounted

__all__ = ["QUOTA_PER_USD", "UNIT_DECIMALS", "Charge", "ChargeLine", "CombinedCharge", "Savings"]

QUOTA_PER_USD: Final = 500_000
"""Gateways of the new-api family count this integer quota per nominal USD; theirs is rounded, a charge is not."""

_to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_tuple_new = tuple.__new__
_money = Money.unchecked


class ChargeLine(NamedTuple):
    """One meter of a charge. ``credits == quantity x unit_price / per / nominal_per_credit``, exactly."""

    meter: str
    quantity: Decimal | int
    """An ``int``, unless the meter has decimal places."""
    list_price: Decimal | None
    """The provider's price per ``per``, in the card's ``list_currency``; ``None`` if only the group has a price for
    this meter."""
    per: int
    ratio: Decimal | None
    """``None`` if the group has its own price instead."""
    unit_price: Decimal
    """What this group pays per ``per``, in nominal quota."""
    credits: Decimal
    model: str | None = None
    """The model, if it is another one than that of the charge: of a part."""


class Savings(NamedTuple):
    """Credits saved against the list price without cache: ``list - cache - group`` is what was charged.

    ``group`` is negative if a ratio above 1 makes the group more expensive than the list, ``cache`` if writing to the
    cache cost more than reading from it saved.
    """

    list: Decimal
    """The price of the request at list prices if no token had been cached."""
    cache: Decimal
    group: Decimal


class ChargeFields(NamedTuple):
    """What a charge stores."""

    quanta: int
    """The charge as a multiple of ``card.quantum``."""
    usage: Usage
    """The quantities that were consumed."""
    card: RateCard
    """The rate card that was applied."""
    at: datetime
    """The time of the request, whose prices apply; in UTC."""


class Charge(ChargeFields):
    """The exact price of one request. Constructed by ``PriceBook.rate``. Immutable."""

    # All other figures are derived when they are read, because a gateway rates more often than it reads them.
    __slots__ = ()

    @property
    def model(self) -> str:
        """The model as the price file names it."""
        return self.card.model

    @property
    def group(self) -> str:
        """The group whose terms apply."""
        return self.card.group

    @property
    def service_tier(self) -> str:
        """The service tier that was priced."""
        return self.card.service_tier

    @property
    def variation(self) -> Variation:
        """The region, the mode and the window whose price applies; all ``None`` for the usual price."""
        return self.card.variation

    @property
    def context_tier(self) -> str:
        """``short``, ``long``, or if the model has several boundaries, the one that was crossed: ``>128000``."""
        return self.card.context_tier

    @property
    def estimated(self) -> bool:
        """``True`` if the token counts are an estimate because the provider did not report any."""
        return self.usage.estimated

    @property
    def price_book_digest(self) -> str:
        """Digest of the price book."""
        return self.card.price_book_digest

    @property
    def parts(self) -> tuple[Charge, ...]:
        """The charges of runs of other models within the request. The figures of this charge contain them."""
        return ()

    @property
    def unaccounted(self) -> Unaccounted:
        """(JSON path, number) of what the usage states and nothing is charged for, unless the price file ignores it."""
        return self.usage.unaccounted

    @property
    def warnings(self) -> tuple[str, ...]:
        """Oddities of the usage that change no price."""
        return self.usage.warnings

    @property
    def units(self) -> int:
        """The charge in 10^-18 Credit."""
        return self.quanta * self.card.quantum

    @property
    def credits(self) -> Decimal:
        """The exact charge in Credits."""
        return multiply_count(self.quanta, self.card.credit_unit)

    @property
    def nominal(self) -> Money:
        """The exact nominal quota that was consumed."""
        card = self.card
        return _money(multiply_count(self.quanta, card.nominal_unit), card.currency)

    def cost(self, channel: str) -> Money:
        """Return what the Credits of this charge cost on a channel, at its price at the time of the request. Exact.

        Raises ``unknown_channel``.
        """
        try:
            unit, currency = self.card.cost_units[channel]
        except (KeyError, TypeError):
            self.card.channel(channel)  # raises the error that names the channels
            raise
        return _money(multiply_count(self.quanta, unit), currency)

    @property
    def lines(self) -> tuple[ChargeLine, ...]:
        """One line per meter and model that was used; their Credits sum to the charge."""
        card = self.card
        lines = []
        for name, quantity in card.billed_quantities(self.usage):
            if quantity:
                meter = card.meter(name)
                lines.append(
                    ChargeLine(
                        name,
                        decimal_from_scaled(quantity, meter.places) if meter.places else quantity,
                        card.list_prices.get(name),
                        meter.per,
                        card.ratio_for(name),
                        card.unit_prices[name],
                        decimal_from_scaled(quantity * card.unit_rates[name], UNIT_DECIMALS),
                    )
                )
        return tuple(lines)

    @property
    def savings(self) -> Savings:
        """Credits that cache and group saved against the list price."""
        return Savings(*(decimal_from_scaled(units, UNIT_DECIMALS) for units in self.savings_units()))

    def savings_units(self) -> tuple[int, int, int]:
        """Return the savings (list, cache, group) in 10^-18 Credit."""
        card = self.card
        quantities = card.billed_quantities(self.usage)
        listed, uncached = card.list_supplements(quantities)
        for name, quantity in quantities:
            if quantity:
                list_rate, uncached_rate = card.list_and_uncached_rates(name)
                listed += quantity * list_rate
                uncached += quantity * uncached_rate
        return uncached, uncached - listed, listed - self.units

    def gateway_quota(self) -> int:
        """Return the integer quota of a new-api gateway: 500 000 per nominal USD, half up, at least 1 unless free.

        For comparison with a gateway's log; bills use the exact charge.
        """
        coefficient, places = to_scaled(self.nominal.amount)
        if not coefficient:
            return 0
        return max(1, round_quotient(coefficient * QUOTA_PER_USD, 10**places, Rounding.HALF_UP))

    def explain(self, locale: str = "en") -> str:
        """Return the whole calculation in words and figures, to be verified with a pocket calculator.

        ``locale`` is ``en`` or ``zh_CN`` (also ``zh``). Raises ``invalid_argument`` for any other.
        """
        return explanation.explain(self, locale)

    def as_dict(self) -> dict[str, Any]:
        """Return the record that a gateway stores. Amounts are strings, plain decimals.

        Quantities are numbers; those of meters with decimal places, such as seconds, are strings.
        """
        quanta, usage, card, at = self
        texts = card.texts
        lines = []
        for name, quantity in card.billed_quantities(usage):
            if quantity:
                meter, unit, _, prices, _, _ = texts.lines[name]
                lines.append(
                    {
                        "meter": name,
                        "quantity": format_quantity(quantity, meter) if meter.places else quantity,
                        **prices,
                        "credits": format_count(quantity, unit),
                    }
                )
        return {
            "model": card.model,
            "group": card.group,
            "service_tier": card.service_tier,
            "context_tier": card.context_tier,
            **texts.conditions,
            "at": format_instant(at),
            "estimated": usage.estimated,
            "credits": format_count(quanta, card.credit_unit),
            "nominal": format_count(quanta, card.nominal_unit),
            "cost": {name: format_count(quanta, channel.unit) for name, channel in texts.channels.items()},
            "lines": lines,
            **_notes_of(usage),
            "price_since": texts.price_since,
            "price_book": card.price_book_digest,
        }

    def as_json(self) -> str:
        """Return :meth:`as_dict` as compact JSON text.

        It is put together from texts that the rate card formats once, which takes half the time of a JSON encoder.
        """
        quanta, usage, card, at = self
        texts = card.texts
        costs = []
        for _, _, _, key, unit in texts.channels.values():
            costs.append(f'{key}"{format_count(quanta, unit)}"')
        lines = []
        line_texts = texts.lines
        for name, quantity in card.billed_quantities(usage):
            if quantity:
                meter, unit, _, _, head, middle = line_texts[name]
                shown = f'"{format_quantity(quantity, meter)}"' if meter.places else quantity
                lines.append(f'{head}{shown}{middle}"{format_count(quantity, unit)}"}}')
        return (
            f'{texts.json_head}"{format_instant(at)}","estimated":{"true" if usage.estimated else "false"},'
            f'"credits":"{format_count(quanta, card.credit_unit)}",'
            f'"nominal":"{format_count(quanta, card.nominal_unit)}","cost":{{{",".join(costs)}}},'
            f'"lines":[{",".join(lines)}],{_notes_text(usage) if usage.extras else ""}{texts.json_tail}'
        )

    def __repr__(self) -> str:
        return (
            f"<Charge {format_trimmed(self.units, UNIT_DECIMALS)} Credits: {self.model}, group {self.group}, "
            f"{self.service_tier}, {format_instant(self.at)}>"
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Charge) and (self.units, self.usage, self.at, self.as_dict()) == (
            other.units,
            other.usage,
            other.at,
            other.as_dict(),
        )

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((self.units, self.usage, self.at))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (ChargeFields(*self),)


def _notes_of(usage: Usage) -> dict[str, Any]:
    """Return what a record says about numbers on no meter and about oddities; nothing for the usual usage."""
    notes = usage.extras.notes if usage.extras else None
    if notes is None:
        return {}
    unaccounted = [{"path": path, "value": format_plain(Decimal(value))} for path, value in notes.unaccounted]
    found = {"unaccounted": unaccounted, "warnings": list(notes.warnings)}
    return {name: entries for name, entries in found.items() if entries}


def _notes_text(usage: Usage) -> str:
    """Return :func:`_notes_of` as the JSON of further keys of a record."""
    found = _notes_of(usage)
    return f"{_to_json(found)[1:-1]}," if found else ""


def _unpickle(fields: ChargeFields) -> Charge:
    return _tuple_new(Charge, fields)


@final
class CombinedCharge(Charge):
    """The price of one request that several models served: that of its own model, and a part for each other one.

    ``quanta``, ``usage`` and ``card`` are those of its own model; every other figure is of the whole request.
    """

    __slots__ = ()

    @classmethod
    def of(cls, own: Charge, parts: tuple[Charge, ...]) -> CombinedCharge:
        """Return the charge of a request from the charge of its own model and those of the others."""
        return _tuple_new(cls, (*own, parts))

    @property
    def own(self) -> Charge:
        """The charge of the model of the response alone."""
        return _tuple_new(Charge, self[:4])

    @property
    def parts(self) -> tuple[Charge, ...]:
        """The charges of runs of other models within the request."""
        parts: tuple[Charge, ...] = cast("tuple[Any, ...]", self)[4]
        return parts

    @property
    def units(self) -> int:
        """The charge in 10^-18 Credit."""
        return sum(each.units for each in (self.own, *self.parts))

    @property
    def credits(self) -> Decimal:
        """The exact charge in Credits."""
        return decimal_from_scaled(self.units, UNIT_DECIMALS)

    @property
    def nominal(self) -> Money:
        """The exact nominal quota that was consumed."""
        return _money(multiply(self.credits, self.card.nominal_per_credit), self.card.currency)

    def cost(self, channel: str) -> Money:
        """See :meth:`Charge.cost`."""
        rate = self.card.channel(channel)
        return _money(multiply(self.credits, rate.price), rate.currency)

    @property
    def lines(self) -> tuple[ChargeLine, ...]:
        """One line per meter and model that was used; their Credits sum to the charge."""
        others = [line._replace(model=part.model) for part in self.parts for line in part.lines]
        return (*self.own.lines, *others)

    def savings_units(self) -> tuple[int, int, int]:
        """Return the savings (list, cache, group) in 10^-18 Credit."""
        figures = [each.savings_units() for each in (self.own, *self.parts)]
        uncached, cache, group = map(sum, zip(*figures, strict=True))
        return uncached, cache, group

    def as_dict(self) -> dict[str, Any]:
        """Return the record that a gateway stores. Lines of another model name it."""
        record = self.own.as_dict()
        others = [{"model": part.model, **line} for part in self.parts for line in part.as_dict()["lines"]]
        return {
            **record,
            "credits": format_plain(self.credits),
            "nominal": format_plain(self.nominal.amount),
            "cost": {name: format_plain(self.cost(name).amount) for name in self.card.channels},
            "lines": [*record["lines"], *others],
        }

    def as_json(self) -> str:
        """Return :meth:`as_dict` as compact JSON text."""
        return _to_json(self.as_dict())

    def __reduce__(self) -> tuple[Any, ...]:
        return CombinedCharge.of, (self.own, self.parts)
