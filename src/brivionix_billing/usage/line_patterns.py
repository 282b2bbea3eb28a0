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
from itertools import count, groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError
from brivionix_billing.usage.fields import MAX_COUNT
from brivionix_billing.usage.readers.openai import read_plain_counts
from brivionix_billing.usage.records import MAX_LINE, TIME, Origins, Record
from brivionix_billing.usage.token_details import CHAT_KEYS, RESPONSES_KEYS

__all__ = ["PATTERNS", "LinePatterns", "UsualLine"]

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
    "request_id": r'"([ !#-\[\]-~]{1,256}+)"',
    "at": f'"{TIME.pattern}"',
    "name": rf'("{_PLAIN}*+")',
    "tier": rf'("{_PLAIN}*+"|null)',
    "escaped": rf'("{_PLAIN}*+(?:\\.{_PLAIN}*+)*+"|null)',
    "count": r"(?!0[0-9])([0-9]++)",
    "served": rf'"({_PLAIN}{{0,256}}+)"',
    "text": rf'"({_PLAIN}*+)"',
}
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')
_WHITE_SPACE: Final = " \t\r\n"
_NAMES: Final = {"account": "name", "group": "name", "model": "name", "service_tier": "tier"}
"""Names -> their groups, if they are written without escapes. With them, matching takes longer."""
_KEYS: Final = frozenset({"request_id", "at", "usage", *_NAMES})
_USAGE: Final = ("usage",)
_TEXTS: Final = ("id", "system_fingerprint")
_RESPONSE_KEYS: Final = frozenset({*_TEXTS, "object", "model", "service_tier", "output", "usage"})
_SERVED: Final = ((*_USAGE, "service_tier"), (*_USAGE, "model"))
_Path = tuple[str, ...]
_DATE: Final = ("at", "date")
"""A place for the date within ``at``, which is a group of its own."""
_tuple_new = tuple.__new__


class UsualLine(NamedTuple):
    """What a pattern reads from a line. It is a valid record but for its names, and its date may not exist."""

    key: tuple[str, str, str, str, str, str]
    """Account, group, model and service tier as they are written in JSON, the served service tier, and the date.

    An empty text stands for what the line does not have.
    """
    request_id: str
    at: str
    """The time in UTC without the Z."""
    input_tokens: int
    cache_read_tokens: int
    output_tokens: int
    reasoning_tokens: int
    served_model: str
    meters: tuple[tuple[str, int], ...]
    usage: str
    """The usage in canonical JSON."""

    def record(self, number: int, origins: Origins) -> Record:
        """Return the record. Raises ``ValueError`` if the date does not exist, and ``invalid_record`` for a name."""
        key, request_id, at, input_tokens, cached, output, reasoning, served_model, meters, usage = self
        account, group, model, tier, served_tier, _ = key
        origin = origins.intern_texts((account, group, model, tier))
        return _tuple_new(
            Record,
            (
                number,
                request_id,
                datetime.fromisoformat(at + "Z"),
                origin,
                input_tokens,
                input_tokens - cached,
                cached,
                output,
                reasoning,
                served_tier or None,
                served_model or None,
                meters,
                False,
                None,
                None,
                None,
                origin.hash_record(at, request_id, usage),
                at,
            ),
        )


class LinePattern:
    """Matches the lines that differ from one line in their names, times, counts and texts only."""

    __slots__ = ("_key", "_literals", "_match", "_meters", "_usage", "_values")

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
            if role is not None and (value is not None or path == ("service_tier",)):
                parts += [re.escape(text[end : token.start()]), _GROUPS[role]]
                columns[path], end = len(columns), token.end()
                if role == "at":
                    columns[_DATE] = len(columns)
        parts.append(re.escape(text[end:].rstrip(_WHITE_SPACE)))
        # The last group is empty, and stands for what the line does not have.
        self._match = re.compile("".join(parts) + f"()[{_WHITE_SPACE}]*+").fullmatch
        empty = len(columns)

        served_tier, served_model = _SERVED
        key = [*((name,) for name in _NAMES), served_tier, _DATE]
        self._key = itemgetter(*(columns.get(path, empty) for path in key))
        values = [("request_id",), ("at",), served_model, *counts]
        self._values = itemgetter(*(columns.get(path, empty) for path in values))
        usage = list(_join_texts(_canonical_parts(data["usage"], _USAGE, columns)))
        self._literals = tuple(part for part in usage if isinstance(part, str))
        places = count(empty + 1)
        self._usage = itemgetter(*(next(places) if isinstance(part, str) else part for part in usage))
        self._meters = meters

    def read(self, text: str) -> UsualLine | None:
        """Return what a line has, or ``None`` if it does not match or must be parsed.

        Raises ``ValueError`` for a number of thousands of digits.
        """
        match = self._match(text)
        if match is None:
            return None
        groups = match.groups() + self._literals
        request_id, at, served_model, inputs, outputs, total, reads, reasons = self._values(groups)
        input_tokens, output, cached, reasoning = int(inputs), int(outputs or 0), int(reads or 0), int(reasons or 0)
        if not (
            cached <= input_tokens <= MAX_COUNT
            and reasoning <= output <= MAX_COUNT
            and (not total or int(total) == input_tokens + output)
        ):
            return None
        usage = "".join(self._usage(groups))
        key, meters = self._key(groups), self._meters
        return _tuple_new(
            UsualLine,
            (key, request_id, at, input_tokens, cached, output, reasoning, served_model, meters, usage),
        )


def _find_roles(text: str, data: dict[str, Any]) -> tuple[dict[_Path, str], list[_Path]]:
    """Return what may differ between lines, path -> group, and the paths of the counts in the order of ``parse``.

    Everything else could change what a line means, so a pattern has it literally. Raises ``ValueError`` for a line
    that is not usual.
    """
    if not _KEYS.issuperset(data) or not TIME.fullmatch(data["at"]):
        raise ValueError("the record is not usual")
    roles: dict[_Path, str] = {("request_id",): "request_id", ("at",): "at"}
    has_escapes = "\\" in text
    roles.update(((name,), "escaped" if has_escapes else _NAMES[name]) for name in _NAMES)
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


def _canonical_parts(value: Any, path: _Path, columns: Mapping[_Path, int]) -> Iterator[str | int]:
    """Yield the canonical JSON of a value in parts: texts, and the groups of a pattern."""
    if path in columns:
        quote = '"' if isinstance(value, str) else ""
        yield quote
        yield columns[path]
        yield quote
    elif not isinstance(value, dict):
        yield canonical_json(value).decode()
    else:
        before = "{"
        for key in sorted(value, key=lambda key: key.encode("utf-16-be")):  # the order of RFC 8785
            yield f"{before}{canonical_json(key).decode()}:"
            yield from _canonical_parts(value[key], (*path, key), columns)
            before = ","
        yield "}" if value else "{}"


def _join_texts(parts: Iterable[str | int]) -> Iterator[str | int]:
    """Yield the same parts with texts that follow one another as one."""
    for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(map(str, group))
        else:
            yield from group


class LinePatterns:
    """The patterns of the lines that were read so far. Their number is bounded, and they are never wrong, only unused.

    They are found by the number of quotes of a line, which is the same for lines with the same keys.
    """

    def __init__(self) -> None:
        self._patterns: dict[int, list[LinePattern]] = {}
        self._unmatched: dict[int, int] = {}
        self._tried: dict[int, int] = {}

    def read(self, line: bytes) -> UsualLine | None:
        """Return what a line has, or ``None`` if no pattern matches it."""
        if len(line) > MAX_LINE:
            return None
        try:
            text = line.decode()
            for pattern in self._patterns.get(text.count('"'), ()):
                usual = pattern.read(text)
                if usual is not None:
                    return usual
        except ValueError:
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
            roles, counts = _find_roles(text, data)
            self._tried[quotes] = tried + 1
            pattern = LinePattern(text, data, roles, counts, record.meters)
            usual = pattern.read(text)
            if usual is not None and usual.record(record.line, origins) == record:
                self._patterns[quotes] = [*self._patterns.get(quotes, ()), pattern]
        except (ValueError, BillingError):
            pass


PATTERNS: Final = LinePatterns()
"""The patterns of this process, because a file is read in parts."""
