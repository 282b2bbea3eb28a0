"""Explains a charge in words and figures. Every figure is exact, so a pocket calculator arrives at the same result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brivionix_billing.decimals import format_count, format_trimmed
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.rating.messages import EXPLANATION_MESSAGES, LOCALES, QUANTITY_LABELS
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.rating.charge import Charge

__all__ = ["explain"]


def explain(charge: Charge, locale: str) -> str:
    """See :meth:`Charge.explain`. Raises ``invalid_argument`` for an unknown locale."""
    messages = EXPLANATION_MESSAGES.get(locale) if isinstance(locale, str) else None
    if messages is None:
        raise BillingError(
            "invalid_argument", f"no explanation in {safe_repr(locale)}; use one of {', '.join(LOCALES)}"
        )
    labels = QUANTITY_LABELS[locale]
    quanta, usage, card, at = charge
    texts = card.texts
    input_tokens = usage.input_tokens
    out = [messages["title"].format(model=card.model, group=card.group, tier=card.service_tier, at=format_instant(at))]
    if usage.estimated:
        out.append(messages["estimated"])
    cached_tokens = usage.cache_read_tokens
    if cached_tokens:
        out.append(messages["split_read"].format(total=input_tokens, read=cached_tokens))
    if usage.reasoning_tokens:
        out.append(messages["reasoning"].format(output=usage.output_tokens, reasoning=usage.reasoning_tokens))
    if card.context_above is not None:
        out.append(messages[card.context_tier].format(above=card.context_above, total=input_tokens))
    out.append("")
    terms = []
    for position, quantity in usage.quantities():
        line = texts.lines[position]
        if not quantity or line is None:
            continue
        nominal = format_count(quantity, line.nominal_unit)
        if line.ratio is None:
            price, ratio = line.unit_price, messages["special"].format(list=line.list_price or "-")
        else:
            price, ratio = line.list_price or line.unit_price, messages["ratio"].format(ratio=line.ratio)
        text = messages["line"].format(
            meter=labels[line.meter], quantity=quantity, price=price, per=line.per, ratio=ratio, nominal=nominal
        )
        out.append(f"  {text}")
        terms.append(nominal)
    if not terms:
        out.append(f"  {messages['none']}")
    out.append("")
    nominal = format_count(quanta, card.nominal_unit)
    credits = format_count(quanta, card.credit_unit)
    if len(terms) > 1:
        out.append(messages["sum"].format(terms=" + ".join(terms), nominal=nominal))
    out.append(messages["credits"].format(nominal=nominal, per_credit=texts.nominal_per_credit, credits=credits))
    for channel in texts.channels.values():
        cost = format_count(quanta, channel.unit)
        out.append(
            messages["channel"].format(
                name=channel.name, credits=credits, price=channel.price, currency=channel.currency, cost=cost
            )
        )
    uncached, cache, group = (format_trimmed(part, UNIT_DECIMALS) for part in charge.savings_units())
    out.append(messages["saved"].format(list=uncached, cache=cache, group=group))
    out.append(
        messages["dates"].format(price=texts.price_since, group=texts.group_since, digest=card.price_book_digest)
    )
    return "\n".join(out) + "\n"
