"""Inserts entries into the text of a YAML file. No line of the file changes, except that of an empty ``{}``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from brivionix_billing.errors import BillingError
from brivionix_billing.importing.yaml_text import write_block, write_item

__all__ = ["TextEdits"]


class TextEdits:
    """Collects insertions into a file that was read strictly before."""

    def __init__(self, content: bytes) -> None:
        import yaml

        text = content.decode("utf-8-sig")
        self._mark = "\ufeff" if content.startswith(b"\xef\xbb\xbf") else ""
        self._return = "\r" if "\r\n" in text else ""
        self._lines = text.split("\n")
        if self._lines[-1] == "":
            self._lines.pop()
        self._root: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self._insertions: list[tuple[int, int, list[str]]] = []

    def append_items(self, path: Sequence[str], items: Sequence[Mapping[str, Any]]) -> None:
        """Append items to the list at a path. Raises ``invalid_argument`` if the list is not in block style."""
        node = self._find(path)
        if node is None or node.flow_style or not node.value:
            raise _layout_error(".".join(path))
        first = self._lines[node.value[0].start_mark.line]
        indent = len(first) - len(first.lstrip(" "))
        if not first.lstrip(" ").startswith("-"):
            raise _layout_error(".".join(path))
        self._insert(_last_line(node), [line for item in items for line in write_item(item, indent)])

    def append_entries(self, section: str, entries: Mapping[str, Any]) -> None:
        """Append entries to a top-level mapping, or add it at the end of the file if there is none."""
        node = self._find((section,))
        if node is None:
            self._insert(len(self._lines) - 1, ["", *write_block(section, dict(entries), 0)])
            return
        if node.id == "mapping" and node.flow_style and not node.value:
            self._remove_braces(section, node)
            indent, last = 2, int(node.end_mark.line)
        elif node.flow_style or not node.value or not hasattr(node.value[0], "__len__"):
            raise _layout_error(section)
        else:
            indent, last = int(node.value[0][0].start_mark.column), _last_line(node)
        lines: list[str] = []
        for name, value in entries.items():
            # Models are separated by empty lines, as in the file that most users start from.
            lines += (
                ["", *write_block(name, value, indent)] if section == "models" else write_block(name, value, indent)
            )
        self._insert(last, lines)

    def apply(self) -> str:
        """Return the text with all insertions."""
        lines = list(self._lines)
        # From the end, so that positions stay valid; insertions at one place stay in their order.
        for line, _, added in sorted(self._insertions, reverse=True):
            lines[line + 1 : line + 1] = [text + self._return for text in added]
        return self._mark + "\n".join([*lines, ""])

    def _remove_braces(self, section: str, node: Any) -> None:
        """Turn ``models: {}`` into ``models:``; a comment behind it stays."""
        start, end = node.start_mark, node.end_mark
        if start.line != end.line:
            raise _layout_error(section)
        line = self._lines[start.line]
        self._lines[start.line] = (line[: start.column].rstrip() + line[end.column :]).rstrip()

    def _insert(self, line: int, lines: list[str]) -> None:
        self._insertions.append((line, len(self._insertions), lines))

    def _find(self, path: Sequence[str]) -> Any:
        node = self._root
        for step in path:
            entries = node.value if node is not None and node.id == "mapping" else []
            node = next((value for key, value in entries if key.value == step), None)
        return node


def _last_line(node: Any) -> int:
    """Return the last line of the content of a node, without comments and empty lines below it."""
    if node.id == "scalar" or node.flow_style:
        return int(node.end_mark.line)
    parts = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
    return max(map(_last_line, parts), default=int(node.start_mark.line))


def _layout_error(where: str) -> BillingError:
    return BillingError(
        "invalid_argument", f"{where} of the price file is written on one line; write each entry on lines of its own"
    )
