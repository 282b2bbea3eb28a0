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
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, TIER_LABELS
from brivionix_billing.times import parse_instant

__all__ = ["change_texts", "context_note", "scheduled_changes"]

Json = dict[str, Any]
_THOUSAND: Final = 1_000


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
    fees = {meter["name"] for meter in prices["meters"] if meter["per"] == _THOUSAND}
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
        parts.append(TIER_LABELS[language.name][subject["service_tier"]])
    if "context" in subject:
        parts.append(context_note(subject, language))
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
        meter=METER_LABELS[language.name].get(statement.get("meter", ""), ""),
        channel=statement.get("channel", ""),
    )
    return f"{text} {messages[statement['unit']]}" if "unit" in statement else text


def context_note(row: Json, language: LocaleFormatter) -> str:
    """Return which input tokens a row's prices are for; empty if they apply to any number."""
    if row["above"] is None:
        return ""
    message = PRICING_MESSAGES[language.name]["long_context" if row["context"] == "long" else "short_context"]
    return message.format(tokens=language.number(row["above"]))
