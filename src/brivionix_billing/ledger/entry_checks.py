"""What must be true of every entry that is replayed: its postings, and the amounts that it leaves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.projections import PAYBACK_KINDS, AccountRow, LotRow, lot_value
from brivionix_billing.ledger.units import units_from_column, units_to_text

__all__ = ["broken_entry_error", "check_invariants", "check_postings"]


def broken_entry_error(entry: Entry, problem: str) -> BillingError:
    """Return the error of an entry that cannot follow the entries before."""
    return BillingError("journal_broken", f"entry {entry.number} ({safe_repr(entry.id)}): {problem}")


def check_postings(entry: Entry) -> None:
    """Check that an entry changes only the subaccounts of its kind, by the amount in its content."""
    primary, others = _POSTING_RULES[entry.kind]
    if entry.postings.keys() - {primary, *others}:
        raise broken_entry_error(entry, f"an entry of kind {entry.kind} does not change {', '.join(entry.postings)}")
    stated = None if entry.kind == "order" else entry.content.get("credits")
    if entry.kind == "charge_reversed":
        stated = entry.result["credits"]
    named = entry.content.get("lot")
    if named is not None and any(delta.lot != named for delta in entry.lot_deltas[:1]):
        raise broken_entry_error(entry, "it changes another lot than that in its content")
    if entry.kind in ("refund", "dispute", "void"):
        expected = sum(delta.credits for delta in entry.lot_deltas if delta.kind in PAYBACK_KINDS)
    elif stated is None or entry.kind in ("release", "hold_expired"):
        return
    else:
        takes = primary in ("paid", "granted", "adjusted") or entry.kind in ("charge_reversed", "transfer_in")
        expected = units_from_column(stated) * (-1 if takes else 1)
    opened = sum(delta.credits for delta in entry.lot_deltas if delta.kind in ("opened", "moved_in"))
    if entry.postings.get(primary, 0) != expected or (
        expected < 0 and entry.kind != "charge_reversed" and opened != -expected
    ):
        raise broken_entry_error(entry, "its postings do not match its content")


def check_invariants(entry: Entry, account: AccountRow, lots: Iterable[LotRow]) -> None:
    """Check the invariants of an account and of the lots of an entry, which apply after every entry."""
    problem = None
    if min(account.held, account.owed, account.balance - account.held) < 0:
        problem = (
            f"it leaves {units_to_text(account.balance - account.held)} Credits available, "
            f"{units_to_text(account.held)} held, {units_to_text(account.owed)} owed"
        )
    for lot in lots:
        if min(lot.remaining, lot.used, lot.expired, lot.returned) < 0:
            problem = f"it makes an amount of lot {safe_repr(lot.id)} negative"
        elif lot.credits != lot.remaining + lot.used + lot.expired + lot.returned + (lot.moved or 0):
            problem = f"the Credits of lot {safe_repr(lot.id)} do not add up"
        elif lot.paid != lot.recognised + lot.gone + lot_value(lot, lot.remaining):
            problem = f"the money of lot {safe_repr(lot.id)} does not add up"
    if problem:
        raise broken_entry_error(entry, problem)


_RELEASE_TARGETS: Final = ("available", "owed")
"""Subaccounts that released Credits can go to."""
_POSTING_RULES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "account": ("", ()),
    "account_frozen": ("", ()),
    "account_unfrozen": ("", ()),
    "archived": ("", ()),
    "token": ("", ()),
    "token_changed": ("", ()),
    "secret_rotated": ("", ()),
    "member_added": ("", ()),
    "member_frozen": ("", ()),
    "member_unfrozen": ("", ()),
    "member_removed": ("", ()),
    "order": ("", ()),
    "order_cancelled": ("", ()),
    "set_limit": ("", ()),
    "remove_limit": ("", ()),
    "expiry_changed": ("", ()),
    "set_signal": ("", ()),
    "remove_signal": ("", ()),
    "signals_acknowledged": ("", ()),
    "hold": ("held", ("available",)),
    "release": ("held", _RELEASE_TARGETS),
    "hold_expired": ("held", _RELEASE_TARGETS),
    "settle": ("used", ("held", *_RELEASE_TARGETS)),
    "charge": ("used", _RELEASE_TARGETS),
    "top_up": ("paid", _RELEASE_TARGETS),
    "grant": ("granted", _RELEASE_TARGETS),
    "adjust": ("adjusted", _RELEASE_TARGETS),
    "refund": ("refunded", ("available",)),
    "dispute": ("disputed", ("held", "expired", *_RELEASE_TARGETS)),
    "void": ("voided", ("held", "expired", "waived", *_RELEASE_TARGETS)),
    "charge_reversed": ("used", ("expired", "waived", *_RELEASE_TARGETS)),
    "reverse": ("", ("refunded", "disputed", "expired", *_RELEASE_TARGETS)),
    "lot_expired": ("expired", ("available",)),
    "transfer_out": ("moved", ("available",)),
    "transfer_in": ("moved", _RELEASE_TARGETS),
    "subscribed": ("", ()),
    "plan_order": ("", ()),
    "plan_cancelled": ("", ()),
    "plan_renewed": ("granted", _RELEASE_TARGETS),
    "plan_changed": ("moved", _RELEASE_TARGETS),
}
"""Kind of entry -> its primary subaccount, and the others that it may change."""
