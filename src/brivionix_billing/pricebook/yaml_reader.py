"""Reads YAML strictly: plain data, exact numbers, and the line and column of every value.

PyYAML parses. Its loaders guess (``1e-6`` is a string, ``010`` is 8, ``1:30`` is 90, ``no`` is false, the last of two
equal keys wins), so values are resolved here. The reader handles PyYAML's events with its own stack, so that deep
nesting and anchors do no harm.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import Finding, PriceFileError, safe_repr

__all__ = ["MAX_BYTES", "ParsedYaml", "read_yaml"]

MAX_BYTES: Final = 16 * 1024 * 1024
MAX_NODES: Final = 2_000_000
MAX_DEPTH: Final = 32
MAX_FINDINGS: Final = 1_000

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,30})?(?:[eE][+-]?[0-9]{1,2})?", re.ASCII)

Position = tuple[int, int, Any]
"""(line, column, children): for a mapping {key: (line, column, value's position)}, for a list a list of positions."""


class ParsedYaml(NamedTuple):
    """The data of a file, and the position of each value."""

    file: str
    data: Any
    position: Position

    def finding(self, path: tuple[int | str, ...], message: str, hint: str, *, key: bool = False) -> Finding:
        """Return a finding at the value (or the key) of ``path``, or at the nearest position above it."""
        line, column, children = self.position
        shown = ""
        for index, step in enumerate(path):
            if step == 0 and isinstance(children, dict):
                continue  # a single entry that was written without a list
            shown += f"[{step}]" if isinstance(step, int) else f".{step}"
            if isinstance(children, dict) and step in children:
                key_line, key_column, (line, column, children) = children[step]
                if key and index == len(path) - 1:
                    line, column = key_line, key_column
            elif isinstance(children, list) and isinstance(step, int) and step < len(children):
                line, column, children = children[step]
            else:
                children = None
        return Finding(self.file, line, column, _printable(shown.lstrip(".")), message, hint)


def read_yaml(content: bytes, file: str) -> tuple[ParsedYaml, list[Finding]]:
    """Return the document and the findings about its form. Raises :class:`PriceFileError` if it cannot be read on."""
    import yaml

    if len(content) > MAX_BYTES:
        message = f"the file has {len(content)} bytes, more than {MAX_BYTES}"
        raise PriceFileError([Finding(file, 1, 1, "", message, "split it, or remove what is not a price")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PriceFileError([Finding(file, line, 1, "", "not UTF-8", "save the file as UTF-8")]) from None
    # Checked here, because PyYAML reports the position in bytes or in characters, depending on its build.
    harmful = yaml.reader.Reader.NON_PRINTABLE.search(text)
    if harmful:
        line = text.count("\n", 0, harmful.start()) + 1
        column = harmful.start() - text.rfind("\n", 0, harmful.start())
        message = f"the control character {safe_repr(harmful[0])}"
        raise PriceFileError([Finding(file, line, column, "", message, "remove it")])
    builder = _TreeBuilder(file)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            builder.handle(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = str(getattr(error, "problem", None) or "not YAML")
        if "nesting depth" in problem:  # newer parsers have their own limit, and read further ahead
            deep = Finding(file, line, column, "", f"nested deeper than {MAX_DEPTH}", "a price file is not deep")
            raise PriceFileError([*builder.findings, deep]) from None
        message, hint = _explain(text, line, column, problem)
        builder.findings.append(Finding(file, line, column, "", message, hint))
        raise PriceFileError(builder.findings) from None
    except RecursionError:
        raise PriceFileError([Finding(file, 1, 1, "", "nested too deep", "a price file is not deep")]) from None
    if builder.root is None:
        raise PriceFileError([Finding(file, 1, 1, "", "the file is empty", "write at least 'version: 1'")])
    data, position = builder.root
    return ParsedYaml(file, data, position), builder.findings


def _explain(text: str, line: int, column: int, problem: str) -> tuple[str, str]:
    """Return message and hint for a text that is not YAML: two mistakes are common enough to name them."""
    lines = text.split("\n")
    content = lines[line - 1] if line <= len(lines) else ""
    if content[column - 1 : column] == "\t":
        return "a tab", "indent with spaces"
    if "*" in content[max(0, column - 2) : column]:
        return "a '*' without quotes", 'quote it: "*"'
    return f"not YAML: {_printable(problem)}", "fix the syntax here"


class _OpenNode:
    """A mapping or list that is not complete yet."""

    __slots__ = ("anchor", "key", "position", "size", "value")

    def __init__(self, value: Any, position: Position, anchor: str | None) -> None:
        self.value = value
        self.position = position
        self.anchor = anchor
        self.key: tuple[str, int, int, bool] | None = None
        self.size = 1


class _TreeBuilder:
    def __init__(self, file: str) -> None:
        self.file = file
        self.findings: list[Finding] = []
        self.root: tuple[Any, Position] | None = None
        self.stack: list[_OpenNode] = []
        self.anchors: dict[str, tuple[Any, Position, int] | None] = {}
        self.nodes = 0
        self._handlers = {
            "ScalarEvent": self._scalar,
            "MappingStartEvent": self._start_mapping,
            "SequenceStartEvent": self._start_list,
            "MappingEndEvent": self._end,
            "SequenceEndEvent": self._end,
            "AliasEvent": self._alias,
            "DocumentStartEvent": self._document,
        }

    def handle(self, event: Any) -> None:
        handler = self._handlers.get(type(event).__name__)
        if handler:
            handler(event)

    def _document(self, event: Any) -> None:
        if self.root is not None:
            self._fail(event, "a second document", "a file has one price book; remove the '---'")

    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        text = event.value
        if event.tag is not None:
            self._report(
                line, column, f"the tag {safe_repr(event.tag)}", "remove it; the schema defines the type of a value"
            )
        top = self.stack[-1] if self.stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            self._key(top, text, line, column, plain=event.implicit[0])
            return
        value = self._resolve(text, line, column) if event.implicit[0] else text
        position = (line, column, None)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, position, 1)
        self._attach(value, position, 1, event)

    def _key(self, top: _OpenNode, text: str, line: int, column: int, *, plain: bool) -> None:
        twice = text in top.value
        if twice:
            first = top.position[2][text][0]
            self._report(
                line, column, f"the key {safe_repr(text)} is repeated", f"keep one; the first is in line {first}"
            )
        if plain and text == "<<":
            self._report(line, column, "a merge key '<<'", "write the values out")
        top.key = (text, line, column, twice)

    def _resolve(self, text: str, line: int, column: int) -> Any:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return Decimal(text)
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        return text

    def _start_mapping(self, event: Any) -> None:
        self._start(event, {}, {})

    def _start_list(self, event: Any) -> None:
        self._start(event, [], [])

    def _start(self, event: Any, value: Any, children: Any) -> None:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        if len(self.stack) >= MAX_DEPTH:
            self._fail(event, f"nested deeper than {MAX_DEPTH}", "a price file is not deep")
        top = self.stack[-1] if self.stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            self._fail(event, "a key that is a mapping or a list", "keys are names")
        if event.tag is not None:
            self._report(
                line, column, f"the tag {safe_repr(event.tag)}", "remove it; the schema defines the type of a value"
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_OpenNode(value, (line, column, children), event.anchor))

    def _end(self, event: Any) -> None:
        done = self.stack.pop()
        if done.anchor is not None:
            self.anchors[done.anchor] = (done.value, done.position, done.size)
        self._attach(done.value, done.position, done.size, event)

    def _alias(self, event: Any) -> None:
        target = self.anchors.get(event.anchor)
        if target is None:
            hint = f'write the value out; quote a pattern: "*{event.anchor}"'
            self._fail(event, f"*{event.anchor} refers to itself or to nothing", hint)
        else:
            self._attach(*target, event)

    def _attach(self, value: Any, position: Position, size: int, event: Any) -> None:
        self.nodes += size
        if self.nodes > MAX_NODES:
            self._fail(event, f"more than {MAX_NODES} values (anchors count each time)", "write less, or split it")
        if not self.stack:
            self.root = (value, position)
            return
        top = self.stack[-1]
        top.size += size
        if type(top.value) is list:
            top.value.append(value)
            top.position[2].append(position)
        elif top.key is None:
            self._fail(event, "an alias as a key", "write the name out")
        else:
            key, line, column, twice = top.key
            top.key = None
            if not twice:
                top.value[key] = value
                top.position[2][key] = (line, column, position)

    def _report(self, line: int, column: int, message: str, hint: str) -> None:
        self.findings.append(Finding(self.file, line, column, "", message, hint))
        if len(self.findings) >= MAX_FINDINGS:
            raise PriceFileError(self.findings)

    def _fail(self, event: Any, message: str, hint: str) -> None:
        mark = event.start_mark
        self.findings.append(Finding(self.file, mark.line + 1, mark.column + 1, "", message, hint))
        raise PriceFileError(self.findings)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]
