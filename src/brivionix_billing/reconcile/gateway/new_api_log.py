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
from math import lcm
from pathlib import Path
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.reconcile.gateway.new_api import (
    COLUMNS,
    CONSUME,
    REFUND,
    UNIT,
    Agreements,
    NewApiChecker,
    parse_other,
    signed_quota,
    user_of,
)
from brivionix_billing.reconcile.gateway.new_api_call import ContradictionError, read_call, to_fraction
from brivionix_billing.reconcile.gateway.quota import DEFAULT_METHOD, Method, Mode, detect_method
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.result import Result, ResultWriter
from brivionix_billing.reconcile.rows import NO_CAUSE, Row, State
from brivionix_billing.tabular import format_csv
from brivionix_billing.times import END_OF_TIME

__all__ = ["reconcile_new_api"]

_SAMPLE: Final = 20_000
"""Rows at the start of a log from which its rounding and the ratios of user groups are learned."""
_METHOD_SAMPLE: Final = 4_000
_AGREED_SHARE: Final = Fraction(1, 25)
"""The share of the rows of a group from which a ratio of a user group counts as agreed."""
_AGREED_ROWS: Final = 5
"""The number of rows of a user from which the ratio of most of them counts as agreed."""
_NUMBERS: Final = ("id", "user_id", "created_at", "type", "quota", "prompt_tokens", "completion_tokens", "use_time")
_PLAIN_KEYS: Final = frozenset(
    {
        *("model_ratio", "group_ratio", "completion_ratio", "cache_tokens", "cache_ratio", "model_price"),
        *("user_group_ratio", "frt", "reasoning_effort", "billing_source", "billing_preference", "stream_status"),
        *("request_path", "request_conversion", "is_model_mapped", "upstream_model_name", "admin_info", "po"),
        *("is_system_prompt_overwritten",),
    }
)
"""Keys of ``other`` that a row of text tokens has. With any other, a row is not plain."""
_PLAIN_ADMIN: Final = frozenset({"use_channel", "is_multi_key", "multi_key_index"})
_LINES: Final = 2_000
_scan: Final[Callable[[Any, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


class _Terms(NamedTuple):
    """Ratios that were found right, for the period and the number of input tokens for which they are."""

    start: float
    end: float
    first_input: int
    last_input: int
    prices: tuple[int, int, int]
    """Of input, cached input and output."""
    scale: int
    """A charge is a sum of tokens x price / scale."""
    tail: str
    """The last columns of a line: model and group."""


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
        return writer.finish([source.input], book.digest, _notes(method, agreements))


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
        self._known: dict[tuple[object, ...], list[_Terms]] = {}

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
        for raw in self.source.rows():
            if not isinstance(raw, str) or '"type":6' in raw or '"type": 6' in raw:
                row = self._row(raw)
                if row.get("type") == REFUND:
                    found |= {str(row.get("request_id") or ""), str(parse_other(row).get("task_id") or "")}
        return frozenset(found - {""})

    def _row(self, raw: RawRow) -> Mapping[str, Any]:
        if isinstance(raw, str):
            try:
                row = json.loads(raw)
            except (ValueError, RecursionError) as error:
                raise self._unreadable(str(error)) from None
            if not isinstance(row, dict):
                raise self._unreadable("a row is no object")
            return row
        numbers = {name: to_fraction(raw.get(name)) for name in _NUMBERS if name in raw}
        return {**raw, **{name: int(value) if value is not None else 0 for name, value in numbers.items()}}

    def _unreadable(self, problem: str) -> BillingError:
        return BillingError(
            "file_unreadable", f"the log {self.source.place} has a row that is not valid JSON: {problem}"
        )

    # Comparing

    def compare(self, checker: NewApiChecker, writer: ResultWriter) -> None:
        """Compare all rows, in the order of the log. Refunds without figures of their own come last."""
        deferred: list[Mapping[str, Any]] = []
        fast = self._fast_lines(checker, writer)
        for row, other in fast:
            if row.get("type") == REFUND and "pre_consumed" not in other and "quota_delta" not in other:
                deferred.append(row)
                continue
            found = checker.check(row, other)
            self._add(writer, row, found)
            if found.state is State.MATCHED and not found.cause and row.get("type") == CONSUME:
                self._remember(checker, row, other)
        for row in deferred:
            self._add(writer, row, checker.check(row, parse_other(row)))

    @staticmethod
    def _add(writer: ResultWriter, row: Mapping[str, Any], found: Row) -> None:
        writer.count(UNIT, theirs=signed_quota(row), ours=int(found.ours or 0))
        writer.add(found)

    def _fast_lines(
        self, checker: NewApiChecker, writer: ResultWriter
    ) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
        """Write the plain rows that are right, and yield all others."""
        known, request_ids, upstream_calls = self._known, checker.request_ids, checker.upstream_calls
        refunded, own_ratios = checker.refunded, checker.agreements.by_user
        # With another method, a row at a boundary of rounding needs the float operations of the gateway.
        exact_half_up = checker.method == DEFAULT_METHOD
        rounds_down = checker.method.mode is Mode.DOWN
        lines: list[str] = []
        total = 0
        days: dict[int, str] = {}
        texts: dict[str, str] = {}
        scan = _scan
        for raw in self.source.rows():
            try:
                row = scan(raw, 0)[0]
                other = scan(row["other"], 0)[0]
                # Everything that is not an ordinary row of tokens raises, or leaves by the end of the block.
                quota, prompt, output = row["quota"], row["prompt_tokens"], row["completion_tokens"]
                cached = other.get("cache_tokens", 0)
                request_id, model, group = row["request_id"], row["model_name"], row["group"]
                created, user = row["created_at"], row["username"]
                admin = other.get("admin_info")
                if (
                    row["type"] == CONSUME
                    and other.keys() <= _PLAIN_KEYS
                    and (admin is None or admin.keys() <= _PLAIN_ADMIN)
                    and other.get("billing_source", "wallet") == "wallet"
                    and output > 0
                    and 0 <= cached <= prompt > 0
                    and request_id not in request_ids
                    and request_id not in refunded
                    and (not own_ratios or (user, group) not in own_ratios)
                ):
                    for terms in known[
                        model,
                        group,
                        other["model_ratio"],
                        other["completion_ratio"],
                        other["group_ratio"],
                        other.get("cache_ratio") if cached else None,
                        other.get("user_group_ratio", -1),
                        other.get("model_price", -1),
                    ]:
                        start, end, first_input, last_input, prices, scale, tail = terms
                        if start <= created < end and first_input <= prompt <= last_input:
                            break
                    else:
                        raise KeyError
                    whole, rest = divmod((prompt - cached) * prices[0] + cached * prices[1] + output * prices[2], scale)
                    if exact_half_up:
                        whole += rest + rest >= scale
                    elif rounds_down:
                        if rest < 0.001 * scale or rest > 0.999 * scale:
                            raise KeyError
                    else:
                        if abs(rest + rest - scale) < 0.001 * scale:
                            raise KeyError
                        whole += rest + rest > scale
                    upstream = row["upstream_request_id"]
                    key = hash((upstream, row["user_id"], model, prompt, output)) if upstream else 0
                    if (
                        whole == quota
                        and whole > 0
                        and (not key or key not in upstream_calls)
                        and request_id.replace("-", "").isalnum()
                        and request_id[0] != "-"
                    ):
                        request_ids.add(request_id)
                        if key:
                            upstream_calls.add(key)
                        day, second = divmod(created, 86_400)
                        minute, second = divmod(second, 60)
                        shown = texts.get(user)
                        if shown is None:
                            shown = texts[user] = _plain_text(user)
                        date = days.get(day)
                        if date is None:
                            date = days[day] = datetime.fromtimestamp(day * 86_400, UTC).strftime("%Y-%m-%dT")
                        lines.append(
                            f"{request_id},matched,,{quota},{quota},0,quota,{row['id']},"
                            f"{date}{minute // 60:02d}:{minute % 60:02d}:{second:02d}Z,{shown}{tail}"
                        )
                        total += quota
                        if len(lines) >= _LINES:
                            _write(writer, lines, total)
                            total = 0
                        continue
            except (KeyError, TypeError, ValueError, AttributeError, StopIteration, RecursionError, OverflowError):
                pass
            if lines:
                _write(writer, lines, total)
                total = 0
            slow = self._row(raw)
            yield slow, parse_other(slow)
        if lines:
            _write(writer, lines, total)

    def _remember(self, checker: NewApiChecker, row: Mapping[str, Any], other: dict[str, Any]) -> None:
        """Keep the ratios of a plain row that was found right, for all rows of the same period and size."""
        if not other.keys() <= _PLAIN_KEYS or self.book.priced_model == "served":
            return
        if len(self._known) > 100_000:
            self._known.clear()
        model, group = str(row.get("model_name")), str(row.get("group"))
        try:
            call = read_call(row, other, self.quota_per_unit)
            cards = checker.offers.card_set(model, group, call.at, call.service_tier)
            if len(cards.variations()) != 1 or call.mode != "ratio" or call.model_ratio is None:
                return
            card = cards.card(call.input_total)
        except (BillingError, ContradictionError):
            return
        if checker.offers.of_card(card).minimum:
            return
        cached = other.get("cache_tokens") or 0
        base = call.model_ratio * call.ratio
        ratios = {name: to_fraction(other.get(name)) for name in ("cache_ratio", "completion_ratio")}
        if any(value is None or value < 0 for name, value in ratios.items() if name in other):
            return
        prices = [
            base,
            base * (Fraction(1) if ratios["cache_ratio"] is None else ratios["cache_ratio"]),
            base * (Fraction(1) if ratios["completion_ratio"] is None else ratios["completion_ratio"]),
        ]
        if not all(prices):
            return
        # A right row shows that these prices are right only for the kinds of tokens that it has.
        if not {"input", "output"} <= call.quantities.keys() or (cached and "cache_read" not in call.quantities):
            return
        scale = lcm(*(price.denominator for price in prices))
        lower, upper = card.context.lower, card.context.upper
        terms = _Terms(
            cards.terms.start.timestamp() if cards.terms.start.year > 1 else float("-inf"),
            float("inf") if cards.terms.end == END_OF_TIME else cards.terms.end.timestamp(),
            0 if lower is None else lower.last_below + 1,
            2**62 if upper is None else upper.last_below,
            (int(prices[0] * scale), int(prices[1] * scale), int(prices[2] * scale)),
            scale,
            f",{_plain_text(model)},{_plain_text(group)},\n",
        )
        key = (
            model,
            group,
            other.get("model_ratio"),
            other.get("completion_ratio"),
            other.get("group_ratio"),
            other.get("cache_ratio") if cached else None,
            other.get("user_group_ratio", -1),
            other.get("model_price", -1),
        )
        self._known.setdefault(key, []).append(terms)


def _write(writer: ResultWriter, lines: list[str], total: int) -> None:
    writer.count(UNIT, theirs=total, ours=total)
    writer.add_formatted("".join(lines), State.MATCHED, NO_CAUSE, UNIT, len(lines), total, total)
    lines.clear()


def _plain_text(text: str) -> str:
    """Return a text as a cell of CSV."""
    return format_csv([{"": text}]).split("\n", 1)[1].rstrip("\n")
