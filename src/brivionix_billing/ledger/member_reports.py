"""Members of an account as they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.projections import MemberRow
from brivionix_billing.ledger.reports import require_account
from brivionix_billing.ledger.timestamps import parse_timestamp
from brivionix_billing.times import format_instant

__all__ = ["Member", "members"]


@dataclass(frozen=True, slots=True)
class Member:
    """A member of an account, which pays for its requests."""

    account: str
    id: str
    state: str
    """``active``; ``frozen`` or ``removed``: its requests are refused."""
    joined: datetime
    changed: datetime
    """Time since which it has its state."""

    def as_dict(self) -> dict[str, str]:
        """Return the member as JSON values."""
        return {
            "account": self.account,
            "id": self.id,
            "state": self.state,
            "joined": format_instant(self.joined),
            "changed": format_instant(self.changed),
        }


def members(store: Store, account: str) -> list[Member]:
    """Return all members of an account: see :meth:`Ledger.members`."""
    require_account(store, account)
    return [
        Member(account, row.id, row.state, parse_timestamp(row.joined), parse_timestamp(row.changed))
        for row in store.fetch_all(MemberRow, store.sql.members, account)
    ]
