"""Members of an account, as operations and a replay of its entries derive them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from brivionix_billing.errors import safe_repr
from brivionix_billing.ledger.projections import HoldRow, MemberRow, TokenRow

__all__ = ["MEMBER_STATES", "MemberState", "apply_member"]

MEMBER_STATES: Final = {
    "member_added": "active",
    "member_frozen": "frozen",
    "member_unfrozen": "active",
    "member_removed": "removed",
}
"""Kind of entry -> the state that it gives a member."""


def apply_member(member: MemberRow, kind: str, booked: str) -> None:
    """Apply an entry of a kind in :data:`MEMBER_STATES`. A frozen member stays frozen since then."""
    state = MEMBER_STATES[kind]
    if member.state != state:
        member.state, member.changed = state, booked


class MemberState:
    """The members of an account. Methods raise ``ValueError`` for what cannot follow from the entries before."""

    def __init__(self, account: str) -> None:
        self._account = account
        self._members: dict[str, MemberRow] = {}

    def apply(self, kind: str, id: str, booked: str) -> None:
        """Apply an entry of a kind in :data:`MEMBER_STATES`."""
        if kind == "member_added":
            if id in self._members:
                raise ValueError(f"member {safe_repr(id)} was added before")
            self._members[id] = MemberRow(self._account, id, "active", booked, booked)
            return
        self.require_present(id)
        apply_member(self._members[id], kind, booked)

    def put(self, row: MemberRow) -> None:
        """Add a member that earlier entries made."""
        self._members[row.id] = row

    def require_present(self, id: str | None) -> None:
        """Check the member of a token or a limit, if it has one."""
        if id is not None and self._members[id].state == "removed":
            raise ValueError(f"member {safe_repr(id)} was removed before")

    def of_request(
        self, content: Mapping[str, Any], result: Mapping[str, Any], tokens: Mapping[str, TokenRow]
    ) -> str | None:
        """Return the member of a new request: that of its token, or the one in its content, which must be active."""
        stated, token = content.get("member"), content.get("token")
        member = (None if token is None else tokens[token].member) or stated
        if member != result.get("member") or stated not in (None, member):
            raise ValueError("it states another member than that of its token")
        if member is not None and self._members[member].state != "active":
            raise ValueError(f"member {safe_repr(member)} was not active")
        return member

    @staticmethod
    def of_hold(hold: HoldRow, result: Mapping[str, Any]) -> str | None:
        """Return the member of a hold that an entry resolves."""
        if hold.member != result.get("member"):
            raise ValueError("it states another member than that of its hold")
        return hold.member

    def rows(self) -> Iterable[MemberRow]:
        """Yield all members."""
        return self._members.values()
