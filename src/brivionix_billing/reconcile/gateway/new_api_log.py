"""Reconciles a log of new-api with a price file, row by row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import date, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.gateway.causes import Verdict
from brivionix_billing.reconcile.gateway.comparing import comparing_log, parse_fast
from brivionix_billing.reconcile.gateway.log_part import LogPart, PartBuilder, plain_text
from brivionix_billing.reconcile.gateway.merging import PartMerger
from brivionix_billing.reconcile.gateway.new_api import (
    COLUMNS,
    UNIT,
    Agreements,
    NewApiChecker,
    make_row,
)
from brivionix_billing.reconcile.gateway.new_api_known import KnownRatios
from brivionix_billing.reconcile.gateway.new_api_learning import find_refunded, learn
from brivionix_billing.reconcile.gateway.new_api_repeats import Refunds, describe_repeated, repeat_keys
from brivionix_billing.reconcile.gateway.new_api_row import (
    CONSUME,
    ids_of,
    parse_other,
    read_quota,
    read_row,
    signed_quota,
    upstream_call,
)
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, State

__all__ = ["reconcile_new_api"]

_EPOCH: Final = date(1970, 1, 1)
_HOUR: Final = 3_600
_SECONDS: Final = tuple(f"{minute:02d}:{second:02d}Z," for minute in range(60) for second in range(60))
"""The seconds of an hour. A table of all seconds of a day does not fit the cache."""


def reconcile_new_api(
    source: LogSource,
    book: PriceBook,
    folder: str | Path,
    *,
    quota_per_unit: int = 500_000,
    format: str = "csv",
    user_ratios: Mapping[str, Mapping[str, Fraction]] | None = None,
    workers: int = 0,
) -> Result:
    """Compare every row of a log with the price book, and write the result to a folder.

    ``user_ratios`` has the option ``GroupGroupRatio`` of the gateway: user group -> group -> ratio. Without it, the
    ratios that most rows of a user have count as agreed, and the result names them.

    ``workers`` is a number of additional processes, for a log that is a file with one row in JSON per line. They import
    the calling script, so it must keep its own work under ``if __name__ == "__main__"``. The result is the same.

    Raises ``file_unreadable`` for a row that is not JSON.
    """
    with comparing_log(source, workers) as compare:
        agreements, method = learn(source, quota_per_unit)  # while the processes start
        if user_ratios is not None:
            agreements = _stated_agreements(user_ratios)
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
            parts = compare(partial(_open_log, book, quota_per_unit, method, agreements, source.place))
            refunds = Refunds(find_refunded(source))
            merger = PartMerger(writer, UNIT, describe_repeated, refunds.amend)
            for part in parts:
                merger.add(part)
            merger.add(_check_waiting(refunds, merger))
            return writer.finish([source.input()], book.digest, _notes(method, agreements))


def _open_log(
    book: PriceBook,
    quota_per_unit: int,
    method: Method,
    agreements: Agreements,
    place: str,
) -> _NewApiLog:
    return _NewApiLog(NewApiChecker(book, quota_per_unit, method, agreements), place)


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
    """Compares the rows of one log."""

    unit = UNIT
    columns = COLUMNS

    def __init__(self, checker: NewApiChecker, place: str) -> None:
        self._checker, self._place = checker, place
        self._known = KnownRatios(checker)
        self._hours: dict[int, str] = {}
        self._names: dict[tuple[str, str, str], str] = {}
        """Account, model and group -> their cells."""

    def read(self, raw: RawRow) -> Mapping[str, Any]:
        """Return a row. Raises ``file_unreadable``."""
        return read_row(raw, self._place)

    def match(self, row: dict[str, Any], part: PartBuilder) -> bool:
        """Add a row that known prices show to be right."""
        request_id, quota, other = row["request_id"], row["quota"], parse_fast(row["other"])
        if type(quota) is not int or self._known.quota(row, other) != quota:
            return False
        call = upstream_call(row) if row["upstream_request_id"] else None
        cause = "subscription" if other.get("billing_source") == "subscription" else NO_CAUSE
        part.add_matched(request_id, call, cause, (quota, quota), f"{quota},{quota},0", self._details(row))
        if "task_id" in other:
            part.add_event(ids_of(row, other))
        return True

    def _details(self, row: Mapping[str, Any]) -> str:
        """Return the cells of the details of a row. Raises ``KeyError`` or ``TypeError`` for an unusual one."""
        hour, second = divmod(row["created_at"], _HOUR)
        log_id, names = row["id"], (row["username"], row["model_name"], row["group"])
        if type(log_id) is not int or not names[0]:
            raise TypeError("the row is named otherwise")
        try:
            start, cells = self._hours[hour], self._names[names]
        except KeyError:
            day, hour_of_day = divmod(hour, 24)
            start = self._hours[hour] = f"{_EPOCH + timedelta(day)}T{hour_of_day:02d}:"
            cells = self._names[names] = "".join(f"{plain_text(name)}," for name in names)
        return f"{log_id},{start}{_SECONDS[second]}{cells}"

    def check(self, row: Mapping[str, Any], part: PartBuilder) -> None:
        """Check a row in full, add it, and keep its prices if it is right.

        Refunds without figures of their own are decided at the end of the log, because their charge may come later.
        """
        other = parse_other(row)
        found = self._checker.check(row, other)
        if found is None:
            part.add_later(row)
            return
        keys = repeat_keys(row, other)
        part.add(found, signed_quota(row), keys)
        if row.get("type") != CONSUME:
            return
        if "task_id" in other or not isinstance(keys.request, str):
            part.add_event(ids_of(row, other))
        if found.state is State.MATCHED and found.cause in (NO_CAUSE, "subscription"):
            self._known.remember(row, other)


def _check_waiting(refunds: Refunds, merger: PartMerger) -> LogPart:
    """Return the rows that had to wait for the end of the log: refunds that their charge decides."""
    part = PartBuilder(COLUMNS, UNIT)
    for row in refunds.waiting:
        other, logged = parse_other(row), read_quota(row)
        repeated = merger.find(repeat_keys(row, other))
        if repeated:
            verdict = Verdict(State.DUPLICATE, "duplicate", None, repeated)
        else:
            verdict = refunds.refund(row, other, logged or 0)
        part.add(make_row(row, logged, verdict), logged or 0)
    return part.finish()
