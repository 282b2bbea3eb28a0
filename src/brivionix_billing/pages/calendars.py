"""Calendars of peak prices: as the price list has them, and their hours as a reader sees them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.pricebook.calendars import WEEKDAYS, Calendar, CalendarRule
from brivionix_billing.rating.labels import name_with_label, pick_text
from brivionix_billing.times import END_OF_TIME, format_instant, parse_instant

__all__ = ["calendar_section", "calendar_texts"]

Json = dict[str, Any]


def calendar_section(calendar: Calendar, at: datetime, display_name: Mapping[str, str]) -> Json:
    """Return a calendar as the price list has it: its state at a time, and its rules from that time on."""
    change, entries = calendar.next_change(at), calendar.rules.entries
    return {
        "name": calendar.name,
        "display_name": dict(display_name),
        "time_zone": calendar.zone_name,
        "active": calendar.contains(at),
        "in_force": calendar.rules.at(at).value is not None,
        "next_change": None if change is None else format_instant(change),
        "rules": [
            {
                "from": format_instant(entry.start),
                # The next rule ends one anyway.
                "until": None if entry.end in (END_OF_TIME, following) else format_instant(entry.end),
                **_rule(entry.value),
            }
            for entry, following in zip(entries, [*(entry.start for entry in entries[1:]), None], strict=True)
            if entry.end > at
        ],
    }


def _rule(rule: CalendarRule) -> Json:
    def clock(minutes: int) -> str:
        return f"{minutes // 60:02}:{minutes % 60:02}"

    return {
        "weekdays": [WEEKDAYS[day] for day in sorted(rule.weekdays)],
        "hours": [f"{clock(start)}-{clock(end)}" for start, end in rule.hours],
        "excluded_dates": [
            first.isoformat() if first == last else f"{first}/{last}" for first, last in rule.excluded_dates
        ],
    }


def calendar_texts(calendar: Json, language: LocaleFormatter) -> Json:
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
    label = pick_text(calendar["display_name"], language.name)
    return {
        "name": name_with_label(calendar["name"], label, language.name),
        "time_zone": calendar["time_zone"],
        "rules": rules,
    }


def _rule_text(rule: Json, language: LocaleFormatter) -> str:
    messages = PRICING_MESSAGES[language.name]
    days = messages["every_day"]
    if len(rule["weekdays"]) < len(WEEKDAYS):
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
