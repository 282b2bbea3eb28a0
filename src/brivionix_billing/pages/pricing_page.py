"""The pricing page: one HTML file with the price list. Without scripts, it shows the nominal prices of all groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pages.calendars import calendar_texts
from brivionix_billing.pages.formatting import LANGUAGES, LocaleFormatter
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.render import (
    HtmlPage,
    embed_json,
    read_asset,
    render_template,
)
from brivionix_billing.pages.scheduled_changes import PageLabels, change_texts, row_notes, scheduled_changes
from brivionix_billing.pages.stylesheet import validate_stylesheet
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import pick_text
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import parse_instant

__all__ = ["pricing_page"]

Json = dict[str, Any]
_SCRIPTS: Final = (
    "decimals.js",
    *(f"pricing/{name}.js" for name in ("state", "table", "changes", "calculator", "view", "main")),
)
_SAMPLE_CALL_METERS: Final = ("input", "cache_read", "output", "web_search")
"""Meters of the calculator. The page has their labels even if no model has a price for them."""
_MAX_TEXT_LENGTH: Final = 2_000
"""Maximum length of a title or note, in characters."""


def pricing_page(
    book: PriceBook,
    *,
    at: datetime,
    groups: Sequence[str] | None = None,
    locale: str = "en",
    title: str | None = None,
    notes: Sequence[str] = (),
    style: str = "",
) -> HtmlPage:
    """Render the prices of some groups at a time as one self-contained HTML file.

    Without ``groups``, the page has all groups that have terms at that time. It opens with the first group, in the
    language ``locale`` (``en`` or ``zh_CN``); the reader can switch both. ``title`` replaces "Model prices", ``notes``
    are paragraphs of the footer, and ``style`` is appended to the style sheet (see ``docs/pages.md``).

    Raises ``unknown_group``, ``invalid_argument``, ``missing_extra``.

    >>> from datetime import UTC
    >>> book = PriceBook.load("pricing.yaml")
    >>> html = pricing_page(book, at=datetime(2026, 10, 20, tzinfo=UTC), groups=["default"])
    >>> html[:15], len(html) < 150_000
    ('<!doctype html>', True)
    """
    style = validate_stylesheet(style)
    if isinstance(notes, str):
        raise BillingError("invalid_argument", f"notes={safe_repr(notes)}: pass a list of paragraphs")
    languages = [LocaleFormatter(locale), *(LocaleFormatter(name) for name in LANGUAGES if name != locale)]
    for name, text in (("title", title), *(("note", note) for note in notes)):
        if text is not None:
            require_text(f"the {name}", text, limit=_MAX_TEXT_LENGTH)
    prices = price_list(book, at=at, groups=groups)
    if not prices["groups"]:
        message = f"no group to show at {prices['at']}: name a group that has terms at that time"
        raise BillingError("invalid_argument", message)
    first = languages[0]
    messages = PRICING_MESSAGES[first.name]
    changes = {group["name"]: scheduled_changes(prices, group) for group in prices["groups"]}
    page = render_template(
        "pricing.html",
        {
            "language": first,
            "messages": messages,
            "title": messages["title"] if title is None else title,
            "own_title": title is not None,
            "notes": list(notes),
            "texts": [_texts(prices, language) for language in languages],
            "sections": [_section(prices, group, changes[group["name"]], first) for group in prices["groups"]],
            "data": embed_json(_script_data(prices, changes, languages, title)),
        },
        style=read_asset("base.css") + read_asset("pricing.css") + style,
        script="".join(read_asset(name) for name in _SCRIPTS),
    )
    page.prices = prices
    return page


def _is_printable(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text) <= _MAX_TEXT_LENGTH and text.isprintable()


def _script_data(
    prices: Json, changes: dict[str, list[Json]], languages: Sequence[LocaleFormatter], title: str | None
) -> Json:
    first_group = prices["groups"][0]
    tiers = {row["service_tier"] for row in first_group["prices"]}
    # Scripts read scheduled changes from ``changes`` only, so the page does not hold them twice.
    groups = [{key: value for key, value in group.items() if key != "changes"} for group in prices["groups"]]
    times = sorted({change["at"] for group_changes in changes.values() for change in group_changes})
    return {
        "list": {**prices, "groups": groups},
        "changes": changes,
        "free_groups": [group["name"] for group in prices["groups"] if _is_free(group)],
        "messages": PRICING_MESSAGES,
        "formats": {language.name: language.client_formats(_currencies(prices)) for language in languages},
        "initial": {
            "language": languages[0].name,
            "group": first_group["name"],
            "tier": "standard" if "standard" in tiers or not tiers else "every",
            "title": title or "",
            "meters": {name: {meter: METER_LABELS[name][meter] for meter in _SAMPLE_CALL_METERS} for name in LANGUAGES},
            "dates": {at: {language.name: language.date(parse_instant(at)) for language in languages} for at in times},
        },
    }


def _is_free(group: Json) -> bool:
    amounts = [price for row in group["prices"] for price in row["nominal"].values()]
    return bool(amounts) and not any(map(Decimal, amounts))


def _currencies(prices: Json) -> list[str]:
    listed = [row["list"]["currency"] for group in prices["groups"] for row in group["prices"] if "list" in row]
    return list(dict.fromkeys([prices["currency"], *(channel["currency"] for channel in prices["channels"]), *listed]))


def _description(texts: dict[str, str], language: LocaleFormatter) -> str:
    return pick_text(texts, language.name)


def _display_name(part: Json, language: LocaleFormatter) -> str:
    """Return the vendor and the display name of a model, as far as the file states them."""
    names = [_description(part.get("vendor") or {}, language), _description(part["display_name"], language)]
    return " ".join(filter(None, names))


def _texts(prices: Json, language: LocaleFormatter) -> Json:
    """Return the texts that are the same in every view, in one language."""
    messages = PRICING_MESSAGES[language.name]
    at = parse_instant(prices["at"]).replace(second=0, microsecond=0)
    nominal = language.money(Decimal(prices["nominal_per_credit"]), prices["currency"])
    labels = PageLabels(prices, language.name)
    return {
        "tag": language.tag,
        "messages": messages,
        "calendars": [calendar_texts(calendar, language) for calendar in prices["calendars"]],
        "as_of": messages["as_of"].format(date=language.date(at)),
        "credit": messages["credit"].format(nominal=nominal),
        "rounding": messages["rounding"].format(digits=prices["shown_digits"]),
        "pointing": messages["pointing"],
        "source": messages["source"].format(digest=prices["price_book"]),
        "channels": [_channel(channel, labels, language) for channel in prices["channels"]],
    }


def _channel(channel: Json, labels: PageLabels, language: LocaleFormatter) -> Json:
    messages = PRICING_MESSAGES[language.name]

    def money(text: str) -> str:
        return language.money(Decimal(text), channel["currency"])

    facts = []
    min_payment, max_payment = channel["min_payment"], channel["max_payment"]
    if min_payment is not None and max_payment is not None:
        facts.append(messages["from_to"].format(least=money(min_payment), most=money(max_payment)))
    elif min_payment is not None:
        facts.append(messages["at_least"].format(least=money(min_payment)))
    elif max_payment is not None:
        facts.append(messages["at_most"].format(most=money(max_payment)))
    facts += _volume_facts(channel["volume_discount"], language)
    for change in channel["changes"]:
        parts = []
        if "price_per_credit" in change:
            price = change["price_per_credit"][1]
            parts.append(messages["credit_costs"].format(price="–" if price is None else money(price)))
        if "volume_discount" in change:
            parts += _volume_facts(change["volume_discount"][1], language) or [messages["no_discount"]]
        date = language.date(parse_instant(change["at"]))
        facts.append(messages["from"].format(date=date, what=messages["statement_separator"].join(parts)))
    price = channel["price_per_credit"]
    return {
        "name": labels.named("channel", channel["name"]),
        "description": _description(channel["description"], language),
        "price": "–" if price is None else money(price),
        "facts": facts,
    }


def _volume_facts(volume: Json | None, language: LocaleFormatter) -> list[str]:
    if volume is None:
        return []
    message = PRICING_MESSAGES[language.name][f"discount_{volume['applies_to']}"]
    return [
        message.format(
            credits=language.number(Decimal(step["at_least"])), percent=language.percent(Decimal(step["discount"]))
        )
        for step in volume["steps"]
    ]


def _section(prices: Json, group: Json, changes: list[Json], language: LocaleFormatter) -> Json:
    """Return a group's table in the nominal view, for readers without scripts."""
    messages = PRICING_MESSAGES[language.name]
    columns = [meter for meter in prices["meters"] if any(meter["name"] in row["nominal"] for row in group["prices"])]
    ratio = messages["ratio"].format(ratio=language.number(Decimal(group["ratio"])))
    if _is_free(group):
        ratio = messages["ratio_free"]
    models = {model["name"]: model for model in prices["models"]}
    labels = PageLabels(prices, language.name)
    previous_models = [None, *(row["model"] for row in group["prices"])]
    return {
        "heading": messages["prices_of"].format(group=labels.named("group", group["name"])),
        "about": " · ".join(filter(None, [_description(group["description"], language), ratio])),
        "view": messages["about_nominal"].format(currency=prices["currency"]),
        "columns": [
            {"label": meter["label"][language.name], "per": meter["per_label"][language.name]} for meter in columns
        ],
        "rows": [
            _static_row(prices, models, row, group["ratio"], columns, language, describe=row["model"] != previous)
            for previous, row in zip(previous_models, group["prices"], strict=False)
        ],
        "changes": list(change_texts(prices, changes, language)),
    }


def _static_row(
    prices: Json,
    models: dict[str, Json],
    row: Json,
    group_ratio: str,
    columns: Sequence[Json],
    language: LocaleFormatter,
    *,
    describe: bool,
) -> Json:
    messages = PRICING_MESSAGES[language.name]
    model = models[row["model"]]
    terms = ""
    if row["ratio"] is None:
        terms = messages["own_price"]
    elif row["ratio"] != group_ratio:
        terms = messages["ratio"].format(ratio=language.number(Decimal(row["ratio"])))
    notes = [
        _display_name(model, language) if describe else "",
        terms,
        *row_notes(row, prices, language),
        *_limits(model, language, describe=describe),
        _description(model["description"], language) if describe else "",
        *(_other_facts(model, language) if describe else ()),
    ]
    return {
        "model": row["model"],
        "tier": PageLabels(prices, language.name).label("service_tier", row["service_tier"]),
        "notes": list(filter(None, notes)),
        "cells": [_static_price(row, meter["name"], prices["currency"], language) for meter in columns],
    }


def _limits(model: Json, language: LocaleFormatter, *, describe: bool) -> list[str]:
    """Return the size of a model's context, and of its input and output beside its description."""
    messages, sizes = PRICING_MESSAGES[language.name], model["context"]
    names = ("window", "max_input", "max_output") if describe else ("window",)
    return [messages[name].format(tokens=language.number(sizes[name])) for name in names if sizes[name] is not None]


def _other_facts(model: Json, language: LocaleFormatter) -> list[str]:
    """Return when a model was released, and its other names."""
    messages = PRICING_MESSAGES[language.name]
    facts = [] if model["released"] is None else [messages["released"].format(date=model["released"])]
    if model["aliases"]:
        facts.append(messages["also"].format(names=messages["list_separator"].join(model["aliases"])))
    return facts


def _static_price(row: Json, meter: str, currency: str, language: LocaleFormatter) -> dict[str, str]:
    messages = PRICING_MESSAGES[language.name]
    if meter not in row["nominal"]:
        return {"text": "", "exact": "", "off": "", "listed": ""}
    listed = row["list"]["prices"].get(meter) if "list" in row else None
    price, discount = Decimal(row["nominal"][meter]), row["cache_discount"].get(meter)
    text, exact = language.price(price, currency), language.money(price, currency)
    return {
        "text": text if price else messages["free"],
        "exact": messages["exactly"].format(price=exact) if text != exact else "",
        "off": messages["off"].format(percent=language.percent(Decimal(discount))) if discount else "",
        "listed": ""
        if listed is None
        else messages["listed"].format(price=language.money(Decimal(listed), row["list"]["currency"])),
    }
