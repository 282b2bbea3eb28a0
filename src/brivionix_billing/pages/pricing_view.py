"""The content of the pricing page, which the component shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pages.branding import localized_texts, notes_by_language
from brivionix_billing.pages.calendars import calendar_texts
from brivionix_billing.pages.formatting import LANGUAGES, LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pages.page_data import compact_prices, peak_windows
from brivionix_billing.pages.plans import plan_texts
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.scheduled_changes import PageLabels, scheduled_changes
from brivionix_billing.pages.static_prices import is_free, static_sections
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import Texts, pick_text
from brivionix_billing.times import parse_instant

__all__ = ["VIEW_SCRIPTS", "PricingView", "pricing_view"]

Json = dict[str, Any]
VIEW_SCRIPTS: Final = (
    "decimals.js",
    *(
        f"pricing/{name}.js"
        for name in (
            *("data", "state", "discounts", "table", "details", "groups", "windows", "changes"),
            *("calculator", "view", "main"),
        )
    ),
)
"""The scripts of the view, in their order. They need the constants ``ROOT``, ``HOST``, ``EMBEDDED`` and ``DATA``."""


class PricingView(NamedTuple):
    """The prices of some groups at a time, ready for a template and for the scripts."""

    prices: Json
    """The price list."""
    language: LocaleFormatter
    """The initial language."""
    values: Json
    """The values of the template ``pricing/body.html``, with the title."""
    data: Json
    """The data of the scripts."""


def pricing_view(
    book: PriceBook,
    *,
    at: datetime,
    groups: Sequence[str] | None,
    locale: str,
    title: str | Texts | None,
    notes: Sequence[str | Texts],
) -> PricingView:
    """Return the content of the page. See :func:`pricing_page` for the arguments and errors."""
    if isinstance(notes, str | Mapping):
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
    values = {
        "language": first,
        "messages": PRICING_MESSAGES[first.name],
        "title": titles[first.name],
        "texts": [_texts(prices, language, notes_of[language.name]) for language in languages],
        "sections": list(static_sections(prices, changes, first)),
    }
    return PricingView(prices, first, values, _script_data(book, prices, changes, languages, titles))


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
    currencies = {channel["name"]: channel["currency"] for channel in prices["channels"]}
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
        "plans": [plan_texts(plan, currencies, labels, language) for plan in prices["plans"]],
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
