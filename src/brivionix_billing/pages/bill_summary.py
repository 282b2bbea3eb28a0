"""The summary of a bill by model, which precedes its lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import format_scaled, sum_exact, to_scaled
from brivionix_billing.invoice.labels import named
from brivionix_billing.pages.formatting import LocaleFormatter

__all__ = ["add_rounded", "model_summary"]


def add_rounded(texts: Sequence[str]) -> str:
    """Add rounded amounts, and keep their number of decimal places."""
    coefficient, own_places = to_scaled(sum_exact(map(Decimal, texts)))
    places = max((len(text.partition(".")[2]) for text in texts), default=0)
    return format_scaled(coefficient * 10 ** (places - own_places), places)


def model_summary(
    document: Mapping[str, Any], channels: Sequence[str], language: LocaleFormatter
) -> list[dict[str, Any]]:
    """Return a row per model: its requests, and the sums of its rounded lines, which add up to the rounded totals.

    Returns no rows if the lines have fewer than two models: then the totals are the summary.
    """
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for line in document["lines"]:
        lines.setdefault(line["model"], []).append(line["rounded"])
    if len(lines) < 2:
        return []
    requests: dict[str, int] = {}
    for day in document["days"]:
        requests[day["model"]] = requests.get(day["model"], 0) + day["requests"]

    def total(texts: Sequence[str]) -> str:
        return language.group_digits(add_rounded(texts))

    return [
        {
            "model": named(document, "models", model, language.name),
            "requests": language.number(requests.get(model, 0)),
            "credits": total([part["credits"] for part in parts]),
            "channels": [(name, total([part["channels"][name] for part in parts])) for name in channels],
        }
        for model, parts in lines.items()
    ]
