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
    from markupsafe import escape

    highest = max((sum(column.parts) for column in columns), default=0)
    step = _step(highest)
    top = -(-highest // step) * step or step
    out = []
    for index in range(top // step + 1):
        y = _tenths((_TOP + _HEIGHT) * 10 - index * step * _HEIGHT * 10 // top)
        value = escape(language.group_digits(format_plain(decimal_from_scaled(index * step, places))))
        out.append(
            f'<path class="grid" d="M{_LEFT} {y}H{_WIDTH}" stroke="#c9ced4" stroke-width="0.5" fill="none"/>'
            f'<text x="{_LEFT - 6}" y="{y}" dy="3.5" text-anchor="end" font-size="10" fill="#56606c">{value}</text>'
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
        out.append(f"<g><title>{escape(column.name)}: {escape(column.total)}</title>{''.join(bars)}</g>")
        if index % label_interval == 0:
            rightmost = (_WIDTH - 3 * len(column.label)) * 10  # half a label is at most 3 units per character wide
            middle = _tenths(min(x + column_width // 2, rightmost))
            out.append(
                f'<text x="{middle}" y="{_TOP + _HEIGHT + 15}" text-anchor="middle" font-size="10" fill="#56606c">'
                f"{escape(column.label)}</text>"
            )
    return _svg(_WIDTH, _TOP + _HEIGHT + _BOTTOM, title, out)


def bar_chart(rows: Sequence[ChartBar], title: str) -> Markup:
    """Draw horizontal bars in the given order. Amounts are whole numbers and not negative."""
    from markupsafe import escape

    longest = max((row.amount for row in rows), default=0) or 1
    out = []
    for index, row in enumerate(rows):
        y = index * _ROW
        length = max(row.amount * _BAR * 10 // longest, 10 * bool(row.amount))  # a small amount stays visible
        name = row.name if len(row.name) <= 28 else row.name[:27] + "…"
        bar, text = _bar(_NAME * 10, (y + 5) * 10, length, 140, row.series), escape(row.text)
        out.append(
            f'<g><title>{escape(row.name)}: {text}</title><text x="0" y="{y + 16}" font-size="12" fill="#1b2027" '
            f'class="ink">{escape(name)}</text>{bar}<text x="{_NAME + _BAR + 12}" y="{y + 16}" font-size="12" '
            f'fill="#1b2027" class="ink">{text}</text></g>'
        )
    return _svg(_WIDTH, max(len(rows), 1) * _ROW, title, out)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> Markup:
    """Return a drawing. The texts in its parts were escaped."""
    from markupsafe import Markup, escape

    return Markup(  # noqa: S704  # all texts in it are escaped
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif">{"".join(parts)}</svg>'
    )


def _bar(x: int, y: int, width: int, height: int, series: int) -> str:
    series = min(series, MAX_SERIES - 1)
    return (
        f'<rect class="s{series}" x="{_tenths(x)}" y="{_tenths(y)}" width="{_tenths(width)}" '
        f'height="{_tenths(height)}" fill="{COLOURS[series]}"/>'
    )


def _tenths(value: int) -> str:
    whole, tenth = divmod(value, 10)
    return f"{whole}.{tenth}" if tenth else str(whole)


def _step(highest: int) -> int:
    """Return the distance of grid lines: 1, 2 or 5 times a power of ten, so that at most four reach ``highest``."""
    min_step = max(-(-highest // 4), 1)
    power: int = 10 ** (len(str(min_step)) - 1)
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= min_step)
