"""The row of a lot that an entry opens, from the content of the entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger.projections import LotRow

__all__ = ["opened_lot"]


def opened_lot(
    id: str, account: str, number: int, at: str, content: Mapping[str, Any], credits: int, paid: int
) -> LotRow:
    """Return the row of a lot that is purchased, granted or a correction. ``number`` is that of its entry."""
    return LotRow(
        id,
        account,
        number,
        at,
        content.get("expires"),
        content.get("channel"),
        content.get("reference"),
        content.get("currency"),
        content.get("price_per_credit"),
        credits,
        credits,
        *(0, 0, 0),
        paid,
        *(0, 0),
        None if "only" not in content else canonical_json(content["only"]).decode(),
        content.get("priority"),
        plan=content.get("plan"),
    )
