"""Late usage: records of a closed period that arrived after its bill, on the bill of a later period.

The later bill states each change of an earlier bill in its section ``late``, with the evidence of that period's usage.
Its lines, totals, savings and days contain these changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.decimals import format_plain, sum_exact
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.chain import Change, figures_in_effect, link_to_last
from brivionix_billing.invoice.figures import add_figures, has_figures, subtract_figures
from brivionix_billing.invoice.header import Balance
from brivionix_billing.invoice.labels import labels_section
from brivionix_billing.pricebook import PriceBook

__all__ = ["add_late_usage", "build_late_usage"]

REASON: Final = "late usage"


def build_late_usage(
    bill: Mapping[str, Any], corrected: Mapping[str, Any], earlier: Sequence[Change] = ()
) -> dict[str, Any] | None:
    """Return the section of a later bill for usage that arrived after ``bill`` and its changes ``earlier``.

    ``corrected`` is the bill over all usage of its period. Returns ``None`` if there is no late usage.

    Raises ``invalid_argument`` if ``corrected`` has less than was billed: that is a correction, which requires a note.
    Raises it, too, for late usage of a bill with taxes: taxes of two periods are not added on one bill.
    """
    changes = subtract_figures(corrected, figures_in_effect(bill, earlier))
    if not has_figures(changes):
        return None
    if bill.get("taxes"):
        raise BillingError(
            "invalid_argument",
            f"{bill['id']}: late usage of a bill with taxes cannot be on a later bill; correct that bill with a note",
        )
    amounts = [line["quantity"] for line in changes["lines"]] + [day["requests"] for day in changes["days"]]
    if any(str(amount).startswith("-") for amount in amounts):
        raise BillingError(
            "invalid_argument",
            f"{bill['id']}: the usage has less than was billed, so it is not only late; give the whole usage of "
            f"{bill['period']['name']}, or correct the bill with a note",
        )
    return {
        "corrects": {"id": bill["id"], "hash": bill["hash"], "reason": REASON, **link_to_last(earlier)},
        "period": bill["period"],
        **changes,
        "evidence": corrected["evidence"],
    }


def add_late_usage(
    invoice: Mapping[str, Any], sections: Sequence[Mapping[str, Any]], balance: Balance | None, book: PriceBook
) -> dict[str, Any]:
    """Return a bill with late usage of earlier periods added.

    ``invoice`` is the bill of its own period, without balance. ``balance`` may have the late usage before its opening,
    as in statements of the ledger, or within the period. In the first case, the bill states the opening balance before
    the late usage.

    Raises ``invalid_argument`` if the bill has sections, taxes or other decimal places of Credits than the late usage,
    or the balance does not reconcile.
    """
    for name, what in (("sections", "that is split"), ("taxes", "with taxes")):
        if name in invoice:
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(invoice['id'])}: a bill {what} cannot contain late usage; correct the earlier bill with a "
                "note",
            )
    digits = invoice["rounding"]["credit_digits"]
    for section in sections:
        own = len(section["totals"]["rounded"]["credits"].partition(".")[2])
        if own != digits:
            raise BillingError(
                "invalid_argument",
                f"{safe_repr(invoice['id'])}: late usage of {section['corrects']['id']} has {own} decimal places of "
                f"Credits, but the bill has {digits}; use the same number for both",
            )
    document = {**invoice, **add_figures(invoice, sections), "late": [dict(section) for section in sections]}
    for channel in document["totals"]["channels"].values():
        # A change does not state the Credits of a channel that had no price in the whole period.
        priced = [Decimal(period["credits"]) for period in channel["price_periods"]]
        without = sum_exact([Decimal(document["totals"]["credits"]), sum_exact(priced).copy_negate()])
        channel["credits_without_price"] = format_plain(without)
    if balance is not None:
        late = add_figures(sections[0], sections[1:])["totals"]["credits"]
        document["balance"] = balance.reconcile_late(
            invoice["customer"]["account"], document["totals"]["credits"], late
        )
    document.pop("labels", None)
    return {**document, **labels_section(document, book)}
