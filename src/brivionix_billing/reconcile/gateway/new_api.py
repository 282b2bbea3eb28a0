"""Decides for each row of the log of new-api whether its quota is right, and if not, why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.reconcile.gateway.alternatives import (
    Cause,
    Comparison,
    agrees_with_book,
    close,
    explain_prices,
    explain_quota,
)
from brivionix_billing.reconcile.gateway.new_api_call import Call, ContradictionError, Part, read_call, to_fraction
from brivionix_billing.reconcile.gateway.offers import Offer, Offers, own_offer
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method, round_by
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State
from brivionix_billing.times import format_instant

__all__ = ["COLUMNS", "UNIT", "Agreements", "NewApiChecker", "parse_other", "settle"]

UNIT: Final = "quota"
COLUMNS: Final = Columns(
    "request_id", "logged", "expected", ("log_id", "at", "account", "model", "group", "explanation")
)
CONSUME, REFUND = 2, 6
"""Types of rows that charge and refund. All other types charge nothing."""
_SATURATED: Final = frozenset({2**31 - 1, 2**32 - 1, 2**53 - 1, 2**53, 2**63 - 1, -(2**31), -(2**63)})
_CAUSE_OF_ERROR: Final = {
    "unknown_model": "unknown_model",
    "unknown_group": "model_not_allowed",
    "model_not_allowed": "model_not_allowed",
    "no_price": "price_date",
    "unknown_service_tier": "service_tier",
    "service_tier_unavailable": "service_tier",
}


class Verdict(NamedTuple):
    """What was found about a row."""

    state: State
    cause: str
    expected: int | None
    text: str = ""


@dataclass(slots=True)
class Agreements:
    """Ratios of user groups, which a price file does not have."""

    by_group: Mapping[str, frozenset[Fraction]] = field(default_factory=dict)
    """Group -> the ratios that replace its own for some users."""
    by_user: Mapping[tuple[str, str], Fraction] = field(default_factory=dict)
    """(user, group) -> the ratio of this user."""

    def ratio(self, user: str, group: str, stated: Fraction | None) -> Fraction | None:
        """Return the ratio that replaces that of the group for a user; ``None``: none does."""
        own = self.by_user.get((user, group))
        if own is not None:
            return own
        if stated is not None and stated in self.by_group.get(group, ()):
            return stated
        return None


def parse_other(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``other``, which is JSON in a text; empty if it is none."""
    other = row.get("other")
    if isinstance(other, str):
        try:
            other = json.loads(other) if other else {}
        except (ValueError, RecursionError):
            return {}
    return other if isinstance(other, dict) else {}


def settle(call: Call, exact: Fraction, method: Method, minimum: Fraction = Fraction(0)) -> int:
    """Return the quota of an exact charge: rounded, and at least 1 if something that is not free was used."""
    quota = round_by(method, exact, call.as_float)
    if quota < 1 and call.ratio and not call.is_empty and (exact or call.model_ratio):
        quota = 1
    return max(quota, ceil(minimum))


def user_of(row: Mapping[str, Any]) -> str:
    """Return the account of a row."""
    return str(row.get("username") or row.get("user_id") or "")


@dataclass(slots=True)
class NewApiChecker:
    """Checks the rows of one log, in the order of the log."""

    book: PriceBook
    quota_per_unit: int = 500_000
    method: Method = DEFAULT_METHOD
    agreements: Agreements = field(default_factory=Agreements)
    refunded: frozenset[str] = frozenset()
    """Ids of requests and tasks that have a refund in the log."""
    offers: Offers = field(init=False)
    _seen: set[tuple[object, ...]] = field(default_factory=set)
    request_ids: set[str] = field(default_factory=set)
    """Ids of the requests seen."""
    upstream_calls: set[int] = field(default_factory=set)
    """Hashes of the calls that an upstream knows by an id."""
    _charges: dict[str, int] = field(default_factory=dict)
    """Id of a request or task with a refund -> what was charged and not yet refunded."""

    def __post_init__(self) -> None:
        self.offers = Offers(self.book, self.quota_per_unit)

    def check(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Row:
        """Return the row of the result for a row of the log."""
        logged = signed_quota(row)
        verdict = self._verdict(row, other, logged)
        return Row(
            str(row.get("request_id") or ""),
            verdict.state,
            verdict.cause,
            UNIT,
            Decimal(logged),
            None if verdict.expected is None else Decimal(verdict.expected),
            {**describe(row), "explanation": verdict.text},
        )

    def _verdict(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> Verdict:
        if row.get("type") not in (CONSUME, REFUND):
            return Verdict(State.MATCHED, NO_CAUSE, logged, "the row charges nothing")
        repeated = self._repeats(row, other)
        if repeated:
            return Verdict(State.DUPLICATE, "duplicate", None, repeated)
        if row.get("type") == REFUND:
            return self._refund(row, other, logged)
        for name in filter(None, {str(row.get("request_id") or ""), str(other.get("task_id") or "")}):
            if name in self.refunded:
                self._charges[name] = self._charges.get(name, 0) + logged
        try:
            call = read_call(row, other, self.quota_per_unit)
        except ContradictionError as error:
            return Verdict(State.DIFFERS, "usage_contradiction", None, str(error))
        verdict = self._charge(row, other, call, logged)
        if verdict.state is State.MATCHED and not verdict.cause:
            if other.get("billing_source") == "subscription":
                verdict = verdict._replace(cause="subscription", text="")
            ids = (str(row.get("request_id") or ""), str(other.get("task_id") or ""))
            if any(name in self.refunded for name in ids if name):
                return verdict._replace(cause="refunded", text="a later row refunds it")
        return verdict

    # Duplicates and refunds

    def _repeats(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
        """Return by what a row repeats an earlier one; empty if it does not."""
        settlement = (row.get("type"), str(other.get("task_id") or ""), str(other.get("quota_delta") or ""))
        is_plain = row.get("type") == CONSUME and not other.get("quota_delta")
        request_id = str(row.get("request_id") or "")
        if request_id:
            if is_plain:
                if request_id in self.request_ids:
                    return "the request id is already in the log"
                self.request_ids.add(request_id)
            elif (request_id, *settlement) in self._seen:
                return "the request id is already in the log"
            else:
                self._seen.add((request_id, *settlement))
        elif row.get("id") is not None:
            key = ("id", row.get("id"), row.get("created_at"), row.get("quota"))
            if key in self._seen:
                return "the row is already in the log"
            self._seen.add(key)
        if is_plain and row.get("upstream_request_id") and row.keys() >= _UPSTREAM_KEYS:
            key_hash = upstream_key(row)
            if key_hash in self.upstream_calls:
                return "the same call of the upstream is already in the log"
            self.upstream_calls.add(key_hash)
        return ""

    def _refund(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> Verdict:
        paid, actual, delta = (to_fraction(other.get(key)) for key in ("pre_consumed", "actual_quota", "quota_delta"))
        if paid is not None and actual is not None:
            expected = int(actual - paid)
        elif delta is not None:
            expected = -abs(int(delta))
        else:
            for name in (str(row.get("request_id") or ""), str(other.get("task_id") or "")):
                charged = self._charges.get(name)
                if name and charged is not None and charged + logged >= 0:
                    self._charges[name] = charged + logged
                    return Verdict(State.MATCHED, "refunded", logged, f"refunds a charge of {charged}")
            return Verdict(State.ONLY_THEIRS, "refunded", None, "the log has no charge that it refunds")
        if expected == logged and (delta is None or int(delta) == expected):
            return Verdict(State.MATCHED, "refunded", logged, "what was paid in advance and not used")
        return Verdict(State.DIFFERS, "refunded", expected, f"the figures of the row give a refund of {-expected}")

    # Charges

    def _charge(self, row: Mapping[str, Any], other: Mapping[str, Any], call: Call, logged: int) -> Verdict:
        group = str(row.get("group") or "default")
        try:
            cards = self._cards(row, other, group, call, call.at)
            offer = self.offers.offer(cards, call.at, call.input_total)
        except BillingError as error:
            cause = _CAUSE_OF_ERROR.get(error.code, "unknown_model")
            return Verdict(State.ONLY_THEIRS, cause, None, error.message)
        if call.is_empty:
            text = f"no tokens, but {logged} quota" if logged else "no tokens, and nothing was charged"
            return Verdict(State.DIFFERS, "usage_missing", 0, text)
        compared = self._comparison(row, group, call, cards, offer)
        if call.start != call.at and not agrees_with_book(call, compared):
            compared = self._at_start(row, other, group, call, compared)
        if not other and call.mode == "ratio":
            _take_prices(call, compared)
        expected = self._expected(call, compared)
        admin = other.get("admin_info")
        marked = admin.get("quota_saturation") if isinstance(admin, Mapping) else None
        if marked or (logged in _SATURATED and logged != expected):
            return Verdict(State.DIFFERS, "saturated", expected, f"the quota was limited to {logged}")
        verdict = self._compare(call, other, compared, logged, expected)
        if verdict.state is State.MATCHED:
            problem = subscription_problem(other, logged)
            if problem:
                return Verdict(State.DIFFERS, "subscription", expected, problem)
        if verdict.cause in (NO_CAUSE, "arithmetic"):
            missing = _missing_usage(call, offer, other)
            if missing:
                return verdict._replace(cause="usage_missing", text=missing)
        return verdict

    def _cards(self, row: Mapping[str, Any], other: Mapping[str, Any], group: str, call: Call, at: datetime) -> CardSet:
        name = str(row.get("model_name") or "")
        admin = other.get("admin_info")
        billed = admin.get("billing_model") if isinstance(admin, Mapping) else None
        if self.book.priced_model == "served" and other.get("upstream_model_name"):
            name = str(other["upstream_model_name"])
        elif isinstance(billed, str) and billed:
            name = billed
        return self.offers.card_set(name, group, at, call.service_tier)

    def _comparison(self, row: Mapping[str, Any], group: str, call: Call, cards: CardSet, offer: Offer) -> Comparison:
        agreed = self.agreements.ratio(user_of(row), group, call.user_ratio)
        compared = Comparison(self.offers, cards, offer, offer.ratio if agreed is None else agreed, agreed is not None)
        if offer.card.group_priced and not agrees_with_book(call, compared):
            own = own_offer(offer, self.quota_per_unit)
            stated = compared._replace(offer=own, ratio=own.ratio if agreed is None else agreed)
            if agreed is not None or close(call.ratio, own.ratio) or agrees_with_book(call, stated):
                return stated
        return compared

    def _at_start(
        self, row: Mapping[str, Any], other: Mapping[str, Any], group: str, call: Call, compared: Comparison
    ) -> Comparison:
        """Return the comparison at the start of the request, if the price changed while it was running."""
        try:
            cards = self._cards(row, other, group, call, call.start)
            offer = self.offers.offer(cards, call.start, call.input_total)
        except BillingError:
            return compared
        if offer is compared.offer:
            return compared
        earlier = self._comparison(row, group, call, cards, offer)
        return earlier if agrees_with_book(call, earlier) else compared

    def _expected(self, call: Call, compared: Comparison) -> int:
        offer, ratio = compared.offer, compared.ratio
        if call.mode == "task" and not call.parts:
            return 0
        total: Fraction | None
        if call.mode in ("request", "task"):
            total = (offer.call_price() or Fraction(0)) * call.factor
        else:
            total = offer.total(call.quantities, call.factor)
        tools = sum((tool.calls * (offer.price(tool.meter) or 0) for tool in call.tools), Fraction(0))
        exact = ((total or Fraction(0)) + tools) * ratio
        return settle(call, exact, self.method, offer.minimum)

    def _compare(
        self, call: Call, other: Mapping[str, Any], compared: Comparison, logged: int, expected: int
    ) -> Verdict:
        if call.mode == "task":
            return self._compare_task(call, other, compared, logged)
        own = settle(call, call.exact, self.method, compared.offer.minimum)
        if call.mode == "expression" and call.outcome is None:
            state = State.MATCHED if logged == expected else State.DIFFERS
            return Verdict(state, "expression", expected, call.expression_problem)
        if agrees_with_book(call, compared):
            if logged == own and _states_other_tier(call):
                text = f"the row states tier {call.stated_tier[:40]!r}"
                return Verdict(State.DIFFERS, "expression", expected, text)
            if logged in (own, expected) or self.method.accepts(logged, call.exact, call.as_float):
                # A ratio is a double: at a boundary of rounding it may give another quota than the exact price.
                return Verdict(State.MATCHED, NO_CAUSE, logged)
            cause = explain_quota(call, logged, compared, self.method) or _unexplained(other, logged)
            return Verdict(State.DIFFERS, cause.name, expected, cause.text)
        cause = explain_prices(call, compared)
        if logged not in (own, expected):
            known = explain_quota(call, logged, compared, self.method)
            if known is not None and known.name == "minimum_charge" and own != 1:
                cause = known
            elif abs(logged - own) > max(1, abs(own - expected)):
                cause = known or _unexplained(other, logged)
        return Verdict(State.DIFFERS, cause.name, expected, cause.text)

    def _compare_task(self, call: Call, other: Mapping[str, Any], compared: Comparison, logged: int) -> Verdict:
        paid, actual, delta = (to_fraction(other.get(key)) for key in ("pre_consumed", "actual_quota", "quota_delta"))
        if paid is not None and actual is not None and delta is not None and actual - paid != delta:
            return Verdict(State.DIFFERS, "arithmetic", int(actual - paid), "the figures of the task contradict")
        stated = [figure for figure in (delta, actual, paid) if figure is not None and figure > 0]
        whole = actual if actual is not None else paid
        if call.parts:
            own = settle(call, call.exact, self.method)
            priced = self._expected(call, compared)
            if not agrees_with_book(call, compared):
                cause = explain_prices(call, compared)
                return Verdict(State.DIFFERS, cause.name, priced, cause.text)
            if not stated or (whole is not None and whole != own and paid != own):
                stated = [Fraction(own)]
        if logged in stated or not stated:
            return Verdict(State.MATCHED, NO_CAUSE, logged)
        return Verdict(State.DIFFERS, "arithmetic", int(stated[0]), f"the figures of the task give {int(stated[0])}")


def signed_quota(row: Mapping[str, Any]) -> int:
    """Return what a row charges: negative for a refund, and 0 for a row of another type."""
    number = to_fraction(row.get("quota")) or Fraction(0)
    if row.get("type") == CONSUME:
        return int(number)
    return -abs(int(number)) if row.get("type") == REFUND else 0


_UPSTREAM_KEYS: Final = {"upstream_request_id", "user_id", "model_name", "prompt_tokens", "completion_tokens"}
_upstream_call: Final = itemgetter(*sorted(_UPSTREAM_KEYS))


def upstream_key(row: Mapping[str, Any]) -> int:
    """Return a hash of what identifies a call of the upstream."""
    values = _upstream_call(row)
    try:
        return hash(values)
    except TypeError:
        return hash(repr(values))


def describe(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the columns that identify a row for people."""
    created = row.get("created_at")
    try:
        at = format_instant(datetime.fromtimestamp(int(created or 0), UTC)) if created else ""
    except (ValueError, OverflowError, OSError, TypeError):
        at = str(created)
    return {
        "log_id": str(row.get("id", "")),
        "at": at,
        "account": user_of(row),
        "model": str(row.get("model_name") or ""),
        "group": str(row.get("group") or ""),
    }


def _take_prices(call: Call, compared: Comparison) -> None:
    """Give a row that states no ratios those of the price file: only its quota can be compared."""
    call.model_ratio, call.user_ratio, call.stated_ratio = None, None, compared.ratio
    call.parts = [
        Part(kind, quantity, compared.offer.price(kind) or Fraction(0)) for kind, quantity in call.quantities.items()
    ]


def _missing_usage(call: Call, offer: Offer, other: Mapping[str, Any]) -> str:
    """Return what is missing of the usage of a request with tokens; empty if nothing is."""
    if call.mode not in ("ratio", "expression"):
        return ""
    admin = other.get("admin_info")
    if isinstance(admin, Mapping) and admin.get("local_count_tokens"):
        return "the provider reported no usage; the gateway counted the tokens itself"
    if call.tools and not call.quantities:
        return ""
    if not call.input_total:
        return "no input tokens were reported"
    if not call.quantities.get("output") and not call.quantities.get("audio_output") and offer.price("output"):
        return "no output tokens were reported"
    return ""


def _states_other_tier(call: Call) -> bool:
    """Return whether a row states another tier of its expression than the one that applies."""
    if call.expression is None or call.outcome is None or not call.stated_tier:
        return False
    return call.stated_tier != call.outcome.tier and call.stated_tier in (name for name, _ in call.expression.tiers)


def _unexplained(other: Mapping[str, Any], logged: int) -> Cause:
    if other.get("billing_source") == "subscription":
        paid = to_fraction(other.get("subscription_pre_consumed"))
        if logged == 0 or (paid is not None and paid == logged):
            return Cause("subscription", "a subscription paid, and the row was not settled")
    if not other:
        return Cause("arithmetic", "the row states no ratios, and the quota is not that of the price file")
    return Cause("arithmetic", "the quota does not follow from the figures of the row")


def subscription_problem(other: Mapping[str, Any], logged: int) -> str:
    """Return how the figures of a subscription contradict the quota; empty if they do not."""
    names = ("pre_consumed", "post_delta", "consumed", "total", "used", "remain")
    paid, delta, consumed, total, used, remain = (to_fraction(other.get(f"subscription_{name}")) for name in names)
    wallet = to_fraction(other.get("wallet_quota_deducted"))
    if other.get("billing_source") != "subscription":
        if consumed:
            return f"the subscription paid {consumed}, but the wallet is stated as the source"
        if other.get("billing_preference") == "subscription_only" and other.get("billing_source") == "wallet":
            return "only a subscription may pay, but the wallet did"
        if wallet and wallet != logged and other.get("billing_source") == "wallet":
            return f"the wallet paid {wallet} of {logged}"
        return ""
    settled = None if paid is None else paid + (delta or 0)
    if consumed is None:
        consumed = settled
    elif settled is not None and settled != consumed:
        return f"{paid} in advance and {delta} afterwards are not {consumed}"
    if consumed is not None and consumed + (wallet or 0) != logged:
        return f"the subscription paid {consumed} and the wallet {wallet or 0}, of {logged}"
    if consumed is None and wallet:
        return f"a subscription is stated as the source, but the wallet paid {wallet}"
    if total is not None and used is not None and remain is not None and total - used != remain:
        return f"{used} used of {total} do not leave {remain}"
    return ""
