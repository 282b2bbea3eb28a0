"""Prices the usual rows of new-api by known prices: those that earlier rows with the same ratios were right with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from operator import itemgetter, mul
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.reconcile.gateway.comparison import agrees_with_book
from brivionix_billing.reconcile.gateway.known_prices import KnownPrices, Terms, make_terms
from brivionix_billing.reconcile.gateway.new_api import NewApiChecker
from brivionix_billing.reconcile.gateway.new_api_call import TASK_FACTORS, ContradictionError
from brivionix_billing.reconcile.gateway.new_api_figures import subscription_problem
from brivionix_billing.reconcile.gateway.new_api_reading import read_call, read_quantities
from brivionix_billing.reconcile.gateway.new_api_row import CONSUME
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Mode
from brivionix_billing.times import END_OF_TIME

__all__ = ["KnownRatios"]

_MAX_SHAPES: Final = 10_000
_SEARCHED: Final = timedelta(days=100)
_PRICE_KEYS: Final = (
    *("model_ratio", "completion_ratio", "group_ratio", "user_group_ratio", "cache_ratio", "model_price"),
    *("cache_creation_ratio", "cache_creation_ratio_5m", "cache_creation_ratio_1h", "image_ratio", "image"),
    *("audio", "ws", "audio_ratio", "audio_completion_ratio", "audio_input_seperate_price", "audio_input_price"),
    *("claude", "usage_semantic", "billing_mode", "expr_b64", "matched_tier", "billing_unit", "service_tier"),
    *("fixed_price", *TASK_FACTORS),
)
"""Keys of ``other`` on which the price of a token or call depends."""
_ADMIN_KEYS: Final = frozenset({"quota_saturation", "local_count_tokens", "billing_model", "service_tier"})
"""Keys of ``admin_info`` on which the result depends, if their values are not empty."""
_PAID_KEYS: Final = frozenset({"wallet_quota_deducted", "subscription_consumed"})
_LISTS: Final = frozenset({"tool_surcharges", "request_rules", "task_id"})
_SPECIAL: Final = frozenset(
    {
        *("pre_consumed", "actual_quota", "quota_delta", "other_ratios", "billing_tokens"),
        *("image_count", "image_cache_tokens", "image_output_tokens", "web_search", "file_search"),
        *("image_generation_call",),
    }
)
"""Keys of rows that are always checked in full."""
_OTHER_TOKENS: Final = frozenset(
    {
        *("image", "image_ratio", "image_output", "audio", "ws", "audio_input", "audio_output", "claude"),
        *("audio_input_seperate_price", "audio_input_token_count", "usage_semantic", "input_tokens_total"),
        *("cache_creation_tokens", "cache_creation_tokens_5m", "cache_creation_tokens_1h", "cache_write_tokens"),
    }
)
"""Keys of rows that have other tokens than input, cached input and output, or count them otherwise."""
_TEXT_KINDS: Final = ("input", "cache_read", "output")


class Shape(NamedTuple):
    """What the keys of ``other`` say about a row. Rows of one kind have the same keys."""

    kind: int
    """The same number for all keys of ``other`` that state prices and tokens alike."""
    is_special: bool
    """Whether rows with these keys are always checked in full."""
    is_text: bool
    """Whether all tokens are input, cached input and output."""
    is_paid_otherwise: bool
    """Whether figures of a subscription are stated."""
    has_admin: bool
    """Whether there is something for administrators."""
    has_lists: bool
    """Whether tools, request rules or a task are stated."""
    prices: Callable[[Mapping[str, Any]], tuple[object, ...]]
    """Return the values on which the price of a token or call depends."""


class KnownRatios:
    """The ratios of one log that were found right, and the quota that they give."""

    def __init__(self, checker: NewApiChecker) -> None:
        self._checker = checker
        self._is_noisy = checker.method.is_noisy
        self._is_default = checker.method[:2] == DEFAULT_METHOD[:2]
        self._rounds_down = checker.method.mode is Mode.DOWN
        self._shapes: dict[tuple[str, ...], Shape] = {}
        self._kinds: dict[tuple[object, ...], int] = {}
        self._changes: dict[str, list[datetime]] = {}
        """Calendar -> the times at which one of its windows starts or ends, over some months."""
        self._prices = KnownPrices()
        self._user_ratios = {key: float(ratio) for key, ratio in checker.agreements.by_user.items()}
        self._is_usable = checker.book.priced_model == "requested"

    def quota(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> int | None:
        """Return the quota of a charge by known prices; ``None`` if the row must be checked in full.

        May raise ``KeyError``, ``TypeError`` and other errors of unusual rows.
        """
        shape = self._shapes.get(keys := tuple(other)) or self._shape(keys)
        if shape.is_special or row["type"] != CONSUME or not self._is_usable or "service_tier" in row:
            return None
        if shape.has_admin:
            admin = other["admin_info"]
            if admin and not _ADMIN_KEYS.isdisjoint(admin) and any(map(admin.get, _ADMIN_KEYS)):
                return None
        if self._user_ratios:
            own = self._user_ratios.get((row["username"], row["group"]))
            if own is not None and own != other.get("user_group_ratio"):
                return None
        found = self._measure(row, other, shape)
        if found is None:
            return None
        key, quantities, total_input = found
        terms = self._prices.find(key, row["created_at"], total_input)
        if terms is None:
            return None
        scale = terms.scale
        whole, rest = divmod(sum(map(mul, quantities, terms.prices), terms.constant), scale)
        if self._is_noisy and rest + rest == scale:
            return None
        if self._is_default:
            whole += rest + rest >= scale
        elif self._rounds_down:
            if rest < 0.001 * scale or rest > 0.999 * scale:
                return None
        else:
            if abs(rest + rest - scale) < 0.001 * scale:
                return None
            whole += rest + rest > scale
        return whole if whole > 0 else None

    def _shape(self, keys: tuple[str, ...]) -> Shape:
        names = set(keys)
        priced = [name for name in _PRICE_KEYS if name in names]
        if len(self._shapes) > _MAX_SHAPES:
            self._shapes.clear()
        is_text = names.isdisjoint(_OTHER_TOKENS)
        shape = self._shapes[keys] = Shape(
            self._kinds.setdefault((*priced, is_text, "task_id" in names), len(self._kinds)),
            not names.isdisjoint(_SPECIAL),
            is_text,
            not names.isdisjoint(_PAID_KEYS),
            "admin_info" in names,
            not names.isdisjoint(_LISTS),
            itemgetter(*priced, priced[-1]) if priced else _nothing,  # two keys or more, so that it returns a tuple
        )
        return shape

    def _measure(
        self, row: Mapping[str, Any], other: Mapping[str, Any], shape: Shape
    ) -> tuple[tuple[object, ...], tuple[int, ...], int] | None:
        """Return the key of the prices of a row, its quantities, and its input tokens."""
        if (shape.is_paid_otherwise or other.get("billing_source", "wallet") != "wallet") and (
            subscription_problem(other, row["quota"])
        ):
            return None
        if shape.is_text:
            total, cached, output = row["prompt_tokens"], other.get("cache_tokens") or 0, row["completion_tokens"]
            if not (type(total) is type(cached) is type(output) is int and 0 <= cached <= total and output >= 0):
                return None
            counts: tuple[int, ...] = (total - cached, cached, output)
            kinds: object = (cached == total) + 2 * (cached == 0) + 4 * (output == 0)
        else:
            try:
                found, total = read_quantities(row, other)
            except ContradictionError:
                return None
            counts = tuple(found.values())
            kinds = (*map(bool, counts), bool(other.get("cache_creation_tokens_5m")), bool(total))
        prices = shape.prices(other)
        key: tuple[object, ...] = row["model_name"], row["group"], shape.kind, kinds, prices
        if "true" in row["other"] or "false" in row["other"]:
            key += tuple(map(type, prices))  # 1 and True are equal, but only one of them is a price
        if shape.has_lists:
            tools, rules = other.get("tool_surcharges"), other.get("request_rules")
            if "task_id" in other and not other["task_id"]:
                return None
            if tools:
                key += (repr([(tool["name"], tool["price"]) for tool in tools]),)
                used = [tool["count"] for tool in tools]
                if any(type(count) is not int for count in used):
                    return None
                counts += tuple(used)
            if rules:
                key += (repr(rules),)
        return key, counts, total

    def remember(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> None:
        """Keep the prices of a charge that was found right."""
        try:
            shape = self._shape(tuple(other))
            found = None if shape.is_special else self._measure(row, other, shape)
            terms = None if found is None else self._terms(row, other)
            if found is not None and terms is not None:
                self._prices.keep(found[0], terms)
        except (BillingError, ContradictionError, KeyError, TypeError, ValueError, AttributeError):
            return

    def _terms(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Terms | None:
        checker = self._checker
        call = read_call(row, other, checker.quota_per_unit)
        model, group = str(row["model_name"]), str(row["group"])
        cards = checker.offers.card_set(model, group, call.at, call.service_tier)
        variation = cards.variation(None, None, call.at)
        card = cards.card(call.input_total, variation)
        offer = checker.offers.of_card(card)
        # A row that is right by the price at its start says nothing about later rows.
        if offer.minimum or not agrees_with_book(call, checker.compare(row, group, call, cards, offer)):
            return None
        is_text = _OTHER_TOKENS.isdisjoint(other)
        kinds = _TEXT_KINDS if is_text else tuple(read_quantities(row, other)[0])
        constant = Fraction(0)
        prices: dict[str, Fraction] = {}
        if call.mode == "expression":
            if call.outcome is None or call.expression is None:
                return None
            if not call.outcome.is_fixed:
                prices = {kind: (offer.price(kind) or Fraction(0)) * call.ratio for kind in call.quantities}
            elif call.expression.names:
                return None
            else:
                constant = call.base * call.ratio
        elif call.mode in ("request", "task"):
            if not call.parts:
                return None
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
        return self._limit(make_terms(cards, card, amounts, constant), cards, call.at)

    def _limit(self, terms: Terms, cards: CardSet, at: datetime) -> Terms | None:
        """Return terms that apply while no window of a calendar starts or ends; ``None`` if regions or modes decide."""
        for variation in cards.variations():
            if variation.region or variation.mode:
                return None
            if variation.window:
                start, end = self._period(cards.terms.calendars[variation.window], at)
                terms = terms._replace(start=max(terms.start, start.timestamp()), end=min(terms.end, end.timestamp()))
        return terms

    def _period(self, calendar: Calendar, at: datetime) -> tuple[datetime, datetime]:
        """Return a period that contains a time, and in which no window of a calendar starts or ends."""
        changes = self._changes.get(calendar.name)
        if changes is None or not changes[0] <= at < changes[-1]:
            until = min(at, END_OF_TIME - _SEARCHED) + _SEARCHED
            found = {moment for window in calendar.windows(at, until) for moment in window}
            changes = self._changes[calendar.name] = sorted({at, *found, until})
        after = bisect_right(changes, at)
        return changes[after - 1], changes[after]


def _nothing(other: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the prices of a row that states none."""
    return ()
