"""Digests: hashes of everything that prices depend on, of a whole file or of some rate cards.

Aliases, limits, descriptions and the order of models, patterns and keys are not covered, because changing them changes
no price.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import json_digest
from brivionix_billing.decimals import format_plain
from brivionix_billing.times import format_instant

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema
    from brivionix_billing.rating import RateCard

__all__ = ["price_file_digest", "rate_cards_digest"]

_CONTAINERS: Final = frozenset({dict, list})
_DISPLAY_FIELDS: Final = frozenset({"label", "description", "display_name", "vendor"})


def price_file_digest(file: schema.PriceFile) -> str:
    """Return the digest of all that the prices of a file depend on."""
    return json_digest(_digest_content(file))


def rate_cards_digest(used: Iterable[tuple[RateCard, Iterable[str]]], channels: Collection[str]) -> str:
    """Return the digest of the prices that a bill depends on: rate cards, each with the meters that were used.

    Of payment channels, it covers the prices of those that the bill states. It does not cover the period in which the
    prices apply, because a later price ends it.
    """
    return json_digest(sorted({json_digest(_card_content(card, meters, channels)) for card, meters in used}))


def _card_content(card: RateCard, meters: Iterable[str], channels: Collection[str]) -> dict[str, Any]:
    minimums = [None if each is None else format_plain(each) for each in (card.list_minimum, card.minimum)]
    return {
        **({"minimum": minimums} if any(minimums) else {}),
        "model": card.model,
        "group": card.group,
        "service_tier": card.service_tier,
        "context": str(card.context),
        "conditions": card.conditions(),
        "price_since": format_instant(card.price_since),
        "prices": {
            name: [
                None if (listed := card.list_prices.get(name)) is None else format_plain(listed),
                format_plain(card.unit_prices[name]),
                card.meter(name).per,
            ]
            for name in meters
        },
        "ratio": format_plain(card.ratio),
        "nominal_per_credit": [card.currency, format_plain(card.nominal_per_credit)],
        "channels": {
            name: [rate.currency, format_plain(rate.price), format_instant(rate.since)]
            for name, rate in card.channels.items()
            if name in channels
        },
    }


def _digest_content(file: schema.PriceFile) -> dict[str, Any]:
    content: dict[str, Any] = {
        "version": file.version,
        "credit": _to_json_value(file.credit),
        "cache_discount": _dated_defaults(file.cache_discount),
        "tools": {name: _dated_defaults(fees) for name, fees in file.tools.fees.items() if fees},
        "channels": {
            name: {
                "currency": item.currency,
                "prices": _to_json_value(item.prices),
                "volume_discounts": _to_json_value(item.volume_discounts),
            }
            for name, item in file.channels.items()
        },
        "models": {name: _model_content(model) for name, model in file.models.items()},
        "groups": {
            name: [{**_to_json_value(terms), "models": sorted(set(terms.models))} for terms in group.terms]
            for name, group in file.groups.items()
        },
        "meters": _to_json_value(file.meters),
        "calendars": _to_json_value(file.calendars),
        "exchange_rates": _to_json_value(file.exchange_rates),
    }
    if file.priced_model != "requested":
        content["priced_model"] = file.priced_model
    if file.unpriced_tokens != "refuse":
        content["unpriced_tokens"] = file.unpriced_tokens
    # Whether a path is reported or ignored changes no price. The first pattern that matches decides, so order matters.
    priced = [[path, action] for path, action in file.unaccounted.items() if action not in ("report", "ignore")]
    if priced:
        content["unaccounted"] = [[path, action] for path, action in file.unaccounted.items()]
    # A section that a file does not have must not be in its digest, or a later version could not add sections.
    return {name: value for name, value in content.items() if value not in ({}, [])}


def _model_content(model: schema.Model) -> dict[str, Any]:
    content: dict[str, Any] = {"prices": _to_json_value(model.prices)}
    if model.currency is not None:
        content["currency"] = model.currency
    if not model.cache_discount:
        content["cache_discount"] = False
    if model.unpriced_tokens is not None:
        content["unpriced_tokens"] = model.unpriced_tokens
    if model.tools is not None:
        content["tools"] = sorted(set(model.tools))
    if model.routes_to:
        content["routes_to"] = sorted(set(model.routes_to))
    return content


def _dated_defaults(entries: Sequence[schema.DefaultEntry]) -> list[Any]:
    out = []
    for entry in entries:
        data = _to_json_value(entry)
        if entry.models is not None:
            data["models"] = sorted(set(entry.models))
        out.append(data)
    return out


def _to_json_value(value: Any) -> Any:
    """Convert models, times and decimals to JSON data, without fields that are not given and those for display."""
    kind = type(value)
    if kind is Decimal:
        return format_plain(value)
    if kind is str or kind is int or kind is bool:
        return value
    if kind is dict:
        return {key: _to_json_value(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_to_json_value(item) for item in value]
    if kind is datetime:
        return format_instant(value)
    if kind is date:
        return value.isoformat()
    # A model of the schema. Fields that are not given have no effect, so they are left out.
    content = {}
    extra = value.model_extra
    for fields in (value.__dict__, extra):
        for name, item in fields.items() if fields else ():
            if item is extra:  # some versions of pydantic list the extra keys among the fields, too
                continue
            if item is not None and not (type(item) in _CONTAINERS and not item) and name not in _DISPLAY_FIELDS:
                stated = _to_json_value(item)
                # The first window that contains the start of a request applies, so their order matters.
                content[name] = [list(pair) for pair in stated.items()] if name == "windows" else stated
    return content
