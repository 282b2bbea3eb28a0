"""Reads Anthropic's cost and usage reports of both generations (JSON).

Amounts are decimal texts in cents: ``"123.45"`` is 1.2345 USD. Input tokens do not contain cached ones. The report of
costs has no cost of the Priority Tier. Source: platform.claude.com, "Usage and Cost API" and "Analytics API" (beta,
2026-10-29).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import multiply
from brivionix_billing.reconcile.exported_files import ExportedFile, json_values, statement_error
from brivionix_billing.reconcile.exported_values import (
    NumberFormat,
    parse_count,
    parse_currency,
    parse_local_time,
    text_of,
)
from brivionix_billing.reconcile.provider.report import (
    Bucket,
    Pages,
    Report,
    ReportLine,
    decimals_of,
    identity_of,
)
from brivionix_billing.times import load_zone

__all__ = ["read_anthropic"]

_CENT: Final = Decimal("0.01")
_METERS: Final = {
    "uncached_input_tokens": "input",
    "output_tokens": "output",
    "cache_read_input_tokens": "cache_read",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
}
"""Token type -> meter."""
_COST_TYPES: Final = {"web_search": "web_search", "code_execution": "code_interpreter"}
_TIERS: Final = {"priority_on_demand": "priority", "flex_discount": "flex"}
"""Tiers whose prices are those of another one."""


def read_anthropic(files: Sequence[ExportedFile]) -> Report:
    """Return the lines of costs and usage of either generation. Raises ``invalid_statement``."""
    lines: list[ReportLine] = []
    buckets: set[Bucket] = set()
    pages = Pages()
    for file in files:
        for place, value in json_values(file):
            for page in value if isinstance(value, list) else [value]:
                if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                    raise statement_error(
                        place, "not a page of a report of costs or usage",
                        "pass the answers of GET /v1/organizations/cost_report or /usage_report/messages",
                    )  # fmt: skip
                found = [line for each in _rows(page["data"], place) for line in _lines(*each, buckets)]
                lines += found
                pages.add(place, page, {"usage" if line.amount is None else "cost" for line in found})
    pages.require_all()
    decimals = decimals_of(line.amount for line in lines if line.amount is not None)
    return Report("anthropic", tuple(lines), frozenset(buckets), decimals=decimals)


def _rows(data: Sequence[Any], place: str) -> Iterator[tuple[str, Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Yield (place, what has the times, results): a bucket of the first generation, or a row of the second."""
    for number, each in enumerate(data, 1):
        where = f"{place}, row {number}"
        if not isinstance(each, dict):
            raise statement_error(where, "not a row of a report", "request the report again")
        if isinstance(each.get("results"), list):
            results = each["results"]
        elif isinstance(each.get("group"), dict):
            results = [{**each["group"], **{name: each[name] for name in ("cost", "usage") if name in each}}]
        else:
            raise statement_error(where, "the row has neither results nor a group", "request the report again")
        if not all(isinstance(result, dict) for result in results):
            raise statement_error(where, "a result is not an object", "request the report again")
        yield where, each, results


def _lines(
    place: str, times: Mapping[str, Any], results: Sequence[Mapping[str, Any]], buckets: set[Bucket]
) -> Iterator[ReportLine]:
    zone = load_zone("UTC")
    span = (
        parse_local_time(str(times.get("starting_at")), zone, place, "starting_at"),
        parse_local_time(str(times.get("ending_at")), zone, place, "ending_at"),
    )
    if span[0] >= span[1]:
        raise statement_error(place, "the row ends before it starts", "request the report again")
    buckets.add(span)
    for number, result in enumerate(results, 1):
        where = f"{place}, result {number}" if len(results) > 1 else place
        if result.get("rbac_group_id"):
            raise statement_error(
                where, "the report is grouped by rbac_group_id, and groups overlap", "request it without this group"
            )
        cost, usage = result.get("cost"), result.get("usage")
        if isinstance(cost, dict):
            yield _cost_line(where, span, result, cost)
        elif "amount" in result:
            yield _cost_line(where, span, result, result)
        elif isinstance(usage, dict):
            yield from _usage_lines(where, span, result, usage)
        elif "output_tokens" in result:
            yield from _usage_lines(where, span, result, result)
        else:
            raise statement_error(where, "the result has neither an amount nor tokens", "request costs or usage")


def _cost_line(place: str, span: Bucket, result: Mapping[str, Any], cost: Mapping[str, Any]) -> ReportLine:
    amount = _cents(cost.get("amount"), place, "amount")
    listed = cost.get("list_amount")
    cost_type = result.get("cost_type")
    return ReportLine(
        place,
        span,
        text_of(result, "model", place),
        _tier(result, place),
        text_of(result, "workspace_id", place),
        _meter(result.get("token_type"), cost_type),
        None,
        amount,
        None if listed is None else _cents(listed, place, "list_amount"),
        parse_currency(cost.get("currency"), place),
        text=str(result.get("description") or result.get("token_type") or cost_type or ""),
        identity=identity_of(span, "cost", sorted((key, repr(each)) for key, each in result.items())),
    )


def _meter(token_type: Any, cost_type: Any) -> str | None:
    if isinstance(token_type, str) and token_type:
        return _METERS.get(token_type) or f"other: {token_type}"
    if isinstance(cost_type, str) and cost_type not in ("", "tokens"):
        return _COST_TYPES.get(cost_type) or f"other: {cost_type}"
    return None


def _cents(value: Any, place: str, name: str) -> Decimal:
    """Return an amount in units of the currency."""
    if isinstance(value, str):
        return multiply(NumberFormat([]).parse(value, place, name), _CENT)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise statement_error(place, f"{name} is not an amount in cents", "pass the report as the API returned it")
    return multiply(Decimal(value), _CENT)


def _usage_lines(place: str, span: Bucket, result: Mapping[str, Any], usage: Mapping[str, Any]) -> Iterator[ReportLine]:
    created = usage.get("cache_creation")
    if created is not None and not isinstance(created, dict):
        raise statement_error(place, "cache_creation is not an object", "request the report again")
    flat = {**usage, **{f"cache_creation.{key}": each for key, each in (created or {}).items()}}
    tools = usage.get("server_tool_use")
    counts = [(meter, parse_count(flat.get(name), place, name)) for name, meter in _METERS.items()]
    if isinstance(tools, dict):
        name = "web_search_requests"
        counts.append(("web_search", parse_count(tools.get(name), place, name) or None))
    identity = identity_of(span, "usage", sorted((key, repr(each)) for key, each in result.items()))
    for meter, quantity in counts:
        if quantity is not None:
            yield ReportLine(
                place,
                span,
                text_of(result, "model", place),
                _tier(result, place),
                text_of(result, "workspace_id", place),
                meter,
                quantity,
                identity=identity + meter.encode(),
            )


def _tier(result: Mapping[str, Any], place: str) -> str | None:
    tier, speed = text_of(result, "service_tier", place), text_of(result, "speed", place)
    if tier in (None, "standard") and speed == "fast":
        return speed
    return _TIERS.get(tier, tier) if tier else None
