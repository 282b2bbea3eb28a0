"""The figures of a bill or a note: lines, totals, savings and days. They are added and subtracted, exactly.

Rounded amounts are added and subtracted as they are rounded, so documents add up in every column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, subtract_text

__all__ = ["DAY_KEY", "LINE_CONDITIONS", "LINE_KEY", "add_figures", "has_figures", "subtract_figures"]

Figures = Mapping[str, Any]
"""A document, or a part of one, with ``lines``, ``totals``, ``savings`` and ``days``."""
LINE_CONDITIONS: Final = ("router", "region", "mode", "window", "list_currency", "exchange_rate")
"""The values that a line has only if its price differs from the usual one for that reason."""
LINE_KEY: Final = (
    "model",
    "group",
    "service_tier",
    "context_tier",
    *LINE_CONDITIONS,
    "price_since",
    "meter",
    "list_price",
    "per",
    "ratio",
    "unit_price",
)
"""The values that identify a line of a bill."""
DAY_KEY: Final = ("day", "model")
"""The values that identify a row of its days."""


def subtract_figures(new: Figures | None, old: Figures | None) -> dict[str, Any]:
    """Return the figures of ``new`` minus those of ``old``. ``None`` has no figures. One of them must have some.

    Lines and days without a difference are omitted.
    """
    totals = _subtract(new and new["totals"], old and old["totals"])
    zeros = {name: subtract_text(amount, amount) for name, amount in totals["rounded"]["channels"].items()}
    return {
        "lines": _subtract_lines(old["lines"] if old else [], new["lines"] if new else [], zeros),
        "totals": totals,
        "savings": _subtract(new and new["savings"], old and old["savings"]),
        "days": _subtract_days(old["days"] if old else [], new["days"] if new else []),
    }


def add_figures(first: Figures, others: Iterable[Figures]) -> Figures:
    """Return the sum of the figures of some documents."""
    result = first
    for other in others:
        result = subtract_figures(result, subtract_figures(None, other))
    return result


def has_figures(figures: Figures) -> bool:
    """Return whether any figure differs from zero."""
    return bool(figures["lines"] or figures["days"] or any(_nonzero_flags(figures["totals"]["estimated"])))


def _subtract_lines(old: list[Any], new: list[Any], zeros: Mapping[str, str]) -> list[Any]:
    """Return the lines that change; ``zeros`` has a rounded zero for each channel of the totals."""
    before, after = _by_key(old, LINE_KEY), _by_key(new, LINE_KEY)
    lines = []
    for key in {**before, **after}:
        change = _subtract(_amounts(after.get(key)), _amounts(before.get(key)))
        if any(_nonzero_flags(change)):
            # Only one of the two lines may have a channel, but every line must have all channels of the totals.
            change["rounded"]["channels"] = {**zeros, **change["rounded"]["channels"]}
            values = dict(zip(LINE_KEY, key, strict=True))
            stated = {name: value for name, value in values.items() if value is not None or name not in LINE_CONDITIONS}
            lines.append({**stated, **change})
    return lines


def _subtract_days(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the rows of days that change."""
    before, after = _by_key(old, DAY_KEY), _by_key(new, DAY_KEY)
    days = []
    for key in sorted({*before, *after}):
        change = _subtract(
            _select(after.get(key), ("requests", "credits")), _select(before.get(key), ("requests", "credits"))
        )
        if any(_nonzero_flags(change)):
            days.append({**dict(zip(DAY_KEY, key, strict=True)), **change})
    return days


def _by_key(rows: list[Any], key: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    return {tuple(row.get(name) for name in key): row for row in rows}


def _amounts(line: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return _select(line, ("quantity", "credits", "rounded"))


def _select(row: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in names}


def _nonzero_flags(value: Any) -> list[bool]:
    if isinstance(value, dict):
        return [flag for item in value.values() for flag in _nonzero_flags(item)]
    return [bool(str(value).strip("-0."))]


_UNCHANGED_FIELDS: Final = frozenset({"currency", "per_credit", "price_per_credit", "since"})


def _subtract(new: Any, old: Any, rounded: bool = False) -> Any:
    """Return ``new - old`` for every amount in two values of the same structure. A missing value counts as zero.

    Rounded amounts keep their decimal places. Exact amounts have no trailing zeros.
    """
    if new is None and old is None:
        return None
    sample = old if new is None else new
    if isinstance(sample, dict):
        old, new = old or {}, new or {}
        return {
            name: (
                new.get(name, old.get(name))
                if name in _UNCHANGED_FIELDS
                else _subtract(new.get(name), old.get(name), rounded or name == "rounded")
            )
            for name in {**old, **new}
        }
    if isinstance(sample, list):  # the price periods of a channel
        old_periods, new_periods = (_by_key(periods or [], ("since", "price_per_credit")) for periods in (old, new))
        keys = sorted({**old_periods, **new_periods})
        return [_subtract(new_periods.get(key), old_periods.get(key)) for key in keys]
    if isinstance(sample, int):
        return (new or 0) - (old or 0)
    difference = subtract_text(new or "0", old or "0")
    return difference if rounded else format_plain(Decimal(difference))
