"""Operations on members: named parts of an account, which pays for all of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from brivionix_billing.ledger import member_reports
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_id, require_new_id
from brivionix_billing.ledger.member_reports import Member
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting import members as posting
from brivionix_billing.text_checks import require_text

__all__ = ["Members"]


class Members(LedgerBase):
    """Operations on members of an account. The account pays for all of them."""

    def add_member(
        self, account: str, member: str, *, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Add a member to an account. ``member`` is its id, unique in the account, also among removed members.

        Raises ``member_exists``.
        """
        content = {"member": require_new_id(member, "the member", MAX_ID_LENGTH)}
        return self._run_operation(
            account, id, "member_added", content, at, lambda locked: posting.add_member(locked, content), connection
        )

    def freeze_member(
        self, account: str, member: str, *, reason: str, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Freeze a member: its requests raise ``member_frozen``, also with its tokens. Its open holds can be settled.

        Freezing a frozen member changes only the journal. Raises ``unknown_member`` and ``member_removed``.
        """
        return self._change_member(account, "member_frozen", member, reason, id, at, connection)

    def unfreeze_member(
        self, account: str, member: str, *, reason: str, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Unfreeze a member. Raises ``unknown_member`` and ``member_removed``."""
        return self._change_member(account, "member_unfrozen", member, reason, id, at, connection)

    def remove_member(
        self, account: str, member: str, *, reason: str, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Remove a member for good: its requests raise ``member_removed``, also with its tokens.

        Its history stays, and its open holds can be settled. A token can be moved to another member before or
        afterwards (see :meth:`change_token`). Raises ``unknown_member`` and ``member_removed``.
        """
        return self._change_member(account, "member_removed", member, reason, id, at, connection)

    def members(self, account: str, *, connection: Connection | None = None) -> list[Member]:
        """Return all members of an account, also removed ones, sorted by id."""
        return self._run_read(lambda store: member_reports.members(store, account), connection)

    def _change_member(
        self,
        account: str,
        kind: str,
        member: str,
        reason: str,
        id: str,
        at: datetime,
        connection: Connection | None,
    ) -> Entry:
        content = {"member": require_id(member, "the member"), "reason": require_text("the reason", reason)}
        return self._run_operation(
            account, id, kind, content, at, lambda locked: posting.change_member(locked, kind, content), connection
        )
