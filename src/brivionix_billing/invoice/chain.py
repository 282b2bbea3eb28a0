"""The chain of changes of a bill: its notes, and late usage of its period on later bills.

Each change names the bill by its hash. Each but the first names the change before it in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.figures import add_figures, subtract_figures
from brivionix_billing.invoice.signing import document_hash

__all__ = [
    "Change",
    "figures_in_effect",
    "find_changes",
    "follow_changes",
    "link_to_last",
    "order_changes",
    "require_voidable",
    "totals_in_effect",
]

Document = Mapping[str, Any]


class Change(NamedTuple):
    """A change of a bill, by a note or by late usage on a later bill."""

    id: str
    """Id of the document that contains it."""
    hash: str
    """Hash of that document."""
    content: Mapping[str, Any]
    """The note, or the section ``late`` of the later bill: both have ``corrects`` and figures."""

    @property
    def voids(self) -> str | None:
        """Id of the note that it voids, if any."""
        voided = self.content["corrects"].get("voids")
        return None if voided is None else str(voided["id"])

    @property
    def after(self) -> tuple[str, str] | None:
        """Id and hash of the change before it. ``None``: it is the first change."""
        link = self.content["corrects"].get("after")
        return None if link is None else (link["id"], link["hash"])


def find_changes(document: Document) -> list[Change]:
    """Return the changes of earlier bills that a document contains: a note has one, a bill one per late period."""
    contents = [document] if document.get("corrects") is not None else document.get("late") or ()
    return [Change(document["id"], document["hash"], content) for content in contents]


def order_changes(bill: Document, documents: Iterable[Document]) -> list[Change]:
    """Return all changes of a bill in some documents, in their order.

    Raises ``series_broken`` if two changes follow the same one, or one names a change that is not there.
    """
    by_predecessor: dict[tuple[str, str] | None, Change] = {}
    for document in documents:
        for change in find_changes(document):
            if change.content["corrects"]["id"] != bill["id"]:
                continue
            if change.content["corrects"]["hash"] != bill["hash"]:
                raise BillingError("series_broken", f"{change.id} corrects another {bill['id']}: the hashes differ")
            other = by_predecessor.setdefault(change.after, change)
            if other.id != change.id:
                raise BillingError(
                    "series_broken",
                    f"{bill['id']} was already corrected by {other.id}, but {change.id} does not follow it; remove one "
                    "of them",
                )
    ordered: list[Change] = []
    while (found := by_predecessor.pop((ordered[-1].id, ordered[-1].hash) if ordered else None, None)) is not None:
        ordered.append(found)
    for missing, change in by_predecessor.items():
        name = "" if missing is None else missing[0]
        raise BillingError("series_broken", f"{change.id} follows {name}, which is missing or was altered; add it")
    return ordered


def follow_changes(content: Mapping[str, Any], bill: Document, find: Callable[[str], Document | None]) -> list[Change]:
    """Return the changes of a bill before one, in their order. ``find`` returns a document by its id.

    Raises ``series_broken`` if a document is missing, was altered, or is no change of the bill.
    """
    found: list[Change] = []
    link = content["corrects"].get("after")
    while link is not None:
        document = find(link["id"])
        if document is None:
            raise BillingError(
                "series_broken", f"{link['id']}, the change before it, was not given; verify both together"
            )
        if link["hash"] != document.get("hash") or document_hash(document) != link["hash"]:
            raise BillingError("series_broken", f"{link['id']}, the change before it, was altered")
        changes = [change for change in find_changes(document) if change.content["corrects"]["id"] == bill["id"]]
        if len(changes) != 1 or changes[0].content["corrects"]["hash"] != bill["hash"]:
            raise BillingError("series_broken", f"{safe_repr(link['id'])} does not change {bill['id']}")
        found += changes
        link = changes[0].content["corrects"].get("after")
    return found[::-1]


def link_to_last(earlier: Sequence[Change]) -> dict[str, Any]:
    """Return the reference of a new change to the last one of ``earlier``; nothing if it is the first."""
    return {"after": {"id": earlier[-1].id, "hash": earlier[-1].hash}} if earlier else {}


def figures_in_effect(bill: Document, changes: Iterable[Change]) -> Mapping[str, Any]:
    """Return the figures of a bill's own period after some changes.

    Late usage of earlier periods that the bill contains is not part of them: it changes the earlier bills.
    """
    late = [subtract_figures(None, section) for section in bill.get("late") or ()]
    return add_figures(bill, [*late, *(change.content for change in changes)])


def totals_in_effect(bill: Document, earlier: Iterable[Change], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the totals of a bill's own period after its earlier changes and another one."""
    totals = add_figures(figures_in_effect(bill, earlier), [changes])["totals"]
    return {name: totals[name] for name in ("requests", "credits", "rounded")}


def require_voidable(bill: Document, earlier: Sequence[Change], voided: str) -> Change:
    """Return the change that a note with this id made. Raises ``invalid_argument`` if it cannot be voided."""
    for change in earlier:
        if change.voids == voided:
            raise BillingError("invalid_argument", f"{voided} was already voided by {change.id}")
    for change in earlier:
        if change.id == voided and "kind" in change.content:
            if change.voids is not None:
                raise BillingError(
                    "invalid_argument", f"{voided} voids {change.voids}; write a note with the correct usage instead"
                )
            return change
    raise BillingError("invalid_argument", f"{safe_repr(voided)} is not a note of {bill['id']}; give the id of one")
