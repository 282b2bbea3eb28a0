"""Explains a charge in words and figures. Every figure is exact, so a pocket calculator arrives at the same result."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from brivionix_billing.decimals import format_count, format_plain, format_trimmed
from brivionix_billing.meters import MINIMUM_METER, format_quantity
from brivionix_billing.rating.conditions import ContextRange
from brivionix_billing.rating.messages import (
    EXPLANATION_MESSAGES,
    RANGE_MESSAGES,
    quantity_label,
    range_text,
    resolve_locale,
)
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.rating.charge import Charge
    from brivionix_billing.rating.rate_card import RateCard

__all__ = ["explain"]


def explain(charge: Charge, locale: str) -> str:
    """See :meth:`Charge.explain`. Raises ``invalid_argument`` for an unknown locale."""
    locale = resolve_locale(locale)
    messages = EXPLANATION_MESSAGES[locale]
    card, texts = charge.card, charge.card.texts
    words = _card_words(card, locale)
    out, terms = _explain_own(charge, messages, locale)
    for part in charge.parts:
        lines, part_terms = _explain_own(part, messages, locale)
        out += ["", *lines]
        terms += part_terms
    out.append("")
    if charge.parts:
        nominal, credits = format_plain(charge.nominal.amount), format_plain(charge.credits)
    else:
        nominal, credits = (format_count(charge.quanta, unit) for unit in (card.nominal_unit, card.credit_unit))
    if len(terms) > 1:
        out.append(messages["sum"].format(terms=" + ".join(terms), nominal=nominal, currency=card.currency))
    out.append(
        messages["credits"].format(
            nominal=nominal, per_credit=texts.nominal_per_credit, credits=credits, currency=card.currency
        )
    )
    for channel in texts.channels.values():
        if charge.parts:
            cost = format_plain(charge.cost(channel.name).amount)
        else:
            cost = format_count(charge.quanta, channel.unit)
        out.append(
            messages["channel"].format(
                name=words.channels[channel.name],
                credits=credits,
                price=channel.price,
                currency=channel.currency,
                cost=cost,
            )
        )
    uncached, cache, group = (format_trimmed(part, UNIT_DECIMALS) for part in charge.savings_units())
    out.append(messages["saved"].format(list=uncached, cache=cache, group=group))
    if charge.usage.extras is not None:
        for path, value in charge.unaccounted:
            out.append(messages["unaccounted"].format(path=path, value=format_plain(Decimal(value))))
        out += [messages["warning"].format(text=text) for text in charge.warnings]
    out.append(words.dates)
    return "\n".join(out) + "\n"


def _explain_own(charge: Charge, messages: Mapping[str, str], locale: str) -> tuple[list[str], list[str]]:
    """Return the conditions and lines of a charge without its parts, and the nominal price of each line."""
    usage, card = charge.usage, charge.card
    texts = card.texts
    input_tokens = usage.input_tokens
    out = [_card_words(card, locale).title + format_instant(charge.at)]
    if usage.estimated:
        out.append(messages["estimated"])
    cached_tokens = usage.cache_read_tokens
    if cached_tokens:
        out.append(messages["split_read"].format(total=input_tokens, read=cached_tokens))
    if usage.reasoning_tokens and "reasoning" not in card.unit_rates:
        out.append(messages["reasoning"].format(output=usage.output_tokens, reasoning=usage.reasoning_tokens))
    if card.router is not None:
        router = card.labels.named("models", card.router, locale)
        out.append(messages["router"].format(router=router, model=card.model))
    if card.context.lower is not None or card.context.upper is not None:
        key, words = _range_words(card.context, locale)
        out.append(messages[key].format(range=words, total=input_tokens))
    for dimension, name in card.variation.named() if any(card.variation) else ():
        factors = {(factor.dimension, factor.name): factor.factor for factor in card.factors}
        factor = factors.get((dimension, name))
        effect = messages["own_prices"] if factor is None else messages["factor"].format(factor=format_plain(factor))
        shown = card.labels.named(f"{dimension}s", name, locale)
        out.append(messages[dimension].format(name=shown, effect=effect))
    if card.exchange_rate is not None:
        rate = format_plain(card.exchange_rate)
        out.append(messages["exchange"].format(listed=card.list_currency, rate=rate, currency=card.currency))
    billed = [(name, quantity) for name, quantity in card.billed_quantities(usage) if quantity]
    if card.minimum and all(name != MINIMUM_METER.name for name, _ in billed):
        out.append(messages["minimum"].format(minimum=format_plain(card.minimum), currency=card.currency))
    out.append("")
    terms = []
    for name, quantity in billed:
        line = texts.lines[name]
        nominal = format_count(quantity, line.nominal_unit)
        if name == MINIMUM_METER.name:
            out.append(f"  {_explain_minimum(card, messages, quantity)}")
            terms.append(nominal)
            continue
        currency = card.currency
        listed, unit_price = line.prices["list_price"], line.prices["unit_price"]
        if line.prices["ratio"] is None:
            price, ratio = unit_price, messages["special_only"]
            if listed is not None:
                list_currency = card.currency if card.is_nominal(name) else card.list_currency
                ratio = messages["special"].format(list=f"{listed} {list_currency}")
        else:
            price, ratio = listed or unit_price, messages["ratio"].format(ratio=line.prices["ratio"])
            if card.exchange_rate is not None and not card.is_nominal(name):
                currency = card.list_currency
                ratio = messages["exchanged"].format(rate=format_plain(card.exchange_rate)) + ratio
        text = messages["line"].format(
            meter=quantity_label(locale, line.meter),
            quantity=format_quantity(quantity, line.meter),
            price=price,
            currency=currency,
            per=line.meter.per,
            ratio=ratio,
            nominal=nominal,
            nominal_currency=card.currency,
        )
        out.append(f"  {text}")
        terms.append(nominal)
    if not terms:
        out.append(f"  {messages['none']}")
    return out, terms


class _CardWords(NamedTuple):
    """What explanations of the same card have in common."""

    title: str
    """Up to the time."""
    channels: Mapping[str, str]
    dates: str


@lru_cache(1024)
def _card_words(card: RateCard, locale: str) -> _CardWords:
    messages, texts, named = EXPLANATION_MESSAGES[locale], card.texts, card.labels.named
    return _CardWords(
        messages["title"].format(
            model=named("models", card.model, locale),
            group=named("groups", card.group, locale),
            tier=named("service_tiers", card.service_tier, locale),
        ),
        {name: named("channels", name, locale) for name in texts.channels},
        messages["dates"].format(price=texts.price_since, group=texts.group_since, digest=card.price_book_digest),
    )


@lru_cache(1024)
def _range_words(context: ContextRange, locale: str) -> tuple[str, str]:
    """Return the message for a range of input tokens, and the range in words."""
    bounds = context.bounds
    key = "between" if len(bounds) > 1 else "long" if context.is_long else "short"
    words = RANGE_MESSAGES[locale]["range_tokens"].format(range=range_text(locale, bounds))
    return key, words[0].upper() + words[1:]


def _explain_minimum(card: RateCard, messages: Mapping[str, str], supplement: int) -> str:
    """Return the line of the minimum charge: its price, what the lines above sum to, and the supplement (units)."""
    unit = card.texts.lines[MINIMUM_METER.name].nominal_unit
    minimum = format_count(card.minimum_units, unit)
    price, currency = minimum, card.currency
    listed = None if card.list_minimum is None else format_plain(card.list_minimum)
    if listed is None or card.has_group_minimum:
        ratio = messages["special"].format(list=listed or "-")
    else:
        price, currency = listed, card.list_currency
        ratio = messages["ratio"].format(ratio=format_plain(card.ratio))
        if card.exchange_rate is not None:
            ratio = messages["exchanged"].format(rate=format_plain(card.exchange_rate)) + ratio
    return messages["supplement"].format(
        price=price,
        currency=currency,
        ratio=ratio,
        minimum=minimum,
        sum=format_count(card.minimum_units - supplement, unit),
        nominal=format_count(supplement, unit),
        nominal_currency=card.currency,
    )
