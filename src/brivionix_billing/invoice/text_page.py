"""The bill as a human-readable text page. All values come from the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, sum_exact
from brivionix_billing.invoice.display import bill_heading, is_statement, shown_channels
from brivionix_billing.invoice.document import rounded_costs
from brivionix_billing.invoice.labels import shown_labels
from brivionix_billing.invoice.shown_credits import allocate_credits, round_credits, shown_balance, shown_savings
from brivionix_billing.invoice.signing import SignatureState, check_signature
from brivionix_billing.invoice.text_messages import TEXT_MESSAGES
from brivionix_billing.rating.messages import resolve_locale
from brivionix_billing.tabular import format_table, pad

__all__ = ["render_text"]

_MAX_DAYS: Final = 62
"""Maximum number of days in the table by day. For a longer period, the table would fill most of the page."""
_NAMED_CONDITIONS: Final = ("router", "region", "mode", "window")
_TITLE_WIDTH: Final = 9
"""Width of the words before a value, in columns of a terminal."""
_Words = Mapping[str, str]


def _list_currency(line: Mapping[str, Any]) -> str:
    """Return the currency of a list price that is not in nominal quota, with its rate."""
    return f" {line['list_currency']} (x {line['exchange_rate']})" if line.get("list_currency") else ""


def render_text(document: Mapping[str, Any], *, locale: str = "en", all_channels: bool = False) -> str:
    """Return the text page in ``en`` or ``zh_CN``. Its lines have up to about 150 characters.

    It has the cost through the channel of payment; with ``all_channels``, or without one, through all channels.
    Raises ``invalid_document`` if an amount has no cost through a channel of the document, and ``invalid_argument`` for
    an unknown language.
    """
    language = resolve_locale(locale)
    words, channels = TEXT_MESSAGES[language], shown_channels(document, all_channels)
    page = [
        *_head_lines(document, words),
        "",
        _lines_table(document, channels, words),
        "",
        *_remark_lines(document, channels, words),
        "",
        *_chain_lines(document, channels, words),
        *_tax_lines(document, words),
        *_balance_lines(document, words),
        *_section_lines(document, channels, words),
        *_days_lines(document, words),
        *_label_lines(document, language),
        *_evidence_lines(document, words),
    ]
    return "\n".join(_replace_unprintable(line) for line in page) + "\n"


def _head_lines(document: Mapping[str, Any], words: _Words) -> list[str]:
    period, customer = document["period"], document["customer"]
    template = words["named" if customer["name"] else "account"]
    lines = [
        f"{bill_heading(document, words)} {document['id']}",
        "",
        *_party_lines("issuer", document["issuer"]["name"], document["issuer"], words),
        *_party_lines("customer", template.format(**customer), customer, words),
        _titled(words["period"], words["span"].format(**period, start=period["from"], end=period["to"])),
        _titled(words["issued"], document["issued"] + (words["due"].format(**document) if document["due"] else "")),
    ]
    if document["payment"]:
        lines.append(_titled(words["payment"], "{channel} ({currency})".format(**document["payment"])))
    lines += [_titled(words["terms"], term) for term in document.get("terms") or ()]
    if document["corrects"]:
        reason = " ".join(document["corrects"]["reason"].split())
        lines.append(_titled(words["corrects"], f"{document['corrects']['id']}: {reason}"))
        if document["corrects"].get("voids"):
            lines.append(_titled(words["voids"], document["corrects"]["voids"]["id"]))
    return lines


def _lines_table(document: Mapping[str, Any], channels: Sequence[str], words: _Words) -> str:
    totals = document["totals"]
    heads = [f"{totals['channels'][name]['currency']} ({name})" for name in channels]
    rows = [[*words["columns"].split("|"), words["nominal"].format(**totals["nominal"]), *heads]]
    for line in document["lines"]:
        per = "M" if line["per"] == 1_000_000 else "K" if line["per"] == 1_000 else str(line["per"])
        rows.append(
            [
                line["model"],
                line["group"],
                ", ".join([line["service_tier"], *(line[name] for name in _NAMED_CONDITIONS if line.get(name))]),
                line["context_tier"],
                line["meter"],
                line["quantity"],
                "-" if line["list_price"] is None else f"{line['list_price']}{_list_currency(line)}/{per}",
                words["own_price"] if line["ratio"] is None else line["ratio"],
                f"{line['unit_price']}/{per}",
                *_amounts(document, line["rounded"], channels),
            ]
        )
    rows.append([words["total"], *[""] * 8, *_amounts(document, totals["rounded"], channels)])
    return format_table(rows, left=5)


def _amounts(document: Mapping[str, Any], rounded: Mapping[str, Any], channels: Sequence[str]) -> list[str]:
    costs = rounded_costs(document, rounded)
    return [rounded["credits"], rounded["nominal"], *(costs[name] for name in channels)]


def _remark_lines(document: Mapping[str, Any], channels: Sequence[str], words: _Words) -> list[str]:
    """Return the exact totals, the savings, and what the reader must know about the columns."""
    totals, estimated = document["totals"], document["totals"]["estimated"]
    costs = [
        f"{totals['channels'][name]['amount']} {totals['channels'][name]['currency']} ({name})" for name in channels
    ]
    exact = words["exact"].format(
        credits=totals["credits"], nominal=totals["nominal"]["amount"], currency=totals["nominal"]["currency"]
    )
    lines = [exact + ", ".join(costs)]
    if estimated["requests"] or estimated["credits"] != "0":
        requests = _count(estimated["requests"], "request", words)
        lines.append(
            words["estimated"].format(requests=requests, credits=round_credits(document, estimated["credits"]))
        )
    remarks = ["either"] * (len(channels) > 1) + ["prepaid"] + ["untaxed"] * is_statement(document)
    return [
        *lines,
        words["savings"].format(**shown_savings(document)),
        words["zeros"],
        *(words[name] for name in remarks),
    ]


def _chain_lines(document: Mapping[str, Any], channels: Sequence[str], words: _Words) -> list[str]:
    """Return the late usage that a bill contains, and the totals of a bill after all its notes."""
    lines = [
        words["late"].format(
            period=section["period"]["name"],
            id=section["corrects"]["id"],
            credits=section["totals"]["rounded"]["credits"],
        )
        for section in document.get("late") or ()
    ]
    in_effect = document.get("in_effect")
    if in_effect:
        costs, totals = rounded_costs(document, in_effect["rounded"]), document["totals"]["channels"]
        amounts = [f"{costs[name]} {totals[name]['currency']} ({name})" for name in channels]
        lines.append(
            words["in_effect"].format(
                id=document["corrects"]["id"],
                amounts=", ".join([f"{in_effect['rounded']['credits']} Credits", *amounts]),
            )
        )
        if in_effect.get("taxes"):
            lines.append(words["in_effect_taxes"].format(**in_effect["taxes"]))
    return [*lines, ""] if lines else []


def _evidence_lines(document: Mapping[str, Any], words: _Words) -> list[str]:
    evidence, width = document["evidence"], 12
    lines = []
    if evidence:
        requests = _count(evidence["records"], "request", words)
        lines = [
            (requests if document["kind"] == "invoice" else words["corrected_usage"].format(requests=requests))
            + "".join(words[name].format(n=evidence[name]) for name in ("duplicates", "rejected") if evidence[name]),
            *(
                words["unaccounted"].format(**{**entry, "numbers": _count(entry["numbers"], "number", words)})
                for entry in evidence.get("unaccounted") or ()
            ),
            _titled(words["price_book"], evidence["price_book"], width),
            _titled(words["merkle_root"], evidence["merkle_root"], width),
        ]
    if document["previous"]:
        lines.append(_titled(words["previous"], "{id} {hash}".format(**document["previous"]), width))
    lines.append(_titled(words["hash"], document["hash"], width))
    signature, _ = check_signature(document)
    name = "unsigned" if signature is SignatureState.UNSIGNED else "signed"
    return [*lines, _titled(words["signature"], words[name].format(key=document["signing_key"]), width)]


def _titled(title: str, value: str, width: int = _TITLE_WIDTH) -> str:
    return f"{pad(title, width)} {value}"


def _count(number: int, noun: str, words: _Words) -> str:
    return words[noun] if number == 1 else words[f"{noun}s"].format(n=number)


def _tax_lines(document: Mapping[str, Any], words: _Words) -> list[str]:
    """Return a table of the net amount, the taxes and the gross amount."""
    taxes = document.get("taxes")
    if taxes is None:
        return []
    rows = [[words["taxes"], taxes["currency"]], [words["net"], taxes["net"]]]
    rows += [[words["tax_line"].format(**tax), tax["amount"]] for tax in taxes["lines"]]
    rows.append([words["gross"], taxes["gross"]])
    return [format_table(rows, left=1), words["tax_rounding" if document["kind"] == "invoice" else "tax_changes"], ""]


def _balance_lines(document: Mapping[str, Any], words: _Words) -> list[str]:
    """Return a table of the opening balance, the movements and the closing balance."""
    balance = shown_balance(document)
    if balance is None:
        return []
    rows = [[words["balance"], "Credits"], [words["opening"], balance.opening]]
    labels = [movement["label"] for movement in document["balance"]["movements"]]
    rows += [[label, amount] for label, amount in zip(labels, balance.movements, strict=True)]
    rows.append([words["used"], balance.used])
    if balance.rounding is not None:
        rows.append([words["rounding"], balance.rounding])
    rows.append([words["closing"], balance.closing])
    return [format_table(rows, left=1), ""]


def _days_lines(document: Mapping[str, Any], words: _Words) -> list[str]:
    """Return a table of the usage by day, all models together."""
    by_day: dict[str, list[Mapping[str, Any]]] = {}
    for row in document["days"]:
        by_day.setdefault(row["day"], []).append(row)
    if not 0 < len(by_day) <= _MAX_DAYS:
        return []
    rows = [[words["day"].format(zone=document["period"]["zone"]), words["request_count"], "Credits"]]
    sums = [format_plain(sum_exact(Decimal(model["credits"]) for model in models)) for models in by_day.values()]
    shown = allocate_credits(document, document["totals"]["rounded"]["credits"], sums)
    for (day, models), credits in zip(by_day.items(), shown, strict=True):
        rows.append([day, str(sum(model["requests"] for model in models)), credits])
    return [format_table(rows, left=1), ""]


def _section_lines(document: Mapping[str, Any], channels: Sequence[str], words: _Words) -> list[str]:
    """Return a table of the sections of a bill that is split."""
    sections = document.get("sections")
    if not sections:
        return []
    totals = document["totals"]["channels"]
    heads = [f"{totals[name]['currency']} ({name})" for name in channels]
    rows = [[words["by"].format(name=sections["by"]), words["request_count"], "Credits", *heads]]
    for part in sections["parts"]:
        costs = rounded_costs(document, part["rounded"])
        amounts = [part["rounded"]["credits"], *(costs[name] for name in channels)]
        rows.append([part["name"] or words["none"], str(part["requests"]), *amounts])
    return [format_table(rows, left=1), ""]


def _label_lines(document: Mapping[str, Any], language: str) -> list[str]:
    """Return a table of what the names of the bill are called."""
    labels, words = shown_labels(document, language), TEXT_MESSAGES[language]
    if not labels:
        return []
    rows = [[words["name"], words["label"]], *([name, " ".join(label.split())] for name, label in labels)]
    return [format_table(rows, left=2), ""]


def _party_lines(title: str, name: str, party: Mapping[str, Any], words: _Words) -> list[str]:
    lines = [words["tax_number"].format(number=party["tax_number"])] if party["tax_number"] else []
    return [_titled(words[title], name), *(_titled("", line) for line in [*lines, *party["details"]])]


def _replace_unprintable(text: str) -> str:
    """Replace characters that a terminal might obey. Names in the document come from outside."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
