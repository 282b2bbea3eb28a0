"""Reads OpenAI's costs and usage: pages of the API (JSON), and exports of the dashboard (comma or tab).

Buckets are days in UTC, or hours or minutes. Input tokens contain cached ones. Costs tie to the invoice; usage need
not. Source: platform.openai.com, "Usage" and "Costs"; exports of a dashboard of 2025-10.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.reconcile.exported_files import ExportedFile, json_values, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import (
    NumberFormat,
    parse_count,
    parse_currency,
    parse_local_time,
    parse_unix_time,
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

__all__ = ["read_openai"]

_COSTS: Final = "organization.costs.result"
_USAGE: Final = re.compile(r"organization\.usage\.([a-z_]+)\.result")
_TIERS: Final = frozenset({"batch", "flex", "priority"})
_KINDS: Final = {
    "input": "input",
    "text input": "input",
    "input text": "input",
    "cached input": "cache_read",
    "cached text input": "cache_read",
    "input cached": "cache_read",
    "output": "output",
    "text output": "output",
    "output text": "output",
    "audio input": "audio_input",
    "cached audio input": "audio_cache_read",
    "audio output": "audio_output",
    "image input": "image_input",
    "cached image input": "image_cache_read",
    "image output": "image_output",
}
"""Words after the model in a line item -> meter."""
_ITEMS: Final = (
    ("web search", "web_search"),
    ("file search", "file_search"),
    ("code interpreter", "code_interpreter"),
    ("image generation", "image_generation"),
)
"""Words in a line item without a model -> meter. Storage has another unit than calls, so it has none."""
_OTHER_USAGE: Final = {
    "embeddings": (("input_tokens", "input"),),
    "moderations": (("input_tokens", "input"),),
    "images": (("images", "output_images"),),
    "audio_speeches": (("characters", "input_characters"),),
    "audio_transcriptions": (("seconds", "audio_input_seconds"),),
    "code_interpreter_sessions": (("num_sessions", "code_interpreter"),),
    "file_searches": (("num_requests", "file_search"),),
    "file_search_calls": (("num_requests", "file_search"),),
    "web_searches": (("num_requests", "web_search"),),
    "web_search_calls": (("num_requests", "web_search"),),
}
_MILLISECONDS: Final = 1000


def read_openai(files: Sequence[ExportedFile]) -> Report:
    """Return the lines of costs and usage. Raises ``invalid_statement``."""
    lines: list[ReportLine] = []
    buckets: set[Bucket] = set()
    pages = Pages()
    for file in files:
        lines += _read_json(file, buckets, pages) if file.is_json else _read_export(file, buckets)
    pages.require_all()
    decimals = decimals_of(line.amount for line in lines if line.amount is not None)
    return Report("openai", tuple(lines), frozenset(buckets), decimals=decimals)


def _read_json(file: ExportedFile, buckets: set[Bucket], pages: Pages) -> Iterator[ReportLine]:
    for place, value in json_values(file):
        for page in value if isinstance(value, list) else [value]:
            if not isinstance(page, dict) or not isinstance(page.get("data"), list):
                raise statement_error(
                    place,
                    "not a page of the Costs API or the Usage API",
                    "pass the answers of GET /v1/organization/costs",
                )
            if "error" in page:
                raise statement_error(place, "the answer is an error", "request it again")
            kinds: set[str] = set()
            for number, bucket in enumerate(page["data"], 1):
                yield from _read_bucket(bucket, f"{place}, bucket {number}", buckets, kinds)
            pages.add(place, page, kinds)


def _read_bucket(bucket: Any, place: str, buckets: set[Bucket], kinds: set[str]) -> Iterator[ReportLine]:
    results = bucket.get("results", bucket.get("result")) if isinstance(bucket, dict) else None
    if not isinstance(results, list):
        raise statement_error(place, "not a bucket with results", "pass the answers of GET /v1/organization/costs")
    span = (
        parse_unix_time(bucket.get("start_time"), place, "start_time"),
        parse_unix_time(bucket.get("end_time"), place, "end_time"),
    )
    buckets.add(_require_order(span, place))
    for number, result in enumerate(results, 1):
        where = f"{place}, result {number}"
        kind = result.get("object") if isinstance(result, dict) else None
        if kind == _COSTS:
            kinds.add("costs")
            yield _cost_line(result, span, where)
            continue
        match = _USAGE.fullmatch(kind) if isinstance(kind, str) else None
        if match is None:
            raise statement_error(where, f"{kind!r} is not a result of costs or usage", "request costs or usage")
        kinds.add(match[1])
        yield from _usage_lines(result, match[1], span, where)


def _cost_line(result: Mapping[str, Any], span: Bucket, place: str) -> ReportLine:
    amount = result.get("amount")
    value = amount.get("value") if isinstance(amount, dict) else None
    if isinstance(value, str):
        value = _float_text(value, NumberFormat([]), place)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise statement_error(place, "amount.value is not a number", "request the page again")
    currency = parse_currency(amount.get("currency") if isinstance(amount, dict) else None, place)
    item, project = text_of(result, "line_item", place), text_of(result, "project_id", place)
    identity = identity_of(span, sorted((key, repr(each)) for key, each in result.items()))
    return _cost(place, span, item or "", project, Decimal(value), currency, identity)


def _cost(
    place: str, span: Bucket, item: str, project: str | None, amount: Decimal, currency: str, identity: bytes
) -> ReportLine:
    model, tier, meter = _parse_item(item)
    return ReportLine(
        place, span, model, tier, project, meter, None, amount, None, currency, text=item, identity=identity
    )


def _parse_item(item: str) -> tuple[str | None, str | None, str | None]:
    """Return the model, the tier and the meter of a line item: ``gpt-5.4-mini-2026-03-17, cached input``."""
    if not item.strip():
        return None, None, None
    parts = [part.strip() for part in re.split(r"[,|]", item) if part.strip()]
    words = " ".join(parts[1:]).lower().split()
    tier = next((word for word in words if word in _TIERS), None)
    kind = " ".join(word for word in words if word not in _TIERS and word not in ("tokens", "token"))
    if kind in _KINDS:
        return parts[0], tier, _KINDS[kind]
    lower = item.lower()
    for name, meter in _ITEMS:
        if name in lower and "storage" not in lower:
            return None, None, meter
    if len(parts) == 1 and " " not in parts[0]:
        return parts[0], None, None
    return (parts[0], tier, f"other: {kind}") if " " not in parts[0] else (None, None, f"other: {lower}")


def _usage_lines(result: Mapping[str, Any], kind: str, span: Bucket, place: str) -> Iterator[ReportLine]:
    identity = identity_of(span, kind, sorted((key, repr(each)) for key, each in result.items()))
    model, project = text_of(result, "model", place), text_of(result, "project_id", place)
    tier = _tier(result.get("batch"), text_of(result, "service_tier", place))
    if kind == "completions":
        quantities: Iterable[tuple[str, int]] = _completions(result, place)
    elif kind in _OTHER_USAGE:
        quantities = [
            (meter, _stored(parse_count(result.get(name), place, name) or 0, meter))
            for name, meter in _OTHER_USAGE[kind]
        ]
    else:
        quantities = [(f"other: {kind}", 0)]
    for meter, quantity in quantities:
        yield ReportLine(
            place, span, model, tier, project, meter, quantity, text=kind, identity=identity + meter.encode()
        )


def _stored(quantity: int, meter: str) -> int:
    return quantity * _MILLISECONDS if meter.endswith("_seconds") else quantity


def _completions(cells: Mapping[str, Any], place: str) -> list[tuple[str, int]]:
    """Return (meter, quantity) of a row of completions. Absent columns are derived from those that contain them."""

    def count(name: str) -> int | None:
        return parse_count(cells.get(name), place, name)

    total, output = count("input_tokens"), count("output_tokens")
    if total is None or output is None:
        raise statement_error(place, "the row has no input_tokens or output_tokens", "export the usage of completions")
    cached = count("input_cached_tokens") or 0
    audio, cached_audio = count("input_audio_tokens") or 0, count("input_cached_audio_tokens") or 0
    image, cached_image = count("input_image_tokens") or 0, count("input_cached_image_tokens") or 0
    uncached, text = count("input_uncached_tokens"), count("input_text_tokens")
    if uncached is None:
        uncached = total - cached
    if uncached + cached != total:
        raise statement_error(
            place, f"input_tokens is {total}, but cached and uncached tokens are {cached + uncached}", "export it again"
        )
    # Exports state text, audio and images without the cached ones, the API may state them with those.
    if text is None or text + audio + image != uncached:
        if text is not None and text + audio + image == total:
            audio, image = audio - cached_audio, image - cached_image
        text = uncached - audio - image
    output_audio, output_image = count("output_audio_tokens") or 0, count("output_image_tokens") or 0
    found = [
        ("input", text),
        ("cache_read", cached - cached_audio - cached_image),
        ("output", output - output_audio - output_image),
        ("audio_input", audio),
        ("audio_cache_read", cached_audio),
        ("audio_output", output_audio),
        ("image_input", image),
        ("image_cache_read", cached_image),
        ("image_output", output_image),
    ]
    negative = next((meter for meter, quantity in found if quantity < 0), None)
    if negative is not None:
        raise statement_error(place, f"the counts of {negative} contradict their total", "export the usage again")
    return [(meter, quantity) for meter, quantity in found if quantity or meter in ("input", "cache_read", "output")]


def _tier(batch: Any, tier: Any) -> str | None:
    if batch is True or (isinstance(batch, str) and batch.lower() == "true"):
        return "batch"
    return tier if isinstance(tier, str) and tier else None


def _read_export(file: ExportedFile, buckets: set[Bucket]) -> Iterator[ReportLine]:
    for section in read_sections(file, (), marker="start_time"):
        is_cost = "amount_value" in section.columns
        if not is_cost and "input_tokens" not in section.columns:
            raise statement_error(
                file.name,
                "the export has neither amount_value nor input_tokens",
                "export the costs, or the usage of completions, of the dashboard",
            )
        number = NumberFormat(row.get("amount_value") for row in section.rows)
        for row in section.rows:
            span = _require_order(
                (
                    _time(row.get("start_time"), row.get("start_time_iso"), row.place, "start_time"),
                    _time(row.get("end_time"), row.get("end_time_iso"), row.place, "end_time"),
                ),
                row.place,
            )
            buckets.add(span)
            identity = identity_of(span, sorted(row.cells.items()))
            if is_cost:
                if row.get("amount_value"):
                    value = _float_text(row.get("amount_value"), number, row.place)
                    currency = parse_currency(row.get("amount_currency") or "usd", row.place)
                    item, project = row.get("line_item"), row.get("project_id") or None
                    yield _cost(row.place, span, item, project, value, currency, identity)
                continue
            if not row.get("input_tokens") and not row.get("output_tokens"):
                continue  # a day without usage
            model, project = row.get("model") or None, row.get("project_id") or None
            tier = _tier(row.get("batch"), row.get("service_tier"))
            for meter, quantity in _completions(row.cells, row.place):
                yield ReportLine(
                    row.place, span, model, tier, project, meter, quantity, identity=identity + meter.encode()
                )


def _float_text(text: str, number: NumberFormat, place: str) -> Decimal:
    """Return an amount that may have an exponent, as floats have: ``1.2e-05``."""
    if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]{1,3}", text):
        return Decimal(text)
    return number.parse(text, place, "amount_value")


def _time(seconds: str, iso: str, place: str, name: str) -> datetime:
    return parse_unix_time(seconds, place, name) if seconds else parse_local_time(iso, load_zone("UTC"), place, name)


def _require_order(span: Bucket, place: str) -> Bucket:
    if span[0] >= span[1]:
        raise statement_error(place, "the bucket ends before it starts", "export it again")
    return span
