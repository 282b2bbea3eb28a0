"""The bill as a plain text page, for people. It shows only what the document holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, sum_exact
from brivionix_billing.tabular import format_table

__all__ = ["render_text"]

_MAX_DAYS: Final = 62
"""A table by day is for a month or two; of a longer period it would be most of the page."""
_TITLES = {"invoice": "Bill", "credit_note": "Credit note", "debit_note": "Debit note"}


def render_text(document: Mapping[str, Any]) -> str:
    """A page of text, lines up to about 150 characters wide."""
    totals, evidence = document["totals"], document["evidence"]
    period = document["period"]
    out = [
        f"{_TITLES[document['kind']]} {document['id']}",
        "",
        *_party_lines("Issuer", document["issuer"]["name"], document["issuer"]),
        *_party_lines("Customer", _customer(document["customer"]), document["customer"]),
        f"Period    {period['name']}: {period['from']} to {period['to']} (midnights of {period['zone']})",
        f"Issued    {document['issued']}" + (f", due {document['due']}" if document["due"] else ""),
    ]
    if document["payment"]:
        out.append(f"Payment   {document['payment']['channel']} ({document['payment']['currency']})")
    if document["corrects"]:
        reason = " ".join(document["corrects"]["reason"].split())
        out.append(f"Corrects  {document['corrects']['id']}: {reason}")
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
        shown = line["rounded"]
        per = "M" if line["per"] == 1_000_000 else "K" if line["per"] == 1_000 else str(line["per"])
        rows.append(
            [
                line["model"],
                line["group"],
                line["service_tier"],
                line["context_tier"],
                line["meter"],
                line["quantity"],
                "-" if line["list_price"] is None else f"{line['list_price']}/{per}",
                "own price" if line["ratio"] is None else line["ratio"],
                f"{line['unit_price']}/{per}",
                shown["credits"],
                shown["nominal"],
                *(shown["channels"][name] for name in channels),
            ]
        )
    shown = totals["rounded"]
    rows.append(
        ["Total", *[""] * 8, shown["credits"], shown["nominal"], *(shown["channels"][name] for name in channels)]
    )
    saved = document["savings"]
    out += [
        "",
        format_table(rows, left=5),
        "",
        f"Exact: {totals['credits']} Credits, nominal {totals['nominal']['amount']} {nominal}, "
        + ", ".join(f"{total['amount']} {total['currency']} ({name})" for name, total in totals["channels"].items()),
        *_estimated_lines(totals["estimated"]),
        f"At list price and without cache {saved['list']} Credits; saved by cache {saved['cache']}, "
        f"by group {saved['group']}.",
        "Channels are prices of their own: what the same Credits cost by one or by the other. "
        "The bill is in Credits; it is not payable again.",
        "",
        *_balance_lines(document["balance"], totals["credits"]),
        *_days_lines(document["days"], period["zone"]),
    ]
    if evidence:
        requests = f"{evidence['records']} request{'s' if evidence['records'] != 1 else ''}"
        out += [
            (requests if document["kind"] == "invoice" else f"The usage as it should have been: {requests}")
            + (f", {evidence['duplicates']} given twice and counted once" if evidence["duplicates"] else "")
            + (f", {evidence['rejected']} rejected and not billed" if evidence["rejected"] else ""),
            f"Price book   {evidence['price_book']}",
            f"Merkle root  {evidence['merkle_root']}",
        ]
    if document["previous"]:
        out.append(f"Previous     {document['previous']['id']} {document['previous']['hash']}")
    out.append(f"Hash         {document['hash']}")
    if document["signing_key"]:
        out.append(f"Signed by    key {document['signing_key']} (Ed25519)")
    return "\n".join(_replace_unprintable(line) for line in out) + "\n"


def _estimated_lines(part: Mapping[str, Any]) -> list[str]:
    """A line where a customer must know that not all was reported by the provider."""
    if not part["requests"] and part["credits"] == "0":
        return []
    requests = f"{part['requests']} request{'s' if part['requests'] != 1 else ''}"
    return [f"Estimated, as the provider reported no usage: {requests}, {part['credits']} Credits of the above."]


def _balance_lines(balance: Mapping[str, Any] | None, used: str) -> list[str]:
    """The account before, what moved it, and after; the rows add up."""
    if balance is None:
        return []
    rows = [["Balance", "Credits"], ["Opening", balance["opening"]]]
    rows += [[movement["label"], movement["credits"]] for movement in balance["movements"]]
    rows += [["Used, as billed", format_plain(Decimal(used).copy_negate())], ["Closing", balance["closing"]]]
    return [format_table(rows, left=1), ""]


def _days_lines(days: Sequence[Mapping[str, Any]], zone: str) -> list[str]:
    """The use by day, all models together."""
    by_day: dict[str, list[Mapping[str, Any]]] = {}
    for row in days:
        by_day.setdefault(row["day"], []).append(row)
    if not 0 < len(by_day) <= _MAX_DAYS:
        return []
    rows = [[f"Day ({zone})", "requests", "Credits"]]
    for day, parts in by_day.items():
        credits = format_plain(sum_exact(Decimal(part["credits"]) for part in parts))
        rows.append([day, str(sum(part["requests"] for part in parts)), credits])
    return [format_table(rows, left=1), ""]


def _party_lines(title: str, name: str, party: Mapping[str, Any]) -> list[str]:
    lines = [f"Tax number {party['tax_number']}"] if party["tax_number"] else []
    return [f"{title:<9} {name}", *(f"{'':<9} {line}" for line in [*lines, *party["details"]])]


def _customer(customer: Mapping[str, Any]) -> str:
    name = customer["name"]
    return f"{name} (account {customer['account']})" if name else f"account {customer['account']}"


def _replace_unprintable(text: str) -> str:
    """Names come from outside: nothing that a terminal might obey."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
