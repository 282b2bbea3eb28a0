"""Every error code has examples that raise it, and its exact messages are part of the review of a change."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import make_errors
from brivionix_billing import BillingError, Usage
from brivionix_billing.errors import CODES, Finding, PriceFileError
from make_errors import ERRORS, PAGE, Example

EXAMPLES = list(make_errors.examples())


def test_every_code_has_a_file() -> None:
    """tests/errors has one file for every error code, and no other."""
    assert sorted(path.stem for path in ERRORS.glob("*.yaml")) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_a_file_has_its_canonical_form(code: str) -> None:
    """A file is stored exactly as ``make errors`` writes it, with at least one example and one line of advice."""
    file = make_errors.load(code)
    assert file.examples
    assert file.fix == " ".join(file.fix.split()) != ""
    assert make_errors.dump(file) == (ERRORS / f"{code}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(("code", "example"), EXAMPLES, ids=[f"{code}-{e.condition}" for code, e in EXAMPLES])
def test_an_example_raises_its_error(
    code: str, example: Example, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An example raises the error of its file, with the HTTP status of the code and exactly the stored message."""
    if code == "missing_font":
        request.getfixturevalue("pango")
    assert make_errors.run(example, tmp_path) == (code, CODES[code].http_status, example.message)


def test_an_example_must_fail(tmp_path: Path) -> None:
    """An example that raises no error fails its test."""
    with pytest.raises(AssertionError, match="no error was raised: nothing is wrong"):
        make_errors.run(Example("nothing is wrong", "-", command="brivionix-billing check"), tmp_path)


def test_only_the_last_command_fails(tmp_path: Path) -> None:
    """A command before the last that does not succeed fails the test of its example."""
    with pytest.raises(AssertionError, match="brivionix-billing check bad"):
        make_errors.run(
            Example("-", "-", command="brivionix-billing check bad.yaml\n", files={"bad.yaml": "version: 2\n"}),
            tmp_path,
        )


def test_the_page_is_generated() -> None:
    """docs/errors.md is what ``make errors`` writes from the codes and these files."""
    page = PAGE.read_text(encoding="utf-8")
    assert make_errors.render(page) == page


@pytest.mark.parametrize("text", ["\x1b[31m\x9b2J", "a\r\nINFO forged line", "\u202e", "\u2028", "\ud800", "\0"])
def test_a_message_is_one_printable_line(text: str) -> None:
    """Control characters, line ends and bidirectional marks that a message quotes are escaped, also after pickling."""
    error = BillingError("invalid_document", f"{text} is altered")
    assert error.message.isprintable()
    assert error.message.endswith(" is altered")
    assert (str(error), str(pickle.loads(pickle.dumps(error)))) == (error.message, error.message)
    finding = Finding(text, 1, 2, text, text, "fix it")
    lines = str(PriceFileError([finding, finding], more=1)).split("\n")
    assert [line.isprintable() for line in lines] == [True] * 4


def test_warnings_are_printable() -> None:
    """A warning about a body or a stream quotes keys of a provider without their control characters."""
    body = {"usage": {"prompt_tokens": 5, "completion_tokens": 5, "\x1b[31m\u202e": float("inf")}}
    usage = Usage.from_response(body)
    assert usage.warnings
    assert all(warning.isprintable() for warning in usage.warnings)
