"""Decides which of several payments for one order, or of several top-ups for one payment, is the duplicate.

Rows are paired with operations by the closest time, which may be that of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from brivionix_billing.reconcile.matching import Match
from brivionix_billing.reconcile.payments.statement import LineKind
from brivionix_billing.reconcile.rows import State

__all__ = ["prefer_first_credit", "prefer_first_row"]


def prefer_first_row(matches: Sequence[Match]) -> list[Match]:
    """Give the operation of a payment that was made twice to the first row: the ledger booked that one.

    The rows that follow are duplicates. Rows are paired by the closest time, which may be that of the second.
    """
    found = list(matches)
    groups: dict[str, list[int]] = {}
    for index, each in enumerate(found):
        if each.theirs is not None and each.theirs.fields["kind"] == LineKind.PAYMENT and each.theirs.fields["payment"]:
            groups.setdefault(each.theirs.fields["payment"], []).append(index)
    for indexes in groups.values():
        indexes.sort(key=lambda index: found[index].theirs.at)  # type: ignore[union-attr,arg-type,return-value]  # both exist
        first, *others = indexes
        head = found[first]
        for index in others:
            other = found[index]
            if head.theirs is None or other.theirs is None or head.ours is not None:
                break
            if other.ours is not None and other.theirs.amount == head.theirs.amount:
                found[first] = head._replace(state=other.state, ours=other.ours, key=other.key)
                found[index] = other._replace(state=State.DUPLICATE, ours=None)
                head = found[first]
        for index in others:
            if found[index].ours is None:
                found[index] = found[index]._replace(state=State.DUPLICATE)
    return found


def prefer_first_credit(matches: Sequence[Match]) -> list[Match]:
    """Give the row of a payment that was credited twice to the first top-up. The top-ups that follow are duplicates.

    A top-up that was voided is no credit.
    """
    found = list(matches)
    voided = {each.ours.source.lot for each in found if each.ours is not None and each.ours.source.is_void}
    groups: dict[str, list[int]] = {}
    for index, each in enumerate(found):
        if each.ours is not None and each.ours.fields["kind"] == LineKind.PAYMENT:
            groups.setdefault(each.ours.fields["payment"], []).append(index)

    def preference(index: int) -> tuple[bool, Any]:
        ours = found[index].ours
        assert ours is not None  # noqa: S101  # of a group
        return ours.source.lot in voided, ours.at

    for indexes in groups.values():
        paired = [index for index in indexes if found[index].theirs is not None]
        left = [index for index in indexes if found[index].theirs is None]
        for index in left if paired else ():
            for head in paired:
                mine, other = found[head].ours, found[index].ours
                if mine and other and mine.amount == other.amount and preference(index) < preference(head):
                    found[head], found[index] = found[head]._replace(ours=other), found[index]._replace(ours=mine)
            state = State.ONLY_OURS if preference(index)[0] else State.DUPLICATE
            found[index] = found[index]._replace(state=state)
    return found
