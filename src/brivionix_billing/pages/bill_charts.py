"""The charts of a bill: usage over time (by day, month or year) and by model."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_from_scaled, format_scaled, to_scaled
from brivionix_billing.money import allocate
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.pages.charts import MAX_SERIES, ChartBar, ChartColumn, bar_chart, column_chart
from brivionix_billing.pages.formatting import LocaleFormatter

__all__ = ["usage_charts"]

Json = dict[str, Any]
_MAX_COLUMNS: Final = 62
"""Maximum number of columns over time. A longer period is drawn by month or by year."""


def usage_charts(document: Mapping[str, Any], language: LocaleFormatter) -> Json | None:
    """Return both charts of a bill or note, and the figures of the chart over time.

    A single model has no chart by model. Texts are rounded as the bill is.

    Returns ``None`` if nothing was used, or if a note has both positive and negative amounts.
    """
    messages = BILL_MESSAGES[language.name]
    sign = -1 if document["kind"] == "credit_note" else 1
    places = max((to_scaled(Decimal(day["credits"]))[1] for day in document["days"]), default=0)
    amounts: dict[tuple[str, str], int] = {}
    for day in document["days"]:
        key = day["day"], day["model"]
        amounts[key] = amounts.get(key, 0) + sign * _scaled_credits(day["credits"], places)
    if not any(amounts.values()) or any(amount < 0 for amount in amounts.values()):
        return None
    model_totals: dict[str, int] = {}
    for (_, model), amount in amounts.items():
        model_totals[model] = model_totals.get(model, 0) + amount
    models = sorted(model_totals, key=lambda name: (-model_totals[name], name))
    series = {name: min(index, MAX_SERIES - 1) for index, name in enumerate(models)}
    names = models if len(models) <= MAX_SERIES else [*models[: MAX_SERIES - 1], messages["others"]]
    step_unit, steps = _time_axis(sorted({date for date, _ in amounts}))
    stacks: dict[str, list[int]] = {step: [0] * len(names) for step in steps}
    for (date, model), amount in amounts.items():
        stacks[date[: len(steps[0])]][series[model]] += amount
    total = sum(model_totals.values())
    series_totals = [sum(stack[index] for stack in stacks.values()) for index in range(len(names))]
    cells = _rounded_cells(document, sign, list(stacks.values()), series)
    digits = document["rounding"]["credit_digits"]

    def show(amount: int) -> str:
        return language.group_digits(format_scaled(amount, digits))

    bars = [
        ChartBar(index, name, amount, _share_label(show(sum(row[index] for row in cells)), amount, total, language))
        for index, (name, amount) in enumerate(zip(names, series_totals, strict=True))
    ]
    columns = [
        ChartColumn(step[5:] if step_unit == "day" else step, step, stack, show(sum(row)))
        for (step, stack), row in zip(stacks.items(), cells, strict=True)
    ]
    title = messages[f"by_{step_unit}"]
    return {
        "time_title": title,
        "time": column_chart(columns, places, title, language),
        "models": bar_chart(bars, messages["by_model"]) if len(bars) > 1 else None,
        "step": messages[step_unit],
        "names": names,
        "figures": [
            {"step": column.name, "amounts": [show(part) for part in row], "total": column.total}
            for column, row in zip(columns, cells, strict=True)
            if any(column.parts)
        ],
    }


def _rounded_cells(
    document: Mapping[str, Any], sign: int, stacks: Sequence[Sequence[int]], series: Mapping[str, int]
) -> list[list[int]]:
    """Return the rounded amounts by step and series, in units of the last decimal place.

    On a bill, those of a series add up to the rounded lines of its models, as in the summary by model. On a report, and
    on a note, whose lines may also change by rounding, all of them add up to the rounded total.
    """
    digits = document["rounding"]["credit_digits"]
    columns = list(zip(*stacks, strict=True))
    if document["kind"] == "invoice" and "lines" in document:
        wholes = [0] * len(columns)
        for line in document["lines"]:
            if line["model"] in series:
                wholes[series[line["model"]]] += _scaled_credits(line["rounded"]["credits"], digits)
        parts = [allocate(whole, column) for whole, column in zip(wholes, columns, strict=True)]
    else:
        whole = sign * _scaled_credits(document["totals"]["rounded"]["credits"], digits)
        flat, size = allocate(whole, [amount for column in columns for amount in column]), len(stacks)
        parts = [flat[start : start + size] for start in range(0, len(flat), size)]
    return [list(row) for row in zip(*parts, strict=True)]


def _scaled_credits(credits: str, places: int) -> int:
    coefficient, own_places = to_scaled(Decimal(credits))
    scale: int = 10 ** (places - own_places)
    return coefficient * scale


def _share_label(shown: str, amount: int, total: int, language: LocaleFormatter) -> str:
    """Format an amount and its share of the total, truncated to a tenth of a percent."""
    return f"{shown} · {language.percent(decimal_from_scaled(amount * 1000 // total, 3))}"


def _time_axis(days: list[str]) -> tuple[str, list[str]]:
    """Return the unit and the columns of the chart over time.

    The columns are all days between the first and the last day. If these are too many, they are all months, and if
    these are too many, the years with usage.
    """
    start, end = datetime.date.fromisoformat(days[0]), datetime.date.fromisoformat(days[-1])
    span = (end - start).days + 1
    if span <= _MAX_COLUMNS:
        return "day", [(start + datetime.timedelta(days=n)).isoformat() for n in range(span)]
    months = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    if len(months) <= _MAX_COLUMNS:
        return "month", [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]
    return "year", list(dict.fromkeys(day[:4] for day in days))
