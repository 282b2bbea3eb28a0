"""Reads OpenRouter's cost of each response: responses, generations, or the activity per request, as JSON or CSV.

1 Credit of OpenRouter is 1 USD. ``usage.cost`` of a response and ``total_cost`` of ``GET /generation`` are what was
charged. Source: openrouter.ai/docs, "Usage Accounting".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError
from brivionix_billing.reconcile.exported_files import ExportedFile, json_values, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import NumberFormat, parse_count, parse_local_time, parse_unix_time
from brivionix_billing.reconcile.provider.report import Report, ResponseLine, decimals_of
from brivionix_billing.times import load_zone
from brivionix_billing.usage import Usage

__all__ = ["read_openrouter"]

_COSTS: Final = ("cost_total", "total_cost", "cost", "usage")
_FLOAT: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,3}", re.ASCII)
_FIX: Final = "pass responses with usage.cost, answers of GET /api/v1/generation, or the activity per request"


def read_openrouter(files: Sequence[ExportedFile]) -> Report:
    """Return the responses with their cost. Raises ``invalid_statement``."""
    lines: list[ResponseLine] = []
    for file in files:
        lines += _read_json(file) if file.is_json else _read_csv(file)
    return Report("openrouter", responses=tuple(lines), decimals=decimals_of(line.amount for line in lines))


def _read_json(file: ExportedFile) -> Iterator[ResponseLine]:
    for place, value in json_values(file):
        items = value.get("data", value) if isinstance(value, dict) else value
        for number, item in enumerate(items if isinstance(items, list) else [items], 1):
            yield _json_line(item, f"{place}, item {number}" if isinstance(items, list) else place)


def _json_line(item: Any, place: str) -> ResponseLine:
    if not isinstance(item, dict):
        raise statement_error(place, "not a response with a cost", _FIX)
    inner = item.get("response")
    response: dict[str, Any] = inner if isinstance(inner, dict) else item
    outer = item.get("usage")
    if isinstance(outer, dict) and isinstance(outer.get("usage"), dict):  # a record of a usage file
        response, outer = outer, outer["usage"]
    usage = response.get("usage") if isinstance(response.get("usage"), dict) else outer
    if isinstance(usage, dict) and "cost" in usage:
        id = item.get("request_id") or response.get("id") or item.get("id")
        model = response.get("model") or item.get("model")
        at = item.get("at") or response.get("created") or item.get("created_at")
        return ResponseLine(
            place, _id(id, place), _at(at, place), _text(model), _number(usage["cost"], place, "usage.cost"),
            _usage(usage, place), usage.get("is_byok") is True,
        )  # fmt: skip
    if "total_cost" in item:
        return ResponseLine(
            place,
            _id(item.get("id") or item.get("generation_id"), place),
            _at(item.get("created_at"), place),
            _text(item.get("model") or item.get("model_permaslug")),
            _number(item["total_cost"], place, "total_cost"),
            _native_usage(item, place),
            item.get("is_byok") is True,
        )
    raise statement_error(place, "the response states no cost", _FIX)


def _read_csv(file: ExportedFile) -> Iterator[ResponseLine]:
    for section in read_sections(file, ("generation_id", "id", "request_id"), marker="created_at"):
        cost = next((name for name in _COSTS if name in section.columns), None)
        if cost is None or not {"generation_id", "id", "request_id"} & set(section.columns):
            raise statement_error(file.name, "the file has no column of a cost or an id per response", _FIX)
        number = NumberFormat(row.get(cost) for row in section.rows)
        for row in section.rows:
            text = row.get(cost)
            amount = Decimal(text) if _FLOAT.fullmatch(text) else number.parse(text, row.place, cost)
            yield ResponseLine(
                row.place,
                _id(row.get("generation_id", "id", "request_id"), row.place),
                _at(row.get("created_at") or None, row.place),
                _text(row.get("model") or row.get("model_permaslug")),
                amount,
                _native_usage(row.cells, row.place),
                row.get("is_byok").lower() == "true",
            )


def _native_usage(cells: Mapping[str, Any], place: str) -> Usage | None:
    """Return the counts of the provider's own tokens, which are those that are charged."""

    def count(*names: str) -> int | None:
        return next((found for name in names if (found := parse_count(cells.get(name), place, name)) is not None), None)

    prompt = count("native_tokens_prompt", "tokens_prompt")
    completion = count("native_tokens_completion", "tokens_completion")
    if prompt is None or completion is None:
        return None
    cached = count("native_tokens_cached", "tokens_cached") or 0
    reasoning = count("native_tokens_reasoning", "tokens_reasoning") or 0
    try:
        return Usage(prompt, completion, min(cached, prompt), reasoning_tokens=min(reasoning, completion))
    except BillingError as error:
        raise statement_error(place, error.message, "export it again") from None


def _usage(usage: Mapping[str, Any], place: str) -> Usage | None:
    try:
        return Usage.from_response(_plain(usage))
    except BillingError as error:
        if error.code == "unknown_usage_format":
            return None
        raise statement_error(place, error.message, "export it again") from None


def _plain(value: Any) -> Any:
    """Return JSON with floats instead of decimals, as clients read it: amounts in it are not billed."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _id(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise statement_error(place, "the response has no id", _FIX)
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _at(value: Any, place: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, str):
        return parse_local_time(value, load_zone("UTC"), place, "created_at")
    return parse_unix_time(value, place, "created")


def _number(value: Any, place: str, name: str) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise statement_error(place, f"{name} is not a number", _FIX)
    return Decimal(value)
