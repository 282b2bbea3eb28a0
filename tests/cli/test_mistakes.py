"""Mistakes of users: each gets one message that says what is wrong, where, and what was probably meant."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Any, Final

import pytest
import yaml

from brivionix_billing import BillingError, Money, PriceBook, Usage
from brivionix_billing.cli.parser import text_or_empty
from brivionix_billing.gateway import from_billing_error
from brivionix_billing.ledger import Ledger
from brivionix_billing.pages import pricing_page
from brivionix_billing.tokens import TokenCounter
from cli_kit import Run, commands
from paths import DATA

MISTAKES: Final = yaml.safe_load((DATA / "mistakes_of_users.yaml").read_text("utf-8"))
COMMANDS: Final = [(each["command"], each["says"]) for each in MISTAKES if "command" in each]
STATEMENTS: Final = [(each["python"], each["says"]) for each in MISTAKES if "python" in each]
AT: Final = datetime(2026, 10, 20, tzinfo=UTC)


def test_there_are_sixty() -> None:
    """The table has at least 60 mistakes."""
    assert len(MISTAKES) >= 60


@pytest.mark.parametrize(("command", "says"), COMMANDS)
def test_a_mistake_in_a_command_is_named(command: str, says: str, run: Run) -> None:
    """It ends with status 2 and one message. Nothing is written but that message."""
    (run.folder / "a.txt").write_text("Hello")
    if "bills" in command:
        assert run("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "bills")[0] == 0
    before = sorted(run.folder.rglob("*"))
    status, out, err = run(*shlex.split(command.replace("FOLDER", str(run.folder))))
    assert says in (out if command.startswith("check") else err)
    assert (status, err.count("error: "), sorted(run.folder.rglob("*"))) == (2, int(not out), before)


def test_an_empty_value_of_any_option_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of an unset variable, and must not count as an option that was not given."""
    tried = 0
    for parser in commands().values():
        for action in parser._actions:
            if action.option_strings and action.nargs != 0 and action.type is not text_or_empty:
                option, *_ = sorted(action.option_strings, key=len, reverse=True)
                with pytest.raises(SystemExit) as stop:
                    parser.parse_args([option, ""])
                expected = (
                    f"argument {'/'.join(action.option_strings)}: the value is empty; give one, or omit the option"
                )
                assert (stop.value.code, expected in capsys.readouterr().err) == (2, True), option
                tried += 1
    assert tried > 400


@pytest.mark.parametrize(("statement", "says"), STATEMENTS)
def test_a_mistake_in_python_is_named(statement: str, says: str, run: Run) -> None:
    """The text of the exception has the message, with the suggestion."""
    book = PriceBook.load("pricing.yaml")
    names: dict[str, Any] = {
        "book": book,
        "usage": Usage(input_tokens=10, output_tokens=2),
        "at": AT,
        "datetime": datetime,
        "UTC": UTC,
        "MODEL": next(iter(book.models(group="default", at=AT))),
        "PriceBook": PriceBook,
        "Usage": Usage,
        "Money": Money,
        "TokenCounter": TokenCounter,
        "Ledger": Ledger,
        "pricing_page": pricing_page,
    }
    with pytest.raises((BillingError, TypeError)) as error:
        eval(statement, names)
    assert says in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"model": "alhpa", "group": "default"},
        {"model": "alpha", "group": "defualt"},
        {"model": "alpha", "group": "default", "service_tier": "priorty"},
    ],
)
def test_customers_of_a_gateway_get_no_suggestion(arguments: dict[str, Any], run: Run) -> None:
    """Which other names exist is the operator's business: neither message nor answer has the suggestion."""
    book = PriceBook.load("pricing.yaml")
    with pytest.raises(BillingError) as error:
        book.rate(Usage(input_tokens=1), at=AT, **arguments)
    assert error.value.suggestion is not None
    assert "did you mean" in str(error.value)
    assert "did you mean" not in error.value.message + str(from_billing_error(error.value).body)
