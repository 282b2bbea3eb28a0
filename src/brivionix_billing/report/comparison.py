"""Prices every request of a report in a cost book and in another price file, and notes what is worth listing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.aggregation.reader import ComparedCharges
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.charge import Charge, CombinedCharge
from brivionix_billing.report.costs import (
    CostBasis,
    channel_amount,
    cost_amount,
    default_upstream,
    upstream_of,
)
from brivionix_billing.report.reasons import CostedRequest, loss_reason
from brivionix_billing.usage import Usage
from brivionix_billing.usage.record_file import Record

__all__ = ["CHANGED", "COST", "LOSS", "OTHER", "PROBLEM", "Flags", "RequestComparison"]

COST: Final = "cost"
OTHER: Final = "other"
"""Roles of buckets: the usage at the prices of the cost book, and at those of the other price file."""
LOSS: Final = "loss"
CHANGED: Final = "changed"
PROBLEM: Final = "problem"
"""Kinds of notes, see :class:`RequestComparison`."""


class Flags(NamedTuple):
    """What a bucket states beside its dimensions: the charge that it is compared with, and what is not known."""

    model: str
    group: str
    service_tier: str
    uncosted: str
    """Not empty if the requests have no cost."""
    unpriced: str
    """Not empty if the other price file has no price for the requests."""
    unsold: str
    """Channels without a price at that time, separated by tabs."""


class RequestComparison:
    """Compares the charge of each request with its cost and with its charge by another price file.

    The notes of a request are plain tuples:

    - ``("problem", role, code, model, service tier, message)``: the other book has no price for it;
    - ``("loss", model, group, tier, upstream, amounts, reason, detail)``: it costs more than it brings. ``amounts`` are
      (channel, currency, revenue, cost) in 10^-36 of the currency;
    - ``("changed", model, group, tier, credits, other credits)``: its charge differs, in 10^-18 Credit.
    """

    def __init__(
        self,
        book: PriceBook,
        costs: PriceBook | None,
        bases: Mapping[str, CostBasis],
        other: PriceBook | None,
    ) -> None:
        self.book, self.costs, self.bases, self.other = book, costs, dict(bases), other
        self.default_upstream = None if costs is None else default_upstream(costs)

    def compare(self, record: Record, charge: Charge, line: bytes) -> ComparedCharges:
        """Return the charges of a request in the other books, its flags and its notes."""
        compared: list[tuple[str, Charge]] = []
        notes: list[tuple[Any, ...]] = []
        uncosted = unpriced = ""
        unsold = [name for name in self.bases if name not in charge.card.channels]
        if self.costs is not None:
            try:
                costed = self._cost(self.costs, record, charge, line)
            except BillingError as error:
                uncosted = "x"
                notes.append(_problem(COST, error, charge))
            else:
                compared += [(COST, each) for each in costed.charges]
                notes += self._loss(costed)
        if self.other is not None:
            try:
                other = self.other.rate_record(record)
            except BillingError as error:
                unpriced = "x"
                notes.append(_problem(OTHER, error, charge))
            else:
                compared.append((OTHER, other))
                if other.units != charge.units:
                    names = charge.model, charge.group, charge.service_tier
                    notes.append((CHANGED, *names, charge.units, other.units))
        known = uncosted, unpriced, "\t".join(unsold)
        flags = [
            Flags(each.card.model, each.card.group, each.card.service_tier, *known) for each in _split_parts(charge)
        ]
        charges = []
        for role, other_charge in compared:
            # A request has the same parts in every book; a further attempt may have fewer.
            for index, part in enumerate(_split_parts(other_charge)):
                charges.append((role, part, flags[index] if index < len(flags) else flags[0]))
        return ComparedCharges(tuple(charges), flags[0], tuple(notes))

    def _cost(self, costs: PriceBook, record: Record, charge: Charge, line: bytes) -> CostedRequest:
        """Return the cost of a request: of its own call of the upstream, and of further attempts.

        Raises what ``PriceBook.rate`` raises.
        """
        origin = record.origin
        upstream = upstream_of(record, self.default_upstream)
        asked = {"at": record.at, "service_tier": origin.service_tier, "region": origin.region, "mode": origin.mode}
        own = costs.rate(record.usage, model=origin.model, group=upstream, **asked)  # type: ignore[arg-type]
        retries = []
        for attempt in _attempts(line):
            name = attempt.get("upstream")
            conventions = None if name is None else self.book.conventions(name)
            usage = Usage.from_response(attempt.get("usage"), conventions=conventions)
            model = attempt.get("model") or origin.model
            retries.append(costs.rate(usage, model=model, group=name or upstream, **asked))  # type: ignore[arg-type]
        for each in (own, *retries):
            for basis in self.bases.values():
                if basis.channel is not None:
                    each.card.channel(basis.channel)
        return CostedRequest(self.book, costs, charge, own, tuple(retries), upstream)

    def _loss(self, costed: CostedRequest) -> list[tuple[Any, ...]]:
        """Return a note if a request costs more than it brings through any channel."""
        amounts = []
        first: tuple[str, CostBasis] | None = None
        for channel, basis in self.bases.items():
            revenue = channel_amount(costed.charge.units, costed.charge.card, channel)
            costs = [cost_amount(each.units, each.card, basis) for each in costed.charges]
            if revenue is None:
                revenue, costs = 0, []  # nothing is sold through this channel, so it has no loss
            cost = sum(amount for amount in costs if amount is not None)
            amounts.append((channel, basis.currency, revenue, cost))
            if cost > revenue and first is None:
                first = channel, basis
        if first is None:
            return []
        charge = costed.charge
        names = charge.model, charge.group, charge.service_tier, costed.upstream
        return [(LOSS, *names, tuple(amounts), *loss_reason(costed, *first))]


def _split_parts(charge: Charge) -> tuple[Charge, ...]:
    """Return the charge of the own model of a request, and those of the runs of other models within it."""
    return (charge.own if isinstance(charge, CombinedCharge) else charge, *charge.parts)


def _attempts(line: bytes) -> list[Mapping[str, Any]]:
    """Return the further calls of upstreams that a record has, such as retries that they charge for."""
    if b"attempts" not in line:
        return []
    from pydantic_core import from_json

    attempts = from_json(line).get("attempts")
    if attempts is None:
        return []
    if not isinstance(attempts, list) or not all(isinstance(attempt, dict) for attempt in attempts):
        raise BillingError("invalid_record", 'attempts is not a list of objects; write [{"usage": {...}}]')
    return attempts


def _problem(role: str, error: BillingError, charge: Charge) -> tuple[Any, ...]:
    return PROBLEM, role, error.code, charge.model, charge.service_tier, error.message
