"""The outputs of fixed inputs are those in ``tests/data/reference``, byte for byte.

``tests/support/make_reference.py`` writes them, and produces them again here. CONTRIBUTING.md says when they may be
rewritten.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.engine import create_ledger_engine
from make_reference import DATABASE, LEDGER_REPORTS, REFERENCE, STEPS, Shell, journal, ledger_reports, shells

Files = dict[str, bytes]

# --- deliberate renames since the reference was written ---
#
# While all tables are empty, every file is compared byte for byte. An entry changes only the comparison of files that
# contain the renamed word: their content is parsed, renamed and compared as a structure. The hashes and signatures of
# these documents are expected to be new, and are replaced in all files of the same step that mention them.

RENAMED_KEYS: dict[str, str] = {}
"""Old key of JSON or column of CSV -> new key. If the old key has parent keys, such as
``totals.channels.*.parts``, only keys at this path are renamed. If it has a file pattern, such as ``bills/*:shown``,
only keys in these files are renamed."""
RENAMED_CODES: dict[str, str] = {}
"""Old error code -> new error code."""
RENAMED_VALUES: dict[str, str] = {}
"""Old value -> new value, for complete JSON values and complete CSV cells."""
RENAMED_OPTIONS: dict[str, str] = {}
"""Old option or command of the command line -> new one."""
RENAMED_FILES: dict[str, str] = {}
"""Old name of a file that a command writes -> new name."""
RENAMED_PRICE_KEYS: dict[str, str] = {}
"""Old key of the price file -> new key."""

_CODE_KEYS: Final = frozenset({"code", "codes", "error"})
_HASH: Final = re.compile(r"(sha256:)?[0-9a-f]{64}")
_HASH_KEYS: Final = frozenset({"hash", "signature"})


# --- comparing ---


def _keys_of(file: str) -> Iterator[tuple[list[str], str]]:
    """Yield the renamed keys of a file: the old key with its parent keys, and the new key."""
    for old, new in RENAMED_KEYS.items():
        files, _, key = old.rpartition(":")
        if not files or fnmatchcase(file, files):
            yield key.split("."), new


class Document:
    """One parsed part of a reference file, renamed: a JSON value, a line of JSON Lines, or a table."""

    def __init__(self, value: Any, file: str) -> None:
        self.is_renamed = False
        self._keys = list(_keys_of(file))
        self.value = self._rename(value, ())

    def _rename(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, dict):
            return {self._key((*path, key)): self._rename(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self._rename(item, path) for item in value]
        if isinstance(value, str):
            if path[-1:] == ("body",) and value.startswith("{"):  # the text of a journal entry is in a column
                return self._rename(json.loads(value), ())
            if path[-1:] == ("where",):
                return self._path(value)
            words = RENAMED_CODES if path[-1:] and path[-1] in _CODE_KEYS else RENAMED_VALUES
            return self._renamed(value, words.get(value, value))
        return value

    def _key(self, path: tuple[str, ...]) -> str:
        for parts, new in self._keys:
            end = path[-len(parts) :]
            if len(end) == len(parts) and all(map(fnmatchcase, end, parts)):
                return self._renamed(path[-1], new)
        return path[-1]

    def _path(self, path: str) -> str:
        """Rename the keys in a path of a document, such as ``totals.channels.rmb.parts[0]``."""
        for parts, new in self._keys:
            *parents, last = (part.replace("*", r"[^.]+") for part in parts)
            start = "".join(rf"{part}(?:\[\d+\])?(?: \([^)]*\))?\." for part in parents)
            path = self._renamed(path, re.sub(rf"(?<![\w(])({start}){last}(?!\w)", rf"\g<1>{new}", path))
        return path

    def _renamed(self, old: str, new: str) -> str:
        self.is_renamed |= old != new
        return new


def parse(name: str, content: bytes) -> list[Any] | None:
    """Return the parts of a structured file, else ``None``."""
    text = content.decode()
    if name.endswith(".json"):
        return [json.loads(text)] if text else []
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    if name.endswith(".csv"):
        return list(csv.DictReader(io.StringIO(text, newline="")))
    return None


def nested(value: Any) -> Any:
    """Return a value in which the text of journal entries is parsed."""
    if isinstance(value, dict):
        return {
            key: json.loads(item) if key == "body" and isinstance(item, str) and item.startswith("{") else nested(item)
            for key, item in value.items()
        }
    return [nested(item) for item in value] if isinstance(value, list) else value


def hashes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Yield the hashes and signatures of a document that differ, as (old, new)."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in old.keys() & new.keys():
            yield from hashes(old[name], new[name], name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for old_item, new_item in zip(old, new, strict=True):
            yield from hashes(old_item, new_item, key)
    elif key in _HASH_KEYS and old != new and _is_proof(key, old) and _is_proof(key, new):
        yield old, new


def _is_proof(key: str, value: Any) -> bool:
    return isinstance(value, str) and (key == "signature" or _HASH.fullmatch(value) is not None)


def _ordered(value: Any) -> Any:
    """Return a value with sorted differences, because ``verify`` lists them in the order of keys."""
    if isinstance(value, dict):
        ordered = {key: _ordered(item) for key, item in value.items()}
        if "differences" in ordered:
            ordered["differences"] = sorted(ordered["differences"], key=repr)
        return ordered
    return [_ordered(item) for item in value] if isinstance(value, list) else value


class Comparison:
    """Compares the files of a step with the reference, and determines which hashes are new because of a rename."""

    def __init__(self, reference: Files, produced: Files, step: str = "") -> None:
        self.reference, self.produced = reference, produced
        self.new_hashes: dict[str, str] = {}
        self.documents: dict[str, list[Document]] = {}
        if not (RENAMED_KEYS or RENAMED_CODES or RENAMED_VALUES):
            return
        for name, content in reference.items():
            values = parse(name, content)
            if values is not None:
                self.documents[name] = [Document(value, f"{step}/{name}") for value in values]
        previous_count = -1
        while previous_count != len(self.new_hashes):  # a document has a new hash if it contains a new hash
            previous_count = len(self.new_hashes)
            for name, documents in self.documents.items():
                for document, value in zip(documents, parse(name, self.produced.get(name, b"")) or [], strict=False):
                    if document.is_renamed or self._mentions_new(document.value):
                        self.new_hashes.update(hashes(document.value, nested(value)))

    def check(self, name: str) -> None:
        """Fail if a file differs from the reference."""
        expected, actual = self.reference[name], self.produced[name]
        documents = self.documents.get(name, [])
        if any(document.is_renamed or self._mentions_new(document.value) for document in documents):
            values = [self._replaced(document.value) for document in documents]
            assert _ordered(nested(parse(name, actual))) == _ordered(values)
        else:
            assert actual.decode() == self._replaced(expected.decode())

    def _mentions_new(self, value: Any) -> bool:
        if not self.new_hashes:
            return False
        text = json.dumps(value, ensure_ascii=False)
        return any(old in text for old in self.new_hashes)

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._replaced(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._replaced(item) for item in value]
        if isinstance(value, str):
            for old, new in self.new_hashes.items():
                value = value.replace(old, new)
        return value


# --- the reference and the produced files ---


def _stored(step: str) -> Files:
    folder = REFERENCE / step
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != DATABASE]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _old_names(files: Files) -> Files:
    new_to_old = {new: old for old, new in RENAMED_FILES.items()}
    return {"/".join(new_to_old.get(part, part) for part in name.split("/")): text for name, text in files.items()}


def _shell() -> Iterator[Shell]:
    keys = {old.rpartition(":")[2]: new for old, new in RENAMED_KEYS.items()}
    return shells(RENAMED_OPTIONS, keys, RENAMED_PRICE_KEYS)


@cache
def _comparison(step: str) -> Comparison:
    for shell in _shell():
        files = STEPS[step](shell)
        files["commands.jsonl"] = shell.statuses()
    return Comparison(_stored(step), _old_names(files), step)


@cache
def _reports_on_stored_database() -> Comparison:
    """Compare reports on a copy of the stored database, opened by the current code."""
    for shell in _shell():
        shutil.copy(REFERENCE / LEDGER_REPORTS / DATABASE, shell.folder / DATABASE)
        shell.run("ledger", "migrate", "--db", DATABASE)
        files = _old_names(ledger_reports(shell))
    stored = _stored(LEDGER_REPORTS)
    return Comparison({name: stored[name] for name in files.keys() & stored.keys()}, files, LEDGER_REPORTS)


_NAMES: Final = [(step, name) for step in STEPS for name in _stored(step)]
_REPORTS: Final = sorted(_stored(LEDGER_REPORTS).keys() - {"commands.jsonl", "operations.jsonl"})


# --- tests ---


@pytest.mark.parametrize(("step", "name"), _NAMES, ids=map("/".join, _NAMES))
def test_a_file_matches_the_reference(step: str, name: str) -> None:
    """A produced file is the file of the reference."""
    _comparison(step).check(name)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_produces_exactly_the_reference_files(step: str) -> None:
    """A step produces exactly the files of the reference."""
    assert sorted(_comparison(step).produced) == sorted(_stored(step))


@pytest.mark.parametrize("name", _REPORTS)
def test_a_report_on_the_stored_database_matches_the_reference(name: str) -> None:
    """A report on the stored database of the ledger is that of the reference."""
    _reports_on_stored_database().check(name)


def _open_copy(folder: Path) -> Ledger:
    copy = folder / DATABASE
    shutil.copy(REFERENCE / LEDGER_REPORTS / DATABASE, copy)
    url = f"sqlite:///{copy}"
    with Ledger(create_ledger_engine(url)) as ledger:
        ledger.migrate()
    return Ledger.open(url, PriceBook.load(REFERENCE / "inputs" / "pricing.yaml"))


def test_the_stored_database_accepts_operations(tmp_path: Path) -> None:
    """The stored database accepts further operations and verifies afterwards."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    with _open_copy(tmp_path) as ledger:
        before = ledger.balance("acct_1", at=now)
        ledger.hold("acct_1", "1.5", id="further", at=now, ttl=timedelta(minutes=1))
        ledger.settle("further", "0.25", at=now)
        after = ledger.balance("acct_1", at=now)
        assert (before.available - after.available, ledger.verify()) == (Decimal("0.25"), [])


def test_the_stored_database_recognizes_a_repeated_operation(tmp_path: Path) -> None:
    """An operation that the stored database already has is recognized as repeated."""
    now = datetime(2026, 11, 1, tzinfo=UTC)
    with _open_copy(tmp_path) as ledger:
        entry = ledger.grant("acct_1", "3", reason="sorry", id="gift_2", at=now, expires=_expiry_of_second_gift())
    assert entry.repeated


def _expiry_of_second_gift() -> datetime:
    rows = (REFERENCE / "inputs" / "ledger_day.jsonl").read_text(encoding="utf-8").splitlines()
    (row,) = (operation for operation in map(json.loads, rows) if operation.get("id") == "gift_2")
    return datetime.fromisoformat(row["expires"])


def test_rebuilding_the_stored_database_changes_nothing(tmp_path: Path) -> None:
    """Rebuilding the derived tables from the stored journal does not change them."""
    with _open_copy(tmp_path) as ledger:
        before = _rows(tmp_path / DATABASE)
        ledger.rebuild()
        after = _rows(tmp_path / DATABASE)
    assert before == after


def _rows(database: Path) -> dict[str, list[Mapping[str, Any]]]:
    """Return all rows of all tables. ``next_expiry`` may be earlier than needed and is left out."""
    with closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        tables: dict[str, list[Mapping[str, Any]]] = {}
        for name in sorted(names):
            cursor = connection.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            tables[name] = sorted(({**row, "next_expiry": None} for row in rows), key=repr)
    return tables


def test_the_stored_journal_has_every_kind_of_entry() -> None:
    """The stored journal has every kind of entry of the ledger."""
    kinds = {row["kind"] for row in journal(REFERENCE / LEDGER_REPORTS / DATABASE)}
    requests = {"hold", "settle", "release", "charge", "hold_expired"}
    money = {"top_up", "grant", "adjust", "refund", "dispute", "reverse", "lot_expired"}
    assert kinds == requests | money | {"account", "token", "token_changed"}


# --- the comparison itself ---


@pytest.fixture
def empty_renames(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return a monkeypatch with empty tables of renames."""
    for table in (RENAMED_KEYS, RENAMED_CODES, RENAMED_VALUES):
        for old in list(table):
            monkeypatch.delitem(table, old)
    return monkeypatch


def _document(**content: Any) -> bytes:
    return json.dumps(content).encode()


def test_without_renames_white_space_is_a_difference(empty_renames: pytest.MonkeyPatch) -> None:
    """With empty tables, one additional byte is a difference."""
    with pytest.raises(AssertionError):
        Comparison({"a.json": b'{"a":1}'}, {"a.json": b'{"a": 1}'}).check("a.json")


def test_a_renamed_key_allows_a_new_hash(empty_renames: pytest.MonkeyPatch) -> None:
    """A renamed key, the new hash of its document and mentions of this hash are not differences."""
    empty_renames.setitem(RENAMED_KEYS, "totals.*.parts", "price_periods")
    old, new, next_old, next_new = (f"sha256:{digit * 64}" for digit in "abcd")
    totals = {"rmb": {"parts": [1]}}
    reference = {
        "1.json": _document(hash=old, totals=totals, parts=2),
        "2.json": _document(hash=next_old, previous=old),
        "text.txt": f"Hash {old}, {next_old}".encode(),
    }
    produced = {
        "1.json": _document(hash=new, totals={"rmb": {"price_periods": [1]}}, parts=2),
        "2.json": _document(hash=next_new, previous=new),
        "text.txt": f"Hash {new}, {next_new}".encode(),
    }
    comparison = Comparison(reference, produced)
    for name in reference:
        comparison.check(name)


def test_a_rename_hides_no_other_difference(empty_renames: pytest.MonkeyPatch) -> None:
    """In a document with a renamed key, a different figure is a difference."""
    empty_renames.setitem(RENAMED_KEYS, "shown", "rounded")
    reference, produced = _document(hash="a" * 64, shown="1"), _document(hash="b" * 64, rounded="2")
    with pytest.raises(AssertionError):
        Comparison({"a.json": reference}, {"a.json": produced}).check("a.json")


def test_files_without_a_renamed_key_must_match_exactly(empty_renames: pytest.MonkeyPatch) -> None:
    """In a document without a renamed key, a different hash is a difference."""
    empty_renames.setitem(RENAMED_KEYS, "shown", "rounded")
    with pytest.raises(AssertionError):
        Comparison({"a.json": _document(hash="a" * 64)}, {"a.json": _document(hash="b" * 64)}).check("a.json")


def test_a_key_is_renamed_in_the_path_of_a_difference(empty_renames: pytest.MonkeyPatch) -> None:
    """A key is also renamed in the path of a difference."""
    empty_renames.setitem(RENAMED_KEYS, "lines.shown", "rounded")
    old, new = (f"lines[3] (gpt-5.4, shown).{key}.channels" for key in ("shown", "rounded"))
    Comparison({"a.json": _document(where=old)}, {"a.json": _document(where=new)}).check("a.json")


def test_a_file_pattern_limits_a_renamed_key(empty_renames: pytest.MonkeyPatch) -> None:
    """A renamed key with a file pattern is renamed only in these files."""
    empty_renames.setitem(RENAMED_KEYS, "bills/*:shown", "rounded")
    files = {"bills": _document(rounded=1), "prices": _document(shown=1)}
    for step, produced in files.items():
        Comparison({"a.json": _document(shown=1)}, {"a.json": produced}, step).check("a.json")


def test_a_code_is_renamed_only_as_a_code(empty_renames: pytest.MonkeyPatch) -> None:
    """A code is renamed in keys for codes, and not in other values."""
    empty_renames.setitem(RENAMED_CODES, "bad_time", "invalid_time")
    reference = b'{"codes": ["bad_time"], "name": "bad_time"}\n'
    Comparison({"a.jsonl": reference}, {"a.jsonl": reference.replace(b'["bad', b'["invalid')}).check("a.jsonl")
