"""Credit and debit notes, which correct a bill.

A bill is never edited. A note states the changes, and refers to the bill by its hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, subtract_text
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.header import Header, document_header
from brivionix_billing.invoice.labels import labels_section

__all__ = ["DAY_KEY", "LINE_CONDITIONS", "LINE_KEY", "build_note"]

LINE_CONDITIONS: Final = ("router", "region", "mode", "window", "list_currency", "exchange_rate")
"""The values that a line has only if its price differs from the usual one for that reason."""
LINE_KEY: Final = (
    "model",
    "group",
    "service_tier",
    "context_tier",
    *LINE_CONDITIONS,
    "price_since",
    "meter",
    "list_price",
    "per",
    "ratio",
    "unit_price",
)
"""The values that identify a line of a bill."""
DAY_KEY: Final = ("day", "model")
"""The values that identify a row of its days."""


def build_note(
    bill: Mapping[str, Any], corrected: Mapping[str, Any] | None, header: Header, reason: str
) -> dict[str, Any]:
    """Return a note that turns ``bill``, as issued, into ``corrected``, the bill as it should have been.

    A ``corrected`` of ``None`` cancels the whole bill. If the Credits decrease or do not change, the note is a credit
    note, otherwise a debit note. Rounded amounts are differences of rounded amounts, so bill and note add up as they
    are rounded. A note has the bill's channel of payment and no balance. It is not sealed yet.

    Raises ``invalid_document`` if ``bill`` is a note itself, and ``invalid_argument`` if nothing changes or the
    arguments do not belong together.
    """
    if bill["kind"] != "invoice":
        raise BillingError(
            "invalid_document", f"{bill['id']} is a note, and only a bill can be corrected; give the bill"
        )
    scope = bill["period"], bill["customer"]["account"]
    for other, what in (
        (corrected, "the corrected bill"),
        (document_header(header, "invoice", None), "the note"),
    ):
        if other is not None and (other["period"], other["customer"]["account"]) != scope:
            raise BillingError("invalid_argument", f"{what} has another account or period than {bill['id']}")
    if header.balance is not None:
        raise BillingError(
            "invalid_argument", "a note has no balance; enter it as a movement in the balance of the next bill"
        )
    totals = _subtract(corrected["totals"] if corrected else None, bill["totals"])
    zeros = {name: subtract_text(amount, amount) for name, amount in totals["rounded"]["channels"].items()}
    lines = _note_lines(bill["lines"], corrected["lines"] if corrected else [], zeros)
    days = _note_days(bill["days"], corrected["days"] if corrected else [])
    if not lines and not days and not any(_nonzero_flags(totals["estimated"])):
        raise BillingError("invalid_argument", f"nothing to correct: the recomputed bill equals {bill['id']}")
    kind = "credit_note" if totals["credits"].startswith("-") or totals["credits"] == "0" else "debit_note"
    document = {
        **document_header(header, kind, {"id": bill["id"], "hash": bill["hash"], "reason": reason}),
        "payment": bill["payment"],
        "balance": None,
        "lines": lines,
        "totals": totals,
        "savings": _subtract(corrected["savings"] if corrected else None, bill["savings"]),
        "days": days,
        "rounding": bill["rounding"],
        "evidence": corrected["evidence"] if corrected else None,
        "signing_key": header.signing_key,
    }
    return {**document, **labels_section(document, bill.get("labels"), (corrected or {}).get("labels"))}


def _note_lines(old: list[Any], new: list[Any], zeros: Mapping[str, str]) -> list[Any]:
    """Return the lines that change; ``zeros`` has a rounded zero for each channel of the totals."""
    before, after = _by_key(old, LINE_KEY), _by_key(new, LINE_KEY)
    lines = []
    for key in {**before, **after}:
        change = _subtract(_amounts(after.get(key)), _amounts(before.get(key)))
        if any(_nonzero_flags(change)):
            # Only one of the two lines may have a channel, but every line must have all channels of the totals.
            change["rounded"]["channels"] = {**zeros, **change["rounded"]["channels"]}
            values = dict(zip(LINE_KEY, key, strict=True))
            stated = {name: value for name, value in values.items() if value is not None or name not in LINE_CONDITIONS}
            lines.append({**stated, **change})
    return lines


def _note_days(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the rows of days that change."""
    before, after = _by_key(old, DAY_KEY), _by_key(new, DAY_KEY)
    days = []
    for key in sorted({*before, *after}):
        change = _subtract(
            _select(after.get(key), ("requests", "credits")), _select(before.get(key), ("requests", "credits"))
        )
        if any(_nonzero_flags(change)):
            days.append({**dict(zip(DAY_KEY, key, strict=True)), **change})
    return days


def _by_key(rows: list[Any], key: Sequence[str]) -> dict[tuple[Any, ...], Any]:
    return {tuple(row.get(name) for name in key): row for row in rows}


def _amounts(line: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return _select(line, ("quantity", "credits", "rounded"))


def _select(row: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in names}


def _nonzero_flags(value: Any) -> list[bool]:
    if isinstance(value, dict):
        return [flag for item in value.values() for flag in _nonzero_flags(item)]
    return [bool(str(value).strip("-0."))]


_UNCHANGED_FIELDS: Final = frozenset({"currency", "per_credit", "price_per_credit", "since"})


def _subtract(new: Any, old: Any, rounded: bool = False) -> Any:
    """Return ``new - old`` for every amount in two values of the same structure. A missing value counts as zero.

    Rounded amounts keep their decimal places. Exact amounts have no trailing zeros.
    """
    if new is None and old is None:
        return None
    sample = old if new is None else new
    if isinstance(sample, dict):
        old, new = old or {}, new or {}
        return {
            name: (
                new.get(name, old.get(name))
                if name in _UNCHANGED_FIELDS
                else _subtract(new.get(name), old.get(name), rounded or name == "rounded")
            )
            for name in {**old, **new}
        }
    if isinstance(sample, list):  # the price periods of a channel
        old_periods, new_periods = (_by_key(periods or [], ("since", "price_per_credit")) for periods in (old, new))
        keys = sorted({**old_periods, **new_periods})
        return [_subtract(new_periods.get(key), old_periods.get(key)) for key in keys]
    if isinstance(sample, int):
        return (new or 0) - (old or 0)
    difference = subtract_text(new or "0", old or "0")
    return difference if rounded else format_plain(Decimal(difference))
