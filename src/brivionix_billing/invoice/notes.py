"""Credit and debit notes, which correct a bill.

A bill is never edited. A note states the changes, and refers to the bill by its hash. Further notes refer to the change
before them, too, so all changes of a bill form a chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brivionix_billing.decimals import subtract_text
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.chain import Change, figures_in_effect, link_to_last, require_voidable, totals_in_effect
from brivionix_billing.invoice.figures import has_figures, subtract_figures
from brivionix_billing.invoice.header import Header, document_header
from brivionix_billing.invoice.labels import labels_section
from brivionix_billing.invoice.taxes import TaxTerms, stated_terms, taxes_on_payment

__all__ = ["build_note", "build_voiding_note"]


def build_note(
    bill: Mapping[str, Any],
    corrected: Mapping[str, Any] | None,
    header: Header,
    reason: str,
    earlier: Sequence[Change] = (),
) -> dict[str, Any]:
    """Return a note that turns ``bill``, with the changes ``earlier``, into ``corrected``, the bill as it should be.

    A ``corrected`` of ``None`` cancels what is in effect of the bill. If the Credits decrease or do not change, the
    note is a credit note, otherwise a debit note. Rounded amounts are differences of rounded amounts, so bill and notes
    add up as they are rounded. A note has the bill's channel of payment and no balance. It is not sealed yet.

    ``earlier`` are all changes of the bill so far, from ``order_changes``.

    Raises ``invalid_document`` if ``bill`` is a note itself, and ``invalid_argument`` if nothing changes or the
    arguments do not belong together.
    """
    _require_same_scope(bill, corrected, header)
    changes = subtract_figures(corrected, figures_in_effect(bill, earlier))
    if not has_figures(changes):
        subject = f"{bill['id']} with its notes" if earlier else bill["id"]
        raise BillingError("invalid_argument", f"nothing to correct: the recomputed bill equals {subject}")
    evidence = corrected["evidence"] if corrected else None
    return _note(bill, earlier, header, {"reason": reason}, changes, evidence, (corrected or {}).get("labels"))


def build_voiding_note(
    bill: Mapping[str, Any], voided: str, header: Header, reason: str, earlier: Sequence[Change]
) -> dict[str, Any]:
    """Return a note that reverses every figure of the note with the id ``voided``. It is not sealed yet.

    Changes after the voided note stay in effect. A note is voided at most once. A voiding note cannot be voided: write
    a note with the correct usage instead.

    Raises ``invalid_argument`` if the note cannot be voided or the arguments do not belong together.
    """
    _require_same_scope(bill, None, header)
    change = require_voidable(bill, earlier, voided)
    reference = {"reason": reason, "voids": {"id": change.id, "hash": change.hash}}
    changes = subtract_figures(None, change.content)
    return _note(bill, earlier, header, reference, changes, None, change.content.get("labels"))


def _require_same_scope(bill: Mapping[str, Any], corrected: Mapping[str, Any] | None, header: Header) -> None:
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


def _note(
    bill: Mapping[str, Any],
    earlier: Sequence[Change],
    header: Header,
    reference: Mapping[str, Any],
    changes: Mapping[str, Any],
    evidence: Any,
    labels: Any,
) -> dict[str, Any]:
    credits = changes["totals"]["credits"]
    totals, terms = totals_in_effect(bill, earlier, changes), stated_terms(bill)
    after = {} if terms is None else taxes_on_payment(terms, bill, totals)
    kind = "credit_note" if credits.startswith("-") or credits == "0" else "debit_note"
    corrects = {"id": bill["id"], "hash": bill["hash"], **reference, **link_to_last(earlier)}
    document = {
        **document_header(header, kind, corrects),
        "payment": bill["payment"],
        "balance": None,
        **changes,
        **({} if terms is None else _note_taxes(terms, bill, earlier, after)),
        "rounding": bill["rounding"],
        "evidence": evidence,
        "signing_key": header.signing_key,
        **({"in_effect": totals | ({"taxes": after} if after else {})} if earlier else {}),
    }
    return {**document, **labels_section(document, bill.get("labels"), labels)}


def _note_taxes(
    terms: TaxTerms, bill: Mapping[str, Any], earlier: Sequence[Change], after: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the taxes of the bill after a note minus those before it, both by the terms of the bill.

    Each is computed from the whole cost, so bill and notes add up to the taxes of the corrected bill.
    """
    before = taxes_on_payment(terms, bill, figures_in_effect(bill, earlier)["totals"])
    lines = [
        {**old, **{name: subtract_text(new[name], old[name]) for name in ("base", "amount")}}
        for new, old in zip(after["lines"], before["lines"], strict=True)
    ]
    sums = {name: subtract_text(after[name], before[name]) for name in ("net", "gross")}
    return {"taxes": {**before, "lines": lines, **sums}}
