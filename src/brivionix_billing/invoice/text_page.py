"""The bill as a human-readable text page. All values come from the document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, sum_exact
from brivionix_billing.invoice.document import rounded_costs
from brivionix_billing.invoice.labels import shown_labels
from brivionix_billing.invoice.signing import SignatureState, check_signature
from brivionix_billing.tabular import format_table

__all__ = ["render_text"]

_MAX_DAYS: Final = 62
"""Maximum number of days in the table by day. For a longer period, the table would fill most of the page."""
_NAMED_CONDITIONS: Final = ("router", "region", "mode", "window")
_TITLES = {"invoice": "Bill", "credit_note": "Credit note", "debit_note": "Debit note"}


def _list_currency(line: Mapping[str, Any]) -> str:
    """Return the currency of a list price that is not in nominal quota, with its rate."""
    return f" {line['list_currency']} (x {line['exchange_rate']})" if line.get("list_currency") else ""


def render_text(document: Mapping[str, Any]) -> str:
    """Return the text page. Its lines have up to about 150 characters.

    Raises ``invalid_document`` if an amount has no cost through a channel of the document.
    """
    totals, evidence = document["totals"], document["evidence"]
    period = document["period"]
    page = [
        f"{_TITLES[document['kind']]} {document['id']}",
        "",
        *_party_lines("Issuer", document["issuer"]["name"], document["issuer"]),
        *_party_lines("Customer", _customer(document["customer"]), document["customer"]),
        f"Period    {period['name']}: {period['from']} to {period['to']} (midnights of {period['zone']})",
        f"Issued    {document['issued']}" + (f", due {document['due']}" if document["due"] else ""),
    ]
    if document["payment"]:
        page.append(f"Payment   {document['payment']['channel']} ({document['payment']['currency']})")
    if document["corrects"]:
        reason = " ".join(document["corrects"]["reason"].split())
        page.append(f"Corrects  {document['corrects']['id']}: {reason}")
        if document["corrects"].get("voids"):
            page.append(f"Voids     {document['corrects']['voids']['id']}")
    channels = list(totals["channels"])
    currencies = [totals["channels"][name]["currency"] for name in channels]
    heads = [f"{currency} ({name})" for name, currency in zip(channels, currencies, strict=True)]
    nominal = totals["nominal"]["currency"]
    rows = [
        [
            *("model", "group", "tier", "context", "meter", "quantity", "list price", "ratio", "unit price"),
            *("Credits", f"nominal {nominal}", *heads),
        ]
    ]
    for line in document["lines"]:
        rounded = line["rounded"]
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
                "own price" if line["ratio"] is None else line["ratio"],
                f"{line['unit_price']}/{per}",
                rounded["credits"],
                rounded["nominal"],
                *rounded_costs(document, rounded).values(),
            ]
        )
    rounded = totals["rounded"]
    costs = rounded_costs(document, rounded).values()
    rows.append(["Total", *[""] * 8, rounded["credits"], rounded["nominal"], *costs])
    savings = document["savings"]
    page += [
        "",
        format_table(rows, left=5),
        "",
        f"Exact: {totals['credits']} Credits, nominal {totals['nominal']['amount']} {nominal}, "
        + ", ".join(f"{total['amount']} {total['currency']} ({name})" for name, total in totals["channels"].items()),
        *_estimated_lines(totals["estimated"]),
        f"At list price and without cache {savings['list']} Credits; saved by cache {savings['cache']}, "
        f"by group {savings['group']}.",
        "The channels are alternatives: each column states what the same Credits cost through that channel. "
        "The bill is in Credits, and is not payable again.",
        "",
        *_chain_lines(document),
        *_balance_lines(document["balance"], totals["credits"]),
        *_section_lines(document),
        *_days_lines(document["days"], period["zone"]),
        *_label_lines(document),
    ]
    if evidence:
        requests = f"{evidence['records']} request{'s' if evidence['records'] != 1 else ''}"
        page += [
            (requests if document["kind"] == "invoice" else f"Corrected usage: {requests}")
            + (f", {evidence['duplicates']} repeated and counted once" if evidence["duplicates"] else "")
            + (f", {evidence['rejected']} rejected and not billed" if evidence["rejected"] else ""),
            *_unaccounted_lines(evidence.get("unaccounted") or ()),
            f"Price book   {evidence['price_book']}",
            f"Merkle root  {evidence['merkle_root']}",
        ]
    if document["previous"]:
        page.append(f"Previous     {document['previous']['id']} {document['previous']['hash']}")
    page.append(f"Hash         {document['hash']}")
    signature, _ = check_signature(document)
    if signature is SignatureState.UNSIGNED:
        page.append("Signature    Not signed: anyone may have written this document")
    else:
        page.append(f"Signature    Signed by key {document['signing_key']} (Ed25519); not checked here")
    return "\n".join(_replace_unprintable(line) for line in page) + "\n"


def _chain_lines(document: Mapping[str, Any]) -> list[str]:
    """Return the totals of a bill after all its notes, and the late usage that a bill contains."""
    lines = [
        f"Contains late usage of {section['period']['name']} ({section['corrects']['id']}): "
        f"{section['totals']['credits']} Credits."
        for section in document.get("late") or ()
    ]
    in_effect = document.get("in_effect")
    if in_effect:
        costs = rounded_costs(document, in_effect["rounded"])
        amounts = [
            f"{cost} {document['totals']['channels'][name]['currency']} ({name})" for name, cost in costs.items()
        ]
        lines.append(
            f"{document['corrects']['id']} after all notes: "
            + ", ".join([f"{in_effect['credits']} Credits", *amounts])
            + "."
        )
    return lines


def _estimated_lines(estimated: Mapping[str, Any]) -> list[str]:
    """Return a line about estimated usage, if there is any."""
    if not estimated["requests"] and estimated["credits"] == "0":
        return []
    requests = f"{estimated['requests']} request{'s' if estimated['requests'] != 1 else ''}"
    credits = f"{estimated['credits']} Credits of the total above"
    return [f"Estimated, because the provider reported no usage: {requests}, {credits}."]


def _unaccounted_lines(unaccounted: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a line for each path of usage objects that nothing was charged for."""
    return [
        f"Not charged: the provider reports {entry['path']}, in all {entry['total']} in {entry['numbers']} "
        f"number{'s' if entry['numbers'] != 1 else ''}"
        for entry in unaccounted
    ]


def _balance_lines(balance: Mapping[str, Any] | None, used: str) -> list[str]:
    """Return a table of the opening balance, the movements and the closing balance."""
    if balance is None:
        return []
    rows = [["Balance", "Credits"], ["Opening", balance["opening"]]]
    rows += [[movement["label"], movement["credits"]] for movement in balance["movements"]]
    rows += [["Used, as billed", format_plain(Decimal(used).copy_negate())], ["Closing", balance["closing"]]]
    return [format_table(rows, left=1), ""]


def _days_lines(days: Sequence[Mapping[str, Any]], zone: str) -> list[str]:
    """Return a table of the usage by day, all models together."""
    by_day: dict[str, list[Mapping[str, Any]]] = {}
    for row in days:
        by_day.setdefault(row["day"], []).append(row)
    if not 0 < len(by_day) <= _MAX_DAYS:
        return []
    rows = [[f"Day ({zone})", "requests", "Credits"]]
    for day, models in by_day.items():
        credits = format_plain(sum_exact(Decimal(model["credits"]) for model in models))
        rows.append([day, str(sum(model["requests"] for model in models)), credits])
    return [format_table(rows, left=1), ""]


def _section_lines(document: Mapping[str, Any]) -> list[str]:
    """Return a table of the sections of a bill that is split."""
    sections = document.get("sections")
    if not sections:
        return []
    channels = document["totals"]["channels"]
    heads = [f"{total['currency']} ({name})" for name, total in channels.items()]
    rows = [[f"By {sections['by']}", "requests", "Credits", *heads]]
    for part in sections["parts"]:
        costs = rounded_costs(document, part["rounded"]).values()
        rows.append([part["name"] or "(none)", str(part["requests"]), part["rounded"]["credits"], *costs])
    return [format_table(rows, left=1), ""]


def _label_lines(document: Mapping[str, Any]) -> list[str]:
    """Return a table of what the names of the bill are called."""
    labels = shown_labels(document, "en")
    if not labels:
        return []
    return [format_table([["Name", "Label"], *([name, " ".join(label.split())] for name, label in labels)], left=2), ""]


def _party_lines(title: str, name: str, party: Mapping[str, Any]) -> list[str]:
    lines = [f"Tax number {party['tax_number']}"] if party["tax_number"] else []
    return [f"{title:<9} {name}", *(f"{'':<9} {line}" for line in [*lines, *party["details"]])]


def _customer(customer: Mapping[str, Any]) -> str:
    name = customer["name"]
    return f"{name} (account {customer['account']})" if name else f"account {customer['account']}"


def _replace_unprintable(text: str) -> str:
    """Replace characters that a terminal might obey. Names in the document come from outside."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
