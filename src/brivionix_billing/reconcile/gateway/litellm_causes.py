"""Finds the cause of a difference of a row of litellm: the prices that give the logged amount."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any, Final

from brivionix_billing.rating import Charge
from brivionix_billing.reconcile.gateway.causes import CAUSE_OF_KIND, Cause
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.offers import Offers

__all__ = ["Search"]

_FRACTION_NOISE: Final = Fraction(1, 10**9)
_SHARP: Final = Fraction(1, 10**11)
"""How exactly a single price must explain a difference, as a fraction of the amount."""
_PRICE_PLACES: Final = 4
"""Decimal places of a price per 1 M tokens that is believed to explain a difference."""
_INPUT_KINDS: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "image_input", "audio_input")


class Search:
    """Looks for the prices that give the logged amount."""

    def __init__(
        self, offers: Offers, charge: Charge, at: datetime, spend: Fraction, metadata: Mapping[str, Any]
    ) -> None:
        self.offers, self.charge, self.at, self.spend, self.metadata = offers, charge, at, spend, metadata
        card = charge.card
        self.cards = offers.card_set(card.model, card.group, at, card.service_tier)
        self.offer = offers.of_card(card)
        self.ratio = self.offer.ratio
        self.exact = Fraction(charge.nominal.amount)
        self.quantities = {
            line.meter: Fraction(line.quantity)
            for line in charge.lines
            if line.meter not in ("request", "minimum_charge")
        }
        self.tools = {name: count for name, count in self.quantities.items() if card.meter(name).is_tool}

    def cause(self) -> Cause:
        """Return the cause."""
        return (
            self._rounding()
            or self._by_alternatives()
            or self._by_breakdown()
            or self._by_one_price()
            or Cause("arithmetic", "no other prices give the amount")
        )

    def _fits(self, value: Fraction) -> bool:
        return abs(value - self.spend) <= _FRACTION_NOISE * abs(self.spend)

    def _rounding(self) -> Cause | None:
        for places in range(4, 13):
            if (self.spend * 10**places).denominator == 1:
                step = Fraction(1, 10**places)
                if abs(self.spend - self.exact) < step and step * 20 < self.exact:
                    return Cause("rounding", f"the amount was rounded to {places} decimal places")
                return None
        return None

    def _by_alternatives(self) -> Cause | None:
        for name, value, text in self._values():
            if value != self.exact and self._fits(value):
                return Cause(name, f"the amount was computed with {text}")
        return None

    def _values(self) -> Iterator[tuple[str, Fraction, str]]:
        """Yield causes with the amount that each would give, the most special ones first."""
        exact, ratio = self.exact, self.ratio
        minimum = next((line for line in self.charge.lines if line.meter == "minimum_charge"), None)
        if minimum is not None:
            supplement = Fraction(minimum.credits) * Fraction(self.charge.card.nominal_per_credit)
            yield "minimum_charge", exact - supplement, "no minimum charge"
        fees = sum((count * (self.offer.price(name) or 0) for name, count in self.tools.items()), Fraction(0)) * ratio
        if fees:
            yield "tool_fee", exact - fees, "no fee for tools"
            yield "tool_fee", exact + fees, "the fee for tools twice"
        yield from self._token_values()
        whole = exact / ratio if ratio else exact
        for group, value in self.offers.group_ratios(self.charge.model, self.at).items():
            yield "group_ratio", whole * value, f"the ratio of group {group}"
        yield "group_ratio", whole, "no ratio of the group"
        alternatives = list(self.offers.alternatives(self.cards, self.at, self.charge.usage.input_tokens))
        for other in alternatives:
            total = other.offer.total(self.quantities)
            if total is not None:
                yield other.cause, total * ratio, other.text
                yield other.cause, total * other.offer.ratio, other.text
        for other in alternatives:
            for kind, quantity in self.quantities.items():
                price, own = other.offer.price(kind), self.offer.price(kind)
                if price is not None and own is not None:
                    name = "tool_fee" if kind in self.tools else CAUSE_OF_KIND.get(kind, "input_price")
                    yield name, exact + quantity * (price - own) * ratio, f"{other.text}, for {kind} only"

    def _token_values(self) -> Iterator[tuple[str, Fraction, str]]:
        base = self.offer.price("input")
        for kind, quantity in self.quantities.items():
            price = self.offer.price(kind)
            if kind == "input" or kind in self.tools or price is None or base is None:
                continue
            cause = CAUSE_OF_KIND.get(kind, "input_price")
            plain = quantity * base
            own = quantity * price
            yield cause, self.exact + (plain - own) * self.ratio, f"{kind} at the price of input"
            yield cause, self.exact - own * self.ratio, f"no charge for {kind}"
            if kind in _INPUT_KINDS:
                yield cause, self.exact + plain * self.ratio, f"{kind} charged as input as well"
            for factor in (Fraction(5, 4), Fraction(2)) if kind.startswith("cache_write") else ():
                text = f"{kind} at {float(factor):g} times the price of input"
                yield cause, self.exact + (plain * factor - own) * self.ratio, text
        reasoning = self.charge.usage.reasoning_tokens
        output = self.offer.price("output")
        if reasoning and output:
            yield "output_price", self.exact + reasoning * output * self.ratio, "reasoning tokens charged twice"

    def _by_breakdown(self) -> Cause | None:
        """Return the cause by the parts of the amount that the row states."""
        stated = self.metadata.get("cost_breakdown")
        if not isinstance(stated, Mapping):
            return None
        sums = {"input_cost": Fraction(0), "output_cost": Fraction(0), "tool_usage_cost": Fraction(0)}
        for kind, quantity in self.quantities.items():
            name = "tool_usage_cost" if kind in self.tools else "input_cost" if kind in _INPUT_KINDS else "output_cost"
            sums[name] += quantity * (self.offer.price(kind) or 0) * self.ratio
        differing = []
        for name, expected in sums.items():
            value = stated.get(name)
            found = None if isinstance(value, str) else to_fraction(value)
            if found is not None and abs(found - expected) > _FRACTION_NOISE * max(abs(found), expected):
                differing.append(name)
        if differing == ["output_cost"]:
            return Cause("output_price", "the row states another cost of output")
        if differing == ["tool_usage_cost"]:
            return Cause("tool_fee", "the row states another cost of tools")
        if differing == ["input_cost"]:
            kinds = [kind for kind in self.quantities if kind in _INPUT_KINDS]
            found_cause = self._by_one_price(kinds)
            return found_cause or Cause("input_price", "the row states another cost of input")
        return None

    def _by_one_price(self, kinds: list[str] | None = None) -> Cause | None:
        """Return the kind of which another price, a short decimal, gives the amount. All others have their own."""
        found: list[tuple[int, str, Fraction]] = []
        candidates = {kind: self.quantities[kind] for kind in (kinds if kinds is not None else self.quantities)}
        prices: dict[str, Fraction | None] = {kind: self.offer.price(kind) for kind in candidates}
        if kinds is None and self.offer.listed.get("request"):
            candidates["request"], prices["request"] = Fraction(1), self.offer.listed["request"]
        for kind, quantity in candidates.items():
            price = prices[kind]
            if price is None or not quantity or not self.ratio:
                continue
            scale = 1 if kind == "request" else 1000 if kind in self.tools else 1_000_000
            wanted = (price + (self.spend - self.exact) / (quantity * self.ratio)) * scale
            for places in range(_PRICE_PLACES + 1):
                short = Fraction(round(wanted * 10**places), 10**places)
                error = abs(short - wanted) / scale * quantity * self.ratio
                if short >= 0 and error <= _SHARP * abs(self.spend):
                    found.append((places, kind, short))
                    break
        if not found:
            return None
        _, kind, short = min(found)
        name = "tool_fee" if kind in self.tools else CAUSE_OF_KIND.get(kind, "input_price")
        return Cause(name, f"{kind} costs {float(short):g} in the log")
