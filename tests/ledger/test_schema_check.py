"""Attacks on the schema of the ledger's database: each is performed, and verify names the object."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.schema_check import check_schema
from brivionix_billing.ledger.database.tables import METADATA
from ledger_kit import later, opened, schema, with_credits

# --- attacks ---

ANY: dict[str, tuple[tuple[str, ...], str]] = {
    "view": (
        ("CREATE VIEW evil AS SELECT id, hash FROM billing_token",),
        "view 'evil' uses billing_token",
    ),
    "unique index": (
        ("CREATE UNIQUE INDEX evil ON billing_journal (kind, number)",),
        "unique index evil on billing_journal",
    ),
    "dropped index": (("DROP INDEX billing_lot_live",), "index billing_lot_live is missing"),
    "changed index": (
        ("DROP INDEX billing_journal_at", "CREATE INDEX billing_journal_at ON billing_journal (at)"),
        "index billing_journal_at is 'create index billing_journal_at on billing_journal (at)'",
    ),
    "unconditional index": (
        ("DROP INDEX billing_lot_live", "CREATE INDEX billing_lot_live ON billing_lot (account)"),
        "index billing_lot_live is",
    ),
    "added column": (
        ("ALTER TABLE billing_account ADD COLUMN evil TEXT DEFAULT 'x'",),
        "table billing_account has, unlike this library's, \"evil text default 'x'",
    ),
    "renamed column": (
        ("ALTER TABLE billing_lot RENAME COLUMN live TO alive",),
        "table billing_lot has no 'live smallint not null'",
    ),
    "missing table": (("DROP TABLE billing_usage",), "table billing_usage is missing"),
    "renamed table": (
        ("ALTER TABLE billing_usage RENAME TO old", "CREATE VIEW billing_usage AS SELECT * FROM old"),
        "billing_usage",
    ),
    "version table": (
        ("ALTER TABLE billing_version ADD COLUMN evil TEXT DEFAULT 'x'",),
        "table billing_version has, unlike this library's, \"evil text default 'x'",
    ),
}
SQLITE: dict[str, tuple[tuple[str, ...], str]] = {
    "trigger": (
        ("CREATE TRIGGER evil AFTER INSERT ON billing_journal BEGIN UPDATE billing_account SET balance = '9'; END",),
        "trigger 'evil' on billing_journal",
    ),
    "trigger in other capitals": (
        ('CREATE TRIGGER evil AFTER UPDATE ON "Billing_LOT" BEGIN SELECT 1; END',),
        "trigger 'evil' on billing_lot",
    ),
    "trigger on another table": (
        (
            "CREATE TABLE orders (id TEXT)",
            'CREATE TRIGGER evil AFTER INSERT ON orders BEGIN UPDATE "billing_lot" SET live = 0; END',
        ),
        "trigger 'evil' uses billing_lot",
    ),
    "trigger with a name in single quotes": (
        (
            "CREATE TABLE orders (id TEXT)",
            "CREATE TRIGGER evil AFTER INSERT ON orders BEGIN UPDATE 'Billing_Lot' SET live = 0; END",
        ),
        "trigger 'evil' uses billing_lot",
    ),
    "view with a qualified name": (
        ("CREATE VIEW evil AS SELECT * FROM main.billing_lot",),
        "view 'evil' uses billing_lot",
    ),
}


def rewritten(table: str, old: str, new: str) -> tuple[str, ...]:
    """Return statements that replace the definition of a table in SQLite's catalog, as an attacker can."""
    return (
        "PRAGMA writable_schema = ON",
        f"UPDATE sqlite_master SET sql = replace(sql, '{old}', '{new}') WHERE name = '{table}'",
        "PRAGMA writable_schema = RESET",
    )


SQLITE |= {
    "check": (
        rewritten("billing_lot", "price TEXT", "price TEXT CHECK (price > ''x'')"),
        "table billing_lot has, unlike this library's, \"price text check (price > 'x')\"",
    ),
    "nullable column": (rewritten("billing_lot", "paid TEXT NOT NULL", "paid TEXT"), "has no 'paid text not null'"),
    "default": (rewritten("billing_lot", "used TEXT", "used TEXT DEFAULT 7"), "'used text default 7 not null'"),
    "collation": (rewritten("billing_token", "hash TEXT", "hash TEXT COLLATE NOCASE"), "collate nocase"),
    "conflict clause": (
        rewritten("billing_journal", "UNIQUE (account, number)", "UNIQUE (account, number) ON CONFLICT REPLACE"),
        "table billing_journal has, unlike this library's, 'unique (account, number) on conflict replace'",
    ),
    "dropped constraint": (
        rewritten("billing_lot", "UNIQUE (channel, reference)", "CHECK (1)"),
        "table billing_lot has no 'unique (channel, reference)'",
    ),
    "name that looks like a definition": (
        rewritten("billing_account", "head TEXT NOT NULL", '"head text not null"'),
        "has no 'head text not null'",
    ),
}
POSTGRESQL: dict[str, tuple[tuple[str, ...], str]] = {
    "trigger": (
        (
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE TRIGGER evil BEFORE INSERT ON billing_journal FOR EACH ROW EXECUTE FUNCTION evil()",
        ),
        "trigger 'evil' on billing_journal",
    ),
    "constraint trigger": (
        (
            "CREATE FUNCTION evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
            "CREATE CONSTRAINT TRIGGER evil AFTER INSERT ON billing_lot DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION evil()",
        ),
        "trigger 'evil' on billing_lot",
    ),
    "rule": (("CREATE RULE evil AS ON DELETE TO billing_lot DO INSTEAD NOTHING",), "rule 'evil' on billing_lot"),
    "policy": (("CREATE POLICY evil ON billing_hold",), "policy 'evil' on billing_hold"),
    "row-level security": (("ALTER TABLE billing_hold ENABLE ROW LEVEL SECURITY",), "has row-level security"),
    "child table": (("CREATE TABLE evil () INHERITS (billing_journal)",), "child table 'evil' on billing_journal"),
    "materialized view": (
        ("CREATE MATERIALIZED VIEW evil AS SELECT * FROM billing_lot",),
        "view 'evil' uses billing_lot",
    ),
    "unlogged": (("ALTER TABLE billing_journal SET UNLOGGED",), "table billing_journal is not permanent"),
    "check": (
        ("ALTER TABLE billing_lot ADD CONSTRAINT evil CHECK (remaining <> 7)",),
        "table billing_lot has, unlike this library's, 'check ((remaining <> (7) :: numeric))'",
    ),
    "nullable column": (
        ("ALTER TABLE billing_lot ALTER paid DROP NOT NULL",),
        "table billing_lot has no 'paid numeric (48, 18) not null'",
    ),
    "default": (("ALTER TABLE billing_lot ALTER used SET DEFAULT 7",), "default 7"),
    "type": (
        ("ALTER TABLE billing_account ALTER balance TYPE double precision",),
        "has, unlike this library's, 'balance double precision not null'",
    ),
    "digits": (
        ("ALTER TABLE billing_account ALTER balance TYPE numeric(50, 6)",),
        "has, unlike this library's, 'balance numeric (50, 6) not null'",
    ),
    "collation": (
        ('ALTER TABLE billing_token ALTER hash TYPE text COLLATE "POSIX"',),
        "has, unlike this library's, 'hash text collate POSIX not null'",
    ),
    "collation of the same name": (
        (
            "CREATE COLLATION \"C\" (locale = 'POSIX')",
            "DO $$BEGIN EXECUTE 'ALTER TABLE billing_token ALTER hash TYPE text COLLATE ' || current_schema "
            "|| '.\"C\"'; END$$",
        ),
        "has, unlike this library's, 'hash text collate own C not null'",
    ),
    "domain": (
        ("CREATE DOMAIN evil AS text CHECK (value <> 'x')", "ALTER TABLE billing_lot ADD COLUMN note evil"),
        "evil domain'",
    ),
    "dropped constraint": (
        ("ALTER TABLE billing_lot DROP CONSTRAINT billing_lot_payment",),
        "table billing_lot has no 'unique (channel, reference)'",
    ),
    "deferrable constraint": (
        (
            "ALTER TABLE billing_journal DROP CONSTRAINT billing_journal_number",
            "ALTER TABLE billing_journal ADD CONSTRAINT billing_journal_number UNIQUE (account, number) DEFERRABLE",
        ),
        "'unique (account, number) deferrable'",
    ),
    "foreign key": (
        ("ALTER TABLE billing_lot ADD FOREIGN KEY (account) REFERENCES billing_account ON DELETE CASCADE",),
        "foreign key (account)",
    ),
    "index with a function": (
        (
            "CREATE FUNCTION evil(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'",
            "CREATE INDEX evil ON billing_journal (evil(body))",
        ),
        "index evil on billing_journal executes a function",
    ),
}


def attack(ledger: Ledger, statements: tuple[str, ...]) -> None:
    if ledger.engine.dialect.name == "sqlite":
        path = ledger.engine.url.database
        assert path is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as attacker:
            for statement in statements:
                attacker.execute(statement)
        return
    with ledger.engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def assert_reported(ledger: Ledger, statements: tuple[str, ...], message: str) -> None:
    assert ledger.verify() == []
    attack(ledger, statements)
    found = ledger.verify()
    assert any(each.account is None and message in str(each) for each in found), list(map(str, found))


@pytest.mark.parametrize("what", ANY)
def test_a_change_of_the_schema_is_reported(database: str, what: str) -> None:
    """Verify names a foreign view, a changed or missing table, column or index, and a new unique index."""
    with opened(database) as ledger:
        statements, message = ANY[what]
        if ledger.engine.dialect.name == "postgresql" and what == "renamed table":
            message = "table billing_usage is not an ordinary table"
        assert_reported(with_credits(ledger), statements, message)


@pytest.mark.parametrize("what", SQLITE)
def test_a_change_of_the_schema_on_sqlite_is_reported(ledger: Ledger, what: str) -> None:
    """Verify names triggers, and what the text of a table shows: checks, defaults, collations, conflict clauses."""
    assert_reported(ledger, *SQLITE[what])


def test_a_changed_column_is_no_further_column(ledger: Ledger) -> None:
    """A column that became nullable is an inconsistency and no note."""
    attack(ledger, SQLITE["nullable column"][0])
    assert (len(ledger.audit().inconsistencies), ledger.audit().notes) == (2, [])


@pytest.mark.parametrize("what", POSTGRESQL)
def test_a_change_of_the_schema_on_postgresql_is_reported(postgres: str, what: str) -> None:
    """Verify names triggers, rules, policies, child tables, and changed columns, constraints and indexes."""
    with schema(postgres) as url, opened(url) as ledger:
        assert_reported(with_credits(ledger), *POSTGRESQL[what])


def test_a_table_that_hides_another_is_reported(postgres: str) -> None:
    """A table of the same name in a schema that is searched first is reported."""
    with schema(postgres) as hidden, schema(postgres) as hiding:
        first, second = (url.rpartition("%3D")[2] for url in (hiding, hidden))
        with opened(hidden) as ledger, ledger.engine.begin() as connection:
            with_credits(ledger)
            connection.exec_driver_sql(f"CREATE TABLE {first}.billing_lot (LIKE {second}.billing_lot INCLUDING ALL)")
        with opened(f"{hiding}%2C{second}") as ledger:
            assert any(f"table billing_lot is in another schema than billing_journal: '{first}'" in str(found)
                       for found in ledger.verify())  # fmt: skip


# --- what is no attack ---

HARMLESS: tuple[tuple[str, str], ...] = (
    ("CREATE TABLE orders (id TEXT PRIMARY KEY, total TEXT CHECK (total <> ''))", "not the ledger's: 'orders'"),
    ("CREATE INDEX mine ON billing_hold (expires) WHERE state = 'open'", "index mine on billing_hold"),
    ("CREATE VIEW open_orders AS SELECT id FROM orders", ""),
    ("CREATE INDEX orders_total ON orders (total)", ""),
    ("ALTER TABLE billing_account ADD COLUMN remark TEXT", "a further column, 'remark text'"),
)


def test_objects_of_the_gateway_are_notes(database: str) -> None:
    """Other tables, and further indexes and nullable columns are notes; views of other tables are not mentioned."""
    with opened(database) as ledger:
        with_credits(ledger)
        for statement, _ in HARMLESS:
            attack(ledger, (statement,))
        audit = ledger.audit()
        assert audit.inconsistencies == []
        assert len(audit.notes) == 3
        for _, note in HARMLESS:
            assert note in "\n".join(audit.notes)
        assert audit.heads == ledger.checkpoint()


def test_many_tables_of_the_gateway_are_one_short_note(ledger: Ledger) -> None:
    """The note names ten tables, and how many more there are."""
    attack(ledger, tuple(f"CREATE TABLE t{n:02d} (id TEXT)" for n in range(14)))
    (note,) = ledger.audit().notes
    assert note.endswith("'t08', 't09' and 4 more")


def test_a_view_in_another_schema_is_the_operators(postgres: str) -> None:
    """Reports may read the ledger from a schema of their own."""
    with schema(postgres) as url, schema(postgres) as other, opened(url) as ledger:
        mine = other.rpartition("%3D")[2]
        attack(with_credits(ledger), (f"CREATE VIEW {mine}.report AS SELECT * FROM billing_lot",))
        assert (ledger.audit().inconsistencies, ledger.audit().notes) == ([], [])


@pytest.fixture
def respelled(tmp_path: Any) -> Iterator[Ledger]:
    """A ledger whose tables have the same definitions with another spelling, such as that of a later SQLAlchemy."""
    path = tmp_path / "respelled.db"
    with opened(f"sqlite:///{path}") as ledger:
        dialect = ledger.engine.dialect
    with closing(sqlite3.connect(path)) as connection:
        for table in METADATA.tables.values():
            connection.execute(f"DROP TABLE {table.name}")
            elements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, table.indexes)]
            for element in elements:
                sql = str(element.compile(dialect=dialect)).replace("ON billing_lot", "on [billing_lot]  /* x */")
                connection.execute(sql.replace("reference TEXT", "`reference`  text -- x\n"))
    with opened(f"sqlite:///{path}") as ledger:
        yield ledger


def test_spelling_is_no_difference(respelled: Ledger) -> None:
    """Capitals, white space and quotes of a definition are no difference."""
    with respelled.engine.connect() as connection:
        assert check_schema(connection) == ([], [])
    with_credits(respelled)
    assert respelled.balance("acct", at=later(1)).available == 100


def test_a_role_that_can_only_read_can_verify(postgres: str) -> None:
    """Verifying needs no privilege but to read the tables, so that a nightly job need not be able to write."""
    with schema(postgres) as url, opened(url) as ledger:
        with_credits(ledger)
        name = url.rpartition("%3D")[2]
        role = f"reader_{name}"
        attack(
            ledger,
            (
                f"CREATE ROLE {role}",
                f"GRANT USAGE ON SCHEMA {name} TO {role}",
                f"GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {role}",
            ),
        )
        with opened(f"{url}%20-crole%3D{role}", create=False) as reader:
            with pytest.raises(BillingError, match="permission denied"):
                reader.open_account("other", at=later(1))
            assert reader.audit() == ([], [], ledger.checkpoint(), 0)
        attack(ledger, (f"DROP OWNED BY {role}", f"DROP ROLE {role}"))
