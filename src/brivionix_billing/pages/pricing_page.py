"""The pricing page: one HTML file with the price list, readable without scripts, and all of its views with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pages.formatting import LANGUAGES, LocaleFormatter
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, TIER_LABELS
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.render import (
    HtmlPage,
    embed_json,
    read_asset,
    render_template,
    require_pages_extra,
    validate_stylesheet,
)
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import parse_instant

__all__ = ["pricing_page"]

Json = dict[str, Any]
_MILLION: Final = 1_000_000
_SCRIPTS: Final = (
    "exact.js",
    *(f"pricing/{part}.js" for part in ("state", "table", "changes", "call", "view", "main")),
)
_SAMPLE_CALL_METERS: Final = ("input", "cache_read", "output", "web_search")
"""What the sample call asks for; the page names these, priced or not."""
_MOST_TEXT: Final = 2_000


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
    """The pricing page of some groups (all that have terms then) at a time, as one self-contained HTML file.

    The first group is shown at first; ``locale`` is the language to begin with, ``en`` or ``zh_CN``; the reader can
    switch. ``title`` replaces "Model prices", ``notes`` are paragraphs for its foot, ``style`` is appended to its style
    sheet (see ``docs/pages.md``). Raises ``unknown_group``, ``invalid_argument``, ``missing_extra``.

    >>> from datetime import UTC
    >>> book = PriceBook.load("pricing.yaml")
    >>> html = pricing_page(book, at=datetime(2026, 10, 20, tzinfo=UTC), groups=["default"])
    >>> html[:15], len(html) < 150_000
    ('<!doctype html>', True)
    """
    require_pages_extra()
    style = validate_stylesheet(style)
    if isinstance(notes, str):
        raise BillingError("invalid_argument", f"notes={safe_repr(notes)}: give a list of paragraphs")
    languages = [LocaleFormatter(locale), *(LocaleFormatter(name) for name in LANGUAGES if name != locale)]
    for what, text in (("title", title), *(("note", note) for note in notes)):
        if text is not None:
            require_text(f"the {what}", text, limit=_MOST_TEXT)
    data = price_list(book, at=at, groups=groups)
    if not data["groups"]:
        raise BillingError("invalid_argument", f"no group to show at {data['at']}: name one that has terms then")
    first = languages[0]
    tiers = {row["service_tier"] for row in data["groups"][0]["prices"]}
    made = render_template(
        "pricing.html",
        {
            "language": first,
            "words": PRICING_MESSAGES[first.name],
            "title": PRICING_MESSAGES[first.name]["title"] if title is None else title,
            "own_title": title is not None,
            "notes": list(notes),
            "texts": [_texts(data, language) for language in languages],
            "sections": [_section(data, group, first) for group in data["groups"]],
            "data": embed_json(
                {
                    "list": data,
                    "words": PRICING_MESSAGES,
                    "formats": {language.name: language.client_formats(_currencies(data)) for language in languages},
                    "start": {
                        "language": first.name,
                        "group": data["groups"][0]["name"],
                        "tier": "standard" if "standard" in tiers or not tiers else "every",
                        "title": title or "",
                        "meters": {
                            name: {meter: METER_LABELS[name][meter] for meter in _SAMPLE_CALL_METERS}
                            for name in LANGUAGES
                        },
                        "dates": _dates(data, languages),
                    },
                }
            ),
        },
        style=read_asset("base.css") + read_asset("pricing.css") + style,
        script="".join(read_asset(name) for name in _SCRIPTS),
    )
    made.prices = data
    return made


def _currencies(data: Json) -> list[str]:
    return list(dict.fromkeys([data["currency"], *(channel["currency"] for channel in data["channels"])]))


def _dates(data: Json, languages: Sequence[LocaleFormatter]) -> dict[str, dict[str, str]]:
    parts = [*data["channels"], *data["groups"]]
    times = {change["at"] for part in parts for change in part["changes"]}
    return {at: {language.name: language.date(parse_instant(at)) for language in languages} for at in sorted(times)}


def _description(texts: dict[str, str], language: LocaleFormatter) -> str:
    return texts.get(language.name) or texts.get("") or next(iter(texts.values()), "")


def _texts(data: Json, language: LocaleFormatter) -> Json:
    """What does not depend on the view, written ahead in one language."""
    words = PRICING_MESSAGES[language.name]
    nominal = language.money(Decimal(data["nominal_per_credit"]), data["currency"])
    return {
        "tag": language.tag,
        "words": words,
        "as_of": words["as_of"].format(date=language.date(parse_instant(data["at"]).replace(second=0, microsecond=0))),
        "credit": words["credit"].format(nominal=nominal),
        "rounding": words["rounding"].format(digits=data["shown_digits"]),
        "pointing": words["pointing"],
        "source": words["source"].format(digest=data["price_book"]),
        "channels": [_channel(channel, words, language) for channel in data["channels"]],
    }


def _channel(channel: Json, words: dict[str, str], language: LocaleFormatter) -> Json:
    currency = channel["currency"]

    def money(text: str) -> str:
        return language.money(Decimal(text), currency)

    facts = []
    least, most = channel["min_payment"], channel["max_payment"]
    if least is not None and most is not None:
        facts.append(words["from_to"].format(least=money(least), most=money(most)))
    elif least is not None:
        facts.append(words["at_least"].format(least=money(least)))
    elif most is not None:
        facts.append(words["at_most"].format(most=money(most)))
    facts += _volume_facts(channel["volume_discount"], words, language)
    for change in channel["changes"]:
        told = []
        if "price_per_credit" in change:
            price = change["price_per_credit"][1]
            told.append(words["credit_costs"].format(price="–" if price is None else money(price)))
        if "volume_discount" in change:
            told += _volume_facts(change["volume_discount"][1], words, language) or [words["no_discount"]]
        facts.append(words["from"].format(date=language.date(parse_instant(change["at"])), what="; ".join(told)))
    return {
        "name": channel["name"],
        "description": _description(channel["description"], language),
        "price": "–" if channel["price_per_credit"] is None else money(channel["price_per_credit"]),
        "facts": facts,
    }


def _volume_facts(volume: Json | None, words: dict[str, str], language: LocaleFormatter) -> list[str]:
    if volume is None:
        return []
    return [
        words[f"discount_{volume['applies_to']}"].format(
            credits=language.number(Decimal(step["at_least"])), percent=language.percent(Decimal(step["discount"]))
        )
        for step in volume["steps"]
    ]


def _section(data: Json, group: Json, language: LocaleFormatter) -> Json:
    """A group's table in the nominal view, for readers without scripts."""
    words, meters = PRICING_MESSAGES[language.name], METER_LABELS[language.name]
    columns = [m for m in data["meters"] if any(m["name"] in row["nominal"] for row in group["prices"])]
    ratio = Decimal(group["ratio"])
    names = [row["model"] for row in group["prices"]]
    models = {model["name"]: model for model in data["models"]}
    priced = [price for row in group["prices"] for price in row["nominal"].values()]
    free = words["ratio"].format(ratio=language.number(ratio))
    if priced and not any(map(Decimal, priced)):
        free = words["ratio_free"]
    return {
        "heading": words["prices_of"].format(group=group["name"]),
        "about": " · ".join(filter(None, [_description(group["description"], language), free])),
        "view": words["about_nominal"].format(currency=data["currency"]),
        "columns": [{"label": meters[m["name"]], "per": _per(m["per"], words)} for m in columns],
        "rows": [
            _static_row(data, models, row, group["ratio"], columns, language, first=row["model"] != before)
            for before, row in zip([None, *names], group["prices"], strict=False)
        ],
        "changes": list(_announced_changes(data, group, language)),
    }


def _per(per: int, words: dict[str, str]) -> str:
    return words["per_m_tokens"] if per == _MILLION else words["per_calls"]


def _static_row(
    data: Json,
    models: dict[str, Json],
    row: Json,
    ratio: str,
    columns: Sequence[Json],
    language: LocaleFormatter,
    *,
    first: bool,
) -> Json:
    words = PRICING_MESSAGES[language.name]
    model = models[row["model"]]
    notes = [
        words["own_price"] if row["ratio"] is None else "",
        words["ratio"].format(ratio=language.number(Decimal(row["ratio"])))
        if row["ratio"] not in (None, ratio)
        else "",
        _context_note(row, words, language),
        words["window"].format(tokens=language.number(model["context"]["window"])),
        _description(model["description"], language) if first else "",
    ]
    return {
        "model": row["model"],
        "tier": TIER_LABELS[language.name][row["service_tier"]],
        "notes": list(filter(None, notes)),
        "cells": [_static_price(row, m["name"], data["currency"], language) for m in columns],
    }


def _static_price(row: Json, meter: str, currency: str, language: LocaleFormatter) -> dict[str, str]:
    words = PRICING_MESSAGES[language.name]
    if meter not in row["nominal"]:
        return {"text": "", "exact": "", "off": ""}
    price, off = Decimal(row["nominal"][meter]), row["cache_discount"].get(meter)
    text, exact = language.price(price, currency), language.money(price, currency)
    return {
        "text": text if price else words["free"],
        "exact": words["exactly"].format(price=exact) if text != exact else "",
        "off": words["off"].format(percent=language.percent(Decimal(off))) if off else "",
    }


def _context_note(row: Json, words: dict[str, str], language: LocaleFormatter) -> str:
    if row["above"] is None:
        return ""
    key = "long_context" if row["context"] == "long" else "short_context"
    return words[key].format(tokens=language.number(row["above"]))


def _announced_changes(data: Json, group: Json, language: LocaleFormatter) -> Iterator[str]:
    """What is announced for a group, in the nominal view; a fee that changes for many models is told once."""
    words, meters = PRICING_MESSAGES[language.name], METER_LABELS[language.name]
    calls = {meter["name"] for meter in data["meters"] if meter["per"] != _MILLION}
    told: dict[tuple[str, str], list[str]] = {}

    def price(text: str | None) -> str:
        return "–" if text is None else language.money(Decimal(text), data["currency"])

    for change in group["changes"]:
        before, after = change["above"]
        parts = [change["model"], TIER_LABELS[language.name][change["service_tier"]]]
        if change["context"] != "any":
            above = before if after is None else after
            parts.append(_context_note({"above": above, "context": change["context"]}, words, language))
        texts = [] if change["kind"] == "changes" else [words[change["kind"]]]
        if before is not None and after is not None and before != after:
            texts.append(words["threshold"].format(was=language.number(before), now=language.number(after)))
        for name, (was, now) in () if change["kind"] == "ends" else change["nominal"].items():
            key = "starts_at" if change["kind"] == "begins" else "was_now"
            text = words[key].format(meter=meters[name], was=price(was), now=price(now))
            if name in calls:
                models = told.setdefault((change["at"], f"{text} {words['per_calls']}"), [])
                models += [change["model"]] if change["model"] not in models else []
            else:
                texts.append(text)
        if texts:
            told.setdefault((change["at"], "; ".join(texts)), []).append(" · ".join(parts))
    for (at, text), titles in sorted(told.items(), key=lambda item: item[0][0]):
        yield f"{language.date(parse_instant(at))}: {', '.join(titles)}: {text}"
