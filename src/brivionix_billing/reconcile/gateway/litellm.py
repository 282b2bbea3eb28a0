"""Reconciles the spend log of litellm's proxy with a price file, row by row.

A row has the provider's usage in ``metadata.usage_object`` and one amount in USD, a double, without the prices it was
computed by. So the charge is computed again from the usage, and the cause of a difference by other prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.reconcile.gateway.causes import Verdict, cause_of_error
from brivionix_billing.reconcile.gateway.comparing import comparing_log
from brivionix_billing.reconcile.gateway.litellm_causes import Search
from brivionix_billing.reconcile.gateway.litellm_known import NOISE, NOISE_TEXT, KnownCallers, is_noise
from brivionix_billing.reconcile.gateway.litellm_row import (
    RowTimes,
    account_of,
    find_contradiction,
    find_own_traffic,
    has_fraction,
    model_of,
    read_spend,
    read_usage,
)
from brivionix_billing.reconcile.gateway.log_part import PartBuilder, RepeatKeys
from brivionix_billing.reconcile.gateway.log_values import parse_object, parse_row
from brivionix_billing.reconcile.gateway.merging import PartMerger
from brivionix_billing.reconcile.gateway.offers import Offers
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State
from brivionix_billing.times import format_instant, load_zone
from brivionix_billing.usage import Usage

__all__ = ["reconcile_litellm"]

_COLUMNS: Final = Columns("request_id", "logged", "expected", ("at", "account", "model", "group", "explanation"))
_CALL: Final = ("api_key", "user", "model", "startTime", "endTime", "prompt_tokens", "completion_tokens", "spend")
"""What identifies a call without its id."""
_NUMBERS: Final[Mapping[str, Callable[[str], float]]] = {
    "spend": float,
    **dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), int),
}
"""Columns with numbers, which CSV has as texts."""


def reconcile_litellm(
    source: LogSource,
    book: PriceBook,
    folder: str | Path,
    *,
    group: str = "default",
    zone: str = "UTC",
    format: str = "csv",
    workers: int = 0,
) -> Result:
    """Compare every row of a spend log with the price book, and write the result to a folder.

    The group of a row is its team if the price book has such a group, else ``group``. Times without an offset are in
    ``zone``. Raises ``file_unreadable`` for a row that is not JSON, or has no column of the spend.

    ``workers`` is a number of additional processes, as for :func:`reconcile_new_api`.
    """
    rule = Rule(
        "gateway litellm",
        "log",
        "price file",
        (Key(("request_id",)), Key(("api_key", "model", "startTime", "endTime", "tokens", "spend"))),
        ratio_tolerance=NOISE,
        their_zone=zone,
        settings={"group": group},
    )
    make_log = partial(_LiteLlmLog, book, group, zone, source.place)
    with comparing_log(source, workers) as compare, ResultWriter(Path(folder), rule, _COLUMNS, format) as writer:
        merger = PartMerger(writer, _unit(book), _describe_repeated)
        for part in compare(make_log):
            merger.add(part)
        return writer.finish([source.input()], book.digest)


def _unit(book: PriceBook) -> str:
    return book.resolver.file.credit.currency


def _describe_repeated(keys: RepeatKeys) -> str:
    if keys.call is None:
        return "the request id is already in the log"
    return "a call at the same time with the same tokens is already in the log"


def _repeat_keys(row: Mapping[str, Any]) -> RepeatKeys:
    """Return what a row has in common with one that repeats it."""
    has_call = has_fraction(str(row.get("startTime") or "")) and row.get("total_tokens") not in (None, "", 0, "0")
    return RepeatKeys(str(row.get("request_id") or "") or None, tuple(map(row.get, _CALL)) if has_call else None)


class _LiteLlmLog:
    """Compares the rows of one log."""

    columns = _COLUMNS

    def __init__(self, book: PriceBook, group: str, zone: str, place: str) -> None:
        self.book, self.group, self.place = book, group, place
        self.times = RowTimes(load_zone(zone))
        self.unit = _unit(book)
        self.offers = Offers(book, 1)
        self._groups = frozenset(book.group_names)
        self._models: dict[tuple[str, str], str | None] = {}
        self._known = KnownCallers(self.offers, self.times, self._group)

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row. Raises ``file_unreadable``."""
        row = parse_row(raw, self.place)
        if isinstance(raw, str):
            return row
        found = dict(row)
        for name, read_number in _NUMBERS.items():
            text = row.get(name)
            if type(text) is str and text.isascii():
                with suppress(ValueError):
                    number = read_number(text)
                    if repr(number) == text:  # all others stay as they are, because they may be more exact
                        found[name] = number
        return found

    def match(self, row: dict[str, Any], part: PartBuilder) -> bool:
        """Add the line of a row that known prices show to be right."""
        found = self._known.price(row)
        if found is None:
            return False
        call = tuple(map(row.get, _CALL)) if found.at.is_exact and row["total_tokens"] else None
        part.add_matched(row["request_id"], call, found.cause, found.amounts, found.texts, found.details)
        return True

    def check(self, row: Mapping[str, Any], part: PartBuilder) -> None:
        """Check a row in full, add it, and keep its prices if it is right."""
        spend = read_spend(row, self.place)
        found = self._check(row, spend)
        part.add(found, Decimal(0) if spend is None else spend, _repeat_keys(row))
        if found.state is State.MATCHED:
            self._remember(row, found)

    def _check(self, row: Mapping[str, Any], spend: Decimal | None) -> Row:
        at = self.times.read(row.get("startTime"))
        verdict = self._verdict(row, Decimal(0) if spend is None else spend, at)
        if spend is None and verdict.state in (State.MATCHED, State.DIFFERS):
            text = f"spend {safe_repr(row['spend'], 60)} is no number"
            verdict = Verdict(State.DIFFERS, "no_amount", verdict.expected, text)
        expected = None if verdict.expected is None else Decimal(verdict.expected)
        details = {
            "at": "" if at is None else format_instant(at),
            "account": account_of(row),
            "model": model_of(row),
            "group": self._group(row),
            "explanation": verdict.text,
        }
        return Row(str(row.get("request_id") or ""), verdict.state, verdict.cause, self.unit, spend, expected, details)

    def _remember(self, row: Mapping[str, Any], found: Row) -> None:
        """Keep the prices of a row that was found right."""
        metadata = parse_object(row.get("metadata"))
        if found.cause in (NO_CAUSE, "float_noise") and metadata.get("usage_object"):
            try:
                charge = self._rate(row, metadata, self.times.read(row["startTime"]))
                self._known.keep(row, charge)
            except (BillingError, KeyError, TypeError, ValueError, AttributeError):
                return  # an unusual row

    def _group(self, row: Mapping[str, Any]) -> str:
        team = row.get("team_id")
        return team if isinstance(team, str) and team in self._groups else self.group

    def _verdict(self, row: Mapping[str, Any], spend: Decimal, at: datetime | None) -> Verdict:
        metadata = parse_object(row.get("metadata"))
        own = find_own_traffic(row, metadata)
        if own:
            return Verdict(State.ONLY_THEIRS, "own_traffic", None, f"traffic of the proxy itself: {own[:80]}")
        if not spend and not row.get("model") and not row.get("model_group") and not metadata.get("usage_object"):
            return Verdict(State.ONLY_THEIRS, "own_traffic", None, "a call of the proxy itself, without a model")
        if str(row.get("status") or "success").lower() not in ("success", "ok"):
            if not spend:
                return Verdict(State.MATCHED, NO_CAUSE, Decimal(0), "the request failed")
            return Verdict(State.DIFFERS, "usage_missing", Decimal(0), "the request failed, but was charged")
        if str(row.get("cache_hit") or "").lower() == "true":
            if not spend:
                return Verdict(State.MATCHED, NO_CAUSE, Decimal(0), "answered from the proxy's own cache")
            return Verdict(State.DIFFERS, "cache_price", Decimal(0), "answered from the proxy's cache, but charged")
        return self._charge(row, metadata, spend, at)

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

    def _rate(self, row: Mapping[str, Any], metadata: Mapping[str, Any], at: datetime | None) -> Charge:
        """Return the charge by the price book. Raises what :meth:`PriceBook.rate` raises."""
        tier = metadata.get("service_tier")
        usage = read_usage(row, _usage_object(metadata))
        return self.book.rate(
            usage,
            model=self._model(row),
            group=self._group(row),
            at=at,  # type: ignore[arg-type]  # rows without a time are not rated
            service_tier=tier if isinstance(tier, str) and tier else None,
        )

    def _charge(
        self, row: Mapping[str, Any], metadata: Mapping[str, Any], spend: Decimal, at: datetime | None
    ) -> Verdict:
        body = _usage_object(metadata)
        if at is None:
            return Verdict(State.DIFFERS, "price_date", None, "the row has no time")
        try:
            self._model(row)
        except BillingError as error:
            cause = "unknown_model" if spend else "unmapped_model"
            return Verdict(State.ONLY_THEIRS, cause, None, error.message)
        problem = find_contradiction(row, body)
        if problem:
            return Verdict(State.DIFFERS, "usage_contradiction", None, problem)
        try:
            charge = self._rate(row, metadata, at)
        except BillingError as error:
            cause = cause_of_error(error)
            state = State.DIFFERS if cause.startswith("usage_") else State.ONLY_THEIRS
            return Verdict(state, cause, None, error.message)
        expected = charge.nominal.amount
        missing = _missing(body, charge.usage, charge)
        if missing:
            state = State.MATCHED if is_noise(spend, expected) and spend else State.DIFFERS
            return Verdict(state, "usage_missing", expected, missing)
        if spend == expected:
            return Verdict(State.MATCHED, NO_CAUSE, expected)
        if is_noise(spend, expected):
            return Verdict(State.MATCHED, "float_noise", expected, NOISE_TEXT)
        if not spend:
            return Verdict(State.DIFFERS, "unmapped_model", expected, "the proxy has no price for the model")
        found = Search(self.offers, charge, at, Fraction(spend), metadata).cause()
        return Verdict(State.DIFFERS, found.name, expected, found.text)


def _usage_object(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    body = metadata.get("usage_object")
    return body if isinstance(body, dict) else None


def _missing(body: Mapping[str, Any] | None, usage: Usage, charge: Charge) -> str:
    if body:
        return "" if charge.units or any(quantity for _, quantity in usage.quantities()) else "the usage is all zeros"
    if charge.units and not usage.input_tokens and not usage.output_tokens:
        return ""  # a price per request needs no usage
    return "the row has no usage object"
