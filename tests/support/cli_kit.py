"""Runs the command line in a temporary folder."""

from __future__ import annotations

from argparse import ArgumentParser, _SubParsersAction
from pathlib import Path
from typing import Any

import pytest

from bill_kit import ROOT, record, text, written
from brivionix_billing import cli as command_line
from brivionix_billing.cli import main

__all__ = ["COMMANDS", "ESCAPES", "EXAMPLE", "Json", "Run", "SHIPPED", "commands", "run"]

Json = dict[str, Any]

SHIPPED = str(ROOT / "pricing.yaml")
EXAMPLE = str(ROOT / "examples" / "usage.jsonl")
COMMANDS = (
    "check",
    "prices",
    "quote",
    "schema",
    "rate",
    "explain",
    "tokens",
    "report",
    "invoice",
    "verify",
    "prove",
    "receipt",
    "rate-cards",
    "credit-note",
)
ESCAPES = "\x1b[31m\x9b2J\x07\u202e"
"""Control characters that must not reach a terminal."""


def commands(parser: ArgumentParser | None = None, name: str = "") -> dict[str, ArgumentParser]:
    """Return every command and subcommand by name, such as ``invoice`` or ``ledger token create``."""
    parser = command_line._parser() if parser is None else parser
    parsers = {name: parser}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for choice, subparser in action.choices.items():
                parsers |= commands(subparser, f"{name} {choice}".strip())
    return parsers


class Run:
    """Runs commands in a folder with a price file and a usage file."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.capsys = folder, capsys
        (folder / "pricing.yaml").write_text(text(), encoding="utf-8")
        self.usage([record(n) for n in range(1, 6)])

    def usage(self, rows: list[Json]) -> None:
        """Write the usage file."""
        (self.folder / "usage.jsonl").write_bytes(written(rows))

    def __call__(self, *args: str) -> tuple[int, str, str]:
        """Run a command. Returns the exit status, stdout and stderr."""
        try:
            status = main(args)
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err
        assert "bug in brivionix-billing" not in err, err
        assert not {c for c in err if ord(c) < 32 and c != "\n"}, err
        return status, out, err


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a runner in an empty folder, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Run(tmp_path, capsys)
