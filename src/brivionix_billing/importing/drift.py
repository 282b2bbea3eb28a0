"""Drift: where the list prices of a price file differ from those of a public source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.importing.build import build_price_file
from brivionix_billing.importing.calendar_matching import common_windows
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.pricebook.changes import price_label
from brivionix_billing.pricebook.price_change import percent_change
from brivionix_billing.rating.rate_card import ContextRange, Variation

__all__ = ["Drift", "PriceDifference", "find_drift"]


class PriceDifference(NamedTuple):
    """A price that a price file and a source state differently, in the nominal currency."""

    model: str
    source_model: str
    service_tier: str
    context: str
    variation: str
    meter: str
    ours: Decimal | None
    """``None``: the price file has no such price."""
    theirs: Decimal

    def as_dict(self) -> dict[str, Any]:
        """Return the difference as JSON data. Prices are strings."""
        ours = None if self.ours is None else format_plain(self.ours)
        percent = percent_change(self.ours, self.theirs)
        return {**self._asdict(), "ours": ours, "theirs": format_plain(self.theirs), "percent": percent}


class Drift(NamedTuple):
    """The comparison of a price file with a source."""

    differences: list[PriceDifference]
    compared: list[str]
    """Models of the price file that the source has."""
    only_ours: list[str]
    only_theirs: list[str]
    unstated: list[str]
    """Tiers, regions, modes and windows of these models that only the source has a price for."""


def find_drift(book: PriceBook, catalog: Catalog, at: datetime) -> Drift:
    """Compare the list prices of a price book with those of a catalog at a time in UTC.

    Compared are the prices of the tiers, regions and modes that both have: every meter that the source states, for
    every number of input tokens, and in every minute of the week if both have windows. Names of the source are resolved
    as those of requests are. Raises ``invalid_argument`` if the nominal currency is not USD.
    """
    if book.currency != "USD":
        raise BillingError("invalid_argument", f"prices of sources are in USD, those of the file in {book.currency}")
    source = PriceBook.loads(build_price_file(catalog))
    found: dict[PriceDifference, None] = {}
    unstated: dict[str, None] = {}
    compared: dict[str, None] = {}
    only_theirs = []
    for name in source.model_names:
        try:
            model = book.resolve_model(name)
        except BillingError:
            only_theirs.append(name)
            continue
        compared[model] = None
        for item in _differences(book, model, source, name, at):
            if isinstance(item, PriceDifference):
                found[item] = None
            else:
                unstated[item] = None
    only_ours = [name for name in book.model_names if name not in compared and book.service_tiers(name, at)]
    return Drift(list(found), list(compared), only_ours, only_theirs, list(unstated))


def _differences(
    book: PriceBook, model: str, source: PriceBook, name: str, at: datetime
) -> Iterator[PriceDifference | str]:
    """Yield the differences of one model, and what only the source has a price for."""
    for tier, timeline in source.resolver.models[name].items():
        theirs = timeline.at(at).value
        if theirs is None:
            continue
        cards = _cards(book, model, tier, at)
        if cards is None:
            yield f"{model} {tier}"
            continue
        own_variations = cards.variations()
        listed = source.resolver.list_cards(name, at, tier)
        for variation in listed.variations():
            if variation.window is not None:
                continue  # compared with the usual prices, below
            if variation not in own_variations:
                yield f"{model} {tier} {price_label(variation)}"
                continue
            weeks = [_windows(book, cards, variation, at), _windows(source, listed, variation, at)]
            pairs: Iterable[tuple[str | None, str | None]] = [(None, None)]
            if all(weeks):
                pairs = common_windows(*weeks)
            else:
                yield from (f"{model} {tier} window {window}" for window in weeks[1])
            for own_window, window in pairs:
                here, there = variation._replace(window=own_window), variation._replace(window=window)
                for context, stated in theirs.select(there, source.meters).contexts:
                    for ours_context, ours in _overlapping(cards, here, context):
                        for meter, price in stated.items():
                            own = ours.get(meter)
                            if own != price:
                                shown = str(ours_context if own is not None and context.lower is None else context)
                                label = _label(here, there)
                                yield PriceDifference(model, name, tier, shown, label, meter, own, price)


def _windows(book: PriceBook, cards: CardSet, variation: Variation, at: datetime) -> dict[str, int]:
    """Return the windows of a variation, in their order, with their minutes of the week."""
    names = cards.terms.listed.options("window", variation)
    return {name: book.calendars()[name].week_minutes(at) for name in names}


def _label(ours: Variation, theirs: Variation) -> str:
    """Return the variation of the source, and the window of the price file if it has another name."""
    label = price_label(theirs)
    if ours.window == theirs.window:
        return label
    own = "no window" if ours.window is None else f"window {ours.window}"
    return f"{label or 'no window'} (price file: {own})"


def _cards(book: PriceBook, model: str, tier: str, at: datetime) -> CardSet | None:
    try:
        return book.resolver.list_cards(model, at, tier)
    except BillingError as error:
        if error.code not in ("service_tier_unavailable", "no_price"):
            raise
        return None


def _overlapping(
    cards: CardSet, variation: Variation, context: ContextRange
) -> Iterator[tuple[ContextRange, Mapping[str, Decimal]]]:
    """Yield the prices of a price book for every part of a range of input tokens."""
    first = 0 if context.lower is None else context.lower.last_below + 1
    for card in cards.cards(variation):
        start = 0 if card.context.lower is None else card.context.lower.last_below + 1
        end = None if card.context.upper is None else card.context.upper.last_below
        last = None if context.upper is None else context.upper.last_below
        if (last is None or start <= last) and (end is None or end >= first):
            yield card.context, card.unit_prices
