"""Notes that correct a bill. A bill is never edited: a note says what changes, and refers to the bill by its hash."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, subtract_text
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.header import Header, document_header

__all__ = ["DAY_KEY", "LINE_KEY", "build_note"]

LINE_KEY: Final = (
    "model",
    "group",
    "service_tier",
    "context_tier",
    "price_since",
    "meter",
    "list_price",
    "per",
    "ratio",
    "unit_price",
)
"""What tells one line of a bill from another."""
DAY_KEY: Final = ("day", "model")
"""What tells one row of its days from another."""


def build_note(bill: Mapping[str, Any], right: Mapping[str, Any] | None, header: Header, reason: str) -> dict[str, Any]:
    """A note with the difference between ``right``, the bill as it should have been, and ``bill``, as it was issued.

    ``right`` of ``None`` cancels the whole bill. Amounts are negative where money goes back to the customer, and the
    document is then a credit note, else a debit note. Shown amounts are differences of shown amounts, so bill and note
    add up as they are shown. Payment is by the bill's channel; there is no balance, so ``header`` may not have one. Not
    yet sealed.
    """
    if bill["kind"] != "invoice":
        raise BillingError("invalid_document", f"{bill['id']} is a note; only a bill can be corrected")
    whose = bill["period"], bill["customer"]["account"]
    for other, what in (
        (right, "the bill as it should have been"),
        (document_header(header, "invoice", None), "the note"),
    ):
        if other is not None and (other["period"], other["customer"]["account"]) != whose:
            raise BillingError("invalid_argument", f"{what} is not of the account and the period of {bill['id']}")
    if header.balance is not None:
        raise BillingError(
            "invalid_argument", "a note has no balance; the next bill's balance takes it in as a movement"
        )
    totals = _subtract(right["totals"] if right else None, bill["totals"])
    nothing = {name: subtract_text(shown, shown) for name, shown in totals["rounded"]["channels"].items()}
    lines = _note_lines(bill["lines"], right["lines"] if right else [], nothing)
    days = _note_days(bill["days"], right["days"] if right else [])
    if not lines and not days and not any(_nonzero_flags(totals["estimated"])):
        raise BillingError("invalid_argument", f"nothing to correct: {bill['id']} comes out the same")
    kind = "credit_note" if totals["credits"].startswith("-") or totals["credits"] == "0" else "debit_note"
    return {
        **document_header(header, kind, {"id": bill["id"], "hash": bill["hash"], "reason": reason}),
        "payment": bill["payment"],
        "balance": None,
        "lines": lines,
        "totals": totals,
        "savings": _subtract(right["savings"] if right else None, bill["savings"]),
        "days": days,
        "rounding": bill["rounding"],
        "evidence": right["evidence"] if right else None,
        "signing_key": header.signing_key,
    }


def _note_lines(old: list[Any], new: list[Any], nothing: Mapping[str, str]) -> list[Any]:
    def keyed(lines: list[Any]) -> dict[tuple[Any, ...], Any]:
        return {tuple(line[name] for name in LINE_KEY): line for line in lines}

    before, after = keyed(old), keyed(new)
    out = []
    for key in [*before, *(key for key in after if key not in before)]:
        was, now = before.get(key), after.get(key)
        names = dict(zip(LINE_KEY, key, strict=True))
        amounts = _subtract(_amounts(now), _amounts(was))
        if any(_nonzero_flags(amounts)):
            # Only one of the two may have a channel; every line shows all that the totals show.
            amounts["rounded"]["channels"] = {**nothing, **amounts["rounded"]["channels"]}
            out.append({**names, **amounts})
    return out


def _note_days(old: list[Any], new: list[Any]) -> list[Any]:
    """What changes by day and model."""
    before, after = ({tuple(day[name] for name in DAY_KEY): day for day in days} for days in (old, new))
    out = []
    for key in sorted({*before, *after}):
        was, now = (
            {name: found[key][name] for name in ("requests", "credits")} if key in found else None
            for found in (before, after)
        )
        change = _subtract(now, was)
        if any(_nonzero_flags(change)):
            out.append({**dict(zip(DAY_KEY, key, strict=True)), **change})
    return out


def _amounts(line: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if line is None else {name: line[name] for name in ("quantity", "credits", "rounded")}


def _nonzero_flags(value: Any) -> list[bool]:
    if isinstance(value, dict):
        return [found for item in value.values() for found in _nonzero_flags(item)]
    return [bool(str(value).strip("-0."))]


_UNCHANGED_FIELDS: Final = frozenset({"currency", "per_credit", "price_per_credit", "since"})


def _subtract(now: Any, was: Any, shown: bool = False) -> Any:
    """``now - was`` for every amount in two parts of the same shape; a part that is not there counts as zero.

    Shown amounts keep their digits, exact ones have no idle zeros.
    """
    if now is None and was is None:
        return None
    some = was if now is None else now
    if isinstance(some, dict):
        old, new = was or {}, now or {}
        return {
            name: (
                new.get(name, old.get(name))
                if name in _UNCHANGED_FIELDS
                else _subtract(new.get(name), old.get(name), shown or name == "rounded")
            )
            for name in {**old, **new}
        }
    if isinstance(some, list):  # the price parts of a channel
        parts = {(part["since"], part["price_per_credit"]): part for part in [*(was or []), *(now or [])]}
        old_parts = {(part["since"], part["price_per_credit"]): part for part in was or []}
        new_parts = {(part["since"], part["price_per_credit"]): part for part in now or []}
        return [_subtract(new_parts.get(key), old_parts.get(key)) for key in sorted(parts)]
    if isinstance(some, int):
        return (now or 0) - (was or 0)
    difference = subtract_text(now or "0", was or "0")
    return difference if shown else format_plain(Decimal(difference))
