"""Compares what names of models mean in two price files: exact names, aliases, dated snapshots and patterns.

There are infinitely many names that patterns match. Exact names are compared one by one, snapshots by the dates at
which a release begins to matter, and patterns as such: a pattern that is gone, or that takes names of another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final, NamedTuple

from brivionix_billing.pricebook.names import ModelNames, NamePattern, overlap
from brivionix_billing.pricebook.patterns import matcher

__all__ = ["NameChange", "changed_names"]

_DAY: Final = timedelta(days=1)
_SAMPLE_DATES: Final = (date(2020, 1, 1), date(2026, 1, 1), date(2099, 12, 31))
_MAX_REWRITES: Final = 4


class NameChange(NamedTuple):
    """A name or pattern that means another model, or none."""

    name: str
    old: str | None
    """The model that it meant; of a pattern, its target."""
    new: str | None


def changed_names(old: ModelNames, new: ModelNames) -> Iterator[NameChange]:
    """Yield every name, example of a snapshot, and pattern that means something else. Most specific names come first.

    Names that have a meaning only in the new file have ``None`` as their old one.
    """
    same_patterns = _targets(old) == _targets(new)
    if same_patterns and old.exact == new.exact and old.released == new.released:
        return
    for name in dict.fromkeys([*old.exact, *new.exact]):
        change = _compare(name, old, new)
        if change is not None:
            yield change
        if old.exact.get(name) != new.exact.get(name) or _released(old, name) != _released(new, name):
            yield from _changed_snapshots(name, old, new)
    if not same_patterns:
        yield from _changed_patterns(old, new)


def _targets(names: ModelNames) -> dict[str, str]:
    return {pattern.text: pattern.target for pattern in names.patterns}


def _released(names: ModelNames, name: str) -> date | None:
    model = names.exact.get(name)
    return None if model is None else names.released.get(model)


def _compare(name: str, old: ModelNames, new: ModelNames) -> NameChange | None:
    before, after = old.resolve(name), new.resolve(name)
    return None if before == after else NameChange(name, before, after)


def _changed_snapshots(name: str, old: ModelNames, new: ModelNames) -> Iterator[NameChange]:
    """Yield one example for each way in which the snapshots of a name change, besides that of the name itself."""
    known = {(old.resolve(name), new.resolve(name))}
    dates = set(_SAMPLE_DATES)
    for day in (_released(old, name), _released(new, name)):
        if day is not None:
            dates |= {day, day - _DAY}
    for day in sorted(dates, reverse=True):
        change = _compare(f"{name}-{day.isoformat()}", old, new)
        if change is not None and change[1:] not in known:
            known.add(change[1:])
            yield change


def _changed_patterns(old: ModelNames, new: ModelNames) -> Iterator[NameChange]:
    before, after = _targets(old), _targets(new)
    for pattern in old.patterns:
        if after.get(pattern.text) != pattern.target and not _is_covered(pattern, before, new):
            kept = after.get(pattern.text) or new.resolve(pattern.text.replace("*", "x"))
            yield NameChange(pattern.text, pattern.target, kept)
    for pattern in new.patterns:
        if pattern.text in before:
            continue
        rival = next((each for each in old.patterns if _takes_names_of(pattern, each, old, new)), None)
        yield NameChange(pattern.text, None if rival is None else f"{rival.target} by {rival.text}", pattern.target)


def _is_covered(pattern: NamePattern, before: dict[str, str], new: ModelNames) -> bool:
    """Return whether a wider pattern gives all the names of a pattern the same meaning."""
    for other in new.patterns:  # the most specific first
        if other.literals > pattern.literals and before.get(other.text) == other.target:
            continue  # it won before, too
        if other.target == pattern.target and "*" not in other.target and matcher([other.text])(pattern.text):
            return True
        if overlap(other.text, pattern.text):
            return False
    return False


def _takes_names_of(taker: NamePattern, pattern: NamePattern, old: ModelNames, new: ModelNames) -> bool:
    """Return whether a new pattern gives names of an old one another meaning."""
    if taker.literals < pattern.literals or not _overlap(taker, pattern):
        return False
    if "*" not in pattern.target:
        return "*" in taker.target or old.resolve(pattern.target) != new.resolve(taker.target)
    return _has_meaning(taker.text, pattern, old, _MAX_REWRITES)


def _overlap(one: NamePattern, other: NamePattern) -> bool:
    if not one.prefix.startswith(other.prefix) and not other.prefix.startswith(one.prefix):
        return False
    if not one.suffix.endswith(other.suffix) and not other.suffix.endswith(one.suffix):
        return False
    return overlap(one.text, other.text)


def _has_meaning(text: str, pattern: NamePattern, names: ModelNames, depth: int) -> bool:
    """Return whether a pattern rewrites names that ``text`` matches to names that mean a model. In doubt, it does."""
    if not depth or not text.startswith(pattern.prefix) or not text.endswith(pattern.suffix):
        return True
    rewritten = pattern.rewrite(text)
    if any(map(matcher([rewritten]), names.exact)):
        return True
    return any(
        overlap(each.text, rewritten) and ("*" not in each.target or _has_meaning(rewritten, each, names, depth - 1))
        for each in names.patterns
    )
