"""The usage of accounts: sums by rate card, and the Merkle tree of the billed records."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import sum_exact
from brivionix_billing.invoice.aggregation.buckets import LIST_SUPPLEMENT, UNCACHED_SUPPLEMENT
from brivionix_billing.invoice.aggregation.chunks import FoundRecords
from brivionix_billing.merkle import RootBuilder
from brivionix_billing.rating import RateCard

__all__ = [
    "AccountUsage",
    "AggregatedUsage",
    "DailyUsage",
    "Duplicate",
    "RequestReference",
    "UsageBucket",
    "card_identity",
]

_MAX_PATHS: Final = 200
_OTHER_PATHS: Final = "other paths"
_INDEX: Final = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class UsageBucket:
    """The usage of one account at one rate card, either of estimated requests or of reported ones."""

    account: str
    card: RateCard
    estimated: bool = False
    split: tuple[str, ...] = ()
    """The values of the dimensions by which the usage is split."""
    requests: int = 0
    quantities: dict[str, int] = field(default_factory=dict)
    """Billed quantity of each meter that is not zero."""
    list_supplement: int = 0
    """Sum of what each request costs less than the minimum charge at the list price, in 10^-18 Credit."""
    uncached_supplement: int = 0
    """The same at the list price without a cache."""

    def add(self, requests: int, quantities: Iterable[tuple[str, int]]) -> int:
        """Add requests with (meter, billed quantity). Returns their units (10^-18 Credit).

        A charge is linear in its billed quantities, so a bill needs only their sums. What the minimum charge adds at
        the list price is not, so it comes with them, see :func:`buckets.bill_quantities`.
        """
        self.requests += requests
        units = 0
        for name, quantity in quantities:
            if name == LIST_SUPPLEMENT:
                self.list_supplement += quantity
            elif name == UNCACHED_SUPPLEMENT:
                self.uncached_supplement += quantity
            elif quantity:
                self.quantities[name] = self.quantities.get(name, 0) + quantity
                units += quantity * self.card.unit_rates[name]
        return units


@dataclass(slots=True)
class DailyUsage:
    """The usage of one model on one day by one account."""

    requests: int = 0
    units: int = 0
    """10^-18 Credit."""


class Duplicate(NamedTuple):
    """A record that repeats an equal one; it counts once."""

    request_id: str
    account: str | None
    line: int


class RequestReference(NamedTuple):
    """A request by its time and id. References sort by time, then by id."""

    at: str
    """Time in UTC without Z."""
    request_id: str


class UnaccountedSum(NamedTuple):
    """Numbers under one path that nothing is charged for."""

    numbers: int
    total: Decimal


@dataclass(slots=True)
class AccountUsage:
    """The billed usage of one account in the period."""

    account: str
    buckets: list[UsageBucket] = field(default_factory=list)
    compared: dict[str, list[UsageBucket]] = field(default_factory=dict)
    """Role of a comparison -> the usage at the rate cards of its price book. Its buckets count no requests."""
    days: dict[tuple[str, str], DailyUsage] = field(default_factory=dict)
    """(calendar day in the zone of the period, model) -> usage."""
    requests: int = 0
    duplicates: int = 0
    rejected: int = 0
    first: RequestReference | None = None
    last: RequestReference | None = None
    tree: RootBuilder = field(default_factory=RootBuilder)
    unaccounted: dict[str, UnaccountedSum] = field(default_factory=dict)
    """By path. Indexes of lists are left out of a path, and after some hundred paths all others are one."""

    def add_unaccounted(self, path: str, value: Decimal) -> None:
        """Add a number that nothing is charged for."""
        path = _INDEX.sub("[]", path)
        if path not in self.unaccounted and len(self.unaccounted) >= _MAX_PATHS:
            path = _OTHER_PATHS
        known = self.unaccounted.get(path) or UnaccountedSum(0, Decimal(0))
        self.unaccounted[path] = UnaccountedSum(known.numbers + 1, sum_exact((known.total, value)))

    def add(self, requests: int, first: tuple[str, str], last: tuple[str, str]) -> None:
        """Add requests, the first and the last of which by time are given as (time, id)."""
        self.requests += requests
        earliest, latest = RequestReference(*first), RequestReference(*last)
        self.first = earliest if self.first is None else min(earliest, self.first)
        self.last = latest if self.last is None else max(latest, self.last)


@dataclass(slots=True)
class AggregatedUsage:
    """The usage of a whole file by account, and the numbers of records that are not billed."""

    accounts: dict[str, AccountUsage] = field(default_factory=dict)
    lines: int = 0
    out_of_scope: int = 0
    """Number of records of other accounts or outside the period."""
    found: FoundRecords = field(default_factory=FoundRecords)
    """Their times and accounts."""
    rejected: int = 0
    duplicates: list[Duplicate] = field(default_factory=list)
    """At most the first thousand."""
    duplicate_count: int = 0
    watched: list[bytes] = field(default_factory=list)
    """The lines of the request that the caller watches."""

    def account(self, name: str) -> AccountUsage:
        """Return the usage of an account, which is empty at first."""
        usage = self.accounts.get(name)
        if usage is None:
            usage = self.accounts[name] = AccountUsage(name)
        return usage


def card_identity(card: RateCard) -> tuple[Any, ...]:
    """Return the values that identify a card, also across processes."""
    return (
        card.price_book_digest,
        card.model,
        card.group,
        card.service_tier,
        card.context,
        card.variation,
        card.router,
        card.start,
    )
