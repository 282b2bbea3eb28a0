"""Entries of members, and the member of a request: named parts of an account, which pays for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.ledger.api_tokens import require_active_member
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.members import apply_member
from brivionix_billing.ledger.projections import MemberRow, TokenRow
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.times import format_instant

__all__ = ["add_member", "change_member", "request_member", "require_present"]


def add_member(account: LockedAccount, content: Mapping[str, Any]) -> EntryDraft:
    """Add a member. Raises ``member_exists`` also if it was removed: its history would be that of another one."""
    draft, id = EntryDraft("member_added", account.booked_at, content), content["member"]
    row = account.store.fetch_one(MemberRow, account.store.sql.member, account.id, id)
    if row is not None:
        raise BillingError(
            "member_exists",
            f"account {safe_repr(account.id)} has a member {safe_repr(id)} since "
            f"{format_instant(parse_timestamp(row.joined))}, which is {row.state}; use another id",
        )
    account.add_row(MemberRow(account.id, id, "active", account.booked_at, account.booked_at))
    return draft


def change_member(account: LockedAccount, kind: str, content: Mapping[str, Any]) -> EntryDraft:
    """Freeze a member, unfreeze or remove it. Raises ``unknown_member`` and ``member_removed``."""
    draft, row = EntryDraft(kind, account.booked_at, content), require_present(account, content["member"])
    apply_member(row, kind, account.booked_at)
    account.mark_changed(row)
    return draft


def require_present(account: LockedAccount, id: str) -> MemberRow:
    """Return a member that may be frozen. Raises ``unknown_member`` and ``member_removed``."""
    row = account.member(id)
    if row.state == "removed":
        require_active_member(row)
    return row


def request_member(account: LockedAccount, token: TokenRow | None, stated: str | None) -> str | None:
    """Return the member of a request: that of its token, or else the one that the gateway states.

    Raises ``unknown_member``, ``member_frozen``, ``member_removed``, and ``invalid_argument`` if the two differ.
    """
    member = stated if token is None or token.member is None else token.member
    if member is None:
        return None
    if token is not None and stated is not None and stated != member:
        raise BillingError(
            "invalid_argument",
            f"member is {safe_repr(stated)}, but token {safe_repr(token.id)} is of {safe_repr(member)}; omit member",
        )
    require_active_member(account.member(member))
    return member
