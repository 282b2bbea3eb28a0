"""Reconciles a log of new-api with a price file, row by row.

Nearly all rows of a log repeat the ratios of earlier ones. A row with ratios that were found right is only multiplied
and compared. All others go through :class:`NewApiChecker`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.gateway.known_prices import KnownPrices, Terms
from brivionix_billing.reconcile.gateway.new_api import (
    COLUMNS,
    CONSUME,
    REFUND,
    UNIT,
    Agreements,
    NewApiChecker,
    parse_other,
    signed_quota,
    upstream_key,
    user_of,
)
from brivionix_billing.reconcile.gateway.new_api_call import ContradictionError, read_call, to_fraction
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method, detect_method
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, Row, State
from brivionix_billing.tabular import format_csv

__all__ = ["reconcile_new_api"]

_SAMPLE: Final = 20_000
"""Rows at the start of a log from which its rounding and the ratios of user groups are learned."""
_METHOD_SAMPLE: Final = 3_000
_AGREED_SHARE: Final = Fraction(1, 25)
"""The share of the rows of a group from which a ratio of a user group counts as agreed."""
_AGREED_ROWS: Final = 5
"""The number of rows of a user from which the ratio of most of them counts as agreed."""
_NUMBERS: Final = ("id", "user_id", "created_at", "type", "quota", "prompt_tokens", "completion_tokens", "use_time")
_REFUND_TEXTS: Final = (b'"type":6', b'"type": 6')
_CLOCK: Final = tuple(
    f"{hour:02d}:{minute:02d}:{second:02d}Z" for hour in range(24) for minute in range(60) for second in range(60)
)
"""The time of each second of a day."""
_LINES: Final = 2_000
_scan: Final[Callable[[Any, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


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
    run = _Run(source, book, quota_per_unit)
    agreements = _stated_agreements(user_ratios) if user_ratios is not None else run.learn_agreements()
    method = run.learn_method()
    checker = NewApiChecker(book, quota_per_unit, method, agreements, run.refunded())
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
        run.compare(checker, writer)
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


class _Run:
    """One reconciliation of one log."""

    def __init__(self, source: LogSource, book: PriceBook, quota_per_unit: int) -> None:
        self.source, self.book, self.quota_per_unit = source, book, quota_per_unit

    # What the log itself says about the gateway

    def _sample(self) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        for raw in islice(self.source.rows(), _SAMPLE):
            row = self._row(raw)
            if row.get("type") == CONSUME:
                yield row, parse_other(row)

    def learn_agreements(self) -> Agreements:
        """Return the ratios of user groups that the rows of a log have in common."""
        by_user: dict[tuple[str, str], Counter[Fraction | None]] = defaultdict(Counter)
        by_group: dict[str, Counter[Fraction | None]] = defaultdict(Counter)
        for row, other in self._sample():
            stated = to_fraction(other.get("user_group_ratio"))
            ratio = None if stated is None or stated < 0 else stated
            group = str(row.get("group") or "default")
            by_user[user_of(row), group][ratio] += 1
            by_group[group][ratio] += 1
        agreed: dict[str, set[Fraction]] = defaultdict(set)
        own: dict[tuple[str, str], Fraction] = {}
        for (user, group), counts in by_user.items():
            ratio, most = counts.most_common(1)[0]
            if ratio is not None and most >= _AGREED_ROWS and 2 * most > counts.total():
                own[user, group] = ratio
                agreed[group].add(ratio)
        for group, counts in by_group.items():
            for ratio, count in counts.items():
                if ratio is not None and count >= _AGREED_ROWS and count >= _AGREED_SHARE * counts.total():
                    agreed[group].add(ratio)
        return Agreements({group: frozenset(ratios) for group, ratios in agreed.items()}, own)

    def learn_method(self) -> Method:
        """Return the way in which most rows of a log were rounded."""
        samples = []
        for row, other in islice(self._sample(), _METHOD_SAMPLE):
            try:
                call = read_call(row, other, self.quota_per_unit)
            except ContradictionError:
                continue
            if call.mode != "task" and (call.mode != "expression" or call.outcome is not None):
                samples.append((signed_quota(row), call.exact, call.as_float))
        return detect_method(samples)

    def refunded(self) -> frozenset[str]:
        """Return the ids of requests and tasks that have a refund in the log."""
        found = set()
        for raw in self.source.rows_with(_REFUND_TEXTS):
            row = self._row(raw)
            if row.get("type") == REFUND:
                found |= {str(row.get("request_id") or ""), str(parse_other(row).get("task_id") or "")}
        return frozenset(found - {""})

    def _row(self, raw: RawRow) -> Mapping[str, Any]:
        row: Mapping[str, Any]
        if isinstance(raw, str):
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise self._unreadable(str(error)) from None
            if not isinstance(row, dict):
                raise self._unreadable("a row is no object")
        else:
            row = raw
        if "type" not in row or "quota" not in row:
            raise BillingError(
                "file_unreadable",
                f"the log {self.source.place} has a row without type and quota; export all columns of new-api's logs",
            )
        if type(row["type"]) is int:
            return row
        numbers = {name: to_fraction(row.get(name)) for name in _NUMBERS if name in row}
        return {**row, **{name: int(value) if value is not None else 0 for name, value in numbers.items()}}

    def _unreadable(self, problem: str) -> BillingError:
        return BillingError(
            "file_unreadable", f"the log {self.source.place} has a row that is not valid JSON: {problem}"
        )

    # Comparing

    def compare(self, checker: NewApiChecker, writer: ResultWriter) -> None:
        """Compare all rows, in the order of the log. Refunds without figures of their own come last."""
        known = KnownPrices(checker)
        deferred: list[Mapping[str, Any]] = []
        for row, other in self._unknown_rows(checker, known, writer):
            if row.get("type") == REFUND and "pre_consumed" not in other and "quota_delta" not in other:
                deferred.append(row)
                continue
            found = checker.check(row, other)
            self._add(writer, row, found)
            if (
                found.state is State.MATCHED
                and found.cause in (NO_CAUSE, "subscription")
                and row.get("type") == CONSUME
            ):
                known.remember(row, other)
        for row in deferred:
            self._add(writer, row, checker.check(row, parse_other(row)))

    @staticmethod
    def _add(writer: ResultWriter, row: Mapping[str, Any], found: Row) -> None:
        writer.count(UNIT, theirs=signed_quota(row), ours=int(found.ours or 0))
        writer.add(found)

    def _unknown_rows(
        self, checker: NewApiChecker, known: KnownPrices, writer: ResultWriter
    ) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Write the rows that known prices show to be right, and yield all others."""
        request_ids, upstream_calls, refunded = checker.request_ids, checker.upstream_calls, checker.refunded
        lines = _MatchedLines(writer)
        for raw in self.source.rows():
            try:
                row = _scan(raw, 0)[0]
                other = _scan(row["other"], 0)[0]
                priced = known.quota(row, other)
                if priced is not None and priced[0] == row["quota"]:
                    request_id = row["request_id"]
                    upstream = row["upstream_request_id"] and upstream_key(row)
                    if (
                        request_id not in request_ids
                        and request_id not in refunded
                        and not (upstream and upstream in upstream_calls)
                        and request_id.replace("-", "").isalnum()
                        and request_id[0] != "-"
                    ):
                        is_subscribed = other.get("billing_source") == "subscription"
                        lines.add(row, priced[1], "subscription" if is_subscribed else NO_CAUSE)
                        request_ids.add(request_id)
                        if upstream:
                            upstream_calls.add(upstream)
                        continue
            except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError, OverflowError):
                pass  # an unusual row, which is checked in full
            lines.flush()
            slow = self._row(raw)
            yield slow, parse_other(slow)
        lines.flush()


class _MatchedLines:
    """Lines of CSV for rows that match."""

    def __init__(self, writer: ResultWriter) -> None:
        self._writer = writer
        self._lines: list[str] = []
        self._totals: dict[str, list[int]] = {}
        """By cause, the number of rows and their quota."""
        self._days: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._tails: dict[tuple[str, str], str] = {}

    def add(self, row: Mapping[str, Any], terms: Terms, cause: str) -> None:
        """Add a row that is charged by these terms. Raises if it is unusual, before it is added."""
        quota = row["quota"]
        day, second = divmod(row["created_at"], 86_400)
        user, names = row["username"], (terms.model, terms.group)
        try:
            date, account, tail = self._days[day], self._names[user], self._tails[names]
        except KeyError:
            date = self._days[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%dT")
            account = self._names[user] = _plain_text(user)
            tail = self._tails[names] = f"{_plain_text(terms.model)},{_plain_text(terms.group)},\n"
        self._lines.append(
            f"{row['request_id']},matched,{cause},{quota},{quota},0,quota,{row['id'] + 0},"
            f"{date}{_CLOCK[second]},{account},{tail}"
        )
        totals = self._totals.get(cause)
        if totals is None:
            totals = self._totals[cause] = [0, 0]
        totals[0] += 1
        totals[1] += quota
        if len(self._lines) >= _LINES:
            self.flush()

    def flush(self) -> None:
        """Write the lines."""
        text = "".join(self._lines)
        for cause, (rows, total) in self._totals.items():
            self._writer.count(UNIT, theirs=total, ours=total)
            self._writer.add_formatted(text, State.MATCHED, cause, UNIT, rows, total, total)
            text = ""
        self._totals.clear()
        self._lines.clear()


def _plain_text(text: str) -> str:
    """Return a text as a cell of CSV."""
    return format_csv([{"": text}]).split("\n", 1)[1].rstrip("\n")
