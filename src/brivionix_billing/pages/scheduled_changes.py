"""Scheduled price changes as a reader sees them: grouped, ordered, and split into statements.

The pricing page renders this list twice: :func:`change_texts` for readers without scripts, and ``pricing/changes.js``
in every view. Both only format numbers and fill in messages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.messages import PRICING_MESSAGES
from brivionix_billing.rating.labels import name_with_label, pick_text
from brivionix_billing.rating.messages import range_text
from brivionix_billing.times import parse_instant

__all__ = ["PageLabels", "change_texts", "row_notes", "scheduled_changes"]

Json = dict[str, Any]
_FEE_UNITS: Final = frozenset({"call", "session"})


def scheduled_changes(prices: Json, group: Json) -> list[Json]:
    """Return the changes that a price list schedules for one of its groups and for the channels, in order of time.

    A change has ``at``, ``subjects`` (the models that it concerns) and ``statements``. Models with equal statements at
    the same time share one change. A change of a channel's price of a Credit has ``channel`` and no subjects.

    A statement has a ``message`` of the pricing page and its values, as [before, after]: ``boundary`` of input tokens,
    ``price_per_credit`` of a channel, or ``nominal`` and ``topup`` prices, of a ``meter`` or of a request. ``unit`` is
    a message that follows the statement.
    """
    changes: list[Json] = [
        {
            "at": change["at"],
            "channel": channel["name"],
            "subjects": [],
            "statements": [
                {
                    "message": "credit_changes",
                    "channel": channel["name"],
                    "price_per_credit": change["price_per_credit"],
                }
            ],
        }
        for channel in prices["channels"]
        for change in channel["changes"]
        if "price_per_credit" in change
    ]
    fees = {meter["name"] for meter in prices["meters"] if meter["unit"] in _FEE_UNITS}
    shared: dict[str, Json] = {}
    for change in group["changes"]:
        statements = list(_statements(change))
        fee_statements = [statement for statement in statements if statement.get("meter") in fees]
        own_statements = [statement for statement in statements if statement.get("meter") not in fees]
        # A fee is the same in every tier and context, so its subject is the model alone.
        parts = [([{**statement, "unit": "per_calls"}], {"model": change["model"]}) for statement in fee_statements]
        if own_statements:
            parts.append((own_statements, _subject(change)))
        for part, subject in parts:
            key = json.dumps([change["at"], part])
            entry = shared.setdefault(key, {"at": change["at"], "subjects": [], "statements": part})
            if subject not in entry["subjects"]:
                entry["subjects"].append(subject)
    return sorted([*changes, *shared.values()], key=lambda change: parse_instant(change["at"]))


def _subject(change: Json) -> Json:
    subject: Json = {"model": change["model"], "service_tier": change["service_tier"]}
    return subject | {key: change[key] for key in ("input_tokens", "conditions") if key in change}


def _statements(change: Json) -> Iterator[Json]:
    kind = change["kind"]
    if kind != "changes":
        yield {"message": kind}
    elif "boundary" in change:
        yield {"message": "threshold", "boundary": change["boundary"]}
    elif "input_tokens" in change and not change["nominal"] and "minimum" not in change:
        yield {"message": "range_ends" if change["above"][1] is None else "range_begins"}
    if kind == "ends":
        return
    for meter, nominal in change["nominal"].items():
        topup = {channel: prices[meter] for channel, prices in change["topup"].items()}
        message = "starts_at" if kind == "begins" else "was_now"
        yield {"message": message, "meter": meter, "nominal": nominal, "topup": topup}
    if "minimum" in change:
        yield {"message": "minimum", "nominal": change["minimum"], "topup": change["minimum_topup"]}


class PageLabels:
    """The labels that a price list has for its names, in one language."""

    def __init__(self, prices: Json, language: str) -> None:
        self.language = language
        self._display_names = {
            kind: {item["name"]: item["display_name"] for item in prices[f"{kind}s"]}
            for kind in ("group", "channel", "region", "mode")
        }
        self._display_names["window"] = {item["name"]: item["display_name"] for item in prices["calendars"]}
        self._labels: dict[str, dict[str, str]] = {
            kind: {item["name"]: item["label"][language] for item in prices[f"{kind}s"]}
            for kind in ("meter", "service_tier")
        }

    def named(self, kind: str, name: str) -> str:
        """Return a group, channel, region, mode or window with its label, such as ``rmb (WeChat Pay)``."""
        return name_with_label(name, pick_text(self._display_names[kind].get(name), self.language), self.language)

    def label(self, kind: str, name: str) -> str:
        """Return the label of a meter or a service tier."""
        return self._labels[kind].get(name, name)


def change_texts(prices: Json, changes: list[Json], language: LocaleFormatter) -> Iterator[str]:
    """Format scheduled changes in the nominal view, one line each."""
    nominal_currency: str = prices["currency"]
    currencies: dict[str, str] = {channel["name"]: channel["currency"] for channel in prices["channels"]}
    messages, labels = PRICING_MESSAGES[language.name], PageLabels(prices, language.name)
    for change in changes:
        subjects = messages["list_separator"].join(_subject_text(subject, labels) for subject in change["subjects"])
        statements = messages["statement_separator"].join(
            _statement_text(statement, currencies.get(change.get("channel", ""), nominal_currency), labels, language)
            for statement in change["statements"]
        )
        parts = [language.date(parse_instant(change["at"])), subjects, statements]
        yield messages["label_separator"].join(filter(None, parts))


def _subject_text(subject: Json, labels: PageLabels) -> str:
    tier = [labels.label("service_tier", subject["service_tier"])] if "service_tier" in subject else []
    return " · ".join(
        [subject["model"], *tier, *_context_notes(subject, labels.language), *_condition_notes(subject, labels)]
    )


def _statement_text(statement: Json, currency: str, labels: PageLabels, language: LocaleFormatter) -> str:
    messages = PRICING_MESSAGES[language.name]

    def price(text: str | None) -> str:
        if text is None:
            return "–"
        amount = Decimal(text)
        return language.money(amount, currency) if amount or "channel" in statement else messages["free"]

    if "boundary" in statement:
        was, now = (range_text(language.name, bound) for bound in statement["boundary"])
    else:
        was, now = map(price, statement.get("price_per_credit") or statement.get("nominal") or (None, None))
    text = messages[statement["message"]].format(
        was=was,
        now=now,
        meter=labels.label("meter", statement.get("meter", "")),
        channel=labels.named("channel", statement.get("channel", "")),
    )
    return f"{text} {messages[statement['unit']]}" if "unit" in statement else text


def _context_notes(row: Json, language: str) -> list[str]:
    """Return which input tokens a row's prices are for, unless they apply to any number."""
    if "input_tokens" not in row:
        return []
    return [PRICING_MESSAGES[language]["range_tokens"].format(range=range_text(language, row["input_tokens"]))]


def _condition_notes(row: Json, labels: PageLabels) -> list[str]:
    """Return the region, the mode and the window that a row's prices are for."""
    messages = PRICING_MESSAGES[labels.language]
    return [
        messages[f"in_{dimension}"].format(name=labels.named(dimension, name))
        for dimension, name in row.get("conditions", {}).items()
    ]


def row_notes(row: Json, prices: Json, language: LocaleFormatter) -> list[str]:
    """Return everything that limits a row's prices: input tokens, conditions, a minimum charge, and a list currency."""
    messages = PRICING_MESSAGES[language.name]
    notes = [*_context_notes(row, language.name), *_condition_notes(row, PageLabels(prices, language.name))]
    if "minimum" in row:
        price = language.money(Decimal(row["minimum"]), prices["currency"])
        notes.append(messages["at_minimum"].format(price=price))
    if "list" in row:
        listed = row["list"]
        notes.append(
            messages["exchange"].format(
                listed=listed["currency"],
                rate=language.number(Decimal(listed["exchange_rate"])),
                currency=prices["currency"],
            )
        )
    return notes
