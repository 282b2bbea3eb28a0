"""Static SVG charts. Lengths are whole tenths of a unit, so that no amount is converted to a float.

Colours are presentation attributes, so they also apply in print and PDF. A style sheet overrides them by the classes
``s0`` to ``s7``.
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
_MAX_BAR_WIDTH = 480  # tenths of a unit


class ChartColumn(NamedTuple):
    """A column of a chart over time: its axis label, its full name, its amounts by series, and their sum as text."""

    label: str
    name: str
    parts: Sequence[int]
    total: str


class ChartBar(NamedTuple):
    """A bar of a chart by model: its series, its name, its amount, and the text next to it."""

    series: int
    name: str
    amount: int
    text: str


def column_chart(columns: Sequence[ChartColumn], places: int, title: str, language: LocaleFormatter) -> Markup:
    """Draw stacked columns over time.

    Amounts are whole numbers in units of 10^-``places``, and not negative.
    """
    from markupsafe import Markup

    highest = max((sum(column.parts) for column in columns), default=0)
    step = _step(highest)
    top = -(-highest // step) * step or step
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
    column_width = (_WIDTH - _LEFT) * 10 // max(len(columns), 1)
    label_interval = -(-len(columns) // 16)
    for index, column in enumerate(columns):
        x, stacked = _LEFT * 10 + index * column_width, 0
        bars = []
        for series, part in enumerate(column.parts):
            low = (_TOP + _HEIGHT) * 10 - stacked * _HEIGHT * 10 // top
            stacked += part
            high = (_TOP + _HEIGHT) * 10 - stacked * _HEIGHT * 10 // top
            if low > high:
                width = min(column_width - column_width // 4, _MAX_BAR_WIDTH)
                bars.append(_bar(x + (column_width - width) // 2, high, width, low - high, series))
        out.append(Markup("<g><title>{}: {}</title>{}</g>").format(column.name, column.total, Markup("").join(bars)))
        if index % label_interval == 0:
            rightmost = (_WIDTH - 3 * len(column.label)) * 10  # half a label is at most 3 units per character wide
            out.append(
                Markup('<text x="{}" y="{}" text-anchor="middle" font-size="10" fill="#56606c">{}</text>').format(
                    _tenths(min(x + column_width // 2, rightmost)), _TOP + _HEIGHT + 15, column.label
                )
            )
    return _svg(_WIDTH, _TOP + _HEIGHT + _BOTTOM, title, out)


def bar_chart(rows: Sequence[ChartBar], title: str) -> Markup:
    """Draw horizontal bars in the given order. Amounts are whole numbers and not negative."""
    from markupsafe import Markup

    longest = max((row.amount for row in rows), default=0) or 1
    out = []
    for index, row in enumerate(rows):
        y = index * _ROW
        length = max(row.amount * _BAR * 10 // longest, 10 * bool(row.amount))  # a small amount stays visible
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


def _step(highest: int) -> int:
    """Return the distance of grid lines: 1, 2 or 5 times a power of ten, so that at most four reach ``highest``."""
    min_step = max(-(-highest // 4), 1)
    power: int = 10 ** (len(str(min_step)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min_step)
