"""Reads what another new-api charges as an upstream: its logs, or its hourly data (``GET /api/data/self``).

Quota is a whole number, by default 500 000 per USD. Source: QuantumNous/new-api v1.0-rc.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from brivionix_billing.decimals import decimal_from_scaled, divide_exactly
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.reconcile.exported_files import ExportedFile, json_values, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import parse_count, parse_local_time, parse_unix_time
from brivionix_billing.reconcile.provider.report import TOTAL, Report, ReportLine, identity_of
from brivionix_billing.times import load_zone

__all__ = ["QUOTA_PER_USD", "read_new_api"]

QUOTA_PER_USD: Final = 500_000
"""The usual quota of 1 USD. An upstream may have another one."""
_CONSUMED, _REFUNDED = 2, 6
_HOUR: Final = timedelta(hours=1)
_FIX: Final = "pass the answers of GET /api/log/self or GET /api/data/self, or an export of the table logs"


def read_new_api(files: Sequence[ExportedFile], quota_per_usd: int = QUOTA_PER_USD) -> Report:
    """Return the charges in USD, by hour. Raises ``invalid_statement``."""
    lines: list[ReportLine] = []
    for file in files:
        for place, row in _rows(file):
            line = _line(row, place, quota_per_usd)
            if line is not None:
                lines.append(line)
    buckets = frozenset(line.bucket for line in lines)
    # Every charge is rounded to a whole quota, and may be raised to the least charge.
    return Report("new-api", tuple(lines), buckets, rounding=decimal_from_scaled(10**12 // quota_per_usd + 1, 12))


def _rows(file: ExportedFile) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if not file.is_json:
        for section in read_sections(file, (), marker="quota"):
            if not {"created_at", "model_name", "quota"} <= set(section.columns):
                raise statement_error(file.name, "the file has no created_at, model_name or quota", _FIX)
            yield from ((row.place, row.cells) for row in section.rows)
        return
    for place, value in json_values(file):
        yield from _json_rows(value, place)


def _json_rows(value: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    items = value
    while isinstance(items, dict) and "quota" not in items:
        if items.get("success") is False:
            raise statement_error(place, "the answer says success: false", "request it again")
        items = items.get("data", items.get("items", items.get("logs")))
    for number, item in enumerate(items if isinstance(items, list) else [items], 1):
        if not isinstance(item, dict):
            raise statement_error(place, "no rows of logs or of hourly data", _FIX)
        yield f"{place}, item {number}" if isinstance(items, list) else place, item


def _line(row: Mapping[str, Any], place: str, quota_per_usd: int) -> ReportLine | None:
    kind = parse_count(row.get("type"), place, "type")
    if kind not in (None, _CONSUMED, _REFUNDED):
        return None
    quota = parse_count(row.get("quota"), place, "quota")
    if quota is None:
        raise statement_error(place, "the row has no quota", _FIX)
    units = divide_exactly(quota * 10**UNIT_DECIMALS, quota_per_usd)
    if units is None:
        raise statement_error(place, f"1/{quota_per_usd} USD is not an exact decimal", "use another quota per USD")
    tokens = parse_count(row.get("token_used"), place, "token_used")
    if tokens is None:
        tokens = _log_tokens(row, place)
    at = _at(row.get("created_at"), place)
    start = at.replace(minute=0, second=0, microsecond=0)
    model = row.get("model_name")
    return ReportLine(
        place,
        (start, start + _HOUR),
        model if isinstance(model, str) and model else None,
        meter=TOTAL,
        quantity=0 if kind == _REFUNDED else tokens,
        amount=decimal_from_scaled(-units if kind == _REFUNDED else units, UNIT_DECIMALS),
        requests=parse_count(row.get("count"), place, "count") or 1,
        text="refund" if kind == _REFUNDED else "",
        identity=_identity(row, at),
    )


def _identity(row: Mapping[str, Any], at: datetime) -> bytes:
    """Return what makes a row unique: the id of its request, else all cells. Ids of user views are renumbered."""
    if row.get("request_id"):
        return identity_of("log", row["request_id"], row.get("type"))
    return identity_of(at, sorted((key, repr(value)) for key, value in row.items()))


def _log_tokens(row: Mapping[str, Any], place: str) -> int:
    prompt = parse_count(row.get("prompt_tokens"), place, "prompt_tokens") or 0
    completion = parse_count(row.get("completion_tokens"), place, "completion_tokens") or 0
    other = row.get("other")
    if isinstance(other, str) and other:
        try:
            other = json.loads(other)
        except (ValueError, RecursionError):
            raise statement_error(place, "'other' is not JSON", "export the logs again") from None
    if isinstance(other, dict) and (other.get("claude") is True or other.get("usage_semantic") == "anthropic"):
        # Anthropic's prompt does not contain what was read from a cache or written to it.
        for name in ("cache_tokens", "cache_creation_tokens"):
            prompt += parse_count(other.get(name), place, name) or 0
    return prompt + completion


def _at(value: Any, place: str) -> datetime:
    if isinstance(value, str) and not value.isdigit():
        return parse_local_time(value, load_zone("UTC"), place, "created_at")
    return parse_unix_time(value, place, "created_at").astimezone(UTC)
