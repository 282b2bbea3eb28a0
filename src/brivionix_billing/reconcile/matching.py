"""Pairs the items of two sides by a rule: an id, else other fields within a window of time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import json_digest
from brivionix_billing.decimals import format_plain, multiply, negate, sum_exact
from brivionix_billing.reconcile.rows import State

__all__ = ["Item", "Key", "Match", "Rule", "amounts_agree", "match"]

_NO_TIME: Final = timedelta(0)


class Item(NamedTuple):
    """A row of one side, as far as matching depends on it."""

    fields: Mapping[str, str]
    """Texts that keys name. An empty text never matches."""
    unit: str
    amount: Decimal
    at: datetime | None = None
    """The time, with a time zone. A key with a window needs it."""
    source: Any = None
    """The row itself, for the caller."""


class Key(NamedTuple):
    """What two items must have in common."""

    fields: tuple[str, ...]
    window: timedelta | None = None
    """The greatest distance of the two times; ``None``: any."""
    same_amount: bool = False
    """Whether the amounts must agree within the tolerance of the rule."""

    def as_dict(self) -> dict[str, Any]:
        """Return what a result stores of the key."""
        window = None if self.window is None else f"{self.window.total_seconds():.0f} s"
        return {"fields": list(self.fields), "window": window, "same_amount": self.same_amount}


@dataclass(frozen=True, slots=True)
class Rule:
    """How two sides are matched. A result stores it."""

    name: str
    """Such as ``gateway new-api``."""
    theirs: str
    """The other side, such as ``log``."""
    ours: str
    """Our side, such as ``price file``."""
    keys: tuple[Key, ...]
    """Keys in the order in which they are tried."""
    tolerance: Decimal = Decimal(0)
    """The greatest absolute difference of two amounts that agree."""
    ratio_tolerance: Decimal = Decimal(0)
    """The greatest difference as a fraction of our amount. The larger of both tolerances applies."""
    delay: timedelta = _NO_TIME
    """How much later than ours the time of the other side may be, in addition to the window."""
    their_zone: str = "UTC"
    """The time zone of their times and days that state none."""
    our_zone: str = "UTC"
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings that the result depends on: texts, whole numbers, lists and mappings of them."""

    def as_dict(self) -> dict[str, Any]:
        """Return what a result stores of the rule."""
        return {
            "name": self.name,
            "theirs": self.theirs,
            "ours": self.ours,
            "keys": [key.as_dict() for key in self.keys],
            "tolerance": format_plain(self.tolerance),
            "ratio_tolerance": format_plain(self.ratio_tolerance),
            "delay": f"{self.delay.total_seconds():.0f} s",
            "their_zone": self.their_zone,
            "our_zone": self.our_zone,
            "settings": dict(self.settings),
        }

    @property
    def digest(self) -> str:
        """``sha256:...`` of the rule."""
        return json_digest(self.as_dict())


class Match(NamedTuple):
    """Two items that belong together, or one without a counterpart."""

    state: State
    theirs: Item | None
    ours: Item | None
    key: Key | None = None
    """The key by which they were paired. For a duplicate, that by which its first item is known."""


def amounts_agree(theirs: Decimal, ours: Decimal, rule: Rule) -> bool:
    """Return whether two amounts agree within the tolerance of a rule."""
    if theirs == ours:
        return True
    allowed = max(rule.tolerance, multiply(abs(ours), rule.ratio_tolerance))
    return abs(sum_exact((theirs, negate(ours)))) <= allowed


def match(theirs: Sequence[Item], ours: Sequence[Item], rule: Rule) -> list[Match]:
    """Pair the items of two sides, each at most once, by the keys of a rule in their order.

    Pairs come in the order of their items of the other side, then come the items of our side that were left over. Of
    several candidates within a window, the closest amount is taken, then the closest time, then the earlier item.

    An item that is left over is a duplicate if an earlier item of its side has the same fields of a key without a
    window, and the same unit.
    """
    partner: dict[int, tuple[int, Key]] = {}
    open_theirs, open_ours = list(range(len(theirs))), list(range(len(ours)))
    for key in rule.keys:
        groups = _group(theirs, open_theirs, key), _group(ours, open_ours, key)
        for value, left in groups[0].items():
            right = groups[1].get(value, [])
            for index, other in _pair_group(theirs, left, ours, right, key, rule):
                partner[index] = other, key
        taken = {index for index, _ in partner.values()}
        open_theirs = [index for index in open_theirs if index not in partner]
        open_ours = [index for index in open_ours if index not in taken]
    again_theirs, again_ours = _repeated(theirs, open_theirs, rule), _repeated(ours, open_ours, rule)
    found = []
    for index, item in enumerate(theirs):
        if index in partner:
            other, key = partner[index]
            agree = amounts_agree(item.amount, ours[other].amount, rule)
            found.append(Match(State.MATCHED if agree else State.DIFFERS, item, ours[other], key))
        elif index in again_theirs:
            found.append(Match(State.DUPLICATE, item, None, again_theirs[index]))
        else:
            found.append(Match(State.ONLY_THEIRS, item, None))
    for index in open_ours:
        if index in again_ours:
            found.append(Match(State.DUPLICATE, None, ours[index], again_ours[index]))
        else:
            found.append(Match(State.ONLY_OURS, None, ours[index]))
    return found


def _value(item: Item, key: Key) -> Hashable:
    """Return what two items must have in common; ``None`` if the item does not have it."""
    values = tuple(item.fields.get(name, "") for name in key.fields)
    if not all(values) or (key.window is not None and item.at is None):
        return None
    return values, item.unit


def _group(items: Sequence[Item], indexes: Iterable[int], key: Key) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index in indexes:
        value = _value(items[index], key)
        if value is not None:
            groups[value].append(index)
    return groups


def _pair_group(
    theirs: Sequence[Item], left: list[int], ours: Sequence[Item], right: list[int], key: Key, rule: Rule
) -> list[tuple[int, int]]:
    if key.window is None and not key.same_amount:
        return list(zip(left, right, strict=False))
    candidates = []
    if key.window is None:
        ranges = [(index, right) for index in left]
    else:
        timed = sorted(right, key=lambda index: (_time(ours[index]), index))
        times = [_time(ours[index]) for index in timed]
        ranges = []
        for index in left:
            at = _time(theirs[index])
            first = bisect_left(times, at - key.window - rule.delay)
            ranges.append((index, timed[first : bisect_right(times, at + key.window)]))
    for index, others in ranges:
        for other in others:
            one, two = theirs[index], ours[other]
            if key.same_amount and not amounts_agree(one.amount, two.amount, rule):
                continue
            distance = abs(_time(one) - _time(two)) if one.at and two.at else _NO_TIME
            candidates.append((abs(sum_exact((one.amount, negate(two.amount)))), distance, index, other))
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for *_, index, other in sorted(candidates):
        if index not in pairs and other not in taken:
            pairs[index] = other
            taken.add(other)
    return list(pairs.items())


def _time(item: Item) -> datetime:
    if item.at is None:
        raise ValueError("an item of a key with a window has no time")
    return item.at


def _repeated(items: Sequence[Item], left_over: Iterable[int], rule: Rule) -> dict[int, Key]:
    """Return the items left over that repeat an earlier one, with the key that they repeat."""
    repeated: dict[int, Key] = {}
    left_over = list(left_over)
    if not left_over:
        return repeated
    for key in rule.keys:
        if key.window is not None:
            continue
        first: dict[Hashable, int] = {}
        for index, item in enumerate(items):
            value = _value(item, key)
            if value is not None:
                first.setdefault(value, index)
        for index in left_over:
            value = _value(items[index], key)
            if value is not None and first[value] < index:
                repeated.setdefault(index, key)
    return repeated
