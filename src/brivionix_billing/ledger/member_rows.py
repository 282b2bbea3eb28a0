"""Limits and settings of a locked account, of which a request reads only those that concern its member."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Final, Generic, TypeVar

from brivionix_billing.ledger.database.statements import MemberQueries
from brivionix_billing.ledger.limits import LimitRow
from brivionix_billing.ledger.signals import SignalSettingRow

__all__ = ["MemberRows"]

R = TypeVar("R", LimitRow, SignalSettingRow)
_name: Final = attrgetter("name")


class MemberRows(Generic[R]):
    """Active rows of one class. Each row exists once in memory.

    An account with a thousand members has thousands of limits. A request reads those of its member, and the shared
    ones, which concern no member in particular.
    """

    __slots__ = ("_account", "_fetch", "_has_all", "_members", "_queries", "_rows")

    def __init__(self, has: bool, fetch: Callable[..., list[R]], account: str, queries: MemberQueries) -> None:
        """``has``: whether there are any rows; if not, none is fetched. ``fetch`` gets a query and its values.

        Nothing here refers to what has these rows: a circle of objects would live on after an operation, and with it
        the cursor of the driver, until the garbage collector finds it.
        """
        self._fetch: Callable[..., list[R]] = fetch
        self._account, self._queries = account, queries
        self._has_all = not has
        self._members: set[str | None] = set()
        self._rows: dict[str, R] = {}

    def all(self) -> list[R]:
        """Return all active rows, sorted by name."""
        if not self._has_all:
            self._keep(self._fetch(self._queries.all, self._account))
            self._has_all = True
        return sorted([row for row in self._rows.values() if row.active], key=_name)

    def of(self, member: str | None) -> list[R]:
        """Return the active rows that concern the requests of a member, sorted by name; ``None``: of the account."""
        if not self._has_all and member not in self._members:
            self._keep(self._fetch_of(member))
            self._members.add(member)
        concerned = (None, member)
        return sorted([row for row in self._rows.values() if row.active and row.member in concerned], key=_name)

    def _fetch_of(self, member: str | None) -> list[R]:
        if member is None:
            return self._fetch(self._queries.shared, self._account)
        return self._fetch(self._queries.of_member, self._account, self._account, member)

    def add(self, row: R) -> bool:
        """Add a row, unless it is one of these rows. Returns whether it was added."""
        is_new = row.id not in self._rows
        self._keep([row])
        return is_new

    def _keep(self, rows: list[R]) -> None:
        for row in rows:
            self._rows.setdefault(row.id, row)
