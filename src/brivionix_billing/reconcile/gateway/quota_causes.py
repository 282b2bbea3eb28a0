"""Finds the cause of a row with the right ratios, whose quota does not follow from them.

The charge is computed again under other conditions, the most special ones first.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import ceil, floor
from typing import Final

from brivionix_billing.reconcile.gateway.causes import CAUSE_OF_KIND, Cause
from brivionix_billing.reconcile.gateway.comparison import Comparison, show
from brivionix_billing.reconcile.gateway.expression import ExpressionError
from brivionix_billing.reconcile.gateway.new_api_call import Call
from brivionix_billing.reconcile.gateway.quota import Method, Mode, round_by, round_fraction

__all__ = ["explain_quota"]

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


def explain_quota(call: Call, logged: int, compared: Comparison, method: Method) -> Cause | None:
    """Return the cause of a row with the right prices whose quota does not follow from them; ``None``: unknown."""
    exact = call.exact
    if logged == 0 and exact > 0:
        return Cause("minimum_charge", "the least charge of 1 quota was not applied") if exact < 1 else None
    if logged in (1, 10) and exact < logged - _HALF:
        return Cause("minimum_charge", f"a minimum of {logged} quota was applied")
    if abs(round_by(method, exact, call.as_float) - logged) <= 1:
        return Cause("rounding", f"{show(exact)} quota was rounded to {logged}")
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
            return Cause("tool_fee", f"the quota was computed with {tool.meter} at {show(plain)} USD per 1000 calls")
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
        yield "group_ratio", whole * value, f"the ratio {show(value)} of group {name}"
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
            yield "cache_write_price", value, f"{part.kind} at the ratio {show(relative)}"
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
    for rule in call.rules:
        cause = "service_tier" if rule.service_tier else "expression"
        factor, word = (
            (1 / rule.multiplier, "without") if rule.is_matched and rule.multiplier else (rule.multiplier, "with")
        )
        yield (
            cause,
            (call.base * factor + tools) * ratio,
            f"{word} the factor {show(rule.multiplier)} of a request rule",
        )


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
            text = f"the quota was computed with {part.kind} at {show(nearest)} times its price"
            found.append(Cause(CAUSE_OF_KIND[part.kind], text))
    return found[0] if len(found) == 1 else None
