"""The scheduled changes of the price list: what each dated entry of the price file will change for a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal

from brivionix_billing.meters import Meter
from brivionix_billing.pages.price_cards import (
    CardKey,
    Cards,
    Json,
    all_meters,
    cards_of,
    context_of,
    minimum_price,
    nominal_prices,
    optional_plain,
    topup_prices,
)
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import RateCard
from brivionix_billing.times import format_instant

__all__ = ["price_changes"]


def price_changes(book: PriceBook, model: str, group: str, at: datetime, tier: str, state: Cards) -> Iterator[Json]:
    """Yield the scheduled changes of one model in one tier, in order of time. ``state`` has the cards at ``at``."""
    when = at
    while (next_time := book.next_change(model, group=group, at=when, service_tier=tier)) is not None:
        when = next_time
        after = cards_of(book, model, group, when, tier)
        for key in {**state, **after}:
            change = _Comparison(book, when, key, state, after).change()
            if change is not None:
                yield {"at": format_instant(when), "model": model, "service_tier": tier, **change}
        state = after


class _Comparison:
    """Compares the card at one place before and after a time."""

    def __init__(self, book: PriceBook, when: datetime, key: CardKey, state: Cards, after: Cards) -> None:
        self.book, self.when = book, when
        self.own = state.get(key), after.get(key)
        """The card at this place before and after."""
        old, new = self.own
        if key.context and (old is None) != (new is None):
            # Without a price of its own, a long request has the price of the range below it, so this is a change.
            old, new = old or _card_below(state, key), new or _card_below(after, key)
        self.old, self.new = old, new
        self.range_differs = (self.own[0] is None) != (self.own[1] is None) and old is not None and new is not None
        """Whether a range of input tokens starts or stops to have prices of its own."""

    def change(self) -> Json | None:
        """Return the change without its time and subject; ``None`` if no price, boundary or minimum changes."""
        old, new = self.old, self.new
        was, now = nominal_prices(old), nominal_prices(new)
        changed = [meter for meter in all_meters(self.book) if was.get(meter.name) != now.get(meter.name)]
        if old is None or new is None:
            # A default fee is the same in every tier, so it does not begin or end with one of them.
            changed = [meter for meter in changed if not self._is_default_fee(meter)]
        minimum = minimum_price(old) if old else None, minimum_price(new) if new else None
        bounds = [None if card is None else card.context.lower or card.context.upper for card in self.own]
        above = [None if bound is None else bound.last_below for bound in bounds]
        moved = None not in above and above[0] != above[1]
        begins_or_ends = (old is None) != (new is None)
        if not (changed or moved or minimum[0] != minimum[1] or self.range_differs or begins_or_ends):
            return None  # only the price of a channel changes, or a price that this model does not use
        # The card of this place that has a boundary names it, even if the other one is for any number of tokens.
        named = [card for card in reversed(self.own) if card is not None]
        context = next((context_of(card) for card in named if card.context.bounds), {"context": "any"})
        change: Json = {
            "context": context["context"],
            "above": above,
            "kind": "begins" if old is None else "ends" if new is None else "changes",
            "nominal": _before_and_after(was, now, changed),
            "topup": {
                channel: _before_and_after(topup_prices(old, channel), topup_prices(new, channel), changed)
                for channel in self.book.channels()
            },
        }
        if "input_tokens" in context:
            change["input_tokens"] = context["input_tokens"]
        if moved:
            change["boundary"] = [{"from" if b.is_inclusive else "over": b.tokens} for b in bounds if b is not None]
        if minimum[0] != minimum[1]:
            change["minimum"] = [*map(optional_plain, minimum)]
            change["minimum_topup"] = {
                channel: [None if card is None else optional_plain(minimum_price(card, channel)) for card in (old, new)]
                for channel in self.book.channels()
            }
        conditions = dict(named[0].variation.named())
        return change | ({"conditions": conditions} if conditions else {})

    def _is_default_fee(self, meter: Meter) -> bool:
        card = self.old or self.new
        if card is None or not meter.is_tool:
            return False
        moment = self.when if self.new else self.when - datetime.resolution
        fees = self.book.resolver.defaults.tool_fees(card.model)
        return meter.name in fees and fees[meter.name].at(moment).value == card.list_prices.get(meter.name)


def _card_below(cards: Cards, key: CardKey) -> RateCard | None:
    found = [cards.get(key._replace(context=place)) for place in range(key.context)]
    return next((card for card in reversed(found) if card is not None), None)


def _before_and_after(
    was: dict[str, Decimal], now: dict[str, Decimal], changed: Iterable[Meter]
) -> dict[str, list[str | None]]:
    return {meter.name: [optional_plain(was.get(meter.name)), optional_plain(now.get(meter.name))] for meter in changed}
