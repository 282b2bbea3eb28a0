"""Reconciles a report of a provider with a usage file, and writes the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

from brivionix_billing.decimals import decimal_from_scaled, multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.reconcile.exported_files import read_files, statement_error
from brivionix_billing.reconcile.matching import Key, Rule
from brivionix_billing.reconcile.provider.anthropic import read_anthropic
from brivionix_billing.reconcile.provider.cells import CellTable
from brivionix_billing.reconcile.provider.compare import Comparer
from brivionix_billing.reconcile.provider.findings import COLUMNS, RowMaker
from brivionix_billing.reconcile.provider.likely_causes import Tolerance
from brivionix_billing.reconcile.provider.new_api import QUOTA_PER_USD, read_new_api
from brivionix_billing.reconcile.provider.openai import read_openai
from brivionix_billing.reconcile.provider.openrouter import read_openrouter
from brivionix_billing.reconcile.provider.periods import ReportPeriods, within
from brivionix_billing.reconcile.provider.report import Report, ReportLine, ResponseLine
from brivionix_billing.reconcile.provider.responses import RESPONSE_COLUMNS, RESPONSE_KEYS, ResponseComparer
from brivionix_billing.reconcile.provider.usage_side import OurResponse, Upstreams, UsageSide, read_usage, slot_start
from brivionix_billing.reconcile.result import Input, Result, ResultWriter, input_of
from brivionix_billing.reconcile.rows import Row, State
from brivionix_billing.times import CalendarDays, Period, format_instant

__all__ = ["SOURCES", "ProviderOptions", "read_report", "reconcile_provider"]

SOURCES: Final = ("openai", "anthropic", "openrouter", "new-api")
_FLOAT_NOISE: Final = Decimal("0.000000001")
_MAX_NAMED: Final = 20
_FEW: Final = 10
"""Fewer amounts do not show to how many decimal places a report is rounded."""
_FEW_CAP: Final = Fraction(1, 200)


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What a reconciliation with a report depends on beside its inputs."""

    upstream: str | None = None
    """The group of the cost book that the report is about. ``None``: the only one, or that of the source's name."""
    projects: Mapping[str, str] = field(default_factory=dict)
    """Project of the report -> group of the cost book. Empty: projects are not compared."""
    period: str | None = None
    """Only buckets that start in this period. ``None``: the whole report."""
    zone: str = "UTC"
    """Time zone of calendar days, for reports by hour and for ``period``."""
    delay: timedelta = timedelta(minutes=15)
    """Usage of the last minutes of a day may be booked on the next day."""
    tolerance: Decimal | None = None
    """The greatest difference of the amount of a line that agrees. ``None``: half a unit of its last decimal place."""
    quota_per_usd: int = QUOTA_PER_USD
    """Quota of 1 USD at a new-api."""


def read_report(paths: Sequence[str], source: str, quota_per_usd: int = QUOTA_PER_USD) -> Report:
    """Return the report in the files. Raises ``invalid_argument`` for an unknown source, ``invalid_statement``."""
    files = read_files(paths)
    if not files:
        raise statement_error(str(paths[0]), "the archive is empty", "download it again")
    if source == "openai":
        return read_openai(files)
    if source == "anthropic":
        return read_anthropic(files)
    if source == "openrouter":
        return read_openrouter(files)
    if source == "new-api":
        return read_new_api(files, quota_per_usd)
    raise BillingError("invalid_argument", f"no source {safe_repr(source)}; use one of {', '.join(SOURCES)}")


def reconcile_provider(
    paths: Sequence[str],
    source: str,
    usage: Iterable[bytes],
    usage_inputs: Sequence[Input],
    book: PriceBook,
    out: Path,
    options: ProviderOptions | None = None,
    *,
    format: str = "csv",
) -> Result:
    """Compare a report with the lines of a usage file at the prices of a cost book, and write the result to a folder.

    ``usage_inputs`` has the digests of the usage files.
    """
    options = options or ProviderOptions()
    report = read_report(paths, source, options.quota_per_usd)
    if not report.buckets and not report.responses:
        raise statement_error("the report", "it has no rows, so nothing can be compared", "download it again")
    upstreams = Upstreams.choose(book, source, options.upstream, options.projects)
    period = None if options.period is None else Period.parse(options.period, options.zone)
    inputs = [*map(input_of, paths), *usage_inputs]
    run = _Run(report, book, out, options, period, inputs, format)
    side = read_usage(usage, book, upstreams, keep_responses=report.responses is not None)
    return run.responses(side) if report.responses is not None else run.periods(side)


class _Run:
    """One reconciliation."""

    def __init__(
        self,
        report: Report,
        book: PriceBook,
        out: Path,
        options: ProviderOptions,
        period: Period | None,
        inputs: Sequence[Input],
        format: str,
    ) -> None:
        self._report, self._book, self._out, self._options = report, book, out, options
        self._period, self._inputs, self._format = period, inputs, format

    def _rule(self, keys: Sequence[Key]) -> Rule:
        options = self._options
        settings = {
            "upstream": options.upstream or "",
            "projects": dict(options.projects),
            "period": "" if self._period is None else str(self._period),
            "quota_per_usd": options.quota_per_usd,
        }
        return Rule(
            f"provider {self._report.source}",
            "report",
            "usage",
            tuple(keys),
            self._tolerance(),
            _FLOAT_NOISE,
            options.delay,
            "UTC",
            options.zone,
            settings,
        )

    def _tolerance(self) -> Decimal:
        if self._options.tolerance is not None:
            return self._options.tolerance
        if self._report.decimals is None:
            return _FLOAT_NOISE
        return max(_FLOAT_NOISE, decimal_from_scaled(5, max(2, self._report.decimals) + 1))

    def _tolerance_cap(self, lines: Sequence[ReportLine]) -> Fraction | None:
        """Return the limit of the tolerance if few amounts show how the report rounds: 0.06 may be exact."""
        count = sum(line.amount is not None for line in lines)
        return _FEW_CAP if self._options.tolerance is None and count < _FEW else None

    def periods(self, side: UsageSide) -> Result:
        """Compare a report by time."""
        book, report = self._book, self._report
        lines, repeated = _split_repeated(line for line in report.lines if within(self._period, line.bucket))
        buckets = [bucket for bucket in report.buckets if within(self._period, bucket)]
        if not buckets:
            first, last = min(report.buckets)[0], max(end for _, end in report.buckets)
            raise self._not_in_period(first, last)
        for line in (*lines, *repeated):
            if line.amount is not None and line.currency != book.currency:
                raise statement_error(
                    line.place, f"the amount is in {line.currency}, the cost book in {book.currency}",
                    "use a cost book in the currency of the report",
                )  # fmt: skip
        table = CellTable(
            book,
            ReportPeriods(buckets, self._options.zone, whole_days=report.source == "new-api"),
            with_projects=bool(self._options.projects),
        )
        table.add_report(report, lines)
        outside = table.add_usage(side)
        rule = self._rule([Key(("day", "model", "tier", "project", "meter"))])
        tolerance = Tolerance(
            Fraction(rule.tolerance),
            Fraction(rule.ratio_tolerance),
            Fraction(report.rounding or 0),
            self._tolerance_cap(lines),
        )
        comparer = Comparer(book, table, side, tolerance, self._options.delay)
        maker = RowMaker(book.currency, book)
        with ResultWriter(self._out, rule, COLUMNS, self._format) as writer:
            findings = comparer.findings()
            has_amounts = any(line.amount is not None for line in lines)
            for line in (*lines, *repeated):
                writer.count(book.currency, theirs=line.amount or 0)
            writer.count(book.currency, ours=_our_total(table, side, book))
            for finding in findings:
                row = maker.row(finding)
                if not has_amounts and row.theirs is not None:
                    writer.count(book.currency, theirs=row.theirs)
                writer.add(row)
            for line in repeated:
                writer.add(_repeated_row(line, table, book.currency))
            for row in _unpriced_rows(side, table, book.currency):
                writer.add(row)
            notes = [*report.notes, *_notes(side, outside), *_table_notes(table, comparer, has_amounts)]
            return writer.finish(self._inputs, book.digest, notes)

    def _not_in_period(self, first: datetime, last: datetime) -> BillingError:
        span = f"{format_instant(first)} to {format_instant(last)}"
        return statement_error(
            "the report", f"it has no row in {self._period}; it is from {span}", "name another period, or none"
        )

    def responses(self, side: UsageSide) -> Result:
        """Compare a report by response."""
        book, lines = self._book, self._report.responses or ()
        if self._period is not None:
            lines = tuple(line for line in lines if line.at is None or self._period.contains(line.at))
            if not lines:
                times = [line.at for line in self._report.responses or () if line.at is not None]
                raise self._not_in_period(min(times), max(times))
        rule = self._rule(RESPONSE_KEYS)
        ours = _within_report(side, lines, self._period, self._options.zone)
        with ResultWriter(self._out, rule, RESPONSE_COLUMNS, self._format) as writer:
            for line in lines:
                writer.count(book.currency, theirs=line.amount)
            for response in ours:
                writer.count(book.currency, ours=response.charge.nominal.amount)
            for row in ResponseComparer(book, rule).rows(lines, ours):
                writer.add(row)
            notes = [*self._report.notes, *_notes(side, len(side.responses) - len(ours))]
            return writer.finish(self._inputs, book.digest, notes)


def _split_repeated(lines: Iterable[ReportLine]) -> tuple[list[ReportLine], list[ReportLine]]:
    """Return the lines, and apart from them those that repeat one: pages or exports may overlap."""
    seen: set[bytes] = set()
    first, repeated = [], []
    for line in lines:
        if line.identity and line.identity in seen:
            repeated.append(line)
        else:
            seen.add(line.identity)
            first.append(line)
    return first, repeated


def _our_total(table: CellTable, side: UsageSide, book: PriceBook) -> Decimal:
    """Return our amount within the report, summed without its cells."""
    units = sum(
        card.unit_rates.get(meter, 0) * quantity
        for (slot, card, meter, _), quantity in side.quantities.items()
        if table.periods.at(slot_start(slot)) is not None
    )
    return multiply(decimal_from_scaled(units, UNIT_DECIMALS), book.nominal_per_credit)


def _repeated_row(line: ReportLine, table: CellTable, currency: str) -> Row:
    span = table.periods.at(line.bucket[0])
    key = table.key_of(line)
    details = {
        "day": span.label if span else "",
        **{name: value or "" for name, value in key._asdict().items()},
        "reported_quantity": "" if line.quantity is None else str(line.quantity),
        "text": line.text,
        "place": line.place.replace("\\", "/").rpartition("/")[2],
    }
    name = " ".join(filter(None, (details["day"], *key)))
    return Row(name, State.DUPLICATE, "line_repeated", currency, line.amount, None, details)


def _unpriced_rows(side: UsageSide, table: CellTable, currency: str) -> Iterable[Row]:
    """Yield the requests of models that the report has, but that the cost book has no price for."""
    labels = {span.label for span in table.periods.spans}
    for each, count in sorted(side.unpriced.items()):
        if each.day in labels and each.code != "unknown_model":
            details = {"day": each.day, "model": each.model, "text": f"{count} requests: {each.message}"}
            yield Row(f"{each.day} {each.model}", State.ONLY_OURS, "unpriced", currency, None, None, details)


def _within_report(
    side: UsageSide, lines: Sequence[ResponseLine], period: Period | None, zone: str
) -> list[OurResponse]:
    """Return our requests of the period, by default of the days of the report, and those that the report names."""
    ids = {line.id for line in lines}
    times = [line.at for line in lines if line.at is not None]
    if period is None and times:
        days = CalendarDays(zone)
        period = Period(days.at(min(times)).start, days.at(max(times)).end, zone)
    return [
        response
        for response in side.responses
        if period is None
        or period.contains(response.record.at)
        or response.request_id in ids
        or response.response_id in ids
    ]


def _notes(side: UsageSide, outside: int) -> list[str]:
    notes = [f"{count} requests of upstream {name} were left out" for name, count in sorted(side.left_out.items())]
    notes += [f"{count} lines of the usage are no records ({code})" for code, count in sorted(side.rejected.items())]
    if side.repeated:
        notes.append(f"{side.repeated} records of the usage repeat a request id; each request counts once")
    if outside:
        notes.append("the usage has times outside of the report, which were left out")
    unknown: dict[str, int] = {}
    for each, count in side.unpriced.items():
        if each.code == "unknown_model":
            unknown[each.model] = unknown.get(each.model, 0) + count
    for model, count in sorted(unknown.items())[:_MAX_NAMED]:
        notes.append(f"{count} requests of model {safe_repr(model)} were left out: the cost book does not know it")
    return notes


def _table_notes(table: CellTable, comparer: Comparer, has_amounts: bool) -> list[str]:
    notes = [
        f"the cost book does not know model {safe_repr(name)} of the report; add it, or an alias"
        for name in sorted(table.unknown_models)[:_MAX_NAMED]
    ]
    if comparer.offset:
        hours = comparer.offset / timedelta(hours=1)
        notes.append(f"the days of the report seem to be those of UTC{hours:+g} h, not of UTC")
    if not has_amounts:
        notes.append("the report has no amounts: its quantities were priced by the cost book")
    return notes
