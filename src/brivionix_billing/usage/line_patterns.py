"""Reads the lines of usage files that are written like lines before them.

A gateway writes the same keys in the same order, request after request. A pattern is made from one line that was
parsed. It has the names, the time and the counts of this line as groups, and all else literally. A line that it matches
has no key twice, no escape where one would matter, and nothing beside the groups that the first line does not have. So
its canonical JSON is put together from the groups, without a JSON parser and an encoder.

Every other line is parsed by :mod:`brivionix_billing.usage.record_file`, with the same result. Tests compare both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import MAX_COUNT
from brivionix_billing.usage.readers.openai import read_plain_counts
from brivionix_billing.usage.records import TIME, Origins, Record
from brivionix_billing.usage.token_details import CHAT_KEYS, RESPONSES_KEYS

__all__ = ["PATTERNS", "LinePatterns"]

_MAX_LENGTH: Final = 4096
"""Characters of a line from which a pattern is made, so that its compilation takes milliseconds."""
_LEARN_EVERY: Final = 8
"""One pattern is made per this many usual lines that none matches: compiling it takes as long as parsing 25 of them."""
_MAX_ALIKE: Final = 8
"""Patterns with the same number of quotes, which are tried one after the other, and failures to make one."""
_MAX_PATTERNS: Final = 256
"""Patterns and failures together."""

# Plain characters stand for themselves in canonical JSON. A quantifier with + gives nothing back, so that the time to
# match grows with the length of the line only.
_PLAIN: Final = r'[^"\\\x00-\x1f]'
_GROUPS: Final = {
    "request_id": rf'"({_PLAIN}{{1,256}}+)"',
    "at": f'"({TIME.pattern})"',
    "name": rf'("{_PLAIN}*+(?:\\.{_PLAIN}*+)*+"|null)',
    "count": r"(0|[1-9][0-9]{0,12}+)",
    "served": rf'"({_PLAIN}{{0,256}}+)"',
    "text": rf'"({_PLAIN}*+)"',
}
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')
_WHITE_SPACE: Final = " \t\r\n"
_NAMES: Final = ("account", "group", "model", "service_tier")
_KEYS: Final = frozenset({"request_id", "at", "usage", *_NAMES})
_USAGE: Final = ("usage",)
_TEXTS: Final = ("id", "system_fingerprint")
_RESPONSE_KEYS: Final = frozenset({*_TEXTS, "object", "model", "service_tier", "output", "usage"})
_SERVED: Final = ((*_USAGE, "service_tier"), (*_USAGE, "model"))
_Path = tuple[str, ...]
_tuple_new = tuple.__new__


class LinePattern:
    """Matches the lines that differ from one line in their names, times, counts and texts only."""

    __slots__ = ("_columns", "_match", "_meters", "_name_columns", "_usage", "_usage_columns")

    def __init__(
        self,
        text: str,
        data: dict[str, Any],
        roles: Mapping[_Path, str],
        counts: Iterable[_Path],
        meters: tuple[tuple[str, int], ...],
    ) -> None:
        """``meters`` are those of the line beside its token counts. Raises ``ValueError`` if a key is repeated."""
        columns: dict[_Path, int] = {}
        parts, end = [], 0
        for token, (path, value) in zip(_TOKEN.finditer(text), _walk(data, ()), strict=True):
            role = roles.get(path)
            if role is not None and (value is not None or role == "name"):
                parts += [re.escape(text[end : token.start()]), _GROUPS[role]]
                columns[path], end = len(columns) + 1, token.end()
        parts.append(re.escape(text[end:].rstrip(_WHITE_SPACE)))
        # The last group is empty, and stands for what the line does not have.
        self._match = re.compile("".join(parts) + f"()[{_WHITE_SPACE}]*+").fullmatch
        empty = len(columns) + 1

        paths = [("request_id",), ("at",), *_SERVED, *counts]
        self._columns = tuple(columns.get(path, empty) for path in paths)
        self._name_columns = tuple(columns.get((name,), empty) for name in _NAMES)
        used: list[int] = []
        self._usage = _canonical_template(data["usage"], _USAGE, columns, used)
        self._usage_columns = tuple(used)
        self._meters = meters

    def parse(self, number: int, text: str, origins: Origins) -> Record | None:
        """Return the record of a line, or ``None`` if it does not match or must be parsed.

        Raises ``ValueError`` for a date that does not exist, and ``invalid_record`` for an invalid name.
        """
        match = self._match(text)
        if match is None:
            return None
        request_id, at, served_tier, served_model, inputs, outputs, total, reads, reasons = match.group(*self._columns)
        input_tokens, output, cached, reasoning = int(inputs), int(outputs or 0), int(reads or 0), int(reasons or 0)
        if not (
            cached <= input_tokens <= MAX_COUNT
            and reasoning <= output <= MAX_COUNT
            and (not total or int(total) == input_tokens + output)
            and request_id.isprintable()
        ):
            return None
        origin = origins.intern_texts(match.group(*self._name_columns))
        usage = self._usage % match.group(*self._usage_columns)
        leaf = sha256(f'{origin.head}{at}{origin.middle}"{request_id}"{origin.tail}{usage}}}'.encode()).digest()
        return _tuple_new(
            Record,
            (
                number,
                request_id,
                datetime.fromisoformat(at),
                origin,
                input_tokens,
                input_tokens - cached,
                cached,
                output,
                reasoning,
                served_tier or None,
                served_model or None,
                self._meters,
                False,
                None,
                None,
                None,
                leaf,
                at[:-1],
            ),
        )


def _find_roles(data: dict[str, Any]) -> tuple[dict[_Path, str], list[_Path]]:
    """Return what may differ between lines, path -> group, and the paths of the counts in the order of ``parse``.

    Everything else could change what a line means, so a pattern has it literally. Raises ``ValueError`` for a line
    that is not usual.
    """
    if not _KEYS.issuperset(data) or not TIME.fullmatch(data["at"]):
        raise ValueError("the record is not usual")
    roles: dict[_Path, str] = {("request_id",): "request_id", ("at",): "at"}
    roles.update(((name,), "name") for name in _NAMES)
    response: dict[str, Any] = {}
    usage = data["usage"]
    path: _Path = _USAGE
    if "usage" in usage:
        roles.update(((*path, key), "text") for key in _TEXTS)
        roles.update((place, "served") for place in _SERVED)
        response, usage, path = usage, usage["usage"], (*path, "usage")
    if not isinstance(usage, dict):
        raise ValueError("there is no usage object")
    keys = CHAT_KEYS if "prompt_tokens" in usage else RESPONSES_KEYS
    # What other keys mean, such as those of images, can depend on the counts. The fees of output items do not.
    if not _RESPONSE_KEYS.issuperset(response) or read_plain_counts(usage, keys) is None:
        raise ValueError("the usage is not usual")
    counts: list[_Path] = [(*path, keys.input), (*path, keys.output), (*path, "total_tokens")]
    counts += [(*path, keys.input_details, "cached_tokens"), (*path, keys.output_details, "reasoning_tokens")]
    roles.update((place, "count") for place in counts)
    return roles, counts


def _walk(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """Yield the path and value of each text, number and literal of a JSON value, as they are written.

    The texts of keys have the path of no value.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            yield (), key
            yield from _walk(item, (*path, key))
    elif isinstance(value, list):
        for item in value:
            yield from _walk(item, (*path, ""))
    else:
        yield path, value


def _canonical_template(value: Any, path: _Path, columns: Mapping[_Path, int], used: list[int]) -> str:
    """Return the canonical JSON of a value with ``%s`` for each group of a pattern. Appends the groups to ``used``."""
    if path in columns:
        used.append(columns[path])
        return '"%s"' if isinstance(value, str) else "%s"
    if not isinstance(value, dict):
        return canonical_json(value).decode().replace("%", "%%")
    parts = []
    for key in sorted(value, key=lambda key: key.encode("utf-16-be")):  # the order of RFC 8785
        name = canonical_json(key).decode().replace("%", "%%")
        parts.append(f"{name}:{_canonical_template(value[key], (*path, key), columns, used)}")
    return "{" + ",".join(parts) + "}"


class LinePatterns:
    """The patterns of the lines that were read so far. Their number is bounded, and they are never wrong, only unused.

    They are found by the number of quotes of a line, which is the same for lines with the same keys.
    """

    def __init__(self) -> None:
        self._patterns: dict[int, list[LinePattern]] = {}
        self._unmatched: dict[int, int] = {}
        self._tried: dict[int, int] = {}

    def parse(self, number: int, line: bytes, origins: Origins) -> Record | None:
        """Return the record of a line, or ``None`` if no pattern matches it."""
        try:
            text = line.decode()
            for pattern in self._patterns.get(text.count('"'), ()):
                record = pattern.parse(number, text, origins)
                if record is not None:
                    return record
        except (ValueError, BillingError):
            pass  # parsing it in full finds the words for what is wrong
        return None

    def observe(self, line: bytes, record: Record, origins: Origins) -> None:
        """Learn from a record that no pattern matched."""
        if len(line) > _MAX_LENGTH:
            return
        quotes = line.count(b'"')
        self._unmatched[quotes] = unmatched = self._unmatched.get(quotes, 0) + 1
        tried = self._tried.get(quotes, 0)
        if unmatched % _LEARN_EVERY or tried >= _MAX_ALIKE or sum(self._tried.values()) >= _MAX_PATTERNS:
            return
        try:
            text = line.decode()
            data = json.loads(text)
            roles, counts = _find_roles(data)
            self._tried[quotes] = tried + 1
            pattern = LinePattern(text, data, roles, counts, record.meters)
            if pattern.parse(record.line, text, origins) == record:
                self._patterns[quotes] = [*self._patterns.get(quotes, ()), pattern]
        except (ValueError, BillingError):
            pass


PATTERNS: Final = LinePatterns()
"""The patterns of this process, because a file is read in parts."""
