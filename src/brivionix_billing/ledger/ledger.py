"""The :class:`Ledger`: accounts, tokens, lots, holds and charges, each operation at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

from brivionix_billing.errors import BillingError, quoted
from brivionix_billing.ledger import holds, payments, replay, reports, tokens
from brivionix_billing.ledger.amounts import Amount, asked, name, shown, signed_units, stamp, units
from brivionix_billing.ledger.desk import Desk, Draft
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.holds import TTL
from brivionix_billing.ledger.migrate import check_version, migrate, migrate_or_check
from brivionix_billing.ledger.order import checked_order
from brivionix_billing.ledger.replay import Fault
from brivionix_billing.ledger.reports import Balance, Lot, Statement, UsageLine
from brivionix_billing.ledger.rows import AccountRow, HoldRow, TokenRow
from brivionix_billing.ledger.store import Statements, Store
from brivionix_billing.ledger.tokens import Token
from brivionix_billing.ledger.transactions import engine_for, read, transact, within, write
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.times import Period
from brivionix_billing.topup import LOT_ORDER, Quote

__all__ = ["Ledger"]

T = TypeVar("T")


class Ledger:
    """A ledger of prepaid Credits in a database.

    Every operation takes ``id``, the caller's own name for it: the same id with the same content is done once, and
    gives the stored result when it is asked for again; with other content it raises ``operation_conflict`` and names
    the difference. It takes ``at``, the time now, since nothing here reads a clock. And it may take ``connection``, a
    connection of SQLAlchemy within a transaction: then the operation is part of that transaction, and is done when it
    commits. Without one it has a transaction of its own, tried again if the database could not do it just now.

    What is refused raises a :class:`BillingError`, and then nothing was done.

    >>> from datetime import UTC, datetime
    >>> from brivionix_billing import PriceBook
    >>> book = PriceBook.load("pricing.yaml")
    >>> now = datetime(2026, 10, 1, tzinfo=UTC)
    >>> ledger = Ledger.open("sqlite://", book)
    >>> _ = ledger.open_account("acct_1", at=now)
    >>> _ = ledger.top_up("acct_1", book.quote("rmb", at=now, pay="85"), reference="pi_1", id="evt_1", at=now)
    >>> _ = ledger.hold("acct_1", "0.9", id="req_1", at=now)
    >>> settled = ledger.settle("req_1", "0.00585", at=now)
    >>> settled.credits, ledger.balance("acct_1", at=now).available
    (Decimal('0.00585'), Decimal('99.99415'))
    """

    def __init__(self, engine: Engine, *, lot_order: Iterable[str] = LOT_ORDER) -> None:
        self.engine = engine
        self.lot_order = checked_order(lot_order)
        self.statements = Statements(engine.dialect)

    @classmethod
    def open(
        cls, url: str, book: PriceBook | None = None, *, create: bool = True, synchronous: str = "FULL", **options: Any
    ) -> Ledger:
        """The ledger at a database URL, ``sqlite:///ledger.db`` or ``postgresql://user@host/name``.

        A new database gets its tables, unless ``create`` is false; one of another version, or with no tables then,
        raises ``ledger_version`` (see :meth:`migrate`).
        ``book`` is the price book, whose rule says in which order lots are used. ``synchronous`` is SQLite's (``FULL``
        or ``NORMAL``), ``options`` are those of ``sqlalchemy.create_engine``. Raises ``bad_argument``,
        ``ledger_unavailable``.
        """
        engine = engine_for(url, synchronous=synchronous, **options)
        found = cls(engine, lot_order=LOT_ORDER if book is None else book.lot_order)
        try:
            transact(engine, migrate_or_check) if create else read(engine, check_version)
        except BaseException:
            engine.dispose()
            raise
        return found

    def migrate(self) -> None:
        """Bring the tables to this version of the library; new ones where there are none."""
        transact(self.engine, migrate)

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    # Accounts and tokens

    def open_account(
        self, account: str, *, at: datetime, id: str | None = None, connection: Connection | None = None
    ) -> Entry:
        """A new account, with nothing in it. Raises ``account_exists`` if another operation opened it."""
        account, booked = name(account, "the account"), stamp(at)
        id = name(f"account:{account}"[:256] if id is None else id, "the operation")

        def work(store: Store) -> Entry:
            row = AccountRow(account)
            if store.run(store.sql.add[AccountRow] + " ON CONFLICT DO NOTHING", *store.written(row)) != 1:
                row = _locked(store, account)
            found = store.entry(store.sql.entry, id)
            if found is not None:
                return Entry.read(found).same(account, "account", {})
            if row.number:
                raise BillingError("account_exists", f"there is an account {quoted(account)} already")
            return Desk(store, row, booked).write(id, Draft("account", booked, {}))

        return self._write(work, connection)

    def create_token(
        self,
        account: str,
        *,
        id: str,
        at: datetime,
        group: str,
        name: str = "",
        expires: datetime | None = None,
        limit: Decimal | int | str | None = None,
        enabled: bool = True,
        secret: str | None = None,
        connection: Connection | None = None,
    ) -> Token:
        """A new API token of an account; ``id`` becomes its id. ``limit``: Credits that it may spend over its life.

        The secret is made, or may be given (one that exists already, say). It is told by this call only; asked for
        again, the token comes without it.
        """
        content = tokens.settings(group, name, expires, limit, enabled)
        given = None if secret is None else tokens.hashed(secret)
        made = tokens.new_secret() if secret is None else secret
        hash = tokens.hashed(made)
        if given is not None:
            content["hash"] = given
        entry = self._operate(
            account, id, "token", content, at, lambda d: tokens.create(d, id, content, hash), connection
        )
        return self.token(entry.id, connection=connection, secret=None if entry.repeated else made)

    def change_token(
        self,
        token: str,
        *,
        id: str,
        at: datetime,
        connection: Connection | None = None,
        **settings: Any,
    ) -> Token:
        """Other settings for a token: any of ``group``, ``name``, ``expires``, ``limit``, ``enabled``."""
        whole = tokens.settings(
            settings.get("group"),
            settings.get("name"),
            settings.get("expires"),
            settings.get("limit"),
            settings.get("enabled", True),
        )
        unknown = settings.keys() - whole.keys()
        if unknown or not settings:
            wrong = f"{quoted(sorted(unknown))} is nothing that a token has" if unknown else "nothing is to be changed"
            raise BillingError("bad_argument", f"{wrong}; there are {', '.join(whole)}")
        content = {"token": token, **{key: whole[key] for key in settings}}
        account = self.token(token, connection=connection).account
        self._operate(account, id, "token_changed", content, at, lambda d: tokens.change(d, token, content), connection)
        return self.token(token, connection=connection)

    def token(self, token: str, *, connection: Connection | None = None, secret: str | None = None) -> Token:
        """A token by its id. Raises ``unknown_token``."""
        asked(token, "the token")
        row = self._read(lambda store: store.one(TokenRow, store.sql.token, token), connection)
        if row is None:
            raise BillingError("unknown_token", f"there is no token {quoted(token)}")
        return tokens.told(row, secret)

    def tokens(self, account: str, *, connection: Connection | None = None) -> list[Token]:
        """All tokens of an account."""
        return self._read(lambda store: reports.tokens_of(store, account), connection)

    def authenticate(self, secret: str, *, at: datetime, connection: Connection | None = None) -> Token:
        """The token that a client showed.

        Raises ``unknown_token``, ``token_disabled``, ``token_expired``, ``token_exhausted``; a gateway answers 401.
        """
        booked = stamp(at)
        return self._read(lambda store: tokens.token_of(store, secret, booked), connection)

    # Requests

    def hold(
        self,
        account: str,
        credits: Amount,
        *,
        id: str,
        at: datetime,
        ttl: timedelta = TTL,
        token: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Set aside what a request may cost at the most; ``id`` is the request's.

        After ``ttl`` it returns by itself. Raises :class:`ShortfallError` (``insufficient_credits``, or ``token_limit``
        of the token), ``unknown_account``, and what :meth:`authenticate` raises.
        """
        amount = units(credits, "a hold")
        content = holds.hold_content(amount, ttl, token)
        return self._operate(
            account, id, "hold", content, at, lambda d: holds.hold(d, id, amount, ttl, token, content), connection
        )

    def settle(
        self,
        hold: str,
        charge: Amount,
        *,
        at: datetime,
        id: str | None = None,
        usage: Mapping[str, Any] | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge what a request used, and return the rest of its hold.

        ``charge`` is a :class:`Charge`, or Credits where the price was made elsewhere. ``usage`` is the body that the
        charge was made from; it goes into the journal, and from there into usage files and bills. What costs more than
        was held is taken from what is available, and the rest is owed. A hold that has expired is charged all the same.

        ``id`` is ``HOLD:settle`` if you give none. Raises ``unknown_hold``, ``hold_resolved`` if it was settled or
        released by another operation.
        """
        charged = charge if isinstance(charge, Charge) else units(charge, "a charge")
        content = {"hold": hold, **holds.charge_content(charged, usage)}
        return self._resolve(
            hold, "settle", id, at, content, lambda d, row: holds.settle(d, row, charged, content), connection
        )

    def release(self, hold: str, *, at: datetime, id: str | None = None, connection: Connection | None = None) -> Entry:
        """Return all that was held: the request failed and costs nothing.

        ``id`` is ``HOLD:release`` if you give none. Raises ``unknown_hold``, ``hold_resolved`` (also if it expired).
        """
        content = {"hold": hold}
        return self._resolve(
            hold, "release", id, at, content, lambda d, row: holds.release(d, row, content), connection
        )

    def charge(
        self,
        account: str,
        charge: Amount,
        *,
        id: str,
        at: datetime,
        usage: Mapping[str, Any] | None = None,
        token: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Charge without a hold: what a batch used, say. What is not covered is owed."""
        charged = charge if isinstance(charge, Charge) else units(charge, "a charge")
        content = {"token": token, **holds.charge_content(charged, usage)}
        return self._operate(
            account, id, "charge", content, at, lambda d: holds.charge(d, charged, content, token), connection
        )

    # Money

    def top_up(
        self,
        account: str,
        quote: Quote,
        *,
        reference: str,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """A quote that was paid becomes a lot; ``id`` is the lot's. ``reference`` is the payment's at its channel.

        Raises ``payment_known`` if the payment was credited by another operation, to whatever account.
        """
        name(reference, "the reference")
        content = payments.top_up_content(quote, reference, expires)
        amount = units(quote.credits, "a top-up")
        return self._operate(
            account,
            id,
            "top_up",
            content,
            at,
            lambda desk: payments.bring_in(desk, id, "top_up", amount, content, quote),
            connection,
        )

    def grant(
        self,
        account: str,
        credits: Decimal | int | str,
        *,
        reason: str,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Promotional Credits: they cost nothing, and are never refunded. ``id`` is the lot's."""
        amount = units(credits, "a grant")
        content = {
            "credits": shown(amount),
            "reason": tokens.text(reason, "the reason"),
            **payments.lot_content(expires),
        }
        return self._operate(
            account,
            id,
            "grant",
            content,
            at,
            lambda desk: payments.bring_in(desk, id, "grant", amount, content, None),
            connection,
        )

    def refund(
        self,
        account: str,
        lot: str,
        *,
        id: str,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Give unused Credits of a lot back at the price they were bought for: so many, so much money, or all.

        The entry's ``pay_back`` is the money, ``result`` names channel and reference. The Credits are gone when this
        returns; if the channel then fails to pay, :meth:`reverse` brings them back. Raises ``not_refundable``.
        """
        if credits is not None and pay is not None:
            raise BillingError("bad_argument", "give credits or pay, not both")
        amount = None if credits is None else units(credits, "a refund")
        content = {"lot": lot, "credits": None if amount is None else shown(amount), "pay": _told(pay)}
        return self._operate(
            account,
            id,
            "refund",
            content,
            at,
            lambda desk: payments.refund(desk, desk.lot(lot), content, amount, pay),
            connection,
        )

    def dispute(
        self,
        account: str,
        lot: str,
        *,
        id: str,
        at: datetime,
        pay: Payable | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """A payment was taken back by its payer (chargeback): all that is left of it, or ``pay``.

        Credits of the lot that are left go, Credits that were used are owed. If it is won, :meth:`reverse` it.
        """
        content = {"lot": lot, "pay": _told(pay)}
        return self._operate(
            account,
            id,
            "dispute",
            content,
            at,
            lambda desk: payments.dispute(desk, desk.lot(lot), content, pay),
            connection,
        )

    def reverse(
        self, account: str, undoes: str, *, id: str, at: datetime, reason: str, connection: Connection | None = None
    ) -> Entry:
        """Undo a refund that was not paid out, or a dispute that was won; once. Raises ``not_reversible``."""
        content = {"undoes": undoes, "reason": tokens.text(reason, "the reason")}
        return self._operate(
            account, id, "reverse", content, at, lambda desk: payments.reverse(desk, undoes, content), connection
        )

    def adjust(
        self,
        account: str,
        credits: Decimal | int | str,
        *,
        reason: str,
        author: str,
        id: str,
        at: datetime,
        connection: Connection | None = None,
    ) -> Entry:
        """A correction by hand, up or down. Up: a lot that nobody paid for. Down: at most what is available."""
        amount = signed_units(credits, "a correction")
        content = {
            "credits": shown(amount),
            "reason": tokens.text(reason, "the reason"),
            "author": tokens.text(author, "the author"),
        }

        def plan(desk: Desk) -> Draft:
            if amount < 0:
                return payments.take_out(desk, -amount, content)
            return payments.bring_in(desk, id, "adjust", amount, content, None)

        return self._operate(account, id, "adjust", content, at, plan, connection)

    def expire(self, *, at: datetime, accounts: Iterable[str] | None = None) -> int:
        """Book all that has expired, of all accounts or some; how many entries that made.

        Nothing depends on it: whatever looks at an account books what has expired on it. It brings the journal of
        accounts that nobody uses up to date, before a month is closed, say.
        """
        booked = stamp(at)

        def one(account: str) -> int:
            return self._write(lambda store: Desk(store, _locked(store, account), booked, self.lot_order).sweep(), None)

        return sum(map(one, self.accounts() if accounts is None else accounts))

    # Looking

    def accounts(self) -> Iterator[str]:
        """The ids of all accounts, in order."""
        after = ""
        while page := self._read(partial(reports.accounts, after=after), None):
            yield from page
            after = page[-1]

    def balance(self, account: str, *, at: datetime, connection: Connection | None = None) -> Balance:
        """What an account has at ``at``: what expires by then counts as expired, booked or not."""
        booked = stamp(at)
        return self._read(lambda store: reports.balance(store, account, booked), connection)

    def lots(self, account: str, *, connection: Connection | None = None) -> list[Lot]:
        """All lots of an account, in the order in which they came, those that are used up as well."""
        return self._read(lambda store: reports.lots(store, account), connection)

    def payment(self, channel: str, reference: str, *, connection: Connection | None = None) -> Lot:
        """The lot of a payment. Raises ``unknown_payment``: it was not credited, or not yet."""
        return self._read(lambda store: reports.payment(store, channel, reference), connection)

    def entry(self, id: str, *, connection: Connection | None = None) -> Entry | None:
        """The entry that an operation made, or ``None``: it was not done."""
        asked(id, "the operation")
        row = self._read(lambda store: store.entry(store.sql.entry, id), connection)
        return None if row is None else Entry.read(row)

    def journal(self, account: str, *, after: int = 0) -> Iterator[Entry]:
        """The entries of an account behind number ``after``, in order."""
        while True:
            page = self._read(partial(reports.page, account=account, after=after), None)
            yield from page
            if len(page) < reports.PAGE:
                return
            after = page[-1].number

    def usage(self, account: str, period: Period, *, by_token: bool = False) -> list[UsageLine]:
        """What was used in a period by day (of the period's zone) and model, and by token if you like. Cheap to ask."""
        return self._read(lambda store: reports.usage(store, account, period, by_token=by_token), None)

    def statement(self, account: str, period: Period) -> Statement:
        """An account over a period: opening, what came and went, use by day and model, closing."""
        return self._read(lambda store: reports.statement(store, account, period), None)

    def records(self, account: str, period: Period) -> Iterator[dict[str, Any]]:
        """The account's requests in a period as records of a usage file, from which bills are made.

        Raises ``no_usage`` where Credits were charged that were priced elsewhere.
        """
        after = 0
        while True:
            found, after = self._read(partial(reports.records, account=account, period=period, after=after), None)
            yield from found
            if not after:
                return

    # The whole

    def verify(self, checkpoint: Mapping[str, tuple[int, str]] | None = None) -> list[Fault]:
        """Replay the whole journal, and compare all that is derived from it. Of a sound ledger, an empty list.

        ``checkpoint`` is what :meth:`checkpoint` gave before: then entries cut off at the end are missed as well.
        """
        return self._read(lambda store: list(replay.verify(store, checkpoint or {})), None)

    def checkpoint(self) -> dict[str, tuple[int, str]]:
        """Account -> number and hash of its last entry. Kept elsewhere, it shows later that nothing was cut off."""
        return {row[0]: (row[1], row[2]) for row in self._read(lambda store: store.rows(store.sql.heads), None)}

    def rebuild(self) -> int:
        """Make all tables anew from the journal; how many rows. Raises ``journal_broken`` if that is not sound."""
        return self._write(replay.rebuild, None)

    # Inside

    def _operate(
        self,
        account: str,
        id: str,
        kind: str,
        content: Mapping[str, Any],
        at: datetime,
        plan: Callable[[Desk], Draft],
        connection: Connection | None,
    ) -> Entry:
        name(id, "the operation")
        booked = stamp(at)

        def work(store: Store) -> Entry:
            row = _locked(store, account)
            found = store.entry(store.sql.entry, id)
            if found is not None:
                return Entry.read(found).same(account, kind, content)
            desk = Desk(store, row, booked, self.lot_order)
            desk.sweep()
            return desk.write(id, plan(desk))

        return self._write(work, connection)

    def _resolve(
        self,
        hold: str,
        kind: str,
        id: str | None,
        at: datetime,
        content: Mapping[str, Any],
        plan: Callable[[Desk, HoldRow], Draft],
        connection: Connection | None,
    ) -> Entry:
        asked(hold, "the hold")
        id = name(f"{hold}:{kind}" if id is None else id, "the operation")
        booked = stamp(at)

        def work(store: Store) -> Entry:
            # The hold is read when its account is locked; whose it is never changes.
            row = store.one(AccountRow, store.sql.lock_account_of, hold)
            if row is None:
                raise _no_hold(hold)
            found = store.entry(store.sql.entry, id)
            if found is not None:
                return Entry.read(found).same(row.id, kind, content)
            desk = Desk(store, row, booked, self.lot_order)
            desk.sweep()
            held = store.one(HoldRow, store.sql.hold, hold)
            if held is None:
                raise _no_hold(hold)
            return desk.write(id, plan(desk, held))

        return self._write(work, connection)

    def _write(self, work: Callable[[Store], T], connection: Connection | None) -> T:
        if connection is None:
            return write(self.engine, lambda cursor: work(Store(cursor, self.statements)))
        return within(connection, self._on(work))

    def _read(self, work: Callable[[Store], T], connection: Connection | None) -> T:
        return read(self.engine, self._on(work)) if connection is None else within(connection, self._on(work))

    def _on(self, work: Callable[[Store], T]) -> Callable[[Connection], T]:
        return lambda connection: work(Store(connection.connection.cursor(), self.statements))


def _locked(store: Store, account: str) -> AccountRow:
    row = store.one(AccountRow, store.sql.lock_account, asked(account, "the account"))
    if row is None:
        raise BillingError("unknown_account", f"there is no account {quoted(account)}; open_account makes it")
    return row


def _no_hold(hold: str) -> BillingError:
    return BillingError("unknown_hold", f"there is no hold {quoted(hold)}")


def _told(pay: Payable | None) -> str | None:
    return None if pay is None else str(pay)
