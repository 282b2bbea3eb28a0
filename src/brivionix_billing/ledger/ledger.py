"""The :class:`Ledger`: accounts, tokens, lots, holds and charges, each operation at most once."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from brivionix_billing.ledger.database.engine import close, create_ledger_engine, require_existing_file
from brivionix_billing.ledger.database.migrate import check_version, migrate, migrate_or_check
from brivionix_billing.ledger.database.transactions import run_read, run_transaction
from brivionix_billing.ledger.operations.accounts import Accounts
from brivionix_billing.ledger.operations.api_tokens import ApiTokens
from brivionix_billing.ledger.operations.holds import Holds
from brivionix_billing.ledger.operations.maintenance import Maintenance
from brivionix_billing.ledger.operations.payments import Payments
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.topup import DEFAULT_LOT_ORDER

__all__ = ["Ledger"]

T = TypeVar("T")


class Ledger(Accounts, ApiTokens, Holds, Payments, Maintenance):
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

    @classmethod
    def open(
        cls, url: str, book: PriceBook | None = None, *, create: bool = True, synchronous: str = "FULL", **options: Any
    ) -> Ledger:
        """The ledger at a database URL, ``sqlite:///ledger.db`` or ``postgresql://user@host/name``.

        A new database gets its tables, unless ``create`` is false; one of another version, or with no tables then,
        raises ``ledger_version`` (see :meth:`migrate`).
        ``book`` is the price book, whose rule says in which order lots are used. ``synchronous`` is SQLite's (``FULL``
        or ``NORMAL``), ``options`` are those of ``sqlalchemy.create_engine``. Raises ``invalid_argument``,
        ``ledger_unavailable``.
        """
        if not create:
            require_existing_file(url)
        engine = create_ledger_engine(url, synchronous=synchronous, **options)
        found = cls(engine, lot_order=DEFAULT_LOT_ORDER if book is None else book.lot_order)
        try:
            run_transaction(engine, migrate_or_check) if create else run_read(engine, check_version)
        except BaseException:
            close(engine)
            raise
        return found

    def migrate(self) -> None:
        """Bring the tables to this version of the library; new ones where there are none."""
        run_transaction(self.engine, migrate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections to the database."""
        close(self.engine)
