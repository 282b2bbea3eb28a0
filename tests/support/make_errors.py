"""Writes docs/errors.md from the examples in tests/errors: ``make errors``, or ``make errors ARGS=--update``.

``tests/errors/CODE.yaml`` has examples that raise the error CODE, with the exact messages, and the advice for the page.
``tests/errors/test_errors.py`` runs the same examples. ``--update`` runs all examples and stores the present messages
before the page is written.

An example is a piece of Python or some lines of commands. It runs in an empty folder that has ``pricing.yaml`` (the
price file of ``bill_kit``), ``usage.jsonl`` (five records of account ``acct_1`` in October 2026), and its own
``files``. Only the last command fails. If ``without`` names packages, the example runs in a new process that cannot
import them. Python has these names:

- ``book``: the price book of ``pricing.yaml``
- ``at``: 2026-10-20, a time at which all its prices apply
- ``usage``: a :class:`Usage` of 1000 input tokens and 100 output tokens
- ``ledger``: a ledger in ``ledger.db``, in which account ``acct_1`` bought lot ``lot_1``, 100 Credits for 90 CNY
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from bill_kit import record, text, written
from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.cli import main as command_line
from brivionix_billing.errors import CODE_GROUPS, CODES
from paths import ROOT

__all__ = ["ERRORS", "PAGE", "ErrorFile", "Example", "dump", "examples", "load", "render", "run", "run_isolated"]

ERRORS: Final = ROOT / "tests" / "errors"
PAGE: Final = ROOT / "docs" / "errors.md"
_START: Final = "<!-- Generated from tests/errors by: make errors -->\n\n"
_END: Final = "\n<!-- End -->\n"
_AT: Final = datetime(2026, 10, 20, tzinfo=UTC)


class Example(NamedTuple):
    """One way to raise an error: ``python`` or ``command`` raises ``message``."""

    condition: str
    message: str
    python: str | None = None
    command: str | None = None
    files: dict[str, str] = {}  # noqa: RUF012  # never changed
    without: tuple[str, ...] = ()


class ErrorFile(NamedTuple):
    """The content of ``tests/errors/CODE.yaml``. ``fix`` is the advice in the table of the page, in Markdown."""

    fix: str
    examples: list[Example]


def load(code: str) -> ErrorFile:
    """Read the file of an error code."""
    content = yaml.safe_load((ERRORS / f"{code}.yaml").read_text(encoding="utf-8"))
    found = [Example(**{**given, "without": tuple(given.get("without", ()))}) for given in content.pop("examples")]
    return ErrorFile(**content, examples=found)


def dump(file: ErrorFile) -> str:
    """Return the text of a file, in the only form in which it is stored."""
    rows = []
    for example in file.examples:
        given = {key: value for key, value in example._asdict().items() if value}
        if example.without:
            given["without"] = list(example.without)
        message = given.pop("message")
        rows.append({**given, "message": message})
    return yaml.dump(
        {"fix": file.fix, "examples": rows}, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000
    )


class _Dumper(yaml.SafeDumper):
    """Writes texts with line ends or quotes as literal blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    literal = "\n" in value or "'" in value  # a quoted text would double its quotes
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if literal else None)


_Dumper.add_representer(str, _represent_text)


def examples() -> Iterator[tuple[str, Example]]:
    """Yield every example with its code, in the order of the page."""
    for code in CODES:
        if (ERRORS / f"{code}.yaml").exists():
            yield from ((code, example) for example in load(code).examples)


def run(example: Example, folder: Path) -> tuple[str, int | None, str]:
    """Run an example in an empty folder. Returns code, HTTP status and message of its error.

    In the message, ``FOLDER`` stands for the path of the folder.
    """
    if not example.without:
        error = _run_here(example, folder)
        return error.code, error.http_status, error.message.replace(os.path.realpath(folder), "FOLDER")
    # The process of the tests has imported the packages and may have cached values from them.
    program = "import make_errors; make_errors.run_isolated()"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    given = json.dumps([example, str(folder)])
    done = subprocess.run(
        [sys.executable, "-c", program], input=given, capture_output=True, text=True, check=True, env=environment
    )
    code, http_status, message = json.loads(done.stdout)
    return code, http_status, message


def run_isolated() -> None:
    """Run the example on stdin without some packages, and print its error as JSON."""
    given, folder = json.load(sys.stdin)
    example = Example(*given)
    for package in example.without:
        sys.modules[package] = None  # type: ignore[assignment]  # the documented way to let an import fail
    print(json.dumps(run(example._replace(without=()), Path(folder))))


def _run_here(example: Example, folder: Path) -> BillingError:
    (folder / "pricing.yaml").write_text(text(), encoding="utf-8")
    (folder / "usage.jsonl").write_bytes(written([record(number) for number in range(1, 6)]))
    for name, content in example.files.items():
        (folder / name).write_text(content, encoding="utf-8")
    with ExitStack() as stack:
        stack.enter_context(chdir(folder))
        stack.enter_context(redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")))
        stack.enter_context(redirect_stderr(io.StringIO()))
        try:
            if example.python is not None:
                _run_python(example.python, stack)
            else:
                _run_commands(str(example.command))
        except BillingError as error:
            return error
        raise AssertionError(f"no error was raised: {example.condition}")


def _run_python(source: str, stack: ExitStack) -> None:
    code = compile(source, "example", "exec")
    names: dict[str, Any] = {"book": PriceBook.load("pricing.yaml"), "at": _AT}
    names["usage"] = Usage(input_tokens=1000, output_tokens=100)
    if "ledger" in code.co_names:
        from brivionix_billing.ledger import Ledger

        ledger = names["ledger"] = Ledger.open("sqlite:///ledger.db", names["book"])
        stack.callback(ledger.close)
        ledger.open_account("acct_1", at=_AT)
        quote = names["book"].quote("rmb", at=_AT, credits=100)
        ledger.top_up("acct_1", quote, reference="pay_1", id="lot_1", at=_AT)
    exec(code, names)


def _run_commands(lines: str) -> None:
    for line in lines.splitlines():
        program, *arguments = shlex.split(line)
        assert program == "brivionix-billing", line
        status = command_line(["--debug", *arguments])
        assert status == 0, line


def render(page: str) -> str:
    """Return the page with the generated part of every section replaced."""
    for group, codes in CODE_GROUPS.items():
        head, heading, section = page.partition(f"\n## {group}\n")
        intro, start, rest = section.partition(_START)
        _, end, tail = rest.partition(_END)
        if not end or "\n## " in intro:
            raise ValueError(f"section {group!r} of the page has no generated part")
        page = "".join([head, heading, intro, start, _render_group(list(codes)), end, tail])
    return page


def _render_group(codes: list[str]) -> str:
    rows = ["| code | status | meaning | what to do |", "|---|---|---|---|"]
    messages = []
    for code in codes:
        status, meaning = CODES[code]
        file = load(code)
        rows.append(f"| `{code}` | {status or '-'} | {meaning} | {file.fix} |")
        for example in file.examples:
            messages += [f"# {example.condition}", f"error: {example.message} [{code}]"]
    return "\n".join([*rows, "", "```text", *messages, "```", ""])


def _update(code: str) -> None:
    """Run the examples of a code and store their present messages."""
    file = load(code)
    new = []
    for example in file.examples:
        with tempfile.TemporaryDirectory() as folder:
            raised, _, message = run(example, Path(folder))
        assert raised == code, f"{code}: {example.condition} raised {raised}: {message}"
        new.append(example._replace(message=message))
    (ERRORS / f"{code}.yaml").write_text(dump(file._replace(examples=new)), encoding="utf-8")


def main() -> None:
    """Write the page, after updating the messages if requested."""
    parser = argparse.ArgumentParser(description="Write docs/errors.md from the examples in tests/errors.")
    parser.add_argument("--update", action="store_true", help="first run all examples and store the present messages")
    parser.add_argument("code", nargs="*", choices=[*CODES, []], help="with --update: only these codes")
    arguments = parser.parse_args()
    if arguments.update:
        for code in arguments.code or CODES:
            _update(code)
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
