"""Reconciles a log of new-api with a price file, row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.gateway.comparing import MatchedLines, compare_rows, parse_fast, plain_text
from brivionix_billing.reconcile.gateway.new_api import COLUMNS, REFUNDED_LATER, UNIT, Agreements, NewApiChecker
from brivionix_billing.reconcile.gateway.new_api_known import KnownRatios
from brivionix_billing.reconcile.gateway.new_api_learning import find_refunded, learn
from brivionix_billing.reconcile.gateway.new_api_repeats import Repeats
from brivionix_billing.reconcile.gateway.new_api_row import (
    CONSUME,
    REFUND,
    parse_other,
    read_row,
    signed_quota,
    upstream_key,
)
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, Row

__all__ = ["reconcile_new_api"]

_EPOCH: Final = date(1970, 1, 1)
_MINUTES: Final = tuple(f"{hour:02d}:{minute:02d}:" for hour in range(24) for minute in range(60))
_SECONDS: Final = tuple(f"{second:02d}Z," for second in range(60))
"""The minutes of a day and the seconds of a minute. A table of all seconds of a day does not fit the cache."""


def reconcile_new_api(
    source: LogSource,
    book: PriceBook,
    folder: str | Path,
    *,
    quota_per_unit: int = 500_000,
    format: str = "csv",
    user_ratios: Mapping[str, Mapping[str, Fraction]] | None = None,
) -> Result:
    """Compare every row of a log with the price book, and write the result to a folder.

    ``user_ratios`` has the option ``GroupGroupRatio`` of the gateway: user group -> group -> ratio. Without it, the
    ratios that most rows of a user have count as agreed, and the result names them.

    Raises ``file_unreadable`` for a row that is not JSON.
    """
    agreements, method = learn(source, quota_per_unit)
    if user_ratios is not None:
        agreements = _stated_agreements(user_ratios)
    checker = NewApiChecker(book, quota_per_unit, method, agreements, Repeats(find_refunded(source)))
    rule = Rule(
        "gateway new-api",
        "log",
        "price file",
        (Key(("request_id",)), Key(("upstream_request_id", "user_id", "model_name", "tokens")), Key(("log_id",))),
        settings={
            "quota_per_unit": quota_per_unit,
            "rounding": str(method),
            "user_group_ratios": _describe(agreements),
        },
    )
    with ResultWriter(Path(folder), rule, COLUMNS, format) as writer:
        compare_rows(source.rows(), _NewApiLog(checker, source.place), writer)
        return writer.finish([source.input()], book.digest, _notes(method, agreements))


def _notes(method: Method, agreements: Agreements) -> list[str]:
    notes = []
    if method != DEFAULT_METHOD:
        notes.append(f"The log was rounded by: {method}.")
    if agreements.by_group:
        ratios = ", ".join(f"{group} {ratio}" for group, ratio in _describe(agreements).items())
        notes.append(f"Ratios of user groups are not in the price file; taken as agreed: {ratios}.")
    return notes


def _describe(agreements: Agreements) -> dict[str, str]:
    return {
        group: ", ".join(f"{float(ratio):.10g}" for ratio in sorted(ratios))
        for group, ratios in sorted(agreements.by_group.items())
    }


def _stated_agreements(user_ratios: Mapping[str, Mapping[str, Fraction]]) -> Agreements:
    found: dict[str, set[Fraction]] = defaultdict(set)
    for groups in user_ratios.values():
        for group, ratio in groups.items():
            found[group].add(ratio)
    return Agreements({group: frozenset(ratios) for group, ratios in found.items()})


class _NewApiLog:
    """The rows of one log, for :func:`compare_rows`."""

    unit = UNIT

    def __init__(self, checker: NewApiChecker, place: str) -> None:
        self._checker, self._place, self._repeats = checker, place, checker.repeats
        self._known = KnownRatios(checker)
        self._waiting: list[Mapping[str, Any]] = []
        self._days: dict[int, str] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        """Account, model and group -> their cells."""

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row. Raises ``file_unreadable``."""
        return read_row(raw, self._place)

    def logged(self, row: Mapping[str, Any]) -> int:
        """Return what a row charges; 0 if its quota is no number."""
        return signed_quota(row)

    def match(self, row: dict[str, Any], lines: MatchedLines) -> bool:
        """Add the line of a row that known prices show to be right."""
        repeats, request_id, quota, other = self._repeats, row["request_id"], row["quota"], parse_fast(row["other"])
        if type(quota) is not int or self._known.quota(row, other) != quota:
            return False
        upstream = row["upstream_request_id"] and upstream_key(row)
        if request_id in repeats.request_ids or (upstream and upstream in repeats.upstream_calls):
            return False
        task, details = other.get("task_id"), self._details(row)
        is_refunded = request_id in repeats.refunded or (task and str(task) in repeats.refunded)
        if is_refunded:
            cause, details = "refunded", details + REFUNDED_LATER
        else:
            cause = "subscription" if other.get("billing_source") == "subscription" else NO_CAUSE
        lines.add(request_id, cause, (quota, quota), f"{quota},{quota},0", details)
        if is_refunded:
            repeats.charge(row, other, quota)
        repeats.request_ids.add(request_id)
        if upstream:
            repeats.upstream_calls.add(upstream)
        return True

    def _details(self, row: Mapping[str, Any]) -> str:
        """Return the cells of the details of a row. Raises ``KeyError`` or ``TypeError`` for an unusual one."""
        day, second = divmod(row["created_at"], 86_400)
        minute, second = divmod(second, 60)
        log_id, names = row["id"], (row["username"], row["model_name"], row["group"])
        if type(log_id) is not int or not names[0]:
            raise TypeError("the row is named otherwise")
        try:
            start, cells = self._days[day], self._names[names]
        except KeyError:
            start = self._days[day] = f"{_EPOCH + timedelta(day)}T"
            cells = self._names[names] = "".join(f"{plain_text(name)}," for name in names)
        return f"{log_id},{start}{_MINUTES[minute]}{_SECONDS[second]}{cells}"

    def check(self, row: Mapping[str, Any]) -> Row | None:
        """Check a row in full. Refunds without figures of their own wait, because their charge may come later."""
        other = parse_other(row)
        if row.get("type") == REFUND and "pre_consumed" not in other and "quota_delta" not in other:
            self._waiting.append(row)
            return None
        return self._checker.check(row, other)

    def remember(self, row: Mapping[str, Any], found: Row) -> None:
        """Keep the prices of a row that was found right."""
        if found.cause in (NO_CAUSE, "subscription", "refunded") and row.get("type") == CONSUME:
            self._known.remember(row, parse_other(row))

    def check_waiting(self) -> Iterator[tuple[Mapping[str, Any], Row]]:
        """Check the refunds that had to wait."""
        for row in self._waiting:
            yield row, self._checker.check(row, parse_other(row))
