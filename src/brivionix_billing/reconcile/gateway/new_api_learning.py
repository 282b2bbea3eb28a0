"""Learns from the log of new-api what the price file cannot state: its rounding, and the ratios of user groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from typing import Any, Final

from brivionix_billing.reconcile.gateway.comparing import UNUSUAL, parse_fast
from brivionix_billing.reconcile.gateway.log_values import to_fraction
from brivionix_billing.reconcile.gateway.new_api import Agreements
from brivionix_billing.reconcile.gateway.new_api_call import ContradictionError
from brivionix_billing.reconcile.gateway.new_api_reading import read_call
from brivionix_billing.reconcile.gateway.new_api_row import (
    CONSUME,
    REFUND,
    ids_of,
    parse_other,
    read_quota,
    read_row,
    user_of,
)
from brivionix_billing.reconcile.gateway.quota import Method, detect_method
from brivionix_billing.reconcile.gateway.reading import LogSource, RawRow

__all__ = ["find_refunded", "learn"]

_SAMPLE: Final = 20_000
"""Rows at the start of a log from which its rounding and the ratios of user groups are learned."""
_METHOD_SAMPLE: Final = 3_000
_AGREED_SHARE: Final = Fraction(1, 25)
"""The share of the rows of a group from which a ratio of a user group counts as agreed."""
_AGREED_ROWS: Final = 5
"""The number of rows of a user from which the ratio of most of them counts as agreed."""
_REFUND_PATTERNS: Final = (rb'"type"\s*+:\s*+(?![0-57-9]\s*+[,}])', rb"\\u00(?:7[049]|65)")
"""What a row with the type of a refund has: any number or text but another digit, or a letter of the key escaped."""
_NUMBER_TYPES: Final = (int, float, str)


def learn(source: LogSource, quota_per_unit: int) -> tuple[Agreements, Method]:
    """Return the agreed ratios and the rounding that the start of a log shows. Raises ``file_unreadable``."""
    by_user: dict[tuple[str, str], Counter[object]] = defaultdict(Counter)
    samples: list[tuple[Mapping[str, Any], dict[str, Any]]] = []
    for raw in islice(source.rows(), _SAMPLE):
        row, other = _read(raw, source.place)
        if row.get("type") != CONSUME:
            continue
        stated = other.get("user_group_ratio")
        known = stated if type(stated) in _NUMBER_TYPES else None
        by_user[user_of(row), str(row.get("group") or "default")][known] += 1
        if len(samples) < _METHOD_SAMPLE:
            samples.append((row, other))
    return _agreements({key: _ratios(counts) for key, counts in by_user.items()}), _method(samples, quota_per_unit)


def _read(raw: RawRow, place: str) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Return a row and its ``other``. Raises ``file_unreadable``."""
    if type(raw) is str:
        with suppress(*UNUSUAL):
            row = parse_fast(raw)
            other = parse_fast(row["other"])
            if type(row["type"]) is int and "quota" in row and type(other) is dict:
                return row, other
    full = read_row(raw, place)
    return full, parse_other(full)


def _ratios(counts: Mapping[object, int]) -> Counter[Fraction | None]:
    ratios: Counter[Fraction | None] = Counter()
    for stated, rows in counts.items():
        ratio = to_fraction(stated)
        ratios[None if ratio is None or ratio < 0 else ratio] += rows
    return ratios


def _agreements(by_user: Mapping[tuple[str, str], Counter[Fraction | None]]) -> Agreements:
    """Return the ratios of user groups that the rows of a log have in common."""
    by_group: dict[str, Counter[Fraction | None]] = defaultdict(Counter)
    agreed: dict[str, set[Fraction]] = defaultdict(set)
    own: dict[tuple[str, str], Fraction] = {}
    for (user, group), counts in by_user.items():
        by_group[group].update(counts)
        ratio, most = counts.most_common(1)[0]
        if ratio is not None and most >= _AGREED_ROWS and 2 * most > counts.total():
            own[user, group] = ratio
            agreed[group].add(ratio)
    for group, counts in by_group.items():
        for ratio, count in counts.items():
            if ratio is not None and count >= _AGREED_ROWS and count >= _AGREED_SHARE * counts.total():
                agreed[group].add(ratio)
    return Agreements({group: frozenset(ratios) for group, ratios in agreed.items()}, own)


def _method(rows: list[tuple[Mapping[str, Any], dict[str, Any]]], quota_per_unit: int) -> Method:
    """Return the way in which most rows were rounded."""
    samples = []
    for row, other in rows:
        quota = read_quota(row)
        try:
            call = read_call(row, other, quota_per_unit)
        except ContradictionError:
            continue
        if quota is not None and call.mode != "task" and (call.mode != "expression" or call.outcome is not None):
            samples.append((quota, call.exact, call.as_float))
    return detect_method(samples)


def find_refunded(source: LogSource) -> frozenset[str]:
    """Return the ids of requests and tasks that have a refund in the log."""
    found: set[str] = set()
    for raw in source.rows_with(*_REFUND_PATTERNS):
        row = read_row(raw, source.place)
        if row.get("type") == REFUND:
            found |= ids_of(row, parse_other(row))
    return frozenset(found)
