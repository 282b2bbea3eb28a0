"""Queries: balances, lots, entries, usage and statements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.ledger import reports, requests, statements, top_up_receipts
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import require_id
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.posting.limits import tags_content
from brivionix_billing.ledger.reports import Balance, Lot
from brivionix_billing.ledger.requests import Request, RequestFilter, RequestPage
from brivionix_billing.ledger.restrictions import request_scope
from brivionix_billing.ledger.statements import Statement, UsageLine
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.ledger.top_up_receipts import TopUpReceipt
from brivionix_billing.times import Period

__all__ = ["Queries"]


class Queries(LedgerBase):
    """Queries. None of them changes the ledger."""

    def accounts(self) -> Iterator[str]:
        """Yield the ids of all accounts, sorted."""
        after = ""
        while page := self._run_read(partial(reports.account_page, after=after), None):
            yield from page
            after = page[-1]

    def balance(
        self,
        account: str,
        *,
        at: datetime,
        model: str | None = None,
        group: str | None = None,
        tags: Mapping[str, str] | None = None,
        connection: Connection | None = None,
    ) -> Balance:
        """Return the current balance. ``at`` is the current time: it decides which holds and lots have expired.

        With ``model``, ``group`` or ``tags``, ``usable`` is what a request with them can use, also of restricted lots.
        For a time in the past, use :meth:`statement`.
        """
        now = format_timestamp(at)
        scope = None
        if (model, group, tags) != (None, None, None):
            tags_content(tags)
            scope = request_scope(None, model, group, tags)
        return self._run_read(lambda store: reports.balance(store, account, now, scope), connection)

    def lots(self, account: str, *, connection: Connection | None = None) -> list[Lot]:
        """Return all lots of an account, also used ones, the oldest first."""
        return self._run_read(lambda store: reports.lots(store, account), connection)

    def payment(self, channel: str, reference: str, *, connection: Connection | None = None) -> Lot:
        """Return the lot of a payment. Raises ``unknown_payment`` if it has not been credited."""
        return self._run_read(lambda store: reports.lot_by_payment(store, channel, reference), connection)

    def entry(self, id: str, *, connection: Connection | None = None) -> Entry | None:
        """Return the entry of an operation, or ``None`` if the operation was not done."""
        require_id(id, "the operation")
        row = self._run_read(lambda store: store.fetch_entry(store.sql.entry, id), connection)
        return None if row is None else Entry.from_row(row)

    def journal(self, account: str, *, after: int = 0) -> Iterator[Entry]:
        """Yield the entries of an account with numbers above ``after``, in order."""
        while True:
            page = self._run_read(partial(reports.entry_page, account=account, after=after), None)
            yield from page
            if len(page) < reports.PAGE_SIZE:
                return
            after = page[-1].number

    def due_expiries(self, account: str, *, at: datetime) -> list[Entry]:
        """Return the expiries that are due at ``at`` and not posted yet, as the entries that would be posted."""
        now = format_timestamp(at)

        def simulate(store: Store) -> list[Entry]:
            row = reports.require_account(store, account)
            return [Entry.from_row(expiry) for expiry in reports.simulate_expiries(store, row, now)]

        return self._run_read(simulate, None)

    def requests(
        self,
        account: str,
        *,
        at: datetime,
        token: str | None = None,
        model: str | None = None,
        member: str | None = None,
        period: Period | str | None = None,
        limit: int = 100,
        after: str | None = None,
        connection: Connection | None = None,
    ) -> RequestPage:
        """Return a page of the account's requests, the newest first, with what each cost and its state.

        ``at`` is the current time: it decides which holds have expired. ``token`` is the id of a token, and
        ``member`` that of a member. ``model`` returns charged requests only. ``limit`` is 1 to 1000 requests.
        ``after`` is the cursor ``next`` of the previous page. A page reads a bounded number of entries, so with a
        filter it may be shorter than ``limit``, or empty, and still have a cursor. Charged requests whose entries are
        archived are left out; ``archived`` names their file. Raises ``unknown_account`` and
        ``invalid_argument``.
        """
        now = format_timestamp(at)
        wanted = RequestFilter(token, model, None if period is None else _to_period(period), member)
        return self._run_read(
            lambda store: requests.request_page(store, account, now, wanted, limit, after), connection
        )

    def open_holds(self, account: str, *, at: datetime, connection: Connection | None = None) -> list[Request]:
        """Return the requests in flight: all holds that are open at ``at``, the current time; the newest first."""
        now = format_timestamp(at)
        return self._run_read(lambda store: requests.open_holds(store, account, now), connection)

    def usage(
        self,
        account: str,
        period: Period | str,
        *,
        by_token: bool = False,
        by: Sequence[str] = ("day", "model"),
    ) -> list[UsageLine]:
        """Return the usage in a period by day (in the period's zone) and model, and optionally by token.

        ``by`` names other keys: any of ``hour``, ``day``, ``month`` (in the period's zone), ``model``, ``token``,
        ``member`` and ``group``. ``by_token`` adds ``token`` to them. It reads stored sums, so it is fast. Only
        ``group`` reads every charge in the period. Raises ``invalid_argument`` for any other key.
        """
        keys = (*by, *(["token"] if by_token and "token" not in by else []))
        return self._run_read(lambda store: statements.usage(store, account, _to_period(period), by=keys), None)

    def last_booked(self, account: str) -> datetime:
        """Return the time of the last entry of an account. A balance has all entries, whatever its ``at`` is."""
        return self._run_read(lambda store: reports.last_booked(store, account), None)

    def usage_bounds(self, account: str) -> tuple[datetime, datetime] | None:
        """Return the starts of the first and the last quarter hour with usage, or ``None`` if there is none.

        Raises ``unknown_account``.
        """
        return self._run_read(lambda store: statements.usage_bounds(store, account), None)

    def statement(self, account: str, period: Period | str) -> Statement:
        """Return the statement of a period: opening, movements, usage by day and model, closing."""
        return self._run_read(lambda store: statements.statement(store, account, _to_period(period)), None)

    def top_up_receipt(self, account: str, lot: str) -> TopUpReceipt:
        """Return the receipt of a payment by its lot: amounts without tax, tax, what was paid, and what was paid back.

        Raises ``unknown_account``, and ``unknown_lot`` if the account did not buy such a lot.
        """
        return self._run_read(lambda store: top_up_receipts.top_up_receipt(store, account, lot), None)

    def records(
        self, account: str, period: Period | str, *, skip_unpriced: bool = False, estimated_only: bool = False
    ) -> Iterator[dict[str, Any]]:
        """Yield the account's requests in a period as records of a usage file, from which bills are made.

        Raises ``no_usage`` if plain Credits were charged, without usage. ``skip_unpriced`` leaves these charges out;
        on the bill they are a movement: see :meth:`Statement.balance`. ``estimated_only``
        returns only requests whose usage is an estimate, to compare them with the provider's bill.
        """
        after = 0
        while True:
            records, after = self._run_read(
                partial(
                    statements.usage_records,
                    account=account,
                    period=_to_period(period),
                    after=after,
                    skip_unpriced=skip_unpriced,
                    estimated_only=estimated_only,
                ),
                None,
            )
            yield from records
            if not after:
                return


def _to_period(period: Period | str) -> Period:
    return Period.parse(period) if isinstance(period, str) else period
