"""The documentation says what is so: its examples run, its links lead somewhere, its tables are complete."""

from __future__ import annotations

import importlib
import inspect
import io
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from brivionix_billing import PriceBook
from brivionix_billing import cli as command_line
from brivionix_billing.errors import CODES
from brivionix_billing.invoice import json_schema as invoice_schema
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook.schema import json_schema as price_schema
from paths import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("benchmarks/*.md")]
)
EXECUTED = ("README.md", "docs/tutorial.md", "docs/recipes.md", "docs/cli.md", "docs/operations.md")
PROGRAMS = {"cat", "head", "python", "sed"}
"""What console examples may run beside brivionix-billing."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return [body for kind, body in _FENCE.findall(text) if kind == language]


def rows(text: str) -> list[tuple[str, list[str]]]:
    """The rows of a page's tables that begin with a name: (name, the other cells)."""
    return [(name, [cell.strip() for cell in rest.split(" | ")]) for name, rest in _ROW.findall(text)]


# Tables


def test_every_error_code_is_documented_with_its_status() -> None:
    """docs/errors.md lists exactly the codes that there are, each once, with its HTTP status."""
    listed = [(name, cells[0]) for name, cells in rows(read("docs/errors.md"))]
    there_are = [(name, str(code.http_status or "-")) for name, code in CODES.items()]
    assert sorted(listed) == sorted(there_are)


@pytest.mark.parametrize("row", rows(read("docs/errors.md")), ids=lambda row: row[0])
def test_every_error_says_what_it_means_and_what_to_do(row: tuple[str, list[str]]) -> None:
    """A row of docs/errors.md has a status, a meaning and an advice."""
    _, cells = row
    assert len(cells) == 3
    assert all(cells)


def resolved(node: Mapping[str, Any], full: Mapping[str, Any]) -> Mapping[str, Any]:
    target: Mapping[str, Any] = full["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    return target


def fields(node: Mapping[str, Any], full: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every field of a JSON Schema as a path: ``a.b``, ``a[].b`` in a list, ``a.*.b`` under any name."""
    node = resolved(node, full)
    for option in node.get("anyOf", ()):
        yield from fields(option, full, path)
    if "items" in node:
        yield from fields(node["items"], full, f"{path}[]")
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from fields(node["additionalProperties"], full, f"{path}.*")
    for name, value in node.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield here
        yield from fields(value, full, here)


def test_every_field_of_a_bill_is_documented() -> None:
    """The first table of docs/invoice.md has exactly the fields of the document, each by its whole path."""
    schema = invoice_schema()
    section = read("docs/invoice.md").split("\n## Fields\n")[1].split("\n## ")[0]
    assert sorted(name for name, _ in rows(section)) == sorted(fields(schema, schema))


def test_every_key_of_the_price_file_is_documented() -> None:
    """docs/pricing-yaml.md has a table row for every key that the schema knows, and for no other."""
    schema = price_schema()
    keys = {path.rsplit(".", 1)[-1] for path in fields(schema, schema)}
    assert {name for name, _ in rows(read("docs/pricing-yaml.md"))} == keys


def commands(parser: ArgumentParser | None = None, name: str = "") -> dict[str, ArgumentParser]:
    """Every command and subcommand by its name: ``invoice``, ``ledger token create``."""
    parser = command_line._parser() if parser is None else parser
    found = {name: parser}
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for one, below in action.choices.items():
                found |= commands(below, f"{name} {one}".strip())
    return found


def sections(text: str) -> dict[str, str]:
    """The sections of docs/cli.md by the command that their heading names; the part before them under ''."""
    head, *rest = re.split(r"^##+ `([a-z -]+)`$", text, flags=re.MULTILINE)
    return {"": head, **dict(zip(rest[::2], rest[1::2], strict=True))}


def test_every_command_is_documented() -> None:
    """docs/cli.md has a section for every command of the parser, and for no other."""
    assert sections(read("docs/cli.md")).keys() == commands().keys()


@pytest.mark.parametrize("name", commands(), ids=lambda name: name or "brivionix-billing")
def test_every_option_is_documented(name: str) -> None:
    """The section of a command has a table row for each of its options and arguments, and for no other."""
    given = set()
    for action in commands()[name]._actions:
        if isinstance(action, _SubParsersAction) or action.choices == ["pricing", "invoice"] or action.dest == "help":
            continue  # what the usage line of the section shows, and what every command has
        given.add(action.option_strings[0] if action.option_strings else action.metavar)
    listed = {row.split()[0] for row, _ in rows(sections(read("docs/cli.md"))[name])}
    if name.startswith("ledger "):
        given -= ledger_common()  # they stand once, above
    common = {"--help", "--prices"} if not name else ledger_common() if name == "ledger" else set()
    assert listed - common == given


def ledger_common() -> set[str]:
    """The options of subcommands of the ledger that docs/cli.md explains once for all of them."""
    table = sections(read("docs/cli.md"))["ledger"].partition("| option |")[2]
    return {row.split()[0] for row, _ in rows(table.partition("\n\n")[0])}


# The Python page

_SPAN = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"(\w[\w.]*)?(\.\w+)?(?:\((.*)\))?")


class Mention(NamedTuple):
    """A name in the first column of docs/python.md: its module, its class if it is a member, its keyword arguments."""

    module: str
    owner: str
    name: str
    keywords: tuple[str, ...]


def mentions(text: str) -> Iterator[Mention]:
    """Every name in the first columns of docs/python.md. ``.x`` belongs to the class before it, or of its heading."""
    module = heading = ""
    for line in _FENCE.sub("", text).splitlines():
        if line.startswith("#"):
            titles = _SPAN.findall(line)
            if line.startswith("## "):
                module, heading = titles[0], ""
            elif titles:
                heading = titles[0]
        elif line.startswith("| `"):
            owner = heading
            for span in _SPAN.findall(line.split(" | ")[0]):
                found = _NAME.fullmatch(span)
                assert found, f"{span}: not a name"
                path, member, arguments = found.groups()
                keywords = tuple(re.findall(r"(\w+)=", arguments or ""))
                if path:
                    owner, _, member = path.partition(".")
                yield Mention(module, owner, (member or "").lstrip("."), keywords)


def has_member(owner: Any, name: str) -> bool:
    """Whether a class has a member: an attribute, a field, or what its constructor assigns."""
    fields = {name for base in getattr(owner, "__mro__", ()) for name in getattr(base, "__annotations__", ())}
    if hasattr(owner, name) or name in fields:
        return True
    return bool(re.search(rf"self\.{name}\b.* = ", inspect.getsource(owner)))


def takes(function: Any, keywords: tuple[str, ...]) -> bool:
    """Whether a function takes keyword arguments; ``Usage`` also takes the argument of every meter."""
    accepted = set(inspect.signature(function).parameters)
    if "quantities" in accepted:
        accepted |= {meter.argument for meter in METERS}
    return set(keywords) <= accepted


def is_right(mention: Mention) -> bool:
    """Whether a name is in its module or class, and takes the keyword arguments."""
    target = getattr(importlib.import_module(mention.module), mention.owner, None)
    if target is None or (mention.name and not has_member(target, mention.name)):
        return False
    return not mention.keywords or takes(getattr(target, mention.name) if mention.name else target, mention.keywords)


PYTHON_PAGE = list(mentions(read("docs/python.md")))
MODULES = sorted({mention.module for mention in PYTHON_PAGE})


@pytest.mark.parametrize("module", MODULES)
def test_every_name_of_the_python_page_exists(module: str) -> None:
    """Each name is in its module or class, and takes the keyword arguments that docs/python.md shows."""
    assert [mention for mention in PYTHON_PAGE if mention.module == module and not is_right(mention)] == []


@pytest.mark.parametrize("module", MODULES)
def test_the_python_page_has_every_public_name(module: str) -> None:
    """Each name in ``__all__`` of a module is in its section of docs/python.md."""
    public = set(importlib.import_module(module).__all__)
    assert public <= {mention.owner for mention in PYTHON_PAGE if mention.module == module}


# Links


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    """A link to a file of this repository names one that is there, and a heading that it has."""
    for target in _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading; there are {sorted(anchors(file))}"


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links to every page of docs/."""
    linked = set(_LINK.findall(read("docs/README.md")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked


# Examples


def test_the_readme_begins_with_the_two_commands() -> None:
    """The first code block of the README is what a reader needs to run everything."""
    kind, body = _FENCE.findall(read("README.md"))[0]
    assert (kind, body) == ("", "make demo\nmake test\n")


def complete(block: str, small: str) -> str:
    """A price file: the block itself, or the small file with the sections of the block in the place of its own."""
    if block.startswith("version:"):
        return block
    parts = re.split(r"^(?=\w)", small, flags=re.MULTILINE)
    names = set(re.findall(r"^(\w+):", block, flags=re.MULTILINE))
    return "".join(part for part in parts if part.partition(":")[0] not in names) + block


@pytest.mark.parametrize("number", range(len(blocks(read("docs/pricing-yaml.md"), "yaml"))))
def test_every_price_file_shown_is_sound(number: int) -> None:
    """Each YAML block of docs/pricing-yaml.md loads: alone, or as a section of the small file that the page shows."""
    small, *_ = found = blocks(read("docs/pricing-yaml.md"), "yaml")
    assert small.startswith("version:")
    if number and not found[number].startswith("version:"):
        names = re.findall(r"^(\w+):", found[number], flags=re.MULTILINE)
        small = small if "groups" in names else re.sub(r'models: \["\*"\]', 'models: ["gpt-*"]', small)
    PriceBook.loads(complete(found[number], small))


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_hash_can_be_redone_without_this_library(language: str, tmp_path: Path) -> None:
    """The programs of docs/invoice.md say that the hash of a bill fits, and that of a changed bill does not."""
    program = [sys.executable, "-I", "-c"] if language == "python" else [shutil.which("node") or "", "-e"]
    if not program[0]:
        pytest.skip("there is no node on this machine")
    (code,) = (block for block in blocks(read("docs/invoice.md"), language) if not block.startswith(">>>"))
    command = ["invoice", str(ROOT / "examples/usage.jsonl"), "--account", "acct_8", "--period", "2026-10"]
    command += ["--out", str(tmp_path), "--prices", str(ROOT / "pricing.yaml"), "--issuer", "Brücke 计费"]
    assert command_line.main(command) == 0

    def answer() -> str:
        done = subprocess.run([*program, code], cwd=tmp_path, capture_output=True, check=True, text=True)
        return done.stdout.strip().lower()

    assert answer() == "true"
    bill = tmp_path / "invoice.json"
    bill.write_text(bill.read_text(encoding="utf-8").replace("acct_8", "acct_9"), encoding="utf-8")
    assert answer() == "false"


class Step(NamedTuple):
    """A command of a console example, and the output shown below it."""

    command: str
    shown: str


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for block in blocks(text, "console"):
        for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
            if part:
                assert part.startswith("$ "), f"a console block begins with output: {part!r}"
                command, _, shown = part[2:].partition("\n")
                found.append(Step(command, shown))
    return found


class Console:
    """Runs the commands of an example one after the other, as a shell would."""

    def __init__(self) -> None:
        self.status = 0

    def run(self, command: str) -> str:
        """What a command prints, stdout and stderr as they come."""
        if command == "echo $?":
            return f"{self.status}\n"
        program, *arguments = shlex.split(command)
        into = arguments[-1] if ">" in arguments else None
        if into is not None:
            assert arguments[-2] == ">", f"the console of this test cannot do that: {command}"
            arguments = arguments[:-2]
        assert not {"|", ">", "<", "&&", ";"} & set(arguments), f"the console of this test cannot do that: {command}"
        if program == "brivionix-billing":
            out, told = self._main(arguments, keep=into is not None)
        else:
            assert program in PROGRAMS, f"{program} is not one of {PROGRAMS}"
            program = sys.executable if program == "python" else program
            done = subprocess.run([program, *arguments], capture_output=True, check=True)
            out, told = done.stdout, ""
        if into is None:
            return out.decode() + told
        Path(into).write_bytes(out)
        return told

    def _main(self, arguments: list[str], *, keep: bool) -> tuple[bytes, str]:
        screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        errors = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) if keep else screen
        with redirect_stdout(screen), redirect_stderr(errors):
            try:
                self.status = command_line.main(arguments)
            except SystemExit as stop:  # argparse prints --help and --version so
                self.status = int(stop.code or 0)
        written = [stream.buffer for stream in (screen, errors)]
        assert all(isinstance(stream, io.BytesIO) for stream in written)
        output, told = (stream.getvalue() for stream in written if isinstance(stream, io.BytesIO))
        return output, told.decode() if keep else ""


_WRITTEN = re.compile(r"^[^\n]*Write this into `([\w.-]+)`:\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(sys.platform == "win32", reason="the examples use sed, head and cat")
@pytest.mark.parametrize("page", EXECUTED)
def test_console_examples_print_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a copy of the repository's data, each command prints the lines below it; ``...`` stands for anything."""
    shutil.copy(ROOT / "pricing.yaml", tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    text = read(page)
    for name, content in _WRITTEN.findall(text):
        (tmp_path / name).write_text(content, encoding="utf-8")
    console, checker = Console(), OutputChecker()
    assert steps(text)
    for step in steps(text):
        output = console.run(step.command)
        assert checker.check_output(step.shown, output, ELLIPSIS), f"$ {step.command}\n{output}\nshown:\n{step.shown}"


def test_a_wrong_example_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console of these tests tells a right output from a wrong one, and knows the exit status."""
    monkeypatch.chdir(ROOT)
    console, checker = Console(), OutputChecker()
    assert checker.check_output("brivionix-billing ...\n", console.run("brivionix-billing --version"), ELLIPSIS)
    assert not checker.check_output("brivionix-billing 9\n", console.run("brivionix-billing --version"), ELLIPSIS)
    assert console.run("brivionix-billing prices --group nobody").endswith("[unknown_group]\n")
    assert console.run("echo $?") == "2\n"
