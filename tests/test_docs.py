"""The documentation is correct: its examples run, its links have targets, and its tables are complete."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
from argparse import _SubParsersAction
from collections.abc import Iterator, Mapping
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from brivionix_billing import PriceBook
from brivionix_billing import cli as command_line
from brivionix_billing.errors import CODES
from brivionix_billing.invoice import json_schema as invoice_schema
from brivionix_billing.invoice.receipts import json_schema as receipt_schema
from brivionix_billing.meters import METERS
from brivionix_billing.pricebook.schema import json_schema as price_schema
from brivionix_billing.rating.messages import LOCALES
from cli_kit import commands
from console_kit import FENCE, Console, blocks, steps, write_files
from paths import ROOT

PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("benchmarks/*.md")]
)
EXECUTED = (
    "README.md",
    "README.zh.md",
    "docs/tutorial.md",
    "docs/recipes.md",
    "docs/cli.md",
    "docs/operations.md",
    "docs/report.md",
    "docs/reconcile.md",
)

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ROW = re.compile(r"^\| `([^`]+)` \|(.*)\|$", re.MULTILINE)


def read(path: str) -> str:
    """Return the content of a file of the project."""
    return (ROOT / path).read_text(encoding="utf-8")


def rows(text: str) -> list[tuple[str, list[str]]]:
    """Return the table rows that start with a name, as (name, other cells)."""
    return [(name, [cell.strip() for cell in cells.split(" | ")]) for name, cells in _ROW.findall(text)]


# Tables


def test_every_error_code_is_documented_with_its_status() -> None:
    """docs/errors.md lists every error code exactly once, with its HTTP status."""
    listed = [(name, cells[0]) for name, cells in rows(read("docs/errors.md"))]
    expected = [(name, str(code.http_status or "-")) for name, code in CODES.items()]
    assert sorted(listed) == sorted(expected)


@pytest.mark.parametrize("row", rows(read("docs/errors.md")), ids=lambda row: row[0])
def test_every_error_has_a_meaning_and_advice(row: tuple[str, list[str]]) -> None:
    """Each row of docs/errors.md has a status, a meaning and advice."""
    _, cells = row
    assert len(cells) == 3
    assert all(cells)


def resolve_reference(node: Mapping[str, Any], full: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a node of a JSON Schema with its reference resolved."""
    target: Mapping[str, Any] = full["$defs"][node["$ref"].rsplit("/", 1)[1]] if "$ref" in node else node
    return target


_MAX_DEPTH = 9
"""Below it, the variants of prices repeat."""


def fields(node: Mapping[str, Any], full: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield every field of a JSON Schema as a path: ``a.b``, ``a[].b`` in a list, ``a.*.b`` under any name.

    A definition that contains itself is read once on each path.
    """
    node = resolve_reference(node, full)
    if path.count(".") > _MAX_DEPTH:
        return
    for option in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from fields(option, full, path)
    if "items" in node:
        yield from fields(node["items"], full, f"{path}[]")
    if isinstance(node.get("additionalProperties"), Mapping):
        yield from fields(node["additionalProperties"], full, f"{path}.*")
    for value in node.get("patternProperties", {}).values():
        yield from fields(value, full, f"{path}.*")
    for name, value in node.get("properties", {}).items():
        field = f"{path}.{name}" if path else name
        yield field
        yield from fields(value, full, field)


def test_every_field_of_a_bill_is_documented() -> None:
    """The table of fields in docs/invoice.md has exactly the fields of the document, by their full paths."""
    schema = invoice_schema()
    section = read("docs/invoice.md").split("\n## Fields\n")[1].split("\n## ")[0]
    # A section of late usage has the parts of a bill, and the taxes in effect are taxes: both are documented there.
    own = [name for name in fields(schema, schema) if not name.startswith("late[].") or name.count(".") == 1]
    own = [name for name in own if not name.startswith("in_effect.taxes.")]
    assert sorted(name for name, _ in rows(section)) == sorted(own)


def test_every_field_of_a_receipt_is_documented() -> None:
    """The table of fields in docs/receipts.md has exactly the fields of a receipt, by their full paths."""
    schema = receipt_schema()
    section = read("docs/receipts.md").split("\n### Fields\n")[1].split("\n### ")[0]
    assert sorted(name for name, _ in rows(section)) == sorted(fields(schema, schema))


def test_every_key_of_the_price_file_is_documented() -> None:
    """docs/pricing-yaml.md has table rows for exactly the keys of the schema."""
    schema = price_schema()
    keys = {path.rsplit(".", 1)[-1] for path in fields(schema, schema)}
    assert {name for name, _ in rows(read("docs/pricing-yaml.md"))} == keys - set(LOCALES)


def sections(text: str) -> dict[str, str]:
    """Return the sections of docs/cli.md by the command in their heading, and the part before them under ''."""
    head, *parts = re.split(r"^##+ `([a-z -]+)`$", text, flags=re.MULTILINE)
    return {"": head, **dict(zip(parts[::2], parts[1::2], strict=True))}


COMMANDS: Final = commands()


def test_every_command_is_documented() -> None:
    """docs/cli.md has sections for exactly the commands of the parser."""
    assert sections(read("docs/cli.md")).keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "brivionix-billing")
def test_every_option_is_documented(name: str) -> None:
    """The section of a command has table rows for exactly its options and arguments."""
    options = set()
    for action in COMMANDS[name]._actions:
        if isinstance(action, _SubParsersAction) or action.dest == "of" or action.dest == "help":
            continue  # in the usage line of the section, or common to all commands
        options.add(action.option_strings[0] if action.option_strings else action.metavar)
    listed = {row.split()[0] for row, _ in rows(sections(read("docs/cli.md"))[name])}
    if name.startswith("ledger "):
        options -= ledger_common()  # documented once, for all subcommands
    common = {"--help", "--prices"} if not name else ledger_common() if name == "ledger" else set()
    assert listed - common == options


def ledger_common() -> set[str]:
    """Return the options that docs/cli.md documents once for all subcommands of the ledger."""
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
    for line in FENCE.sub("", text).splitlines():
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
        accepted |= {meter.argument for meter in METERS.values()}
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
    """Return the anchors of the headings of a page, as GitHub generates them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_internal_link_has_a_target(page: Path) -> None:
    """A link to a file of this repository names an existing file and an existing heading."""
    for target in _LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
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


def test_both_readmes_have_the_same_parts() -> None:
    """The Chinese README links to the same pages, and has as many sections, rows of tables and code blocks."""
    english, chinese = read("README.md"), read("README.zh.md")
    links = [set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh.md"} for text in (english, chinese)]
    assert links[0] == links[1]
    parts = [[len(re.findall(start, text, re.M)) for start in ("^## ", "^[|]", "^```")] for text in (english, chinese)]
    assert parts[0] == parts[1]


# Examples


def test_the_readme_starts_with_two_commands() -> None:
    """The first code block of the README has the two commands that run everything."""
    kind, body = FENCE.findall(read("README.md"))[0]
    assert (kind, body) == ("", "make demo\nmake test\n")


def complete_price_file(block: str, small: str) -> str:
    """Return a price file: the block itself, or the small file with its sections replaced by those of the block."""
    if block.startswith("version:"):
        return block
    parts = re.split(r"^(?=\w)", small, flags=re.MULTILINE)
    names = set(re.findall(r"^(\w+):", block, flags=re.MULTILINE))
    return "".join(part for part in parts if part.partition(":")[0] not in names) + block


@pytest.mark.parametrize("number", range(len(blocks(read("docs/pricing-yaml.md"), "yaml"))))
def test_every_price_file_example_is_valid(number: int) -> None:
    """Each YAML block of docs/pricing-yaml.md loads, alone or as a section of the first example of the page."""
    small, *_ = examples = blocks(read("docs/pricing-yaml.md"), "yaml")
    assert small.startswith("version:")
    PriceBook.loads(complete_price_file(examples[number], small))


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_hash_can_be_recomputed_without_this_library(language: str, tmp_path: Path) -> None:
    """The programs in docs/invoice.md accept the hash of a bill and reject that of an altered bill."""
    program = [sys.executable, "-I", "-c"] if language == "python" else [shutil.which("node") or "", "-e"]
    if not program[0]:
        pytest.skip("node is not installed")
    (code,) = (block for block in blocks(read("docs/invoice.md"), language) if not block.startswith(">>>"))
    command = ["invoice", str(ROOT / "examples/usage.jsonl"), "--account", "acct_8", "--period", "2026-10"]
    command += ["--out", str(tmp_path), "--prices", str(ROOT / "pricing.yaml"), "--issuer", "Brücke 计费"]
    assert command_line.main(command) == 0

    def answer() -> str:
        """Run the program and return its output."""
        process = subprocess.run([*program, code], cwd=tmp_path, capture_output=True, check=True, text=True)
        return process.stdout.strip().lower()

    assert answer() == "true"
    bill = tmp_path / "invoice.json"
    bill.write_text(bill.read_text(encoding="utf-8").replace("acct_8", "acct_9"), encoding="utf-8")
    assert answer() == "false"


@pytest.mark.skipif(sys.platform == "win32", reason="the examples use sed, head and cat")
@pytest.mark.parametrize("page", EXECUTED)
def test_console_examples_print_the_documented_output(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a copy of the data of the repository, each command prints the documented output."""
    shutil.copy(ROOT / "pricing.yaml", tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    text = read(page)
    write_files(text, tmp_path)
    console, found = Console(), steps(text)
    assert found
    for step in found:
        console.check(step)


def test_a_wrong_console_example_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console of these tests detects a wrong output and has the exit status of the last command."""
    monkeypatch.chdir(ROOT)
    console, checker = Console(), OutputChecker()
    assert checker.check_output("brivionix-billing ...\n", console.run("brivionix-billing --version"), ELLIPSIS)
    assert not checker.check_output("brivionix-billing 9\n", console.run("brivionix-billing --version"), ELLIPSIS)
    assert console.run("brivionix-billing prices --group nobody").endswith("[unknown_group]\n")
    assert console.run("echo $?") == "2\n"
