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
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, tier_label
from brivionix_billing.times import parse_instant

__all__ = ["change_texts", "condition_notes", "context_note", "row_notes", "scheduled_changes"]

Json = dict[str, Any]
_FEE_UNITS: Final = frozenset({"call", "session"})


def scheduled_changes(prices: Json, group: Json) -> list[Json]:
    """Return the changes that a price list schedules for one of its groups and for the channels, in order of time.

    A change has ``at``, ``subjects`` (the models that it concerns) and ``statements``. Models with equal statements at
    the same time share one change. A change of a channel's price of a Credit has ``channel`` and no subjects.

    A statement has a ``message`` of the pricing page and its values, as [before, after]: ``counts`` of tokens,
    ``price_per_credit`` of a channel, or ``nominal`` and ``topup`` prices of a ``meter``. ``unit`` is a message that
    follows the statement.
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
    if change["context"] != "any":
        before, after = change["above"]
        subject |= {"context": change["context"], "above": before if after is None else after}
    if "conditions" in change:
        subject["conditions"] = change["conditions"]
    return subject


def _statements(change: Json) -> Iterator[Json]:
    kind, (before, after) = change["kind"], change["above"]
    if kind != "changes":
        yield {"message": kind}
    elif before is not None and after is not None and before != after:
        yield {"message": "threshold", "counts": [before, after]}
    if kind == "ends":
        return
    for meter, nominal in change["nominal"].items():
        topup = {channel: prices[meter] for channel, prices in change["topup"].items()}
        message = "starts_at" if kind == "begins" else "was_now"
        yield {"message": message, "meter": meter, "nominal": nominal, "topup": topup}


def change_texts(prices: Json, changes: list[Json], language: LocaleFormatter) -> Iterator[str]:
    """Format scheduled changes in the nominal view, one line each."""
    nominal_currency: str = prices["currency"]
    currencies: dict[str, str] = {channel["name"]: channel["currency"] for channel in prices["channels"]}
    messages = PRICING_MESSAGES[language.name]
    for change in changes:
        subjects = messages["list_separator"].join(_subject_text(subject, language) for subject in change["subjects"])
        statements = messages["statement_separator"].join(
            _statement_text(statement, currencies.get(change.get("channel", ""), nominal_currency), language)
            for statement in change["statements"]
        )
        parts = [language.date(parse_instant(change["at"])), subjects, statements]
        yield messages["label_separator"].join(filter(None, parts))


def _subject_text(subject: Json, language: LocaleFormatter) -> str:
    parts = [subject["model"]]
    if "service_tier" in subject:
        parts.append(tier_label(language.name, subject["service_tier"]))
    if "context" in subject:
        parts.append(context_note(subject, language))
    parts += condition_notes(subject, language)
    return " · ".join(filter(None, parts))


def _statement_text(statement: Json, currency: str, language: LocaleFormatter) -> str:
    messages = PRICING_MESSAGES[language.name]

    def price(text: str | None) -> str:
        if text is None:
            return "–"
        amount = Decimal(text)
        return language.money(amount, currency) if amount or "channel" in statement else messages["free"]

    if "counts" in statement:
        was, now = map(language.number, statement["counts"])
    else:
        was, now = map(price, statement.get("price_per_credit") or statement.get("nominal") or (None, None))
    text = messages[statement["message"]].format(
        was=was,
        now=now,
        meter=_meter_text(statement.get("meter", ""), language),
        channel=statement.get("channel", ""),
    )
    return f"{text} {messages[statement['unit']]}" if "unit" in statement else text


def _meter_text(meter: str, language: LocaleFormatter) -> str:
    return METER_LABELS[language.name].get(meter, meter.replace("_", " "))


def context_note(row: Json, language: LocaleFormatter) -> str:
    """Return which input tokens a row's prices are for; empty if they apply to any number."""
    if row["above"] is None:
        return ""
    messages, tokens = PRICING_MESSAGES[language.name], language.number(row["above"])
    if row["context"] == "short":
        return messages["short_context"].format(tokens=tokens)
    if row.get("up_to") is not None:
        return messages["between_context"].format(tokens=tokens, up_to=language.number(row["up_to"]))
    return messages["long_context"].format(tokens=tokens)


def condition_notes(row: Json, language: LocaleFormatter) -> list[str]:
    """Return the region, the mode and the window that a row's prices are for."""
    messages = PRICING_MESSAGES[language.name]
    return [messages[f"in_{dimension}"].format(name=name) for dimension, name in row.get("conditions", {}).items()]


def row_notes(row: Json, prices: Json, language: LocaleFormatter) -> list[str]:
    """Return everything that limits a row's prices: input tokens, conditions and a minimum charge."""
    notes = [context_note(row, language), *condition_notes(row, language)]
    if "minimum" in row:
        price = language.money(Decimal(row["minimum"]), prices["currency"])
        notes.append(PRICING_MESSAGES[language.name]["at_minimum"].format(price=price))
    return list(filter(None, notes))
