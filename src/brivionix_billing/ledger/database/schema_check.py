"""Compares the schema of a database with the tables of this library.

The journal and the derived tables may be consistent today, while a trigger or a changed constraint alters the next
entry. The expected definitions are those that SQLAlchemy compiles from the metadata. The actual ones are in the catalog
of the database: SQLite stores the text of each definition, and PostgreSQL can print them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from brivionix_billing.errors import safe_repr
from brivionix_billing.ledger.database.tables import METADATA, VERSION_TABLE

__all__ = ["SchemaReport", "check_schema"]

Tokens = tuple[str, ...]
_MAX_NAMED: Final = 10
"""Maximum number of tables of other programs that the note names."""
_TOKEN: Final = re.compile(
    r"""\s+ | --[^\n]* | /\*.*?(?:\*/|\Z)
    | (?P<text>'(?:[^']|'')*') | "(?P<quoted>(?:[^"]|"")*)" | `(?P<ticked>(?:[^`]|``)*)` | \[(?P<bracketed>[^\]]*)\]
    | (?P<word>[\w$]+) | (?P<other>[<>=!:|]+|.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN_NAME: Final = re.compile(r"[\w$]+")

_NO_COLUMN: Final = frozenset({"check", "unique", "primary", "foreign", "exclude", "constraint", "create", ")"})
"""First words of what is not a column of a CREATE TABLE."""
_COLUMN_RULES: Final = _NO_COLUMN - {")"} | {"not", "default", "generated", "as", "identity", "references", "domain"}


class SchemaReport(NamedTuple):
    """The result of comparing a schema."""

    inconsistencies: list[str]
    """Differences that can change what the ledger stores, or who can read it."""
    notes: list[str]
    """Differences that cannot."""


class _Index(NamedTuple):
    table: str
    definition: Tokens
    is_foreign_code: bool = False
    """Whether the database executes a function of a user for this index."""


@dataclass
class _Schema:
    """Tables with the definitions of their columns and constraints, indexes, and all that a ledger does not have."""

    tables: dict[str, list[Tokens]] = field(default_factory=dict)
    indexes: dict[str, _Index] = field(default_factory=dict)
    foreign: list[str] = field(default_factory=list)
    """Messages about triggers, views, rules and policies: the ledger has none."""
    other_tables: list[str] = field(default_factory=list)


def check_schema(connection: Connection) -> SchemaReport:
    """Compare the schema objects of the ledger with those that the migrations of this version create."""
    expected = _expected_schema(connection.dialect)
    read = _read_sqlite if connection.dialect.name == "sqlite" else _read_postgresql
    actual = read(connection, list(expected.tables))
    report = SchemaReport([], [])
    for name, definitions in expected.tables.items():
        if name not in actual.tables:
            report.inconsistencies.append(f"table {name} is missing; restore a backup")
            continue
        before, now = Counter(definitions), Counter(actual.tables[name])
        report.inconsistencies.extend(f"table {name} has no {_display(each)}" for each in (before - now).elements())
        names = {definition[0] for definition in definitions}
        for added in (now - before).elements():
            if added[0] not in names and _is_plain_column(added):
                report.notes.append(f"table {name} has a further column, {_display(added)}; it changes no result")
            else:
                report.inconsistencies.append(f"table {name} has, unlike this library's, {_display(added)}")
    report.inconsistencies.extend(actual.foreign)
    _compare_indexes(expected, actual, report)
    if actual.other_tables:
        others = ", ".join(sorted(actual.other_tables)[:_MAX_NAMED])
        more = len(actual.other_tables) - _MAX_NAMED
        further = f" and {more} more" if more > 0 else ""
        report.notes.append(f"the database also has tables that are not the ledger's: {others}{further}")
    return report


def _is_plain_column(definition: Tokens) -> bool:
    """Return whether a definition is that of a nullable column without a default, a constraint or code."""
    name, *rest = definition
    return name not in _NO_COLUMN and not _COLUMN_RULES.intersection(rest)


def _compare_indexes(expected: _Schema, actual: _Schema, report: SchemaReport) -> None:
    for name, index in expected.indexes.items():
        if index.table in actual.tables and actual.indexes.get(name, index) != index:
            message = (
                f"index {name} is {_display(actual.indexes[name].definition)}, expected {_display(index.definition)}"
            )
            report.inconsistencies.append(message)
        elif index.table in actual.tables and name not in actual.indexes:
            report.inconsistencies.append(f"index {name} is missing; restore it: {_display(index.definition)}")
    for name, index in actual.indexes.items():
        if name in expected.indexes:
            continue
        if "unique" in index.definition[:2]:
            report.inconsistencies.append(
                f"unique index {name} on {index.table} is not the ledger's: it rejects entries"
            )
        elif index.is_foreign_code:
            report.inconsistencies.append(
                f"index {name} on {index.table} executes a function that is not the database's"
            )
        else:
            report.notes.append(f"index {name} on {index.table} is not the ledger's; it changes no result")


# --- what the library creates ---


def _expected_schema(dialect: Dialect) -> _Schema:
    schema = _Schema()
    for table in (*METADATA.tables.values(), _version_table(dialect)):
        schema.tables[table.name] = _table_definitions(str(CreateTable(table).compile(dialect=dialect)), dialect)
        for index in table.indexes:
            definition = _index_definition(str(CreateIndex(index).compile(dialect=dialect)), dialect)
            schema.indexes[str(index.name)] = _Index(table.name, definition)
    return schema


def _version_table(dialect: Dialect) -> Table:
    """Return the table in which Alembic stores the version."""
    context = MigrationContext.configure(dialect=dialect)
    return context.impl.version_table_impl(
        version_table=VERSION_TABLE, version_table_schema=None, version_table_pk=True
    )


def _tokens(sql: str, dialect: Dialect) -> Tokens:
    """Split a statement into tokens, without white space and comments. Names have quotes only if they need them."""
    folds = dialect.name == "sqlite"  # PostgreSQL folds the case of names without quotes only
    tokens = []
    for match in _TOKEN.finditer(sql):
        kind = match.lastgroup
        if kind is None:
            continue
        if kind in ("word", "other"):
            tokens.append(match[0].lower())
        elif kind != "text" and _PLAIN_NAME.fullmatch(match[kind]):
            tokens.append(match[kind].lower() if folds else match[kind])
        else:
            tokens.append(match[0])
    return tuple(tokens)


def _table_definitions(sql: str, dialect: Dialect) -> list[Tokens]:
    """Return the definitions of columns and constraints in a CREATE TABLE, and what follows them."""
    tokens = _tokens(sql, dialect)
    if tokens[:2] != ("create", "table") or "(" not in tokens:
        return [tokens]
    definitions: list[list[str]] = [[]]
    depth, position = 1, tokens.index("(") + 1
    while depth and position < len(tokens):
        part = tokens[position]
        depth += {"(": 1, ")": -1}.get(part, 0)
        if depth == 1 and part == ",":
            definitions.append([])
        elif depth:
            definitions[-1].append(part)
        position += 1
    if tokens[position:]:
        definitions.append([")", *tokens[position:]])  # such as STRICT
    return [_without_name(tuple(each)) for each in definitions]


def _without_name(definition: Tokens) -> Tokens:
    """Remove the name of a constraint, on which nothing depends."""
    return definition[2:] if definition[:1] == ("constraint",) else definition


def _index_definition(sql: str, dialect: Dialect) -> Tokens:
    """Return a CREATE INDEX. PostgreSQL rewrites the condition of a partial index, so only its presence is compared."""
    tokens = _tokens(sql, dialect)
    if dialect.name == "postgresql" and "where" in tokens:
        tokens = (*tokens[: tokens.index("where")], "where")
    return tokens


def _display(definition: Sequence[str]) -> str:
    text = " ".join(definition)
    return safe_repr(text.replace("( ", "(").replace(" )", ")").replace(" ,", ","), 200)


# --- what the database has ---


def _read_sqlite(connection: Connection, names: list[str]) -> _Schema:
    schema = _Schema()
    for kind, name, table, sql in connection.exec_driver_sql("SELECT type, name, tbl_name, sql FROM sqlite_master"):
        owner = table.lower()
        if kind == "trigger" and owner in names:
            schema.foreign.append(_foreign(kind, name, owner))
        elif kind in ("trigger", "view"):
            # SQLite also accepts names in single quotes.
            mentioned = (each.strip("'").lower() for each in _tokens(sql or "", connection.dialect))
            used = [each for each in mentioned if each in names]
            if used or name.lower() in names:
                schema.foreign.append(f"{kind} {safe_repr(name)} uses {(used or [owner])[0]} and is not the ledger's")
        elif kind == "index" and owner in names and sql is not None:  # the indexes of constraints have no text
            schema.indexes[name.lower()] = _Index(owner, _index_definition(sql, connection.dialect))
        elif kind == "table" and owner in names:
            schema.tables[owner] = _table_definitions(sql or "", connection.dialect)
        elif kind == "table" and not owner.startswith("sqlite_"):
            schema.other_tables.append(safe_repr(name))
    return schema


def _foreign(kind: str, name: str, table: str) -> str:
    return f"{kind} {safe_repr(name)} on {table} is not the ledger's; find out who created it"


def _read_postgresql(connection: Connection, names: list[str]) -> _Schema:
    schema = _Schema()
    rows = connection.exec_driver_sql(_POSTGRESQL_TABLES, (names,)).all()
    home = next((row.namespace for row in rows if row.name == "billing_journal"), None)
    oids = {row.oid: row.name for row in rows}
    for row in rows:
        schema.tables[row.name] = []
        for is_wrong, problem in (
            (row.namespace != home, f"is in another schema than billing_journal: {safe_repr(row.namespace)}"),
            (row.relkind != "r", "is not an ordinary table"),
            (row.relpersistence != "p", "is not permanent: a crash empties it"),
            (row.relrowsecurity, "has row-level security, which hides rows"),
        ):
            if is_wrong:
                schema.foreign.append(f"table {row.name} {problem}")

    def query(statement: str) -> Iterator[Any]:
        return iter(connection.exec_driver_sql(statement, (list(oids),)).all())

    for row in query(_POSTGRESQL_COLUMNS):
        definition = row.definition.replace("character varying", "varchar")
        schema.tables[oids[row.oid]].append(_tokens(definition, connection.dialect))
    for row in query(_POSTGRESQL_CONSTRAINTS):
        schema.tables[oids[row.oid]].append(_tokens(row.definition, connection.dialect))
    for row in query(_POSTGRESQL_INDEXES):
        table = oids[row.oid]
        definition = row.definition.replace(f" ON {row.qualified} USING btree ", f" ON {table} ", 1)
        tokens = _index_definition(definition, connection.dialect)
        schema.indexes[row.name] = _Index(table, tokens, row.is_foreign_code)
        if not row.indisvalid:
            schema.foreign.append(f"index {safe_repr(row.name)} on {table} is invalid; REINDEX it")
    for row in query(_POSTGRESQL_FOREIGN):
        schema.foreign.append(_foreign(row.kind, row.name, oids[row.oid]))
    for row in connection.exec_driver_sql(_POSTGRESQL_OTHER, (home, list(oids))):
        if row.uses is not None:
            schema.foreign.append(f"view {safe_repr(row.name)} uses {row.uses} and is not the ledger's")
        elif row.is_table and row.name not in names:
            schema.other_tables.append(safe_repr(row.name))
    return schema


_POSTGRESQL_TABLES: Final = """
SELECT c.oid, c.relname AS name, n.nspname AS namespace, c.relkind, c.relpersistence, c.relrowsecurity
FROM unnest(CAST(%s AS text[])) AS wanted(name)
JOIN pg_class c ON c.oid = to_regclass(wanted.name) JOIN pg_namespace n ON n.oid = c.relnamespace
"""
_POSTGRESQL_COLUMNS: Final = """
SELECT a.attrelid AS oid, quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod)
  || CASE WHEN t.typtype = 'd' THEN ' DOMAIN' ELSE '' END
  || CASE WHEN a.attcollation = t.typcollation THEN ''
          WHEN l.collnamespace = 'pg_catalog'::regnamespace THEN ' COLLATE ' || quote_ident(l.collname)
          ELSE ' COLLATE own ' || quote_ident(l.collname) END
  || CASE WHEN d.oid IS NULL THEN '' WHEN a.attgenerated = '' THEN ' DEFAULT ' ELSE ' GENERATED ' END
  || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
  || CASE WHEN a.attidentity = '' THEN '' ELSE ' IDENTITY' END
  || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END AS definition
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_collation l ON l.oid = a.attcollation
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attrelid = ANY(CAST(%s AS oid[]))
"""
_POSTGRESQL_CONSTRAINTS: Final = """
SELECT conrelid AS oid, pg_get_constraintdef(oid) AS definition FROM pg_constraint
WHERE contype NOT IN ('n', 't') AND conrelid = ANY(CAST(%s AS oid[]))
"""
"""A constraint of type ``n`` is NOT NULL, which is part of its column, and ``t`` belongs to a trigger."""
_POSTGRESQL_INDEXES: Final = """
SELECT i.indrelid AS oid, c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition, i.indisvalid,
  quote_ident(n.nspname) || '.' || quote_ident(t.relname) AS qualified,
  EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
          AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_opclass'::regclass)) AS is_foreign_code
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indrelid = ANY(CAST(%s AS oid[]))
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
                  AND k.conrelid = i.indrelid)
"""
"""Indexes without those of constraints. Dependencies on functions of PostgreSQL itself are not recorded."""
_POSTGRESQL_FOREIGN: Final = """
WITH ours AS (SELECT unnest(CAST(%s AS oid[])) AS oid)
SELECT 'trigger' AS kind, tgname AS name, o.oid FROM pg_trigger t JOIN ours o ON o.oid = t.tgrelid AND NOT tgisinternal
UNION ALL SELECT 'rule', rulename, o.oid FROM pg_rewrite r JOIN ours o ON o.oid = r.ev_class
UNION ALL SELECT 'policy', polname, o.oid FROM pg_policy p JOIN ours o ON o.oid = p.polrelid
UNION ALL SELECT 'child table', inhrelid::regclass::text, o.oid FROM pg_inherits i JOIN ours o ON o.oid = i.inhparent
"""
_POSTGRESQL_OTHER: Final = """
SELECT DISTINCT c.relname AS name, c.relkind IN ('r', 'p', 'f') AS is_table, used.relname AS uses
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = %s
LEFT JOIN (pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
           AND d.refclassid = 'pg_class'::regclass AND d.refobjid = ANY(CAST(%s AS oid[]))
           JOIN pg_class used ON used.oid = d.refobjid)
  ON r.ev_class = c.oid
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
"""
