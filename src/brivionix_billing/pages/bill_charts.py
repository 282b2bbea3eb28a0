"""Usage of a bill by day (or month) and by model: the figures of its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import decimal_from_scaled, format_plain, to_scaled
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.pages.charts import MAX_SERIES, ChartBar, ChartColumn, bar_chart, column_chart
from brivionix_billing.pages.formatting import LocaleFormatter

__all__ = ["usage_charts"]

Json = dict[str, Any]
_MOST_STEPS: Final = 62
"""A period of more days is drawn by month, one of more months by year."""


def usage_charts(document: Mapping[str, Any], language: LocaleFormatter) -> Json | None:
    """The pictures and their figures; ``None`` where nothing was used, or a note moves amounts both ways."""
    words = BILL_MESSAGES[language.name]
    sign = -1 if document["kind"] == "credit_note" else 1
    places = max((to_scaled(Decimal(part["credits"]))[1] for part in document["days"]), default=0)
    amounts: dict[tuple[str, str], int] = {}
    for part in document["days"]:
        key = part["day"], part["model"]
        amounts[key] = amounts.get(key, 0) + sign * _scaled_credits(part["credits"], places)
    if not any(amounts.values()) or any(amount < 0 for amount in amounts.values()):
        return None
    models: dict[str, int] = {}
    for (_, model), amount in amounts.items():
        models[model] = models.get(model, 0) + amount
    ordered = sorted(models, key=lambda name: (-models[name], name))
    series = {name: min(place, MAX_SERIES - 1) for place, name in enumerate(ordered)}
    drawn = ordered if len(ordered) <= MAX_SERIES else [*ordered[: MAX_SERIES - 1], words["others"]]
    kind, steps = _time_axis(sorted({day for day, _ in amounts}))
    stacks: dict[str, list[int]] = {step: [0] * len(drawn) for step in steps}
    for (day, model), amount in amounts.items():
        stacks[day[: len(steps[0])]][series[model]] += amount
    rows = [
        ChartBar(place, name, total, _share_label(total, sum(models.values()), places, language))
        for place, (name, total) in enumerate(
            (name, sum(stack[place] for stack in stacks.values())) for place, name in enumerate(drawn)
        )
    ]
    columns = [ChartColumn(step[5:] if kind == "day" else step, step, stacks[step]) for step in steps]
    title = words[f"by_{kind}"]
    return {
        "time_title": title,
        "time": column_chart(columns, places, title, language),
        "models": bar_chart(rows, words["by_model"]),
        "step": words[kind],
        "names": drawn,
        "figures": [
            {
                "step": column.name,
                "amounts": [
                    language.group_digits(format_plain(decimal_from_scaled(part, places))) for part in column.parts
                ],
                "total": language.group_digits(format_plain(decimal_from_scaled(sum(column.parts), places))),
            }
            for column in columns
            if any(column.parts)
        ],
    }


def _scaled_credits(credits: str, places: int) -> int:
    coefficient, own = to_scaled(Decimal(credits))
    scale: int = 10 ** (places - own)
    return coefficient * scale


def _share_label(amount: int, total: int, places: int, language: LocaleFormatter) -> str:
    """An amount and its part of the total, cut to a tenth of a percent."""
    share = decimal_from_scaled(amount * 1000 // total, 3)
    return f"{language.group_digits(format_plain(decimal_from_scaled(amount, places)))} · {language.percent(share)}"


def _time_axis(days: list[str]) -> tuple[str, list[str]]:
    """The bars of a picture over these days: every day of their span, else every month, else the years among them."""
    start, end = date.fromisoformat(days[0]), date.fromisoformat(days[-1])
    span = (end - start).days + 1
    if span <= _MOST_STEPS:
        return "day", [(start + timedelta(days=n)).isoformat() for n in range(span)]
    months = range(start.year * 12 + start.month - 1, end.year * 12 + end.month)
    if len(months) <= _MOST_STEPS:
        return "month", [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]
    return "year", list(dict.fromkeys(day[:4] for day in days))
