"""Reconciles the spend log of litellm's proxy with a price file, row by row.

A row has the provider's usage in ``metadata.usage_object`` and one amount in USD, a double, without the prices it was
computed by. So the charge is computed again from the usage, and the cause of a difference by other prices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.reconcile.gateway.alternatives import CAUSE_OF_KIND, Cause
from brivionix_billing.reconcile.gateway.new_api_call import to_fraction
from brivionix_billing.reconcile.gateway.offers import Offer, Offers
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State
from brivionix_billing.times import format_instant, load_zone
from brivionix_billing.usage import Usage

__all__ = ["reconcile_litellm"]

_COLUMNS: Final = Columns("request_id", "logged", "expected", ("at", "account", "model", "group", "explanation"))
_NOISE: Final = Decimal("1e-9")
"""Amounts that differ by less, as a fraction, differ by float arithmetic only."""
_MAX_DIGITS: Final = 30
"""Digits of an amount or a count. Without a limit, 1e999999999 takes all memory."""
_MAX_PLACES: Final = 400
_FRACTION_NOISE: Final = Fraction(1, 10**9)
_SHARP: Final = Fraction(1, 10**11)
"""How exactly a single price must explain a difference, as a fraction of the amount."""
_PRICE_PLACES: Final = 4
"""Decimal places of a price per 1 M tokens that is believed to explain a difference."""
_OWN_TRAFFIC: Final = re.compile(
    r"health[-_ ]?check|litellm[-_ ]?(?:internal|dashboard|proxy[-_ ]?admin)|(?:^|[/_-])health(?:$|[/_-])",
    re.IGNORECASE,
)
_OWN_COLUMNS: Final = ("call_type", "api_key", "user", "end_user", "team_id", "request_tags", "model_group")
_OWN_METADATA: Final = (
    *("user_api_key_alias", "user_api_key_team_alias", "user_api_key_team_id", "user_api_key_user_id", "tags"),
    *("user_api_key", "status_message", "request_route"),
)
_CAUSE_OF_ERROR: Final = {
    "unknown_group": "model_not_allowed",
    "model_not_allowed": "model_not_allowed",
    "no_price": "price_date",
    "unknown_service_tier": "service_tier",
    "service_tier_unavailable": "service_tier",
    "usage_contradiction": "usage_contradiction",
    "invalid_usage": "usage_contradiction",
    "unknown_usage_format": "usage_missing",
    "meter_unpriced": "unknown_model",
}
_INPUT_KINDS: Final = ("input", "cache_read", "cache_write", "cache_write_1h", "image_input", "audio_input")


class _Verdict(NamedTuple):
    state: State
    cause: str
    expected: Decimal | None
    text: str = ""


def reconcile_litellm(
    source: LogSource,
    book: PriceBook,
    folder: str | Path,
    *,
    group: str = "default",
    zone: str = "UTC",
    format: str = "csv",
) -> Result:
    """Compare every row of a spend log with the price book, and write the result to a folder.

    The group of a row is its team if the price book has such a group, else ``group``. Times without an offset are in
    ``zone``. Raises ``file_unreadable`` for a row that is not JSON, or whose spend is no number.
    """
    currency = book.resolver.file.credit.currency
    rule = Rule(
        "gateway litellm",
        "log",
        "price file",
        (Key(("request_id",)), Key(("api_key", "model", "startTime", "endTime", "tokens", "spend"))),
        ratio_tolerance=_NOISE,
        their_zone=zone,
        settings={"group": group},
    )
    checker = _Checker(book, group, load_zone(zone), source.place)
    with ResultWriter(Path(folder), rule, _COLUMNS, format) as writer:
        for raw in source.rows():
            row = checker.read(raw)
            spend = checker.spend(row)
            at = checker.time(row.get("startTime"))
            verdict = checker.check(row, spend, at)
            writer.count(currency, theirs=spend, ours=verdict.expected or 0)
            details = {**checker.describe(row, at), "explanation": verdict.text}
            writer.add(
                Row(
                    str(row.get("request_id") or ""),
                    verdict.state,
                    verdict.cause,
                    currency,
                    spend,
                    verdict.expected,
                    details,
                )
            )
        return writer.finish([source.input()], book.digest)


def _mapping(value: object) -> dict[str, Any]:
    """Return a JSON object that may be stored as text; empty if it is none."""
    if isinstance(value, str):
        try:
            value = json.loads(value) if value else {}
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, dict) else {}


def _whole(value: object) -> int | None:
    try:
        number = Decimal(str(value))
        return int(number) if number.adjusted() <= _MAX_DIGITS else None
    except (ArithmeticError, ValueError):
        return None


class _Checker:
    """Checks the rows of one log."""

    def __init__(self, book: PriceBook, group: str, zone: tzinfo, place: str) -> None:
        self.book, self.group, self.zone, self.place = book, group, zone, place
        self.offers = Offers(book, 1)
        self._groups = frozenset(book.group_names)
        self._request_ids: set[str] = set()
        self._calls: set[int] = set()
        self._models: dict[tuple[str, str], str | None] = {}

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row. Raises ``file_unreadable``."""
        if not isinstance(raw, str):
            return raw
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BillingError("file_unreadable", f"the log {self.place} has a row that is not JSON: {error}") from None
        if not isinstance(row, dict):
            raise BillingError("file_unreadable", f"the log {self.place} has a row that is no object")
        return row

    def spend(self, row: Mapping[str, Any]) -> Decimal:
        """Return the logged amount with all its digits. Raises ``file_unreadable``."""
        if "spend" not in row:
            raise BillingError(
                "file_unreadable", f"the log {self.place} has a row without spend; export all columns of the spend log"
            )
        value = row["spend"]
        try:
            amount = Decimal(str(value)) if value not in (None, "") else Decimal(0)
        except ArithmeticError:
            amount = Decimal("nan")
        if not amount.is_finite() or amount.adjusted() > _MAX_DIGITS or amount.adjusted() < -_MAX_PLACES:
            raise BillingError(
                "file_unreadable", f"the log {self.place} has a spend that is no number: {str(value)[:40]!r}"
            )
        return amount

    def describe(self, row: Mapping[str, Any], at: datetime | None) -> dict[str, str]:
        """Return the columns that identify a row for people."""
        account = next((str(row[name]) for name in ("user", "end_user", "team_id", "api_key") if row.get(name)), "")
        return {
            "at": "" if at is None else format_instant(at),
            "account": account,
            "model": str(row.get("model_group") or row.get("model") or ""),
            "group": self._group(row),
        }

    def _group(self, row: Mapping[str, Any]) -> str:
        team = row.get("team_id")
        return team if isinstance(team, str) and team in self._groups else self.group

    def time(self, value: object) -> datetime | None:
        """Return the time of a row in UTC; ``None`` if it states none."""
        try:
            if isinstance(value, int | float) and not isinstance(value, bool):
                return datetime.fromtimestamp(value / 1000 if value > 10**11 else value, UTC)
            found = datetime.fromisoformat(str(value))
            return (found if found.tzinfo else found.replace(tzinfo=self.zone)).astimezone(UTC)
        except (ValueError, OverflowError, OSError):
            return None

    def check(self, row: Mapping[str, Any], spend: Decimal, at: datetime | None) -> _Verdict:
        """Return what is found about a row."""
        metadata = _mapping(row.get("metadata"))
        repeated = self._repeats(row)
        if repeated:
            return _Verdict(State.DUPLICATE, "duplicate", None, repeated)
        own = _own_traffic(row, metadata)
        if own:
            return _Verdict(State.ONLY_THEIRS, "own_traffic", None, f"traffic of the proxy itself: {own[:80]}")
        if not spend and not row.get("model") and not row.get("model_group") and not metadata.get("usage_object"):
            return _Verdict(State.ONLY_THEIRS, "own_traffic", None, "a call of the proxy itself, without a model")
        if str(row.get("status") or "success").lower() not in ("success", "ok"):
            if not spend:
                return _Verdict(State.MATCHED, NO_CAUSE, Decimal(0), "the request failed")
            return _Verdict(State.DIFFERS, "usage_missing", Decimal(0), "the request failed, but was charged")
        if str(row.get("cache_hit") or "").lower() == "true":
            if not spend:
                return _Verdict(State.MATCHED, NO_CAUSE, Decimal(0), "answered from the proxy's own cache")
            return _Verdict(State.DIFFERS, "cache_price", Decimal(0), "answered from the proxy's cache, but charged")
        return self._charge(row, metadata, spend, at)

    def _repeats(self, row: Mapping[str, Any]) -> str:
        request_id = str(row.get("request_id") or "")
        if request_id:
            if request_id in self._request_ids:
                return "the request id is already in the log"
            self._request_ids.add(request_id)
        start = str(row.get("startTime") or "")
        if start.partition(".")[2].strip("0Z+:") and row.get("total_tokens") not in (None, "", 0, "0"):
            names = ("api_key", "user", "model", "startTime", "endTime", "prompt_tokens", "completion_tokens", "spend")
            key = hash(tuple(str(row.get(name)) for name in names))
            if key in self._calls:
                return "a call at the same time with the same tokens is already in the log"
            self._calls.add(key)
        return ""

    def _model(self, row: Mapping[str, Any]) -> str:
        """Return the name by which the price file knows the model of a row. Raises ``unknown_model``."""
        names = str(row.get("model") or ""), str(row.get("model_group") or "")
        known = self._models.get(names)
        if known is None:
            candidates = [part for name in names for part in (name, name.partition("/")[2], name.rpartition("/")[2])]
            for name in filter(None, candidates):
                try:
                    known = self.book.resolve_model(name)
                    break
                except BillingError:
                    continue
            if known is None:
                return self.book.resolve_model(names[0])
            self._models[names] = known
        return known

    def _charge(
        self, row: Mapping[str, Any], metadata: Mapping[str, Any], spend: Decimal, at: datetime | None
    ) -> _Verdict:
        body = metadata.get("usage_object")
        body = body if isinstance(body, dict) else None
        if at is None:
            return _Verdict(State.DIFFERS, "price_date", None, "the row has no time")
        try:
            model = self._model(row)
        except BillingError as error:
            cause = "unknown_model" if spend else "unmapped_model"
            return _Verdict(State.ONLY_THEIRS, cause, None, error.message)
        problem = _contradiction(row, body)
        if problem:
            return _Verdict(State.DIFFERS, "usage_contradiction", None, problem)
        stated_tier = metadata.get("service_tier")
        tier = stated_tier if isinstance(stated_tier, str) and stated_tier else None
        try:
            usage = self._usage(row, body)
            charge = self.book.rate(usage, model=model, group=self._group(row), at=at, service_tier=tier)
        except BillingError as error:
            cause = _CAUSE_OF_ERROR.get(error.code, "unknown_model")
            state = State.DIFFERS if cause.startswith("usage_") else State.ONLY_THEIRS
            return _Verdict(state, cause, None, error.message)
        expected = charge.nominal.amount
        missing = _missing(row, body, usage, charge)
        if missing:
            state = State.MATCHED if _is_noise(spend, expected) and spend else State.DIFFERS
            return _Verdict(state, "usage_missing", expected, missing)
        if spend == expected:
            return _Verdict(State.MATCHED, NO_CAUSE, expected)
        if _is_noise(spend, expected):
            return _Verdict(State.MATCHED, "float_noise", expected, "the amounts differ by float arithmetic")
        if not spend:
            return _Verdict(State.DIFFERS, "unmapped_model", expected, "the proxy has no price for the model")
        found = _Search(self.offers, charge, at, Fraction(spend), metadata).cause()
        return _Verdict(State.DIFFERS, found.name, expected, found.text)

    def _usage(self, row: Mapping[str, Any], body: dict[str, Any] | None) -> Usage:
        if body:
            return Usage.from_response(body)
        prompt, completion = _whole(row.get("prompt_tokens")) or 0, _whole(row.get("completion_tokens")) or 0
        return Usage(input_tokens=prompt, output_tokens=completion)


def _own_traffic(row: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Return the text that shows that the proxy made a request itself; empty if none does."""
    for source, names in ((row, _OWN_COLUMNS), (metadata, _OWN_METADATA)):
        for name in names:
            value = source.get(name)
            if value and _is_own(text := value if type(value) is str else str(value)):
                return text
    return ""


@lru_cache(maxsize=10_000)
def _is_own(text: str) -> bool:
    return _OWN_TRAFFIC.search(text) is not None


def _contradiction(row: Mapping[str, Any], body: Mapping[str, Any] | None) -> str:
    """Return where the row and its usage object state different counts; empty if nowhere."""
    for name in ("prompt_tokens", "completion_tokens"):
        stated = _whole(row.get(name))
        if stated is not None and stated < 0:
            return f"{name} is {stated}"
        reported = body.get(name) if body else None
        if isinstance(reported, int) and stated is not None and stated != reported:
            return f"{name} is {stated} in the row, and {reported} in its usage object"
    return ""


def _missing(row: Mapping[str, Any], body: Mapping[str, Any] | None, usage: Usage, charge: Charge) -> str:
    if body:
        return "" if charge.units or any(quantity for _, quantity in usage.quantities()) else "the usage is all zeros"
    if charge.units and not usage.input_tokens and not usage.output_tokens:
        return ""  # a price per request needs no usage
    return "the row has no usage object"


def _is_noise(spend: Decimal, expected: Decimal) -> bool:
    return abs(spend - expected) <= _NOISE * abs(expected)


class _Search:
    """Looks for the prices that give the logged amount."""

    def __init__(
        self, offers: Offers, charge: Charge, at: datetime, spend: Fraction, metadata: Mapping[str, Any]
    ) -> None:
        self.offers, self.charge, self.at, self.spend, self.metadata = offers, charge, at, spend, metadata
        card = charge.card
        self.cards = offers.card_set(card.model, card.group, at, card.service_tier)
        self.offer = offers.of_card(card)
        self.ratio = self.offer.ratio
        self.exact = Fraction(charge.nominal.amount)
        self.quantities = {
            line.meter: Fraction(line.quantity)
            for line in charge.lines
            if line.meter not in ("request", "minimum_charge")
        }
        self.tools = {name: count for name, count in self.quantities.items() if card.meter(name).is_tool}

    def cause(self) -> Cause:
        """Return the cause."""
        return (
            self._rounding()
            or self._by_alternatives()
            or self._by_breakdown()
            or self._by_one_price()
            or Cause("arithmetic", "no other prices give the amount")
        )

    def _fits(self, value: Fraction) -> bool:
        return abs(value - self.spend) <= _FRACTION_NOISE * abs(self.spend)

    def _rounding(self) -> Cause | None:
        for places in range(4, 13):
            if (self.spend * 10**places).denominator == 1:
                step = Fraction(1, 10**places)
                if abs(self.spend - self.exact) < step and step * 20 < self.exact:
                    return Cause("rounding", f"the amount was rounded to {places} decimal places")
                return None
        return None

    def _by_alternatives(self) -> Cause | None:
        for name, value, text in self._values():
            if value != self.exact and self._fits(value):
                return Cause(name, f"the amount was computed with {text}")
        return None

    def _values(self) -> Iterator[tuple[str, Fraction, str]]:
        """Yield causes with the amount that each would give, the most special ones first."""
        exact, ratio = self.exact, self.ratio
        minimum = next((line for line in self.charge.lines if line.meter == "minimum_charge"), None)
        if minimum is not None:
            supplement = Fraction(minimum.credits) * Fraction(self.charge.card.nominal_per_credit)
            yield "minimum_charge", exact - supplement, "no minimum charge"
        fees = sum((count * (self.offer.price(name) or 0) for name, count in self.tools.items()), Fraction(0)) * ratio
        if fees:
            yield "tool_fee", exact - fees, "no fee for tools"
            yield "tool_fee", exact + fees, "the fee for tools twice"
        yield from self._token_values()
        whole = exact / ratio if ratio else exact
        for group, value in self.offers.group_ratios(self.charge.model, self.at).items():
            yield "group_ratio", whole * value, f"the ratio of group {group}"
        yield "group_ratio", whole, "no ratio of the group"
        alternatives = list(self.offers.alternatives(self.cards, self.at, self.charge.usage.input_tokens))
        for other in alternatives:
            total = self._total(other.offer)
            if total is not None:
                yield other.cause, total * ratio, other.text
                yield other.cause, total * other.offer.ratio, other.text
        for other in alternatives:
            for kind, quantity in self.quantities.items():
                price, own = other.offer.price(kind), self.offer.price(kind)
                if price is not None and own is not None:
                    name = "tool_fee" if kind in self.tools else CAUSE_OF_KIND.get(kind, "input_price")
                    yield name, exact + quantity * (price - own) * ratio, f"{other.text}, for {kind} only"

    def _total(self, offer: Offer) -> Fraction | None:
        total = offer.listed.get("request", Fraction(0))
        for kind, quantity in self.quantities.items():
            price = offer.price(kind)
            if price is None:
                return None
            total += quantity * price
        return total

    def _token_values(self) -> Iterator[tuple[str, Fraction, str]]:
        base = self.offer.price("input")
        for kind, quantity in self.quantities.items():
            price = self.offer.price(kind)
            if kind == "input" or kind in self.tools or price is None or base is None:
                continue
            cause = CAUSE_OF_KIND.get(kind, "input_price")
            plain = quantity * base
            own = quantity * price
            yield cause, self.exact + (plain - own) * self.ratio, f"{kind} at the price of input"
            yield cause, self.exact - own * self.ratio, f"no charge for {kind}"
            if kind in _INPUT_KINDS:
                yield cause, self.exact + plain * self.ratio, f"{kind} charged as input as well"
            for factor in (Fraction(5, 4), Fraction(2)) if kind.startswith("cache_write") else ():
                text = f"{kind} at {float(factor):g} times the price of input"
                yield cause, self.exact + (plain * factor - own) * self.ratio, text
        reasoning = self.charge.usage.reasoning_tokens
        output = self.offer.price("output")
        if reasoning and output:
            yield "output_price", self.exact + reasoning * output * self.ratio, "reasoning tokens charged twice"

    def _by_breakdown(self) -> Cause | None:
        """Return the cause by the parts of the amount that the row states."""
        stated = self.metadata.get("cost_breakdown")
        if not isinstance(stated, Mapping):
            return None
        sums = {"input_cost": Fraction(0), "output_cost": Fraction(0), "tool_usage_cost": Fraction(0)}
        for kind, quantity in self.quantities.items():
            name = "tool_usage_cost" if kind in self.tools else "input_cost" if kind in _INPUT_KINDS else "output_cost"
            sums[name] += quantity * (self.offer.price(kind) or 0) * self.ratio
        differing = []
        for name, expected in sums.items():
            value = stated.get(name)
            found = None if isinstance(value, str) else to_fraction(value)
            if found is not None and abs(found - expected) > _FRACTION_NOISE * max(abs(found), expected):
                differing.append(name)
        if differing == ["output_cost"]:
            return Cause("output_price", "the row states another cost of output")
        if differing == ["tool_usage_cost"]:
            return Cause("tool_fee", "the row states another cost of tools")
        if differing == ["input_cost"]:
            kinds = [kind for kind in self.quantities if kind in _INPUT_KINDS]
            found_cause = self._by_one_price(kinds)
            return found_cause or Cause("input_price", "the row states another cost of input")
        return None

    def _by_one_price(self, kinds: list[str] | None = None) -> Cause | None:
        """Return the kind of which another price, a short decimal, gives the amount. All others have their own."""
        found: list[tuple[int, str, Fraction]] = []
        candidates = {kind: self.quantities[kind] for kind in (kinds if kinds is not None else self.quantities)}
        prices: dict[str, Fraction | None] = {kind: self.offer.price(kind) for kind in candidates}
        if kinds is None and self.offer.listed.get("request"):
            candidates["request"], prices["request"] = Fraction(1), self.offer.listed["request"]
        for kind, quantity in candidates.items():
            price = prices[kind]
            if price is None or not quantity or not self.ratio:
                continue
            scale = 1 if kind == "request" else 1000 if kind in self.tools else 1_000_000
            wanted = (price + (self.spend - self.exact) / (quantity * self.ratio)) * scale
            for places in range(_PRICE_PLACES + 1):
                short = Fraction(round(wanted * 10**places), 10**places)
                error = abs(short - wanted) / scale * quantity * self.ratio
                if short >= 0 and error <= _SHARP * abs(self.spend):
                    found.append((places, kind, short))
                    break
        if not found:
            return None
        _, kind, short = min(found)
        name = "tool_fee" if kind in self.tools else CAUSE_OF_KIND.get(kind, "input_price")
        return Cause(name, f"{kind} costs {float(short):g} in the log")
