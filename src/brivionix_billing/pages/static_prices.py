"""The price tables of readers without scripts: nominal prices of each group, in one language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import Rounding, decimal_from_scaled, round_quotient, to_scaled
from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pages.scheduled_changes import PageLabels, change_texts, row_notes
from brivionix_billing.rating.labels import pick_text

__all__ = ["MAIN_METERS", "discount_text", "is_free", "static_sections"]

Json = dict[str, Any]
MAIN_METERS: Final = ("input", "cache_read", "output")
"""Meters with a column. Customers compare these first."""


def is_free(group: Json) -> bool:
    """Return whether a group of a price list has prices, and all of them are 0."""
    amounts = [price for row in group["prices"] for price in row["nominal"].values()]
    return bool(amounts) and not any(map(Decimal, amounts))


def discount_text(ratio: Decimal, language: LocaleFormatter) -> str:
    """Return a ratio on the list price as customers say it: "65% below list price".

    A discount is truncated to a tenth of a percent, and a surcharge is rounded up, so that the page never promises too
    much.

    >>> discount_text(Decimal("0.35"), LocaleFormatter("en")), discount_text(Decimal("0.35"), LocaleFormatter("zh_CN"))
    ('65% below list price', '官方价 3.5 折')
    """
    messages = PRICING_MESSAGES[language.name]
    coefficient, places = to_scaled(ratio)
    thousandths = round_quotient(coefficient * 1000, 10**places, Rounding.UP)
    if not coefficient:
        return messages["ratio_free"]
    if thousandths < 1000:
        shares = {
            "saved": language.percent(decimal_from_scaled(1000 - thousandths, 3)),
            "paid": language.number(decimal_from_scaled(thousandths, 2)),
        }
        return messages["below_list"].format(share=shares[messages["share"]])
    if ratio > 1:
        return messages["above_list"].format(percent=language.percent(decimal_from_scaled(thousandths - 1000, 3)))
    return messages["at_list"]


def static_sections(prices: Json, changes: Mapping[str, list[Json]], language: LocaleFormatter) -> Iterator[Json]:
    """Yield the table of each group in the nominal view, and its scheduled changes.

    A model is described where it is listed first.
    """
    described: set[str] = set()
    for group in prices["groups"]:
        yield _section(prices, group, changes[group["name"]], language, described)


def _section(prices: Json, group: Json, changes: list[Json], language: LocaleFormatter, described: set[str]) -> Json:
    messages = PRICING_MESSAGES[language.name]
    columns = _columns(prices, group)
    models = {model["name"]: model for model in prices["models"]}
    labels = PageLabels(prices, language.name)
    rows = []
    for row in group["prices"]:
        describe = row["model"] not in described
        described.add(row["model"])
        rows.append(_row(prices, models[row["model"]], row, group, columns, language, describe=describe))
    is_struck = any(cell["struck"] for row in rows for cell in row["cells"])
    return {
        "heading": messages["prices_of"].format(group=labels.named("group", group["name"])),
        "about": " · ".join(
            filter(None, [pick_text(group["description"], language.name), _group_discount(group, language)])
        ),
        "unit": messages["stated_unit"].format(currency=prices["currency"], unit=messages["per_m_tokens"]),
        "view": messages["sentence_separator"].join(
            [messages["about_nominal"], *([messages["struck"]] if is_struck else [])]
        ),
        "columns": [meter["label"][language.name] for meter in columns],
        "rows": rows,
        "changes": list(change_texts(prices, changes, language)),
    }


def _columns(prices: Json, group: Json) -> list[Json]:
    priced = [meter for meter in prices["meters"] if any(meter["name"] in row["nominal"] for row in group["prices"])]
    main = [meter for meter in priced if meter["name"] in MAIN_METERS]
    return sorted(main, key=lambda meter: MAIN_METERS.index(meter["name"])) or priced[:1]


def _group_discount(group: Json, language: LocaleFormatter) -> str:
    ratio = Decimal(group["ratio"])
    if ratio == 1:
        return ""
    if not ratio and not is_free(group):
        return PRICING_MESSAGES[language.name]["mostly_free"]
    return discount_text(Decimal(0) if is_free(group) else ratio, language)


def _row(
    prices: Json,
    model: Json,
    row: Json,
    group: Json,
    columns: Sequence[Json],
    language: LocaleFormatter,
    *,
    describe: bool,
) -> Json:
    messages = PRICING_MESSAGES[language.name]
    terms = ""
    if row["ratio"] is None:
        terms = messages["own_price"]
    elif row["ratio"] != group["ratio"]:
        terms = discount_text(Decimal(row["ratio"]), language)
    tier = PageLabels(prices, language.name).label("service_tier", row["service_tier"])
    names = [pick_text(model[key], language.name) for key in ("vendor", "display_name")] if describe else []
    display_name = " ".join(filter(None, names))
    notes = [" · ".join(filter(None, [tier, display_name, terms, *row_notes(row, prices, language)]))]
    if describe:
        notes += [pick_text(model["description"], language.name), " · ".join(_facts(model, language))]
    others = [meter for meter in prices["meters"] if meter["name"] in row["nominal"] and meter not in columns]
    return {
        "model": row["model"],
        "notes": list(filter(None, notes)),
        "cells": [_price(prices, row, meter["name"], language) for meter in columns],
        "others": messages["statement_separator"].join(_other_price(prices, row, meter, language) for meter in others),
    }


def _facts(model: Json, language: LocaleFormatter) -> Iterator[str]:
    """Yield the sizes of a model, when it was released, and its other names."""
    messages, sizes = PRICING_MESSAGES[language.name], model["context"]
    for name in ("window", "max_input", "max_output"):
        if sizes[name] is not None:
            yield messages[name].format(tokens=language.number(sizes[name]))
    if model["released"] is not None:
        yield messages["released"].format(date=model["released"])
    if model["aliases"]:
        yield messages["also"].format(names=messages["list_separator"].join(model["aliases"]))


def _price(prices: Json, row: Json, meter: str, language: LocaleFormatter) -> dict[str, str]:
    messages, currency = PRICING_MESSAGES[language.name], prices["currency"]
    empty = {"text": "–", "exact": "", "struck": "", "listed": ""}
    if meter not in row["nominal"]:
        return empty
    price = Decimal(row["nominal"][meter])
    text, exact = language.price(price, currency), language.money(price, currency)
    cell = {**empty, "text": text if price else messages["free"]}
    if text != exact:
        cell["exact"] = messages["exactly"].format(price=exact)
    list_nominal: Json = row["list_nominal"] if "list_nominal" in row else row["nominal"]
    nominal = list_nominal.get(meter)
    listed = row["list"]["prices"].get(meter) if "list" in row else None
    list_currency = currency if listed is None else row["list"]["currency"]
    shown = "" if nominal is None else language.money(Decimal(listed or nominal), list_currency)
    if nominal is not None and price < Decimal(nominal):
        return cell | {"struck": shown}
    return cell if listed is None else cell | {"listed": messages["listed"].format(price=shown)}


def _other_price(prices: Json, row: Json, meter: Json, language: LocaleFormatter) -> str:
    cell = _price(prices, row, meter["name"], language)
    unit = "" if meter["unit"] == "token" else f" {meter['per_label'][language.name]}"
    label_separator = PRICING_MESSAGES[language.name]["label_separator"]
    return f"{meter['label'][language.name]}{label_separator}{cell['text']}{unit}"
