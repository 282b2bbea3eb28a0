"""Builds a report from usage: its rows, and all records that are not in them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.account_usage import Duplicate
from brivionix_billing.invoice.aggregation.aggregate import ProgressCallback, aggregate_usage
from brivionix_billing.invoice.aggregation.chunks import FoundRecords
from brivionix_billing.invoice.aggregation.dimensions import CARD_DIMENSIONS, Dimensions, require_dimension
from brivionix_billing.meters import Meter
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.report.comparison import CHANGED, COST, LOSS, OTHER, RequestComparison
from brivionix_billing.report.costs import MONEY_DECIMALS, CostBasis, cost_bases
from brivionix_billing.report.rejections import RejectedGroup, RejectionSummary
from brivionix_billing.report.sums import RowKey, Sums, sum_rows
from brivionix_billing.times import Period
from brivionix_billing.usage.record_file import RejectedRecord

__all__ = ["ChangedRequest", "LossAmount", "LossRequest", "RecordCounts", "Report", "build_report"]

_MAX_LOSSES: Final = 1_000
"""Maximum number of requests with a loss that a report holds: the largest ones."""
_MAX_COLUMNS: Final = 12


class RecordCounts(NamedTuple):
    """The number of records of the usage by what became of them."""

    lines: int
    billed: int
    duplicates: int
    """Records that repeat an equal one."""
    rejected: int
    out_of_scope: int
    """Records of other accounts or outside the period."""


class LossAmount(NamedTuple):
    """What a request brings and costs through one channel, exact, in its currency."""

    channel: str
    currency: str
    revenue: Decimal
    cost: Decimal
    margin: Decimal


class LossRequest(NamedTuple):
    """A request that costs more than it brings."""

    request_id: str
    at: str
    account: str
    model: str
    group: str
    service_tier: str
    upstream: str
    amounts: tuple[LossAmount, ...]
    reason: str
    """One of :data:`brivionix_billing.report.reasons.LOSS_REASONS`."""
    detail: str


class ChangedRequest(NamedTuple):
    """A request whose charge differs by another price file, in Credits."""

    request_id: str
    at: str
    account: str
    model: str
    group: str
    service_tier: str
    credits: Decimal
    other_credits: Decimal
    difference: Decimal


@dataclass(frozen=True, slots=True)
class Report:
    """The usage of a period by the values of some columns. All figures are exact."""

    by: tuple[str, ...]
    period: Period | None
    zone: str
    digest: str
    """Digest of the price book."""
    currency: str
    """Currency of the nominal quota."""
    channels: dict[str, str]
    """Channel -> currency, for channels with a price in the period."""
    meters: dict[str, Meter]
    rows: dict[RowKey, Sums]
    """Values of ``by`` -> sums, sorted."""
    total: Sums
    days: dict[tuple[str, str], int]
    """(day, model) -> 10^-18 Credit."""
    accounts: dict[str, Sums]
    models: dict[str, Sums]
    records: RecordCounts
    duplicates: list[Duplicate]
    """At most the first thousand."""
    rejected: Sequence[RejectedGroup]
    costs_digest: str | None = None
    bases: dict[str, CostBasis] = field(default_factory=dict)
    """Sales channel -> what its costs are based on."""
    basis_texts: dict[str, str] = field(default_factory=dict)
    unknown_bases: dict[str, str] = field(default_factory=dict)
    """Sales channel -> its currency, in which the cost book has no price."""
    found: FoundRecords = field(default_factory=FoundRecords)
    """The times and accounts of all records, also of those outside the period."""
    losses: Sequence[LossRequest] = ()
    """The largest ones by the margin through the first channel."""
    loss_count: int = 0
    loss_reasons: dict[str, int] = field(default_factory=dict)
    """Reason -> number of requests with a loss, the most frequent first."""
    other_digest: str | None = None
    changed_count: int | None = None
    """Number of requests whose charge differs; ``None`` if they were not counted."""
    problems: dict[str, Sequence[RejectedGroup]] = field(default_factory=dict)
    """``cost``, ``other`` -> billed requests that the cost book or the other price file has no price for."""


def build_report(
    lines: Iterable[bytes],
    book: PriceBook,
    *,
    by: Sequence[str],
    period: Period | None = None,
    zone: str | None = None,
    account: str | None = None,
    costs: PriceBook | None = None,
    compare: PriceBook | None = None,
    channel: str | None = None,
    on_rejected: Callable[[RejectedRecord], None] | None = None,
    on_loss: Callable[[LossRequest], None] | None = None,
    on_changed: Callable[[ChangedRequest], None] | None = None,
    progress: ProgressCallback | None = None,
    workers: int = 0,
) -> Report:
    """Read usage once and add it up by columns. Every figure is that of the bills of the same period.

    ``by`` names columns: ``account``, ``model``, ``group``, ``tier``, ``upstream``, ``region``, ``token``, ``project``,
    ``tags``, ``tag:NAME``, ``day``, ``hour``, ``month``. Days are those of ``zone``, which is by default that of the
    period, or UTC. A ``period`` of ``None`` is all time, an ``account`` of ``None`` all accounts.

    ``costs`` is a price book whose groups are the upstreams, for margins; ``channel`` limits them to one sales channel.
    ``compare`` is another price book for the same usage. ``on_loss`` gets every request with a loss, and ``on_changed``
    every request whose charge differs. ``workers`` is as in :func:`aggregate_usage`.

    Raises ``invalid_argument`` for an unknown or repeated column and for an ambiguous cost book, ``unknown_channel``,
    ``invalid_period``, ``file_unreadable``.
    """
    by = tuple(map(require_dimension, by))
    if not by or len(set(by)) < len(by) or len(by) > _MAX_COLUMNS:
        raise BillingError(
            "invalid_argument",
            f"the columns {safe_repr(','.join(by))} cannot be used; name 1 to {_MAX_COLUMNS} columns, each once",
        )
    zone = zone or (period.zone if period else "UTC")
    if channel is not None:
        book.channel(channel)
    bases, unknown = cost_bases(book, costs) if costs is not None else ({}, {})
    if channel is not None:
        bases = {name: basis for name, basis in bases.items() if name == channel}
        unknown = {name: currency for name, currency in unknown.items() if name == channel}
    record_names = (*(name for name in by if name not in CARD_DIMENSIONS), *(["day"] if "day" not in by else []))
    rejections = RejectionSummary()

    def reject(record: RejectedRecord) -> None:
        rejections.add(record)
        if on_rejected:
            on_rejected(record)

    notes = _Notes(on_loss, on_changed)
    compared = costs is not None or compare is not None
    usage = aggregate_usage(
        lines,
        book,
        period,
        account=account,
        on_rejected=reject,
        progress=progress,
        workers=workers,
        dimensions=Dimensions(record_names, zone),
        comparison=RequestComparison(book, costs, bases, compare) if compared else None,
        on_notes=notes.add,
    )

    def rows_by(*names: str) -> dict[RowKey, Sums]:
        return sum_rows(usage, names, record_names, bases, book.currency)

    total = Sums()
    rows = rows_by(*by)
    for sums in rows.values():
        total.add(sums)
    billed = [bucket for found in usage.accounts.values() for bucket in found.buckets]
    channels = {name: rate.currency for bucket in billed for name, rate in bucket.card.channels.items()}
    order = [name for name in book.channels() if name in channels]
    return Report(
        by=by,
        period=period,
        zone=zone,
        digest=book.digest,
        currency=book.currency,
        channels={name: channels[name] for name in order},
        meters=dict(book.meters),
        rows=rows,
        total=total,
        days={(day, model): sums.units for (day, model), sums in rows_by("day", "model").items()},
        accounts={name: sums for (name,), sums in rows_by("account").items()},
        models={name: sums for (name,), sums in rows_by("model").items()},
        found=usage.found,
        records=RecordCounts(usage.lines, total.requests, usage.duplicate_count, usage.rejected, usage.out_of_scope),
        duplicates=usage.duplicates,
        rejected=rejections.groups(),
        costs_digest=None if costs is None else costs.digest,
        bases=bases,
        basis_texts={name: basis.describe(costs) for name, basis in bases.items()} if costs is not None else {},
        unknown_bases=unknown,
        losses=notes.largest_losses(),
        loss_count=notes.loss_reasons.total(),
        loss_reasons=dict(sorted(notes.loss_reasons.items(), key=lambda item: (-item[1], item[0]))),
        other_digest=None if compare is None else compare.digest,
        changed_count=None if compare is None else notes.changed_count,
        problems={role: found.groups() for role, found in notes.problems.items() if found.total},
    )


class _Notes:
    """Collects what the comparison notes of billed requests."""

    def __init__(
        self,
        on_loss: Callable[[LossRequest], None] | None,
        on_changed: Callable[[ChangedRequest], None] | None,
    ) -> None:
        self.on_loss, self.on_changed = on_loss, on_changed
        self.problems = {COST: RejectionSummary(), OTHER: RejectionSummary()}
        self.changed_count = 0
        self.loss_reasons: Counter[str] = Counter()
        self._largest: list[tuple[Decimal, str, LossRequest]] = []

    def add(self, account: str, request_id: str, at: str, notes: tuple[Any, ...]) -> None:
        """Add the notes of a billed request, see :class:`RequestComparison`."""
        for kind, *values in notes:
            if kind == LOSS:
                self._add_loss(account, request_id, at + "Z", *values)
            elif kind == CHANGED:
                self.changed_count += 1
                if self.on_changed:
                    model, group, tier, units, other = values
                    credits = [decimal_from_scaled(each, UNIT_DECIMALS) for each in (units, other, other - units)]
                    self.on_changed(ChangedRequest(request_id, at + "Z", account, model, group, tier, *credits))
            else:
                role, code, model, tier, message = values
                self.problems[role].count((code, model, tier), f"request {request_id}: {message}")

    def _add_loss(
        self,
        account: str,
        request_id: str,
        at: str,
        model: str,
        group: str,
        tier: str,
        upstream: str,
        amounts: tuple[tuple[str, str, int, int], ...],
        reason: str,
        detail: str,
    ) -> None:
        exact = tuple(
            LossAmount(
                channel,
                currency,
                *(decimal_from_scaled(each, MONEY_DECIMALS) for each in (revenue, cost, revenue - cost)),
            )
            for channel, currency, revenue, cost in amounts
        )
        loss = LossRequest(request_id, at, account, model, group, tier, upstream, exact, reason, detail)
        self.loss_reasons[reason] += 1
        if self.on_loss:
            self.on_loss(loss)
        entry = -exact[0].margin, request_id, loss
        if len(self._largest) < _MAX_LOSSES:
            heapq.heappush(self._largest, entry)
        else:
            heapq.heappushpop(self._largest, entry)

    def largest_losses(self) -> list[LossRequest]:
        """Return the largest losses through the first channel, the largest first."""
        return [loss for _, _, loss in sorted(self._largest, key=lambda entry: (-entry[0], entry[1]))]
