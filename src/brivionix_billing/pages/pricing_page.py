"""The pricing page: one HTML file with the price list. Without scripts, it shows the nominal prices of all groups."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pages.branding import NO_BRANDING, Branding, branding_values, localized_texts, notes_by_language
from brivionix_billing.pages.calendars import calendar_texts
from brivionix_billing.pages.formatting import LANGUAGES, LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pages.page_data import compact_prices, peak_windows
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.render import HtmlPage, embed_json, read_asset, render_template
from brivionix_billing.pages.scheduled_changes import PageLabels, scheduled_changes
from brivionix_billing.pages.static_prices import is_free, static_sections
from brivionix_billing.pages.stylesheet import validate_stylesheet
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import Texts, pick_text
from brivionix_billing.times import parse_instant

__all__ = ["pricing_page"]

Json = dict[str, Any]
_VIEW_SCRIPTS: Final = (
    "decimals.js",
    *(
        f"pricing/{name}.js"
        for name in (
            *("data", "state", "discounts", "table", "details", "groups", "windows", "changes"),
            *("calculator", "view", "main"),
        )
    ),
)
_FIRST_ROWS: Final = 60
"""Rows of the first group that a reader sees if a policy blocks the scripts. The others are for readers without them,
because a browser lays out every row before it runs the script that replaces them."""


def pricing_page(
    book: PriceBook,
    *,
    at: datetime,
    groups: Sequence[str] | None = None,
    locale: str = "en",
    title: str | Texts | None = None,
    notes: Sequence[str | Texts] = (),
    style: str = "",
    branding: Branding = NO_BRANDING,
) -> HtmlPage:
    """Render the prices of some groups at a time as one self-contained HTML file.

    Without ``groups``, the page has all groups that have terms at that time. It opens with the first group, in the
    language ``locale`` (``en``, or ``zh_CN`` or ``zh``); the reader can switch both. ``title`` replaces "Model prices",
    ``notes`` are paragraphs of the footer, each a text or a mapping of language to text. ``style`` is appended to the
    style sheet, and ``branding`` has logo, links and previews (see ``docs/pages.md``).

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
    first = LocaleFormatter(locale)
    languages = [first, *(LocaleFormatter(name) for name in LANGUAGES if name != first.name)]
    own_titles = localized_texts("title", title)
    notes_of = {name: notes_by_language(notes, name) for name in LANGUAGES}
    prices = price_list(book, at=at, groups=groups)
    if not prices["groups"]:
        message = f"no group to show at {prices['at']}: name a group that has terms at that time"
        raise BillingError("invalid_argument", message)
    titles = {name: own_titles.get(name) or own_titles.get("") or PRICING_MESSAGES[name]["title"] for name in LANGUAGES}
    changes = {group["name"]: scheduled_changes(prices, group) for group in prices["groups"]}
    page = render_template(
        "pricing.html",
        {
            "language": first,
            "messages": PRICING_MESSAGES[first.name],
            "title": titles[first.name],
            "branding": branding_values(branding, first.name),
            "embedded": False,
            "first_rows": _FIRST_ROWS,
            "texts": [_texts(prices, language, notes_of[language.name]) for language in languages],
            "sections": list(static_sections(prices, changes, first)),
            "data": embed_json(_script_data(book, prices, changes, languages, titles)),
        },
        style=read_asset("base.css") + read_asset("pricing.css") + style,
        script="".join(map(read_asset, ("pricing/page.js", *_VIEW_SCRIPTS, "pricing/page_start.js"))),
    )
    page.prices = prices
    return page


def _script_data(
    book: PriceBook,
    prices: Json,
    changes: dict[str, list[Json]],
    languages: Sequence[LocaleFormatter],
    titles: dict[str, str],
) -> Json:
    first_group = prices["groups"][0]
    tiers = {row["service_tier"] for row in first_group["prices"]}
    times = sorted({change["at"] for group_changes in changes.values() for change in group_changes})
    return {
        "list": compact_prices(prices, book),
        "windows": peak_windows(book, prices),
        "changes": changes,
        "free_groups": [group["name"] for group in prices["groups"] if is_free(group)],
        "messages": PRICING_MESSAGES,
        "formats": {language.name: language.client_formats(_currencies(prices)) for language in languages},
        "initial": {
            "language": languages[0].name,
            "group": first_group["name"],
            "tier": "standard" if "standard" in tiers or not tiers else first_group["prices"][0]["service_tier"],
            "titles": titles,
            "dates": {at: {language.name: language.date(parse_instant(at)) for language in languages} for at in times},
        },
    }


def _currencies(prices: Json) -> list[str]:
    listed = [row["list"]["currency"] for group in prices["groups"] for row in group["prices"] if "list" in row]
    return list(dict.fromkeys([prices["currency"], *(channel["currency"] for channel in prices["channels"]), *listed]))


def _texts(prices: Json, language: LocaleFormatter, notes: Sequence[str]) -> Json:
    """Return the texts that are the same in every view, in one language."""
    messages = PRICING_MESSAGES[language.name]
    at = parse_instant(prices["at"]).replace(second=0, microsecond=0)
    nominal = language.money(Decimal(prices["nominal_per_credit"]), prices["currency"])
    labels = PageLabels(prices, language.name)
    return {
        "tag": language.tag,
        "notes": list(notes),
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
        "description": pick_text(channel["description"], language.name),
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
