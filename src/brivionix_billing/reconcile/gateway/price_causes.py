"""Finds the cause of a row whose ratios are not those of the price file: it compares them under other conditions."""

from __future__ import annotations

from fractions import Fraction

from brivionix_billing.reconcile.gateway.causes import CAUSE_OF_KIND, Cause
from brivionix_billing.reconcile.gateway.comparison import (
    Comparison,
    close,
    is_rounded,
    lists_agree,
    part_agrees,
    show,
    tools_agree,
)
from brivionix_billing.reconcile.gateway.new_api_call import Call
from brivionix_billing.reconcile.gateway.offers import Alternative, Offer

__all__ = ["explain_prices"]


def explain_prices(call: Call, compared: Comparison) -> Cause:
    """Return the cause of a row whose prices are not those of the price file."""
    offer, ratio = compared.offer, compared.ratio
    same_ratio = close(call.ratio, ratio)
    same_lists, same_tools = lists_agree(call, offer), tools_agree(call, offer)
    if same_lists and same_tools:
        return _explain_ratio(call, compared)
    alternatives = compared.alternatives(call)
    for other in alternatives:
        expected = ratio if same_ratio else other.offer.ratio
        if (
            not same_lists
            and close(call.ratio, expected)
            and lists_agree(call, other.offer)
            and (same_tools or tools_agree(call, other.offer))
        ):
            return Cause(other.cause, f"the row has {other.text}")
    if same_lists:
        for other in alternatives:
            if other.cause == "price_date" and tools_agree(call, other.offer):
                return Cause("price_date", f"the row has {other.text}")
    found = _explain_lists(call, offer, alternatives) if not same_lists else None
    tools = sum((abs(tool.price - (offer.price(tool.meter) or 0)) * tool.calls for tool in call.tools), Fraction(0))
    if found is None or tools > found[1]:
        found = Cause("tool_fee", _tool_text(call, offer)), tools
    expected = offer.total(call.quantities, call.factor) or Fraction(0)
    if not same_ratio and abs(call.ratio - ratio) * expected > found[1] * max(ratio, call.ratio):
        return _explain_ratio(call, compared)
    return found[0]


def _explain_ratio(call: Call, compared: Comparison) -> Cause:
    stated, ratio = call.ratio, compared.ratio
    if call.user_ratio is not None or compared.is_user_ratio:
        return Cause("user_group_ratio", f"the ratio of the user's group is {show(stated)} instead of {show(ratio)}")
    model, group = compared.cards.terms.model, compared.cards.terms.group
    others = [name for name, value in compared.offers.group_ratios(model, call.at).items() if close(stated, value)]
    if others:
        return Cause("group_ratio", f"the ratio of group {others[0]}, {show(stated)}, instead of {show(ratio)}")
    for entry in compared.offers.book.resolver.groups[group].entries:
        if close(stated, Fraction(entry.value.ratios.get(model, entry.value.ratio))):
            return Cause("price_date", f"the group ratio {show(stated)} of another date instead of {show(ratio)}")
    return Cause("group_ratio", f"the group ratio is {show(stated)} instead of {show(ratio)}")


def _explain_lists(call: Call, offer: Offer, alternatives: list[Alternative]) -> tuple[Cause, Fraction]:
    """Return the price that is wrong, and by how much the charge differs before the ratio of the group."""
    total = offer.total(call.quantities, call.factor)
    money = abs(call.base - (total or 0))
    if call.mode == "expression":
        rule = _wrong_tier_rule(call, alternatives)
        return rule or Cause("expression", call.expression_problem or "the expression has other prices"), money
    if call.mode != "ratio" or offer.listed.get("request"):
        stated = call.parts[0].price if call.parts and call.mode != "ratio" else None
        listed = offer.listed.get("request")
        return Cause("per_call_price", f"{_price(stated)} per call instead of {_price(listed)}"), money
    base = offer.price("input")
    model = call.model_ratio or Fraction(0)
    model_differs = base is not None and not close(model, base)
    sums: dict[str, Fraction] = {}
    texts: dict[str, str] = {}
    for part in call.parts:
        price = offer.price(part.kind)
        if price is not None and part_agrees(part, call, offer):
            continue
        relative_agrees = bool(
            part.relative is not None
            and base
            and price is not None
            and (close(part.relative, price / base) or is_rounded(part.relative, price / base))
        )
        if model_differs and relative_agrees:
            cause, text = "input_price", f"the model ratio is {show(model)} instead of {show(base or Fraction(0))}"
        else:
            cause = CAUSE_OF_KIND[part.kind]
            text = f"{part.kind} costs {_price(part.price)} instead of {_price(price)} per unit"
        sums[cause] = sums.get(cause, Fraction(0)) + abs(part.price - (price or 0)) * part.quantity
        texts.setdefault(cause, text)
    if not sums:
        return Cause("arithmetic", "the parts of the row do not give its charge"), money
    name = max(sums, key=lambda cause: sums[cause])
    return Cause(name, texts[name]), sums[name]


def _wrong_tier_rule(call: Call, alternatives: list[Alternative]) -> Cause | None:
    """Return the request rule of a service tier whose factor alone makes the price wrong."""
    for rule in call.rules:
        if rule.service_tier and rule.is_matched and rule.multiplier:
            base = call.base / rule.multiplier
            for other in alternatives:
                if other.cause == "service_tier" and close(base, other.offer.total(call.quantities, call.factor)):
                    text = f"the request rule of tier {rule.service_tier} has the factor {show(rule.multiplier)}"
                    return Cause("service_tier", text)
    return None


def _tool_text(call: Call, offer: Offer) -> str:
    for tool in call.tools:
        listed = offer.price(tool.meter)
        if not close(tool.price, listed):
            return f"{tool.meter} costs {_price(tool.price)} per call instead of {_price(listed)}"
    return "the fees of tools differ"


def _price(value: Fraction | None) -> str:
    return "no price" if value is None else f"{show(value)} quota"
