"""Limits by window: their rows, and the counters that operations and replay change with the same functions.

Amounts of every unit have 18 decimal places, so that one column has them all: 20 requests are ``20 * 10**18``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from brivionix_billing.ledger.journal_text import encode_envelope, read_column
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.ledger.units import units_from_column, units_to_text
from brivionix_billing.ledger.windows import Window, parse_window
from brivionix_billing.rating import UNITS_PER_CREDIT

__all__ = [
    "LIMIT_UNITS",
    "CountedRequest",
    "CounterRow",
    "LimitRow",
    "LimitState",
    "LimitUnit",
    "apply_limit",
    "change_counters",
    "charged_amounts",
    "matching_limits",
]

LimitUnit = Literal["credits", "requests", "tokens"]
LIMIT_UNITS: Final = ("credits", "requests", "tokens")


@dataclass(slots=True)
class LimitRow:
    """A limit by window of an account, or of one of its members, tokens or tags."""

    id: str
    """Id of the operation that set it. A change of its amount keeps the id, and so its counters."""
    account: str
    name: str
    """Unique among the active limits of the account."""
    token: str | None
    tag: str | None
    """Such as ``project=x``."""
    unit: str
    window: str
    zone: str
    amount: int
    active: int
    """1, or 0 if it was removed."""
    member: str | None = None

    @property
    def parsed_window(self) -> Window:
        """The window."""
        return parse_window(self.window, self.zone)

    def has_ended(self, starts: str, at: datetime) -> bool:
        """Return whether the counter with a start counts no request at an instant or after it."""
        start = parse_timestamp(starts)
        return self.parsed_window.end(starts, start) <= at


@dataclass(slots=True)
class CounterRow:
    """What a limit has counted since the start of a counter: holds of open requests, and what settled ones used."""

    limit: str
    starts: str
    account: str
    used: int


class CountedRequest(NamedTuple):
    """The limits that count a hold, and what they count until it is resolved. ``None``: the tokens are unknown."""

    limits: tuple[str, ...]
    credits: int
    tokens: int | None

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> CountedRequest:
        """Read the key ``counted`` of a hold's result."""
        tokens = value.get("tokens")
        return cls(
            tuple(value["limits"]),
            units_from_column(value["credits"]),
            None if tokens is None else units_from_column(tokens),
        )

    @classmethod
    def from_column(cls, text: str) -> CountedRequest:
        """Read the column ``counted`` of a hold."""
        return read_column(text, cls.from_dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the key ``counted`` of a hold's result."""
        tokens = {} if self.tokens is None else {"tokens": units_to_text(self.tokens)}
        return {"limits": list(self.limits), "credits": units_to_text(self.credits), **tokens}

    @staticmethod
    def to_column(value: Mapping[str, Any]) -> str:
        """Return the key ``counted`` of a hold's result as the column of the hold."""
        return encode_envelope(value, "limits").decode()

    @property
    def amounts(self) -> dict[str, int]:
        """Unit -> amount."""
        return {"credits": self.credits, "requests": UNITS_PER_CREDIT, "tokens": self.tokens or 0}

    def change(self, *, was_open: bool, used: Mapping[str, int] | None) -> dict[str, int]:
        """Return what the end of the hold adds to its counters. ``used``: see :func:`charged_amounts`.

        A hold that has expired was not counted any more. A charge that was priced elsewhere has no tokens: those of
        the hold are counted.
        """
        held = self.amounts
        used = {} if used is None else {"tokens": held["tokens"], **used}
        return {unit: used.get(unit, 0) - (amount if was_open else 0) for unit, amount in held.items()}


def charged_amounts(credits: int, counts: Iterable[int] | None) -> dict[str, int]:
    """Return what limits count of a charge. If it was priced elsewhere, its tokens are unknown."""
    amounts = {"credits": credits, "requests": UNITS_PER_CREDIT}
    if counts is not None:
        _, input_tokens, _, output_tokens = counts
        amounts["tokens"] = (input_tokens + output_tokens) * UNITS_PER_CREDIT
    return amounts


def matching_limits(
    limits: Iterable[LimitRow], token: str | None, tags: Mapping[str, str] | None
) -> Iterable[LimitRow]:
    """Yield those of the limits of a member that apply to the requests of a token, with tags."""
    names = {f"{key}={value}" for key, value in tags.items()} if tags else ()
    for limit in limits:
        if limit.token in (None, token) and (limit.tag is None or limit.tag in names):
            yield limit


def change_counters(
    limits: Iterable[LimitRow],
    ids: Iterable[str],
    at: str,
    amounts: Mapping[str, int],
    add: Callable[[LimitRow, str, int], None],
) -> None:
    """Add what a request at a time counts to the counters of its limits. A limit that was removed counts no more.

    ``ids`` are the limits that count the request. ``add`` adds an amount to the counter of a limit with a start.
    """
    when, ids = parse_timestamp(at), set(ids)
    for limit in limits:
        amount = amounts.get(limit.unit, 0)
        if amount and limit.id in ids:
            range = limit.parsed_window.counters(when)
            if range is not None:
                add(limit, range.current, amount)


def apply_limit(active: Iterable[LimitRow], id: str, account: str, content: Mapping[str, Any]) -> list[LimitRow]:
    """Apply an entry that sets or removes a limit. Returns the rows that it changes, and the new one, if any, last.

    Only the amount of a limit changes. With another window, unit or subject, it is another limit, which counts anew.
    """
    name = content["limit"]
    current = next((limit for limit in active if limit.name == name), None)
    if content.get("amount") is None:
        if current is None:
            raise ValueError(name)
        current.active = 0
        return [current]
    new = LimitRow(
        id,
        account,
        name,
        content["token"],
        content["tag"],
        content["unit"],
        content["window"],
        content["zone"],
        units_from_column(content["amount"]),
        1,
        content.get("member"),
    )
    if current is not None:
        if new == replace(current, id=id, amount=new.amount):
            current.amount = new.amount
            return [current]
        current.active = 0
    return [new] if current is None else [current, new]


class LimitState:
    """The limits of an account and their counters, as a replay of its entries derives them."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._limits: dict[str, LimitRow] = {}
        self._counters: dict[tuple[str, str], CounterRow] = {}

    def apply(self, id: str, content: Mapping[str, Any]) -> int | None:
        """Apply an entry that sets or removes a limit. Returns the number of active limits; ``None``: none."""
        self._limits.update((row.id, row) for row in apply_limit(self._active(), id, self._account, content))
        return len(self._active()) or None

    def count(self, limits: Iterable[str], at: str, amounts: Mapping[str, int]) -> None:
        """Add what a request at a time counts to its limits."""
        change_counters(self._active(), limits, at, amounts, self._add)

    def put(self, row: LimitRow | CounterRow) -> None:
        """Add a row that earlier entries made."""
        if isinstance(row, LimitRow):
            self._limits[row.id] = row
        else:
            self._counters[row.limit, row.starts] = row

    def keep(self, is_kept: Callable[[CounterRow], bool]) -> None:
        """Drop the counters that are not kept."""
        self._counters = {key: counter for key, counter in self._counters.items() if is_kept(counter)}

    def rows(self) -> Iterator[LimitRow | CounterRow]:
        """Yield all limits and counters."""
        yield from self._limits.values()
        yield from self._counters.values()

    def _active(self) -> list[LimitRow]:
        return [limit for limit in self._limits.values() if limit.active]

    def _add(self, limit: LimitRow, start: str, amount: int) -> None:
        counter = self._counters.setdefault((limit.id, start), CounterRow(limit.id, start, self._account, 0))
        counter.used += amount
