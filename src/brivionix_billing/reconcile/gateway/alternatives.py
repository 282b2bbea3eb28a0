"""Finds the cause of a difference by computing the charge again under other conditions.

Two questions are kept apart. :func:`explain_prices` is for a row whose ratios are not those of the price file.
:func:`explain_quota` is for a row with the right ratios, whose quota does not follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from typing import Final, NamedTuple

from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.reconcile.gateway.causes import CAUSE_OF_KIND, Cause
from brivionix_billing.reconcile.gateway.expression import ExpressionError
from brivionix_billing.reconcile.gateway.new_api_call import Call, Part
from brivionix_billing.reconcile.gateway.offers import Alternative, Offer, Offers
from brivionix_billing.reconcile.gateway.quota import Method, Mode, round_by, round_fraction

__all__ = ["Comparison", "agrees_with_book", "close", "explain_prices", "explain_quota"]

_TOLERANCE: Final = Fraction(2, 1_000_000)
"""Ratios are doubles, and gateways write few digits of a ratio that is no short decimal."""
_HALF: Final = Fraction(1, 2) + Fraction(1, 1_000_000)
_FACTORS: Final = tuple(
    map(Fraction, ["0", "0.1", "0.25", "0.5", "0.8", "0.9", "1.1", "1.2", "1.25", "1.5", "2", "10"])
)
"""Factors on one price that are tried last. Others cannot be distinguished from a wrong sum."""
_MAX_MINIMUM: Final = 1_000
"""The largest minimum charge that is recognized, in quota."""
_MAX_TOOL_FEE: Final = 50
"""The largest fee of a tool that is recognized, in USD per 1000 calls."""
_SHARP: Final = Fraction(1, 20_000)
"""A factor is only believed if no other within this distance gives the same quota."""


class Comparison(NamedTuple):
    """What a row is compared with."""

    offers: Offers
    cards: CardSet
    offer: Offer
    ratio: Fraction
    """The ratio of the group that the price file has, or that was agreed with the user's group."""
    is_user_ratio: bool

    def alternatives(self, call: Call) -> list[Alternative]:
        """Return the offers under other conditions."""
        return list(self.offers.alternatives(self.cards, call.at, call.input_total))


def close(stated: Fraction, expected: Fraction | None) -> bool:
    """Return whether two prices are the same, but for the digits that a ratio cannot have."""
    if expected is None:
        return False
    if stated == expected:
        return True
    tolerance: Fraction = _TOLERANCE * max(abs(stated), abs(expected))
    return abs(stated - expected) <= tolerance


def _is_rounded(stated: Fraction, expected: Fraction) -> bool:
    """Return whether a ratio is another one, rounded to the four or more decimal places that it has."""
    for places in range(4, 13):
        scaled = stated * 10**places
        if scaled.denominator == 1:
            distance: Fraction = abs(scaled - expected * 10**places)
            return distance <= _HALF
    return False


def _part_agrees(part: Part, call: Call, offer: Offer) -> bool:
    price = offer.price(part.kind)
    if close(part.price, price):
        return True
    base = offer.price("input")
    if price is None or not base or part.relative is None or not close(call.model_ratio or Fraction(0), base):
        return False
    return _is_rounded(part.relative, price / base)


def _tools_agree(call: Call, offer: Offer) -> bool:
    return all(close(tool.price, offer.price(tool.meter)) for tool in call.tools)


def _lists_agree(call: Call, offer: Offer) -> bool:
    """Return whether the prices before the ratio of the group are those of an offer, for all that was consumed."""
    requested = offer.listed.get("request", Fraction(0))
    if call.mode == "expression":
        return close(call.base, offer.total(call.quantities, call.factor))
    if call.mode in ("request", "task"):
        return bool(call.parts) and close(call.parts[0].price, offer.call_price())
    return not requested and all(_part_agrees(part, call, offer) for part in call.parts)


def agrees_with_book(call: Call, compared: Comparison) -> bool:
    """Return whether all prices that a row states are those of the price file, for all that was consumed."""
    offer, ratio = compared.offer, compared.ratio
    if close(call.ratio, ratio):
        return _lists_agree(call, offer) and _tools_agree(call, offer)
    if call.mode != "ratio" or not ratio or offer.listed.get("request"):
        return False
    # A ratio of the model and one of the group may differ from the price file's, and give the same price.
    scale = call.ratio / ratio
    tools = all(close(tool.price * scale, offer.price(tool.meter)) for tool in call.tools)
    return bool(call.parts) and tools and all(close(part.price * scale, offer.price(part.kind)) for part in call.parts)


# The ratios differ


def explain_prices(call: Call, compared: Comparison) -> Cause:
    """Return the cause of a row whose prices are not those of the price file."""
    offer, ratio = compared.offer, compared.ratio
    same_ratio = close(call.ratio, ratio)
    same_lists, same_tools = _lists_agree(call, offer), _tools_agree(call, offer)
    if same_lists and same_tools:
        return _explain_ratio(call, compared)
    alternatives = compared.alternatives(call)
    for other in alternatives:
        expected = ratio if same_ratio else other.offer.ratio
        if (
            not same_lists
            and close(call.ratio, expected)
            and _lists_agree(call, other.offer)
            and (same_tools or _tools_agree(call, other.offer))
        ):
            return Cause(other.cause, f"the row has {other.text}")
    if same_lists:
        for other in alternatives:
            if other.cause == "price_date" and _tools_agree(call, other.offer):
                return Cause("price_date", f"the row has {other.text}")
    found = _explain_lists(call, offer) if not same_lists else None
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
        return Cause("user_group_ratio", f"the ratio of the user's group is {_show(stated)} instead of {_show(ratio)}")
    model, group = compared.cards.terms.model, compared.cards.terms.group
    others = [name for name, value in compared.offers.group_ratios(model, call.at).items() if close(stated, value)]
    if others:
        return Cause("group_ratio", f"the ratio of group {others[0]}, {_show(stated)}, instead of {_show(ratio)}")
    for entry in compared.offers.book.resolver.groups[group].entries:
        if close(stated, Fraction(entry.value.ratios.get(model, entry.value.ratio))):
            return Cause("price_date", f"the group ratio {_show(stated)} of another date instead of {_show(ratio)}")
    return Cause("group_ratio", f"the group ratio is {_show(stated)} instead of {_show(ratio)}")


def _explain_lists(call: Call, offer: Offer) -> tuple[Cause, Fraction]:
    """Return the price that is wrong, and by how much the charge differs before the ratio of the group."""
    total = offer.total(call.quantities, call.factor)
    money = abs(call.base - (total or 0))
    if call.mode == "expression":
        return Cause("expression", call.expression_problem or "the expression has other prices"), money
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
        if price is not None and _part_agrees(part, call, offer):
            continue
        relative_agrees = bool(
            part.relative is not None
            and base
            and price is not None
            and (close(part.relative, price / base) or _is_rounded(part.relative, price / base))
        )
        if model_differs and relative_agrees:
            cause, text = "input_price", f"the model ratio is {_show(model)} instead of {_show(base or Fraction(0))}"
        else:
            cause = CAUSE_OF_KIND[part.kind]
            text = f"{part.kind} costs {_price(part.price)} instead of {_price(price)} per unit"
        sums[cause] = sums.get(cause, Fraction(0)) + abs(part.price - (price or 0)) * part.quantity
        texts.setdefault(cause, text)
    if not sums:
        return Cause("arithmetic", "the parts of the row do not give its charge"), money
    name = max(sums, key=lambda cause: sums[cause])
    return Cause(name, texts[name]), sums[name]


def _tool_text(call: Call, offer: Offer) -> str:
    for tool in call.tools:
        listed = offer.price(tool.meter)
        if not close(tool.price, listed):
            return f"{tool.meter} costs {_price(tool.price)} per call instead of {_price(listed)}"
    return "the fees of tools differ"


def _show(value: Fraction) -> str:
    try:
        return f"{float(value):.10g}"
    except OverflowError:
        return "a number above 1e308"


def _price(value: Fraction | None) -> str:
    return "no price" if value is None else f"{_show(value)} quota"


# The quota does not follow from the ratios


def explain_quota(call: Call, logged: int, compared: Comparison, method: Method) -> Cause | None:
    """Return the cause of a row with the right prices whose quota does not follow from them; ``None``: unknown."""
    exact = call.exact
    if logged == 0 and exact > 0:
        return Cause("minimum_charge", "the least charge of 1 quota was not applied") if exact < 1 else None
    if logged in (1, 10) and exact < logged - _HALF:
        return Cause("minimum_charge", f"a minimum of {logged} quota was applied")
    if abs(round_by(method, exact, call.as_float) - logged) <= 1:
        return Cause("rounding", f"{_show(exact)} quota was rounded to {logged}")
    for name, value, text in _other_charges(call, compared):
        if value != exact and method.gives(value, logged):
            return Cause(name, f"the quota was computed with {text}")
    for whole, text in _rounded_parts(call):
        if whole == logged:
            return Cause("rounding", text)
    if exact < logged <= _MAX_MINIMUM and str(logged).rstrip("0") in ("1", "2", "5"):
        return Cause("minimum_charge", f"a minimum of {logged} quota was applied")
    if call.mode == "request" and _is_whole_cents(call, logged):
        return Cause("per_call_price", "the quota was computed with another price per call")
    return _other_tool_fee(call, logged) or _single_factor(call, logged)


def _other_tool_fee(call: Call, logged: int) -> Cause | None:
    """Return the tool whose fee alone, at another plain price of 1000 calls, gives the logged quota."""
    for tool in call.tools:
        per_usd = Fraction(tool.calls * call.quota_per_unit, 1000) * call.ratio
        if per_usd <= 0:
            continue
        stated = tool.price * 1000 / call.quota_per_unit
        price = stated + (logged - call.exact) / per_usd
        plain = Fraction(round(price * 2), 2)
        if 0 < plain <= _MAX_TOOL_FEE and plain != stated and abs(plain - price) * per_usd <= _HALF:
            return Cause("tool_fee", f"the quota was computed with {tool.meter} at {_show(plain)} USD per 1000 calls")
    return None


def _is_whole_cents(call: Call, logged: int) -> bool:
    """Return whether a quota is that of a price per call in whole cents."""
    scale = call.ratio * call.factor * call.quota_per_unit
    return bool(scale) and not call.tools and ((logged / scale) * 100).denominator == 1


def _other_charges(call: Call, compared: Comparison) -> Iterator[tuple[str, Fraction, str]]:
    """Yield causes with the exact charge that each would give, the most special ones first."""
    ratio, tools, exact = call.ratio, call.tool_quota, call.exact
    if tools:
        yield "tool_fee", exact - tools * ratio, "no fee for tools"
        yield "tool_fee", exact + tools * ratio, "the fee for tools twice"
        yield "tool_fee", exact - tools * ratio + tools, "the fee for tools without the ratio of the group"
        yield (
            "tool_fee",
            exact - tools * ratio + sum(tool.price for tool in call.tools) * ratio,
            "one call of each tool",
        )
        yield "tool_fee", exact + 999 * tools * ratio, "the fee of 1000 calls for each call"
        for tool in call.tools:
            for more in (1, 2, 3, -1, -2):
                yield "tool_fee", exact + more * tool.price * ratio, f"{tool.calls + more} calls of {tool.meter}"
    yield from _other_token_charges(call, exact, ratio)
    whole = call.base + tools
    if call.user_ratio is not None:
        yield "user_group_ratio", whole * call.stated_ratio, "the ratio of the group instead of the user's group"
        yield "user_group_ratio", whole * call.stated_ratio * ratio, "the ratios of the group and of the user's group"
    model = compared.cards.terms.model
    for name, value in compared.offers.group_ratios(model, call.at).items():
        yield "group_ratio", whole * value, f"the ratio {_show(value)} of group {name}"
    yield "group_ratio", whole, "no ratio of the group"
    yield "group_ratio", whole * ratio * ratio, "the ratio of the group twice"
    if call.expression is not None and call.outcome is not None:
        yield from _other_expressions(call, ratio, tools)
    if call.factor != 1:
        yield "per_call_price", (call.base / call.factor + tools) * ratio, "no other ratios"
    if not call.tools:
        for name, fee in compared.offer.listed.items():
            if compared.offer.card.meter(name).is_tool:
                for calls in range(1, 6):
                    yield "tool_fee", exact + calls * fee * ratio, f"{calls} calls of {name} that are not stated"
    alternatives = compared.alternatives(call)
    for other in alternatives:
        total = other.offer.total(call.quantities, call.factor)
        if total is not None:
            for value in dict.fromkeys((ratio, other.offer.ratio)):
                yield other.cause, (total + tools) * value, other.text
    if call.mode == "ratio":
        for other in alternatives:
            for part in call.parts:
                price = other.offer.price(part.kind)
                if price is not None:
                    value = exact + part.quantity * (price - part.price) * ratio
                    yield CAUSE_OF_KIND[part.kind], value, f"{other.text}, for {part.kind} only"


def _other_token_charges(call: Call, exact: Fraction, ratio: Fraction) -> Iterator[tuple[str, Fraction, str]]:
    if call.mode != "ratio":
        return
    model = call.model_ratio or Fraction(0)
    scale = ratio * call.factor
    for part in call.parts:
        if part.kind == "input":
            continue
        cause = CAUSE_OF_KIND[part.kind]
        plain = part.quantity * model
        own = part.quantity * part.price
        yield cause, exact + (plain - own) * scale, f"{part.kind} at the price of input"
        yield cause, exact - own * scale, f"no charge for {part.kind}"
        if part.kind not in ("output", "audio_output"):
            yield cause, exact + plain * scale, f"{part.kind} charged as input as well"
    writes = [part for part in call.parts if part.kind.startswith("cache_write")]
    for part in writes:
        for relative in (Fraction(5, 4), Fraction(2)):
            value = exact + part.quantity * (relative * model - part.price) * scale
            yield "cache_write_price", value, f"{part.kind} at the ratio {_show(relative)}"
    if len(writes) > 1:
        own = sum((part.quantity * part.price for part in writes), Fraction(0))
        quantity = sum(part.quantity for part in writes)
        for price, text in ((model, "all writes at the price of input"), (Fraction(0), "no charge for writes")):
            yield "cache_write_price", exact + (quantity * price - own) * scale, text
        for part in writes:
            yield "cache_write_price", exact + (quantity * part.price - own) * scale, f"all writes as {part.kind}"


def _other_expressions(call: Call, ratio: Fraction, tools: Fraction) -> Iterator[tuple[str, Fraction, str]]:
    assert call.expression is not None  # noqa: S101  # checked by the caller
    outcome = call.outcome
    try:
        outcomes = call.expression.evaluate_tiers(call.variables, call.at)
    except ExpressionError:
        outcomes = []
    for other in outcomes:
        if outcome is not None and other.value != outcome.value:
            value = call.expression_quota(other) * call.multiplier * call.factor
            yield "context_tier", (value + tools) * ratio, f"the tier {other.tier} of the expression"
    for multiplier in call.multipliers:
        cause = "service_tier" if call.service_tier else "expression"
        changed = call.base / multiplier if multiplier and call.multiplier != 1 else call.base * multiplier
        yield cause, (changed + tools) * ratio, f"the factor {_show(multiplier)} of a request rule applied otherwise"


def _rounded_parts(call: Call) -> Iterator[tuple[int, str]]:
    """Yield the sums of parts that were rounded before they were added."""
    if len(call.parts) > 1:
        scaled = [part.quantity * part.price * call.ratio * call.factor for part in call.parts]
        scaled += [tool.calls * tool.price * call.ratio for tool in call.tools]
        for mode in Mode:
            yield sum(round_fraction(value, mode) for value in scaled), "each part was rounded on its own"
        yield sum(map(ceil, scaled)), "each part was rounded up on its own"
    if call.mode == "ratio" and call.model_ratio and all(part.relative is not None for part in call.parts):
        weighted = [part.quantity * (part.relative or 0) for part in call.parts]
        scale = call.model_ratio * call.ratio * call.factor
        tools = call.tool_quota * call.ratio
        for tokens in {sum(map(floor, weighted)), floor(sum(weighted)), ceil(sum(weighted)), sum(map(round, weighted))}:
            for mode in Mode:
                yield round_fraction(tokens * scale + tools, mode), "tokens were rounded before the ratio was applied"


def _single_factor(call: Call, logged: int) -> Cause | None:
    """Return the part whose price alone, multiplied by a plain factor, gives the logged quota."""
    if call.mode != "ratio" or len(call.parts) < 2:
        return None
    exact = call.exact
    found = []
    for part in call.parts:
        own = part.quantity * part.price * call.ratio * call.factor
        if own * _SHARP < Fraction(1, 2) or own * 20 < exact:
            continue
        factor = 1 + (logged - exact) / own
        nearest = min(_FACTORS, key=lambda plain, factor=factor: abs(plain - factor))  # type: ignore[misc]
        if abs(nearest - factor) * own <= _HALF:
            text = f"the quota was computed with {part.kind} at {_show(nearest)} times its price"
            found.append(Cause(CAUSE_OF_KIND[part.kind], text))
    return found[0] if len(found) == 1 else None
