"""Runs the examples of the documentation as their readers do: files, then the commands of a console."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import NamedTuple

from brivionix_billing import cli as command_line

__all__ = ["FENCE", "PROGRAMS", "Console", "Step", "blocks", "steps", "write_files"]

PROGRAMS = {"cat", "cp", "head", "mkdir", "python", "sed"}
"""Programs that console examples may run, apart from brivionix-billing."""

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WRITTEN = re.compile(r"^[^\n]*Write this into `([\w.-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in a language."""
    return [body for kind, body in FENCE.findall(text) if kind == language]


def write_files(text: str, folder: Path) -> None:
    """Write the files of a page: the blocks after ``Write this into `NAME`:``."""
    for name, content in _WRITTEN.findall(text):
        (folder / name).write_text(content, encoding="utf-8")


class Step(NamedTuple):
    """A command of a console example and its expected output."""

    command: str
    output: str


def steps(text: str) -> list[Step]:
    """Return the steps of all console examples of a page."""
    result: list[Step] = []
    for block in blocks(text, "console"):
        for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
            if part:
                assert part.startswith("$ "), f"a console block starts with output: {part!r}"
                command, _, output = part[2:].partition("\n")
                result.append(Step(command, output))
    return result


_DATE = re.compile(r"\$\((date -u \+[%A-Za-z:-]+)\)")


def _run_date(found: re.Match[str]) -> str:
    """Return what a shell inserts for ``$(date -u +FORMAT)``."""
    return subprocess.run(found[1].split(), capture_output=True, check=True, text=True).stdout.strip()


class Console:
    """Runs the commands of an example in order, as a shell does."""

    def __init__(self) -> None:
        self.status = 0

    def check(self, step: Step) -> str:
        """Run a step, and fail if its output is not the documented one, in which ``...`` is any text."""
        output = self.run(step.command)
        right = OutputChecker().check_output(step.output, output, ELLIPSIS)
        assert right, f"$ {step.command}\n{output}\nexpected:\n{step.output}"
        return output

    def run(self, command: str) -> str:
        """Run a command and return its output, stdout and stderr in order."""
        if command == "echo $?":
            return f"{self.status}\n"
        program, *arguments = shlex.split(_DATE.sub(_run_date, command))
        target = arguments[-1] if ">" in arguments else None
        if target is not None:
            assert arguments[-2] == ">", f"the console of this test does not support: {command}"
            arguments = arguments[:-2]
        assert not {"|", ">", "<", "&&", ";"} & set(arguments), f"the console of this test does not support: {command}"
        if program == "brivionix-billing":
            out, err = self._main(arguments, separate=target is not None)
        else:
            assert program in PROGRAMS, f"{program} is not one of {PROGRAMS}"
            program = sys.executable if program == "python" else program
            process = subprocess.run([program, *arguments], capture_output=True, check=True)
            out, err = process.stdout, ""
        if target is None:
            return out.decode() + err
        Path(target).write_bytes(out)
        return err

    def _main(self, arguments: list[str], *, separate: bool) -> tuple[bytes, str]:
        """Run brivionix-billing. Returns stdout and, if they are separate, stderr."""
        screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) if separate else screen
        with redirect_stdout(screen), redirect_stderr(errors):
            try:
                self.status = command_line.main(arguments)
            except SystemExit as stop:  # argparse exits after --help and --version
                self.status = int(stop.code or 0)
        written = [stream.buffer for stream in (screen, errors)]
        assert all(isinstance(stream, io.BytesIO) for stream in written)
        out, err = (stream.getvalue() for stream in written if isinstance(stream, io.BytesIO))
        return out, err.decode() if separate else ""
