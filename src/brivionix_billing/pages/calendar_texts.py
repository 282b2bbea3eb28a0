"""The hours of a calendar as a reader sees them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any, Final

from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pages.scheduled_changes import PageLabels
from brivionix_billing.times import parse_instant

__all__ = ["calendar_texts"]

Json = dict[str, Any]
_DAYS_OF_WEEK: Final = 7


def calendar_texts(calendar: Json, labels: PageLabels, language: LocaleFormatter) -> Json:
    """Return name, time zone and rules of a calendar of a price list, in one language.

    The first rule is the one in force, unless the calendar starts later. Each other rule has the time from which it
    replaces the one before it.
    """
    messages = PRICING_MESSAGES[language.name]
    rules = []
    for place, rule in enumerate(calendar["rules"]):
        text = _rule_text(rule, language)
        if place or not calendar["in_force"]:
            text = messages["from"].format(date=language.date(parse_instant(rule["from"])), what=text)
        rules.append(text)
    return {"name": labels.named("window", calendar["name"]), "time_zone": calendar["time_zone"], "rules": rules}


def _rule_text(rule: Json, language: LocaleFormatter) -> str:
    messages = PRICING_MESSAGES[language.name]
    days = messages["every_day"]
    if len(rule["weekdays"]) < _DAYS_OF_WEEK:
        days = messages["list_separator"].join(map(language.weekday, rule["weekdays"]))
    hours = messages["list_separator"].join(_hours_text(hours, messages) for hours in rule["hours"])
    parts = [messages["hours"].format(days=days, hours=hours)]
    if rule["excluded_dates"]:
        dates = messages["list_separator"].join(_dates_text(dates, language) for dates in rule["excluded_dates"])
        parts.append(messages["except"].format(dates=dates))
    if rule["until"] is not None:
        parts.append(messages["until"].format(date=language.date(parse_instant(rule["until"]))))
    return messages["statement_separator"].join(parts)


def _hours_text(hours: str, messages: dict[str, str]) -> str:
    start, end = hours.split("-")
    key = "hour_range" if start < end else "hour_range_overnight"
    return messages[key].format(start=start, end=end)


def _dates_text(dates: str, language: LocaleFormatter) -> str:
    days = [language.date(datetime.combine(date.fromisoformat(day), time(), UTC)) for day in dates.split("/")]
    if len(days) == 1:
        return days[0]
    return PRICING_MESSAGES[language.name]["date_range"].format(first=days[0], last=days[1])
