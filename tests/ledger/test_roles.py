"""The roles of docs/security.md on a real PostgreSQL: what each needs works, and everything else is denied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import quote as quote_url

import psycopg
import pytest

from brivionix_billing import Payable
from brivionix_billing.ledger import Ledger, Restriction
from brivionix_billing.times import Period
from ledger_kit import BOOK, NOW, body, charge, later, payment, quote, refused
from paths import ROOT
from plan_kit import plan, subscribe

DATABASE = "roles"
ROLES = ("billing_owner", "billing_archivist", "billing_gateway", "billing_finance")
BLOCKS = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "security.md").read_text(encoding="utf-8"), re.DOTALL)
TABLES = (
    *("account", "counter", "hold", "journal", "limit", "lot", "order", "payment", "token", "usage", "version"),
    *("archive", "signal", "signal_setting", "subscription"),
)


@pytest.fixture(scope="module")
def server(postgres: str) -> Iterator[str]:
    """Yield the URL of a database with a ledger, set up by the statements of the page."""
    url = postgres.replace("/postgres?", f"/{DATABASE}?")
    assert url != postgres
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}")
    setup, grants = BLOCKS
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(setup)
        Ledger.open(of(url, "billing_owner")).close()  # as brivionix-billing ledger migrate does
        with psycopg.connect(of(url, "billing_owner"), autocommit=True) as connection:
            connection.execute(grants)
        yield url
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")
            for role in ROLES:
                connection.execute(f"DROP ROLE IF EXISTS {role}")


def of(url: str, role: str) -> str:
    """Return the URL for another user."""
    changed = re.sub(r"//[^/]*@", f"//{quote_url(role)}@", url, count=1)
    assert changed != url
    return changed


def work(ledger: Ledger, name: str) -> None:
    """Do all that a gateway and its payments do, on an account of that name."""
    ledger.open_account(name, at=NOW)
    ledger.top_up(name, quote("85"), reference=f"pay-{name}", id=f"lot-{name}", at=NOW)
    ledger.grant(name, "5", id=f"grant-{name}", reason="sorry", at=NOW, expires=later(60))
    secret = ledger.create_token(name, id=f"token-{name}", group="default", name="a", at=NOW).secret
    assert secret is not None
    assert ledger.authenticate(secret, at=NOW).account == name
    ledger.set_limit(name, "daily", 9, window="day", id=f"limit-{name}", at=NOW)
    ledger.set_limit(name, "daily", 10, window="day", id=f"limit2-{name}", at=NOW)
    ledger.set_signal(name, "low", "low_balance", threshold=10**6, id=f"signal-{name}", at=NOW)
    ledger.set_signal(name, "low", "low_balance", threshold=10**7, id=f"signal2-{name}", at=NOW)
    assert any(signal.account == name for signal in ledger.lease_signals(at=NOW))
    ledger.acknowledge_signals(name, 2, at=NOW)
    ledger.add_member(name, "team", id=f"join-{name}", at=NOW)
    ledger.change_token(f"token-{name}", id=f"team-{name}", member="team", at=NOW)
    ledger.set_limit(name, "team", 10, window="day", member="team", id=f"limit3-{name}", at=NOW)
    ledger.set_signal(name, "near", "limit_near", limit="team", share=1, id=f"signal3-{name}", at=NOW)
    for number in range(3):
        ledger.hold(name, "1", id=f"{name}-{number}", token=f"token-{name}", at=NOW)
    ledger.settle(f"{name}-0", charge(), usage=body(), at=NOW)
    ledger.release(f"{name}-1", at=NOW)
    ledger.grant(name, "1", id=f"only-{name}", reason="trial", at=NOW, only=Restriction(tags=["a=b"]), priority=1)
    ledger.hold(name, "0.5", id=f"{name}-tag", tags={"a": "b"}, at=NOW)
    ledger.release(f"{name}-tag", at=NOW)
    ledger.open_account(f"{name}-2", at=NOW)
    ledger.transfer(name, f"{name}-2", "2", reason="split", id=f"move-{name}", at=NOW)
    ledger.change_token(f"token-{name}", id=f"off-{name}", enabled=False, at=NOW)
    ledger.remove_member(name, "team", id=f"leave-{name}", reason="closed", at=NOW)
    ledger.create_order(name, quote("17"), id=f"order-{name}", at=NOW, expires=later(60), tax=Payable(323, "CNY"))
    paid = payment("20.23", 1, f"order-{name}", "rmb")
    ledger.receive_payment(name, paid, id=f"paid-{name}", at=NOW, order=f"order-{name}")
    ledger.refund(name, f"paid-{name}", pay=Payable(100, "CNY"), id=f"back-{name}", at=NOW)
    ledger.refund(name, f"lot-{name}", credits="10", id=f"refund-{name}", at=NOW)
    subscribe(ledger, plan(period="week"), id=f"sub-{name}", account=f"{name}-2")
    pro = plan("pro", 300, "30", period="week", overflow=False)
    ledger.change_plan(f"{name}-2", f"sub-{name}", pro, id=f"pro-{name}", at=later(60), channel="stripe")
    ledger.cancel_plan(f"{name}-2", f"sub-{name}", id=f"cancel-{name}", at=later(60))
    ledger.expire(at=later(100_000))


def test_the_gateway_can_do_its_work(server: str) -> None:
    """With its role, the gateway opens accounts, credits payments, manages tokens, and charges requests."""
    with Ledger.open(of(server, "billing_gateway"), BOOK) as ledger:
        work(ledger, "ada")
        assert ledger.balance("ada", at=NOW).held == 0
        assert ledger.verify() == []


def test_finance_can_read_everything(server: str) -> None:
    """With its role, finance verifies, makes checkpoints, and writes statements and usage files."""
    with Ledger.open(of(server, "billing_gateway"), BOOK) as ledger:
        work(ledger, "bob")
    with Ledger.open(of(server, "billing_finance"), BOOK) as ledger:
        assert ledger.verify(ledger.checkpoint()) == []
        period = Period.parse("2026-11")
        assert ledger.statement("bob", period).used == Decimal("0.00585")
        assert len(list(ledger.records("bob", period))) == 1
        with refused("ledger_unavailable"):
            ledger.open_account("eve", at=NOW)


def test_the_archivist_can_archive_and_restore(server: str, tmp_path: Path) -> None:
    """With its role, the archivist moves texts and posts the entry of it; the gateway cannot."""
    with Ledger.open(of(server, "billing_gateway"), BOOK) as ledger:
        work(ledger, "ann")
        before = list(ledger.journal("ann"))
        with refused("ledger_unavailable"):
            ledger.archive(tmp_path, before=later(9), at=later(100_000))
    with Ledger.open(of(server, "billing_archivist"), BOOK) as ledger:
        assert ledger.archive(tmp_path, before=later(9), at=later(100_000), accounts=["ann"]).entries
        assert ledger.verify() == []
        ledger.restore(tmp_path, accounts=["ann"])
        assert list(ledger.journal("ann"))[: len(before)] == before


def test_the_owner_can_rebuild(server: str) -> None:
    """With its role, the owner rebuilds the derived tables; the gateway cannot."""
    with Ledger.open(of(server, "billing_gateway"), BOOK) as ledger:
        work(ledger, "cyn")
        with refused("ledger_unavailable"):
            ledger.rebuild()
    with Ledger.open(of(server, "billing_owner"), BOOK) as ledger:
        assert ledger.rebuild() > 0
        assert ledger.verify() == []


ATTACKS = [
    *(f"UPDATE billing_journal SET {column} = {column}" for column in ("id", "number", "body", "hash", "at")),
    *(f"DELETE FROM billing_{table}" for table in TABLES),
    *(f"TRUNCATE billing_{table}" for table in TABLES),
    *(f"DROP TABLE billing_{table}" for table in TABLES),
    *(f"ALTER TABLE billing_{table} DISABLE TRIGGER ALL" for table in TABLES),
    *(f"UPDATE billing_lot SET {column} = {column}" for column in ("price", "credits", "paid", "at", "account")),
    *(f"UPDATE billing_token SET {column} = {column}" for column in ("account", "id")),
    *(f"UPDATE billing_hold SET {column} = {column}" for column in ("account", "at", "expires", "token")),
    *(f"UPDATE billing_signal SET {column} = {column}" for column in ("account", "number", "content", "operation")),
    "UPDATE billing_account SET id = id",
    "UPDATE billing_version SET version_num = '0001'",
    "INSERT INTO billing_version VALUES ('9999')",
    "CREATE TABLE mine (a int)",
    "CREATE TABLE public.mine (a int)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TRIGGER mine BEFORE INSERT ON billing_journal EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE mine AS ON INSERT TO billing_journal DO INSTEAD NOTHING",
    "LOCK TABLE billing_journal IN ACCESS EXCLUSIVE MODE",
    "SET ROLE billing_owner",
    "ALTER ROLE billing_gateway SUPERUSER",
    "CREATE SCHEMA mine",
]
"""Statements that the gateway must not be able to run, after SQL injection or with its password."""


@pytest.mark.parametrize("statement", ATTACKS)
@pytest.mark.parametrize("role", ["billing_gateway", "billing_finance"])
def test_everything_else_is_denied(server: str, role: str, statement: str) -> None:
    """The gateway and finance can neither change history nor the schema, also if they try to write all the same."""
    with psycopg.connect(of(server, role)) as connection:
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        connection.commit()
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation)):
            connection.execute(statement)


@pytest.mark.parametrize("table", TABLES)
def test_finance_cannot_write(server: str, table: str) -> None:
    """Finance can insert and update nothing, also in a transaction that may write."""
    with psycopg.connect(of(server, "billing_finance")) as connection:
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        connection.commit()
        for statement in (f"INSERT INTO billing_{table} DEFAULT VALUES", f"SELECT * FROM billing_{table} FOR UPDATE"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
            connection.rollback()


def test_the_grants_name_every_column_that_changes() -> None:
    """The columns that the gateway may update are exactly those that the statements of the ledger update."""
    from brivionix_billing.ledger.database.store import TABLE_MAPPINGS

    granted = {
        table: set(columns.split(", "))
        for columns, table in re.findall(r"UPDATE \(([^)]*)\)\s+ON (\w+) TO billing_gateway", BLOCKS[1])
    }
    changing = {mapping.table.name: set(mapping.changing) for mapping in TABLE_MAPPINGS.values()}
    changing["billing_lot"].add("live")
    assert granted == changing
