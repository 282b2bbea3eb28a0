"""Operations of the ledger in a transaction of the caller."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from brivionix_billing.ledger import Ledger, prepare_engine
from ledger_kit import NOW, available, later, opened, refused, schema, tables, with_credits


class TestTransactions:
    """Operations with ``connection=``."""

    def test_a_rejected_operation_leaves_no_change_in_the_callers_transaction(self, database: str) -> None:
        """If the caller catches the error and commits, the rejected operation has changed nothing."""
        with opened(database) as ledger:
            with_credits(ledger)
            ledger.grant("acct", "1", reason="x", id="gift", at=NOW, expires=later(10))
            before = tables(ledger)
            with ledger.engine.begin() as connection:
                with refused("insufficient_credits"):
                    ledger.hold("acct", "1000", id="r1", at=later(20), connection=connection)
                with refused("operation_conflict"):
                    ledger.open_account("other", id="lot-acct", at=NOW, connection=connection)
            assert tables(ledger) == before
            assert ledger.verify() == []

    def test_connections_without_a_safe_transaction_are_rejected(self, tmp_path: Path, postgres: str) -> None:
        """An AUTOCOMMIT connection, one of an unprepared engine, and other objects are rejected."""
        with schema(postgres) as url, opened(url) as ledger:
            with_credits(ledger)
            itself = ledger.engine.execution_options(isolation_level="AUTOCOMMIT")
            with itself.begin() as connection, refused("invalid_argument"):
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
            with refused("invalid_argument"):
                ledger.hold("acct", "1", id="r1", at=NOW, connection=itself)  # type: ignore[arg-type]
        unfit = create_engine(f"sqlite:///{tmp_path / 'unfit.db'}")
        with (
            opened(f"sqlite:///{tmp_path / 'unfit.db'}") as ledger,
            unfit.begin() as connection,
            refused("invalid_argument"),
        ):
            ledger.open_account("acct", at=NOW, connection=connection)
        unfit.dispose()

    def test_an_operation_takes_part_in_the_callers_transaction(self, database: str) -> None:
        """A rollback of the caller undoes the operation, and a commit keeps it."""
        with opened(database) as ledger:
            with_credits(ledger)
            with ledger.engine.begin() as connection:
                connection.execute(text("CREATE TABLE requests (id TEXT)"))
            with pytest.raises(RuntimeError), ledger.engine.begin() as connection:  # noqa: PT012
                connection.execute(text("INSERT INTO requests VALUES ('r1')"))
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
                raise RuntimeError
            assert available(ledger) == 100
            with ledger.engine.begin() as connection:
                connection.execute(text("INSERT INTO requests VALUES ('r1')"))
                ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)
                ledger.settle("r1", "0.5", at=NOW, connection=connection)
                assert ledger.balance("acct", at=NOW, connection=connection).available == Decimal("99.5")
            assert available(ledger) == Decimal("99.5")
            assert ledger.verify() == []

    def test_a_connection_without_a_transaction_is_rejected(self, ledger: Ledger) -> None:
        """A connection outside of a transaction is rejected."""
        with ledger.engine.connect() as connection, refused("invalid_argument"):
            ledger.hold("acct", "1", id="r1", at=NOW, connection=connection)

    def test_a_prepared_engine_of_the_caller_works(self, tmp_path: Path) -> None:
        """An engine that the caller created works after ``prepare_engine``."""
        engine = create_engine(f"sqlite:///{tmp_path / 'own.db'}")
        prepare_engine(engine)
        prepare_engine(engine)
        ledger = Ledger(engine)
        with refused("ledger_version"):
            ledger.balance("acct", at=NOW)
        ledger.migrate()
        with_credits(ledger)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert available(ledger) == 100
        ledger.close()
