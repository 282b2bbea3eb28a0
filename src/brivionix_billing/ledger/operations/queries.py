"""What a ledger tells of itself, and how it is checked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.ledger import reports, statements
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.reports import Balance, Lot
from brivionix_billing.ledger.statements import Statement, UsageLine
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.times import Period

__all__ = ["Queries"]


class Queries(LedgerBase):
    """Questions to a ledger, and its upkeep."""

    def accounts(self) -> Iterator[str]:
        """The ids of all accounts, in order."""
        after = ""
        while page := self._run_read(partial(reports.account_page, after=after), None):
            yield from page
            after = page[-1]

    def balance(self, account: str, *, at: datetime, connection: Connection | None = None) -> Balance:
        """What an account has now. ``at`` is the time now: what expires by then counts as expired, booked or not.

        For a time of the past, see :meth:`statement`.
        """
        booked = format_timestamp(at)
        return self._run_read(lambda store: reports.balance(store, account, booked), connection)

    def lots(self, account: str, *, connection: Connection | None = None) -> list[Lot]:
        """All lots of an account, in the order in which they came, those that are used up as well."""
        return self._run_read(lambda store: reports.lots(store, account), connection)

    def payment(self, channel: str, reference: str, *, connection: Connection | None = None) -> Lot:
        """The lot of a payment. Raises ``unknown_payment``: it was not credited, or not yet."""
        return self._run_read(lambda store: reports.lot_by_payment(store, channel, reference), connection)

    def entry(self, id: str, *, connection: Connection | None = None) -> Entry | None:
        """The entry that an operation made, or ``None``: it was not done."""
        require_id(id, "the operation")
        row = self._run_read(lambda store: store.fetch_entry(store.sql.entry, id), connection)
        return None if row is None else Entry.from_row(row)

    def journal(self, account: str, *, after: int = 0) -> Iterator[Entry]:
        """The entries of an account behind number ``after``, in order."""
        while True:
            page = self._run_read(partial(reports.entry_page, account=account, after=after), None)
            yield from page
            if len(page) < reports.PAGE_SIZE:
                return
            after = page[-1].number

    def usage(self, account: str, period: Period | str, *, by_token: bool = False) -> list[UsageLine]:
        """What was used in a period by day (of the period's zone) and model, and by token if you like. Cheap to ask."""
        return self._run_read(lambda store: statements.usage(store, account, _period(period), by_token=by_token), None)

    def statement(self, account: str, period: Period | str) -> Statement:
        """An account over a period: opening, what came and went, use by day and model, closing."""
        return self._run_read(lambda store: statements.statement(store, account, _period(period)), None)

    def records(self, account: str, period: Period | str, *, skip_unpriced: bool = False) -> Iterator[dict[str, Any]]:
        """The account's requests in a period as records of a usage file, from which bills are made.

        Raises ``no_usage`` where plain Credits were charged, with no usage; with ``skip_unpriced`` these are left out.
        On the bill they stand as a movement: see :meth:`Statement.balance`.
        """
        after = 0
        while True:
            found, after = self._run_read(
                partial(
                    statements.usage_records, account=account, period=_period(period), after=after, skip=skip_unpriced
                ),
                None,
            )
            yield from found
            if not after:
                return


def _period(period: Period | str) -> Period:
    return Period.parse(period) if isinstance(period, str) else period
