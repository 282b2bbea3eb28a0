"""Pictures of usage, as SVG drawn ahead. Heights are whole tenths of a unit, so that no float touches an amount.

Colours are presentation attributes, which paper and PDF take; by the classes ``s0`` to ``s7`` a style sheet changes
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.decimals import decimal_from_scaled, format_plain

if TYPE_CHECKING:
    from markupsafe import Markup

    from brivionix_billing.pages.formatting import LocaleFormatter

__all__ = ["COLOURS", "MAX_SERIES", "ChartColumn", "ChartBar", "column_chart", "bar_chart"]

COLOURS: Final = ("#0a7d6e", "#2f6fb3", "#b97a00", "#b5476b", "#6d56b5", "#6b7a1e", "#8a5a3c", "#6b7280")
MAX_SERIES: Final = len(COLOURS)
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 170, 78, 10, 22
_ROW, _NAME, _BAR = 24, 190, 330
_WIDEST = 480


class ChartColumn(NamedTuple):
    """A bar of the picture by day: what stands below it, its full name, and its parts by series."""

    label: str
    name: str
    parts: Sequence[int]


class ChartBar(NamedTuple):
    """A bar of the picture by model: its series, its name, its amount, and what stands beside it."""

    series: int
    name: str
    amount: int
    text: str


def column_chart(columns: Sequence[ChartColumn], places: int, title: str, language: LocaleFormatter) -> Markup:
    """Bars over time, each stacked by series; amounts are whole numbers of 10^-``places``, none negative."""
    from markupsafe import Markup

    most = max((sum(column.parts) for column in columns), default=0)
    step = _step(most)
    top = -(-most // step) * step or step
    out = []
    for index in range(top // step + 1):
        y = _tenths((_TOP + _HEIGHT) * 10 - index * step * _HEIGHT * 10 // top)
        value = language.group_digits(format_plain(decimal_from_scaled(index * step, places)))
        out.append(
            Markup(
                '<path class="grid" d="M{} {}H{}" stroke="#c9ced4" stroke-width="0.5" fill="none"/>'
                '<text x="{}" y="{}" dy="3.5" text-anchor="end" font-size="10" fill="#56606c">{}</text>'
            ).format(_LEFT, y, _WIDTH, _LEFT - 6, y, value)
        )
    room = (_WIDTH - _LEFT) * 10 // max(len(columns), 1)
    every = -(-len(columns) // 16)
    for place, column in enumerate(columns):
        x, below = _LEFT * 10 + place * room, 0
        total = language.group_digits(format_plain(decimal_from_scaled(sum(column.parts), places)))
        bars = []
        for series, part in enumerate(column.parts):
            low = (_TOP + _HEIGHT) * 10 - below * _HEIGHT * 10 // top
            below += part
            high = (_TOP + _HEIGHT) * 10 - below * _HEIGHT * 10 // top
            if low > high:
                wide = min(room - room // 4, _WIDEST)
                bars.append(_bar(x + (room - wide) // 2, high, wide, low - high, series))
        out.append(Markup("<g><title>{}: {}</title>{}</g>").format(column.name, total, Markup("").join(bars)))
        if place % every == 0:
            rightmost = (_WIDTH - 3 * len(column.label)) * 10  # half a label is at most 3 units per character wide
            out.append(
                Markup('<text x="{}" y="{}" text-anchor="middle" font-size="10" fill="#56606c">{}</text>').format(
                    _tenths(min(x + room // 2, rightmost)), _TOP + _HEIGHT + 15, column.label
                )
            )
    return _svg(_WIDTH, _TOP + _HEIGHT + _BOTTOM, title, out)


def bar_chart(rows: Sequence[ChartBar], title: str) -> Markup:
    """Bars side by side, the longest first; amounts are whole numbers, none negative."""
    from markupsafe import Markup

    most = max((row.amount for row in rows), default=0) or 1
    out = []
    for place, row in enumerate(rows):
        y = place * _ROW
        length = max(row.amount * _BAR * 10 // most, 10 * bool(row.amount))  # what is used is seen
        name = row.name if len(row.name) <= 28 else row.name[:27] + "…"
        out.append(
            Markup(
                '<g><title>{}: {}</title><text x="0" y="{}" font-size="12" fill="#1b2027" class="ink">{}</text>{}'
                '<text x="{}" y="{}" font-size="12" fill="#1b2027" class="ink">{}</text></g>'
            ).format(
                row.name,
                row.text,
                y + 16,
                name,
                _bar(_NAME * 10, (y + 5) * 10, length, 140, row.series),
                _NAME + _BAR + 12,
                y + 16,
                row.text,
            )
        )
    return _svg(_WIDTH, max(len(rows), 1) * _ROW, title, out)


def _svg(width: int, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    from markupsafe import Markup

    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'font-family="sans-serif">{}</svg>'
    ).format(width, height, title, Markup("").join(parts))


def _bar(x: int, y: int, width: int, height: int, series: int) -> Markup:
    from markupsafe import Markup

    series = min(series, MAX_SERIES - 1)
    return Markup('<rect class="s{}" x="{}" y="{}" width="{}" height="{}" fill="{}"/>').format(
        series, _tenths(x), _tenths(y), _tenths(width), _tenths(height), COLOURS[series]
    )


def _tenths(value: int) -> str:
    whole, tenth = divmod(value, 10)
    return f"{whole}.{tenth}" if tenth else str(whole)


def _step(most: int) -> int:
    """A round step (1, 2 or 5 and zeros) of which at most four reach ``most``."""
    least = max(-(-most // 4), 1)
    power: int = 10 ** (len(str(least)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
