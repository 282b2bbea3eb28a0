"""The text of entries is canonical JSON, and a column that holds JSON and was altered is an error of the ledger."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.ledger import Restriction
from brivionix_billing.ledger.journal_text import encode_envelope
from ledger_kit import NOW, later, opened, refused, with_credits
from plan_kit import plan
from strategies import json_values


def write(value: Any, member: str | None = None) -> bytes | str:
    """Return the text of a value, or the code of its error. ``member``: of an envelope, by the function of entries."""
    try:
        return canonical_json(value) if member is None else encode_envelope(value, member)
    except BillingError as error:
        return error.code


class Ulid(str):
    """An id of a class of the caller."""


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Slug(str):
    """An id of a class that msgspec would write as an object."""


@given(json_values, st.dictionaries(st.text("abc", max_size=2), st.text('ä\x00"\\/', max_size=3)))
def test_an_entry_is_written_as_canonical_json(content: Any, result: dict[str, str]) -> None:
    """The text of an envelope is its canonical JSON, whatever its content; or both are the same error."""
    envelope = {"v": 1, "content": content, "id": "r1", "result": result, "lots": [("lot", "1.5")]}
    assert write(envelope, "content") == write(envelope)


def test_every_character_is_written_as_the_encoder_of_json_writes_it() -> None:
    """Each character of Unicode is escaped, or not, as in canonical JSON."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    oracle = json.dumps({"content": characters}, ensure_ascii=False, separators=(",", ":")).encode()
    assert encode_envelope({"content": characters}, "content") == oracle


@pytest.mark.parametrize("levels", [61, 62, 63, 64, 65])
def test_the_levels_of_a_content_are_those_of_its_entry(levels: int) -> None:
    """A content is too deep exactly if its entry is too deep for canonical JSON."""
    content: Any = "x"
    for _ in range(levels):
        content = [content]
    assert write({"content": content}, "content") == write({"content": content})


ARGUMENTS = ("account", "lot", "reason", "hold", "model", "group", "tag", "charge")


def journal_of(path: Path, **classes: type[str]) -> dict[str, tuple[int, str]]:
    """Return the heads of a ledger whose operations got an argument as an instance of a class."""

    def text(argument: str, value: str) -> str:
        return classes.get(argument, str)(value)

    with opened(f"sqlite:///{path}") as ledger:
        ledger.open_account(text("account", "acct"), at=NOW)
        only = Restriction(models=["m"])
        ledger.grant("acct", 5, reason=text("reason", "a gift"), id=text("lot", "gift"), at=NOW, only=only)
        model, group, tags = text("model", "m"), text("group", "default"), {"team": text("tag", "x")}
        ledger.hold("acct", "1", id=text("hold", "r1"), at=later(1), model=model, group=group, tags=tags)
        ledger.settle(text("hold", "r1"), "0.5", at=later(2))
        ledger.charge("acct", "0.5", id=text("charge", "c1"), at=later(3), tags=tags)
        assert ledger.verify() == []
        return ledger.checkpoint()


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", [Ulid, Slug])
def test_a_text_of_a_class_of_the_caller_is_written_as_a_text(tmp_path: Path, argument: str, kind: type[str]) -> None:
    """An argument that is an instance of a subclass of ``str`` makes the entry that its text makes."""
    assert journal_of(tmp_path / "own.db", **{argument: kind}) == journal_of(tmp_path / "plain.db")


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("billing_subscription.terms", "{}"),
        ("billing_subscription.lots", '"abc"'),
        ("billing_signal.content", '["ab"]'),
        ("billing_hold.scope", '{"tags":5}'),
    ],
)
def test_an_altered_column_is_not_taken_for_another_value(tmp_path: Path, column: str, text: str) -> None:
    """Each operation that reads an altered column says so; none makes something else of it."""
    path = tmp_path / "ledger.db"
    with opened(f"sqlite:///{path}") as ledger:
        ledger.open_account("acct", at=NOW)
        ledger.set_signal("acct", "low", "low_balance", threshold=9, id="low", at=NOW)
        ledger.subscribe("acct", plan("free", 9, None, models=["m"]), id="sub", at=NOW)
        ledger.hold("acct", 1, id="r1", at=later(1), model="m")
        table, _, name = column.partition(".")
        with closing(sqlite3.connect(path)) as attacker, attacker:
            assert attacker.execute(f"UPDATE {table} SET {name} = ?", (text,)).rowcount == 1
        operations: dict[str, Callable[[], object]] = {
            "billing_subscription": lambda: ledger.subscriptions("acct", at=later(2)),
            "billing_signal": lambda: ledger.signals("acct"),
            "billing_hold": lambda: ledger.settle("r1", 1, at=later(2)),
        }
        with refused("journal_broken"):
            operations[table]()
        ledger.rebuild()
        operations[table]()


@pytest.mark.parametrize("text", ['["ab"]', "[]", "null", '{"tags":[]}', '{"tags":["x"]}', '{"models":1}'])
def test_an_altered_restriction_gets_into_no_entry(tmp_path: Path, text: str) -> None:
    """The Credits of a lot whose restriction was altered are not transferred, and no operation takes it as it is."""
    path = tmp_path / "ledger.db"
    with opened(f"sqlite:///{path}") as ledger:
        for account in ("acct", "other"):
            ledger.open_account(account, at=NOW)
        ledger.grant("acct", 5, reason="a gift", id="gift", at=NOW, only=Restriction(models=["m"]))
        with closing(sqlite3.connect(path)) as attacker, attacker:
            attacker.execute("UPDATE billing_lot SET restriction = ?", (text,))
        for operation in (
            lambda: ledger.transfer("acct", "other", 1, reason="split", id="t", at=NOW, lot="gift"),
            lambda: ledger.hold("acct", 1, id="r1", at=NOW, model="m"),
            lambda: ledger.lots("acct"),
        ):
            with refused("journal_broken"):
                operation()
        ledger.rebuild()
        ledger.transfer("acct", "other", 1, reason="split", id="t", at=NOW, lot="gift")
        assert ledger.lots("other")[0].only == Restriction(models=["m"])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "null",
        "\x00",
        '{"limits":[],"credits":[]}',
        '{"limits":1,"credits":"1"}',
        '{"limits":[],"credits":"x"}',
    ],
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
