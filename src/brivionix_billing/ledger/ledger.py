"""The :class:`Ledger`: all operations, queries and maintenance behind one class."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from brivionix_billing.errors import BillingError
from brivionix_billing.ledger.database.engine import close, create_ledger_engine, require_existing_file, require_url
from brivionix_billing.ledger.database.migrate import check_version, migrate, migrate_or_check
from brivionix_billing.ledger.database.transactions import run_read, run_transaction
from brivionix_billing.ledger.operations.accounts import Accounts
from brivionix_billing.ledger.operations.api_tokens import ApiTokens
from brivionix_billing.ledger.operations.archives import Archives
from brivionix_billing.ledger.operations.corrections import Corrections
from brivionix_billing.ledger.operations.holds import Holds
from brivionix_billing.ledger.operations.limits import Limits
from brivionix_billing.ledger.operations.members import Members
from brivionix_billing.ledger.operations.orders import Orders
from brivionix_billing.ledger.operations.plans import Plans
from brivionix_billing.ledger.operations.signals import Signals
from brivionix_billing.ledger.operations.transfers import Transfers
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.pricebook.lot_order import DEFAULT_LOT_ORDER

__all__ = ["Ledger"]


class Ledger(Accounts, ApiTokens, Members, Limits, Holds, Orders, Corrections, Transfers, Archives, Signals, Plans):
    """A ledger of prepaid Credits in a database.

    Every operation takes ``id``, an idempotency key that the caller chooses. A retry with the same id and content
    returns the stored result and changes nothing. The same id with other content raises ``operation_conflict``, which
    names the differences. Every operation also takes ``at``, the current time, because the ledger reads no clock.

    ``connection`` is a SQLAlchemy connection in a transaction of the caller. With it, the operation is part of that
    transaction. Without it, the operation runs in a transaction of its own and is retried after a transient error of
    the database.

    An operation that raises a :class:`BillingError` has changed nothing. The exception is ``ledger_unavailable``: a
    commit may have succeeded before the connection broke, so retry with the same id.

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
        cls,
        url: str,
        book: PriceBook | None = None,
        *,
        create: bool = True,
        synchronous: str = "FULL",
        max_skew: timedelta | None = None,
        **options: Any,
    ) -> Ledger:
        """Open the ledger at a database URL: ``sqlite:///ledger.db`` or ``postgresql://user@host/name``.

        The tables of a new database are created, unless ``create`` is false. ``book`` is the price book whose rules
        order the lots, and whose upstreams a settlement may name. ``synchronous`` is the setting of SQLite (``FULL`` or
        ``NORMAL``), and ``options`` are passed to ``sqlalchemy.create_engine``. With ``max_skew``, an operation raises
        ``clock_skew`` if its time differs by more from the clock of the database: then a machine with a wrong clock
        cannot release the holds of others early.

        Raises ``invalid_argument``, ``ledger_unavailable``, and ``ledger_version`` if the tables have another version
        or are missing (see :meth:`migrate`).
        """
        require_url(url)
        if not create:
            require_existing_file(url)
        engine = create_ledger_engine(url, synchronous=synchronous, **options)
        order = DEFAULT_LOT_ORDER if book is None else book.lot_order
        ledger = cls(engine, lot_order=order, book=book, max_skew=max_skew)
        try:
            run_transaction(engine, migrate_or_check) if create else run_read(engine, check_version)
        except TypeError as error:  # psycopg accepts an option of a wrong type, and fails when it uses it
            close(engine)
            raise BillingError(
                "invalid_argument", "the driver of the database rejects an option of the URL or of connect_args"
            ) from error
        except BaseException:
            close(engine)
            raise
        return ledger

    def migrate(self) -> None:
        """Create the tables, or migrate those of an older version."""
        run_transaction(self.engine, migrate)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections to the database."""
        close(self.engine)
