"""Plans: as the price list has them, and as a reader sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from brivionix_billing.decimals import format_plain
from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pages.scheduled_changes import PageLabels
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.compile import Descriptions
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.rating.labels import name_with_label, pick_text
from brivionix_billing.times import END_OF_TIME, format_instant, parse_instant

__all__ = ["plan_sections", "plan_texts"]

Json = dict[str, Any]


def plan_sections(
    book: PriceBook, at: datetime, groups: Sequence[str], models: Sequence[str], texts: Descriptions
) -> Iterator[Json]:
    """Yield the plans that are sold at a time or later, with the changes of their terms.

    A plan that is restricted to other groups or models than the listed ones is left out, as their names are.
    """
    for name, timeline in book.plan_terms().items():
        spans = [entry for entry in timeline.entries if entry.end > at]
        terms = {entry.start: _terms(entry.value, groups, models) for entry in spans}
        if not any(terms.values()):
            continue
        now = before = next((terms[entry.start] for entry in spans if entry.start <= at), None)
        changes = []
        for when in sorted({moment for entry in spans for moment in (entry.start, entry.end)}):
            if at < when < END_OF_TIME:
                after = terms.get(when)
                if after != before:
                    changes.append({"at": format_instant(when), "terms": after})
                before = after
        yield {
            "name": name,
            "display_name": texts.plan_names.get(name, {}),
            "description": texts.plans.get(name, {}),
            "terms": now,
            "changes": changes,
        }


def _terms(plan: Plan, groups: Sequence[str], models: Sequence[str]) -> Json | None:
    """Return the terms of a plan, with the listed groups and models that may use it; ``None`` if none of them may."""
    allowed = {
        kind: None if not patterns else list(filter(matcher(patterns), listed))
        for kind, patterns, listed in (("models", plan.models, models), ("groups", plan.groups, groups))
    }
    if [] in allowed.values():
        return None
    return {
        "credits": format_plain(plan.credits),
        "period": plan.period,
        "time_zone": plan.zone,
        "prices": {channel: format_plain(price.amount) for channel, price in plan.prices.items()},
        **allowed,
        "tags": list(plan.tags),
        "rollover": plan.rollover,
        "overflow": plan.overflow,
    }


def plan_texts(plan: Json, currencies: dict[str, str], labels: PageLabels, language: LocaleFormatter) -> Json:
    """Return the name, the allowance and the terms of a plan of a price list, in one language."""
    messages = PRICING_MESSAGES[language.name]
    allowance, facts = "–", []
    if plan["terms"] is not None:
        allowance, *facts = _facts(plan["terms"], currencies, labels, language)
    for change in plan["changes"]:
        parts = [messages["ends"]]
        if change["terms"] is not None:
            parts = list(_facts(change["terms"], currencies, labels, language))
        date = language.date(parse_instant(change["at"]))
        facts.append(messages["from"].format(date=date, what=messages["statement_separator"].join(parts)))
    return {
        "name": name_with_label(plan["name"], pick_text(plan["display_name"], language.name), language.name),
        "description": pick_text(plan["description"], language.name),
        "allowance": allowance,
        "facts": facts,
    }


def _facts(terms: Json, currencies: dict[str, str], labels: PageLabels, language: LocaleFormatter) -> Iterator[str]:
    """Yield the allowance of a plan, its prices, and what else a customer must know."""
    messages, per_period = PRICING_MESSAGES[language.name], PRICING_MESSAGES[language.name][f"per_{terms['period']}"]
    key = "plan_credit" if terms["credits"] == "1" else "plan_credits"
    yield per_period.format(what=messages[key].format(credits=language.number(Decimal(terms["credits"]))))
    for channel, price in terms["prices"].items():
        money = per_period.format(what=language.money(Decimal(price), currencies[channel]))
        yield f"{labels.named('channel', channel)}{messages['label_separator']}{money}"
    if not terms["prices"]:
        yield messages["plan_free"]
    if terms["models"] is not None:
        yield messages["plan_models"].format(names=messages["list_separator"].join(terms["models"]))
    if terms["groups"] is not None:
        names = [labels.named("group", name) for name in terms["groups"]]
        yield messages["plan_groups"].format(names=messages["list_separator"].join(names))
    if terms["tags"]:
        yield messages["plan_tags"].format(names=messages["list_separator"].join(terms["tags"]))
    if not terms["overflow"]:
        yield messages["plan_alone"]
    yield messages["plan_rollover" if terms["rollover"] else "plan_expires"].format(zone=terms["time_zone"])
