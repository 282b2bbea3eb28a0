"""Remembers prices that were found right, so that most rows of a log are only multiplied and compared.

All rows with the same prices, in the same period and context tier, cost a sum of tokens x price. The first of them goes
through :class:`~brivionix_billing.reconcile.gateway.new_api.NewApiChecker`; the others do not need to.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.reconcile.gateway.new_api import CONSUME, NewApiChecker, subscription_problem
from brivionix_billing.reconcile.gateway.new_api_call import (
    TASK_FACTORS,
    ContradictionError,
    read_call,
    read_quantities,
)
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Mode
from brivionix_billing.times import END_OF_TIME

__all__ = ["KnownPrices"]

_MAX_KNOWN: Final = 100_000
_MAX_TOKENS: Final = 2**62
_PRICE_KEYS: Final = (
    *("model_ratio", "completion_ratio", "group_ratio", "user_group_ratio", "cache_ratio", "model_price"),
    *("cache_creation_ratio", "cache_creation_ratio_5m", "cache_creation_ratio_1h", "image_ratio", "image"),
    *("audio", "ws", "audio_ratio", "audio_completion_ratio", "audio_input_seperate_price", "audio_input_price"),
    *("claude", "usage_semantic", "billing_mode", "expr_b64", "matched_tier", "billing_unit", "service_tier"),
    *TASK_FACTORS,
)
"""Keys of ``other`` on which the price of a token or call depends."""
_PLAIN_PRICE_KEYS: Final = _PRICE_KEYS[:6]
_PAID_KEYS: Final = frozenset({"billing_source", "wallet_quota_deducted", "subscription_consumed"})
_LISTS: Final = frozenset({"tool_surcharges", "request_rules"})
_SPECIAL: Final = frozenset(
    {
        *("task_id", "pre_consumed", "actual_quota", "quota_delta", "other_ratios", "fixed_price", "billing_tokens"),
        *("image_count", "image_cache_tokens", "image_output_tokens", "web_search", "file_search"),
        *("image_generation_call",),
    }
)
"""Keys of rows that are always checked in full."""
_NOT_PLAIN: Final = (
    frozenset(_PRICE_KEYS[6:])
    | _SPECIAL
    | _LISTS
    | _PAID_KEYS - {"billing_source"}
    | {"cache_creation_tokens", "cache_creation_tokens_5m", "cache_creation_tokens_1h", "cache_write_tokens"}
    | {"audio_input_token_count", "input_tokens_total"}
)
"""Keys of ``other`` that an ordinary row of text tokens does not have."""
_PLAIN_KINDS: Final = ("input", "cache_read", "output")


class Terms(NamedTuple):
    """Prices that were found right, and where they apply."""

    start: float
    end: float
    """Unix seconds."""
    first_input: int
    last_input: int
    """Input tokens of the context tier."""
    prices: tuple[int, ...]
    """Of each kind of tokens, in the order of the quantities; then of each tool."""
    constant: int
    """What every request costs."""
    scale: int
    """All amounts are in quota / scale."""
    model: str
    group: str


class KnownPrices:
    """The prices of one log."""

    def __init__(self, checker: NewApiChecker) -> None:
        self._checker = checker
        self._is_default = checker.method == DEFAULT_METHOD
        self._rounds_down = checker.method.mode is Mode.DOWN
        self._known: dict[tuple[object, ...], list[Terms]] = {}
        self._user_ratios = {key: float(ratio) for key, ratio in checker.agreements.by_user.items()}
        self._is_usable = checker.book.priced_model == "requested"

    def quota(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[int, Terms] | None:
        """Return the quota of a charge by known prices; ``None`` if the row must be checked in full.

        May raise ``KeyError``, ``TypeError`` and other errors of unusual rows.
        """
        if row["type"] != CONSUME or not self._is_usable:
            return None
        admin = other.get("admin_info")
        if admin and (
            admin.get("quota_saturation")
            or admin.get("local_count_tokens")
            or admin.get("billing_model")
            or admin.get("service_tier")
        ):
            return None
        if self._user_ratios:
            own = self._user_ratios.get((row["username"], row["group"]))
            if own is not None and own != other.get("user_group_ratio"):
                return None
        found = self._measure(row, other)
        if found is None:
            return None
        key, quantities, total_input = found
        created = row["created_at"]
        for terms in self._known.get(key, ()):
            if terms[0] <= created < terms[1] and terms[2] <= total_input <= terms[3]:
                break
        else:
            return None
        total = terms[5]
        for quantity, price in zip(quantities, terms[4], strict=True):
            total += quantity * price
        scale = terms[6]
        whole, rest = divmod(total, scale)
        if self._is_default:
            whole += rest + rest >= scale
        elif self._rounds_down:
            if rest < 0.001 * scale or rest > 0.999 * scale:
                return None
        else:
            if abs(rest + rest - scale) < 0.001 * scale:
                return None
            whole += rest + rest > scale
        return (whole, terms) if whole > 0 else None

    def _measure(
        self, row: Mapping[str, Any], other: Mapping[str, Any]
    ) -> tuple[tuple[object, ...], tuple[int, ...], int] | None:
        """Return the key of the prices of a row, its quantities, and its input tokens."""
        if not _is_plain(row, other):
            return self._measure_unusual(row, other)
        prompt, cached = row["prompt_tokens"], other.get("cache_tokens") or 0
        if not 0 <= cached <= prompt > 0:
            return None
        key = (
            row["model_name"],
            row["group"],
            row.get("service_tier"),
            cached == 0,
            cached == prompt,
            *map(other.get, _PLAIN_PRICE_KEYS),
        )
        return key, (prompt - cached, cached, row["completion_tokens"]), prompt

    def _measure_unusual(
        self, row: Mapping[str, Any], other: Mapping[str, Any]
    ) -> tuple[tuple[object, ...], tuple[int, ...], int] | None:
        """Return the key, the quantities and the input tokens of a row that is not plain text."""
        if not other.keys().isdisjoint(_SPECIAL):
            return None
        if (other.get("billing_source", "wallet") != "wallet" or not other.keys().isdisjoint(_PAID_KEYS)) and (
            subscription_problem(other, row["quota"])
        ):
            return None
        try:
            found, total_input = read_quantities(row, other)
        except ContradictionError:
            return None
        counts = tuple(found.values())
        is_per_call = (other.get("model_price") or 0) > 0 and other.get("billing_mode") != "tiered_expr"
        if not is_per_call and not (total_input and (row["completion_tokens"] or "stream_status" not in other)):
            return None
        tools = other.get("tool_surcharges") or ()
        rules = other.get("request_rules") or ()
        key = (
            row["model_name"],
            row["group"],
            row.get("service_tier"),
            tuple(map(bool, counts)),
            bool(other.get("cache_creation_tokens_5m")),
            tuple([(tool["name"], tool["price"]) for tool in tools]),
            tuple([(rule["cond"], rule["multiplier"], rule["matched"]) for rule in rules]),
            *map(other.get, _PRICE_KEYS),
        )
        return key, (*counts, *[tool["count"] for tool in tools]), total_input

    def remember(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> None:
        """Keep the prices of a charge that was found right."""
        try:
            terms = self._terms(row, other)
            if terms is None:
                return
            found = self._measure(row, other)
            if found is not None:
                if len(self._known) > _MAX_KNOWN:
                    self._known.clear()
                self._known.setdefault(found[0], []).append(terms)
        except (BillingError, ContradictionError, KeyError, TypeError, ValueError, AttributeError):
            return

    def _terms(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Terms | None:
        checker = self._checker
        call = read_call(row, other, checker.quota_per_unit)
        cards = checker.offers.card_set(str(row["model_name"]), str(row["group"]), call.at, call.service_tier)
        if len(cards.variations()) != 1 or call.mode == "task":
            return None
        card = cards.card(call.input_total)
        offer = checker.offers.of_card(card)
        if offer.minimum:
            return None
        kinds = _PLAIN_KINDS if _is_plain(row, other) else tuple(read_quantities(row, other)[0])
        constant = Fraction(0)
        prices: dict[str, Fraction] = {}
        if call.mode == "expression":
            if call.outcome is None or call.outcome.is_fixed:
                return None
            prices = {kind: (offer.price(kind) or Fraction(0)) * call.ratio for kind in call.quantities}
        elif call.mode == "request":
            constant = call.base * call.ratio
        else:
            for part in call.parts:
                if part.kind in prices:
                    return None  # tokens written to the cache at two prices
                prices[part.kind] = part.price * call.ratio * call.factor
        tools = [tool.price * call.ratio for tool in call.tools]
        if len(tools) != len(other.get("tool_surcharges") or ()):
            return None
        amounts = [*(prices.get(kind, Fraction(0)) for kind in kinds), *tools]
        scale = lcm(constant.denominator, *(amount.denominator for amount in amounts))
        lower, upper = card.context.lower, card.context.upper
        return Terms(
            cards.terms.start.timestamp() if cards.terms.start.year > 1 else float("-inf"),
            float("inf") if cards.terms.end == END_OF_TIME else cards.terms.end.timestamp(),
            0 if lower is None else lower.last_below + 1,
            _MAX_TOKENS if upper is None else upper.last_below,
            tuple(int(amount * scale) for amount in amounts),
            int(constant * scale),
            scale,
            str(row["model_name"]),
            str(row["group"]),
        )


def _is_plain(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether a row is an ordinary one of text tokens, paid by the wallet."""
    return (
        row["completion_tokens"] > 0
        and other.keys().isdisjoint(_NOT_PLAIN)
        and other.get("billing_source", "wallet") == "wallet"
    )
