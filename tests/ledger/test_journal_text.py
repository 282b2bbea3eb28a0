"""The text of entries is canonical JSON, and a column that holds JSON and was altered is an error of the ledger."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger.journal_text import envelope_text
from ledger_kit import NOW, later, opened, refused, with_credits
from strategies import json_values


def written(value: Any, member: str | None = None) -> bytes | str:
    """Return the text of a value, or the code of its error. ``member``: of an envelope, by the function of entries."""
    try:
        return canonical_json(value) if member is None else envelope_text(value, member)
    except BillingError as error:
        return error.code


class Ulid(str):
    """An id of a class of the caller."""


@given(json_values, st.dictionaries(st.text("abc", max_size=2), st.text('ä\x00"\\/', max_size=3)))
def test_an_entry_is_written_as_canonical_json(content: Any, result: dict[str, str]) -> None:
    """The text of an envelope is its canonical JSON, whatever its content; or both are the same error."""
    envelope = {"v": 1, "content": content, "id": "r1", "result": result, "lots": [("lot", "1.5")]}
    assert written(envelope, "content") == written(envelope)


def test_every_character_is_written_as_the_encoder_of_json_writes_it() -> None:
    """Each character of Unicode is escaped, or not, as in canonical JSON."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    oracle = json.dumps({"content": characters}, ensure_ascii=False, separators=(",", ":")).encode()
    assert envelope_text({"content": characters}, "content") == oracle


@pytest.mark.parametrize("levels", [61, 62, 63, 64, 65])
def test_the_levels_of_a_content_are_those_of_its_entry(levels: int) -> None:
    """A content is too deep exactly if its entry is too deep for canonical JSON."""
    content: Any = "x"
    for _ in range(levels):
        content = [content]
    assert written({"content": content}, "content") == written({"content": content})


def test_ids_of_a_class_of_the_caller_are_written_as_texts(tmp_path: Path) -> None:
    """An id that is an instance of a subclass of ``str`` makes the entry that its text makes."""
    heads = []
    for kind in (str, Ulid):
        with opened(f"sqlite:///{tmp_path / kind.__name__}") as ledger:
            with_credits(ledger)
            ledger.hold("acct", "1", id=kind("r1"), at=later(1))
            ledger.settle(kind("r1"), "0.5", at=later(2))
            assert ledger.verify() == []
            heads.append(ledger.checkpoint())
    assert heads[0] == heads[1]


@pytest.mark.parametrize(
    "text", ["{", "[]", "null", "\x00", '{"limits":1,"credits":"1"}', '{"limits":[],"credits":"x"}']
)
def test_an_altered_column_that_holds_json_is_an_error_of_the_ledger(tmp_path: Path, text: str) -> None:
    """A hold whose counted amounts were altered is not settled: the error says that the tables must be rebuilt."""
    path = tmp_path / "ledger.db"
    with opened(f"sqlite:///{path}") as ledger:
        with_credits(ledger)
        ledger.set_limit("acct", "daily", 5, window="day", id="limit", at=NOW)
        ledger.hold("acct", "1", id="r1", at=later(1))
        with closing(sqlite3.connect(path)) as attacker, attacker:
            attacker.execute("UPDATE billing_hold SET counted = ?", (text,))
        with refused("journal_broken") as caught:
            ledger.settle("r1", "0.5", at=later(2))
        assert "rebuild the tables" in caught.value.message
        ledger.rebuild()
        ledger.settle("r1", "0.5", at=later(2))
        assert ledger.verify() == []
