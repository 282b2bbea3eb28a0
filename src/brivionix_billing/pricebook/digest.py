"""The digest of a price file: a hash of everything that prices depend on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from brivionix_billing.canonical_json import json_digest
from brivionix_billing.decimals import format_plain
from brivionix_billing.meters import CALL_METERS
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = ["price_file_digest"]


def price_file_digest(file: schema.PriceFile, end: datetime | None = None) -> str:
    """Return the digest of all that prices depend on; with ``end``, of the entries that start before it."""
    return json_digest(_digest_content(file, end))


def _digest_content(file: schema.PriceFile, end: datetime | None) -> dict[str, Any]:
    def dated(entries: Sequence[schema.DatedEntry]) -> list[Any]:
        kept = [entry for entry in entries if end is None or entry.since < end]
        return [_digest_entry(entry, end) for entry in kept]

    content: dict[str, Any] = {
        "version": file.version,
        "credit": _to_json_value(file.credit),
        "cache_discount": dated(file.cache_discount),
        "tools": {
            meter.name: dated(getattr(file.tools, meter.name))
            for meter in CALL_METERS
            # The first two are in every digest. A meter that was added later must not change other digests.
            if meter.name in ("web_search", "file_search") or getattr(file.tools, meter.name)
        },
        "channels": {
            name: {
                "currency": item.currency,
                # The digest keeps the keys of the first version of price files.
                "smallest": _to_json_value(item.min_payment),
                "largest": _to_json_value(item.max_payment),
                "prices": dated(item.prices),
                "volume_discounts": dated(item.volume_discounts),
            }
            for name, item in file.channels.items()
        },
        "models": {
            name: {
                "released": model.released.isoformat(),
                "aliases": sorted(model.aliases),
                "prices": dated(model.prices),
            }
            for name, model in file.models.items()
        },
        "groups": {name: dated(group.terms) for name, group in file.groups.items()},
    }
    if end is not None:
        # Entries that were added later, and names without a price, are not part of the past.
        content["models"] = {name: model["prices"] for name, model in content["models"].items() if model["prices"]}
        content["groups"] = {name: terms for name, terms in content["groups"].items() if terms}
        content["channels"] = {name: item["prices"] for name, item in content["channels"].items() if item["prices"]}
    return content


def _digest_entry(entry: schema.DatedEntry, end: datetime | None) -> Any:
    data = _to_json_value(entry)
    if end is not None and entry.until is not None and entry.until >= end:
        del data["until"]
    return data


def _to_json_value(value: Any) -> Any:
    """Convert models, times and decimals to JSON data; fields that are not given are left out."""
    if isinstance(value, Decimal):
        return format_plain(value)
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, list):
        return [_to_json_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _to_json_value(item) for key, item in value.items()}
    fields = getattr(type(value), "model_fields", None)
    if fields is not None:
        values = ((name, getattr(value, name)) for name in fields)
        return {name: _to_json_value(item) for name, item in values if item is not None}
    return value
