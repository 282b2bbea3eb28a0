"""The data of the pricing page's scripts: the price list without what follows from the rest.

The page holds each list price once and, for each group, the ratio or the prices of its own. The browser multiplies
exactly, so a price of the page is the price of the list: a row whose product would differ keeps its own prices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, multiply
from brivionix_billing.meters import REQUEST_METERS
from brivionix_billing.pages.price_cards import Json
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.messages import LOCALES, quantity_label
from brivionix_billing.times import parse_instant

__all__ = ["compact_prices", "peak_windows"]

WINDOW_DAYS: Final = 62
"""The page has the windows of peak prices of this many days. A page that is older shows their hours only."""
_ROW_FACTS: Final = ("model", "service_tier", "context", "above", "up_to", "input_tokens", "conditions")
_GROUP_FACTS: Final = ("prices", "changes", "models")
_MINUTE: Final = timedelta(minutes=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def compact_prices(prices: Json, book: PriceBook) -> Json:
    """Return a price list with each row's facts and list prices once, in ``rows``.

    ``rows`` of a group has [index, terms] for each of its prices. ``terms`` is missing if the group's ratio applies to
    all prices of the row. Otherwise it has ``ratio``, ``nominal`` prices of its own, or ``minimum`` charges.
    """
    rows: dict[str, int] = {}
    groups = []
    for group in prices["groups"]:
        entries: list[list[Any]] = []
        for row in group["prices"]:
            base = row.get("list_nominal", row["nominal"])
            facts = {name: row[name] for name in _ROW_FACTS if row.get(name) not in (None, "any")}
            facts |= {"base": base} | ({"list": row["list"]} if "list" in row else {})
            index = rows.setdefault(json.dumps(facts, ensure_ascii=False), len(rows))
            terms = _terms(row, base, group["ratio"])
            entries.append([index, terms] if terms else [index])
        rest = {name: value for name, value in group.items() if name not in _GROUP_FACTS}
        groups.append({**rest, "rows": entries})
    definitions = {**book.meters, **REQUEST_METERS}
    meters = [
        {
            **meter,
            "places": definitions[meter["name"]].places,
            "direction": definitions[meter["name"]].direction,
            "quantity": {name: quantity_label(name, definitions[meter["name"]]) for name in LOCALES},
        }
        for meter in prices["meters"]
    ]
    models = [{name: value for name, value in model.items() if value} for model in prices["models"]]
    rest = {name: value for name, value in prices.items() if name != "shown"}
    return {**rest, "meters": meters, "models": models, "groups": groups, "rows": [json.loads(text) for text in rows]}


def _terms(row: Json, base: Mapping[str, str], group_ratio: str) -> Json:
    ratio = row["ratio"]
    terms: Json = {} if ratio == group_ratio else {"ratio": ratio}
    if ratio is None or _multiplied(base, ratio) != row["nominal"]:
        terms["nominal"] = row["nominal"]
    if "minimum" in row:
        terms["minimum"] = row["minimum"]
    return terms


def _multiplied(base: Mapping[str, str], ratio: str) -> dict[str, str]:
    return {name: format_plain(multiply(Decimal(price), Decimal(ratio))) for name, price in base.items()}


def peak_windows(book: PriceBook, prices: Json) -> dict[str, list[list[int]]]:
    """Return the windows of each calendar of a price list, as [start, end] in minutes since 1970."""
    at = parse_instant(prices["at"])
    until = at + timedelta(days=WINDOW_DAYS)
    calendars = book.calendars()
    return {
        item["name"]: [
            [(start - _EPOCH) // _MINUTE, (end - _EPOCH) // _MINUTE]
            for start, end in calendars[item["name"]].windows(at, until)
        ]
        for item in prices["calendars"]
    }
