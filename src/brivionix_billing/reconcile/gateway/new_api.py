"""Decides for each row of the log of new-api whether its quota is right, and if not, why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.card_set import CardSet
from brivionix_billing.reconcile.gateway.causes import Verdict, cause_of_error
from brivionix_billing.reconcile.gateway.comparison import Comparison, agrees_with_book, close
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.new_api_call import Call, ContradictionError, Part
from brivionix_billing.reconcile.gateway.new_api_figures import (
    missing_usage,
    states_other_tier,
    subscription_problem,
    unexplained,
)
from brivionix_billing.reconcile.gateway.new_api_reading import read_call
from brivionix_billing.reconcile.gateway.new_api_repeats import refund_by_figures
from brivionix_billing.reconcile.gateway.new_api_row import (
    CONSUME,
    REFUND,
    describe,
    read_quota,
    user_of,
)
from brivionix_billing.reconcile.gateway.offers import Offer, Offers, own_offer
from brivionix_billing.reconcile.gateway.price_causes import explain_prices
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method, round_by
from brivionix_billing.reconcile.gateway.quota_causes import explain_quota
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State

__all__ = ["COLUMNS", "UNIT", "Agreements", "NewApiChecker", "make_row", "settle"]

UNIT: Final = "quota"
COLUMNS: Final = Columns(
    "request_id", "logged", "expected", ("log_id", "at", "account", "model", "group", "explanation")
)
_SATURATED: Final = frozenset({2**31 - 1, 2**32 - 1, 2**53 - 1, 2**53, 2**63 - 1, -(2**31), -(2**63)})


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


def settle(call: Call, exact: Fraction, method: Method, minimum: Fraction = Fraction(0)) -> int:
    """Return the quota of an exact charge: rounded, and at least 1 if something that is not free was used."""
    quota = round_by(method, exact, call.as_float)
    if quota < 1 and call.ratio and not call.is_empty and (exact or call.model_ratio):
        quota = 1
    return max(quota, ceil(minimum))


def make_row(row: Mapping[str, Any], logged: int | None, verdict: Verdict) -> Row:
    """Return the row of the result for a row of the log, its quota, and what was found about it."""
    if logged is None and verdict.state in (State.MATCHED, State.DIFFERS):
        text = f"quota {safe_repr(row.get('quota'), 60)} is no whole number"
        verdict = Verdict(State.DIFFERS, "no_amount", verdict.expected, text)
    return Row(
        str(row.get("request_id") or ""),
        verdict.state,
        verdict.cause,
        UNIT,
        None if logged is None else Decimal(logged),
        None if verdict.expected is None else Decimal(verdict.expected),
        {**describe(row), "explanation": verdict.text},
    )


@dataclass(slots=True)
class NewApiChecker:
    """Checks the rows of one log in full, each by itself."""

    book: PriceBook
    quota_per_unit: int = 500_000
    method: Method = DEFAULT_METHOD
    agreements: Agreements = field(default_factory=Agreements)
    offers: Offers = field(init=False)

    def __post_init__(self) -> None:
        self.offers = Offers(self.book, self.quota_per_unit)

    def check(self, row: Mapping[str, Any], other: Mapping[str, Any]) -> Row | None:
        """Return the row of the result for a row of the log; ``None`` for a refund that its charge decides."""
        logged = read_quota(row)
        verdict = self._verdict(row, other, logged or 0)
        return None if verdict is None else make_row(row, logged, verdict)

    def _verdict(self, row: Mapping[str, Any], other: Mapping[str, Any], logged: int) -> Verdict | None:
        if row.get("type") not in (CONSUME, REFUND):
            return Verdict(State.MATCHED, NO_CAUSE, logged, "the row charges nothing")
        if row.get("type") == REFUND:
            return refund_by_figures(other, logged)
        try:
            call = read_call(row, other, self.quota_per_unit)
        except ContradictionError as error:
            return Verdict(State.DIFFERS, "usage_contradiction", None, str(error))
        verdict = self._charge(row, other, call, logged)
        if verdict.state is State.MATCHED and not verdict.cause and other.get("billing_source") == "subscription":
            return verdict._replace(cause="subscription", text="")
        return verdict

    def _charge(self, row: Mapping[str, Any], other: Mapping[str, Any], call: Call, logged: int) -> Verdict:
        group = str(row.get("group") or "default")
        try:
            cards = self._cards(row, other, group, call, call.at)
            offer = self.offers.offer(cards, call.at, call.input_total)
        except BillingError as error:
            return Verdict(State.ONLY_THEIRS, cause_of_error(error), None, error.message)
        if call.is_empty:
            text = f"no tokens, but {logged} quota" if logged else "no tokens, and nothing was charged"
            return Verdict(State.DIFFERS, "usage_missing", 0, text)
        compared = self.compare(row, group, call, cards, offer)
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
            missing = missing_usage(call, offer, other)
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

    def compare(self, row: Mapping[str, Any], group: str, call: Call, cards: CardSet, offer: Offer) -> Comparison:
        """Return what the figures of a row are compared with: an offer, and the ratio that applies to the user."""
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
        earlier = self.compare(row, group, call, cards, offer)
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
            if logged == own and states_other_tier(call):
                text = f"the row states tier {call.stated_tier[:40]!r}"
                return Verdict(State.DIFFERS, "expression", expected, text)
            if logged in (own, expected) or self.method.accepts(logged, call.exact, call.as_float):
                # A ratio is a double: at a boundary of rounding it may give another quota than the exact price.
                return Verdict(State.MATCHED, NO_CAUSE, logged)
            cause = explain_quota(call, logged, compared, self.method) or unexplained(other, logged)
            return Verdict(State.DIFFERS, cause.name, expected, cause.text)
        cause = explain_prices(call, compared)
        if logged not in (own, expected):
            known = explain_quota(call, logged, compared, self.method)
            if known is not None and known.name == "minimum_charge" and own != 1:
                cause = known
            elif abs(logged - own) > max(1, abs(own - expected)):
                cause = known or unexplained(other, logged)
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


def _take_prices(call: Call, compared: Comparison) -> None:
    """Give a row that states no ratios those of the price file: only its quota can be compared."""
    call.model_ratio, call.user_ratio, call.stated_ratio = None, None, compared.ratio
    call.parts = [
        Part(kind, quantity, compared.offer.price(kind) or Fraction(0)) for kind, quantity in call.quantities.items()
    ]
