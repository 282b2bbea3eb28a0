"""The canonical text of a table's row in SQL, derived from the line of a usage file that the row becomes.

The keys of a record, and where they are, come from :meth:`Columns.line`. RFC 8785 sorts them. So this module has no
list of fields of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.frames.layout import Count, FrameLayout, quote, text_literal
from brivionix_billing.tables import Columns, TableOptions

__all__ = ["RecordSql"]

_SAFE_TEXT: Final = r"[ !#-\[\]-~]*"
"""Printable ASCII without quotes and backslashes: JSON writes such a text as it is."""
_SAFE_ID: Final = r"[!#-\[\]-~]+"
_INSTANT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.([0-9]{1,3}|[0-9]{6}))?Z"
_MAX_LENGTH: Final = 256
_MARK: Final = "\ue000"
_INTEGERS: Final = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")


class RecordSql:
    """The canonical text of a row in SQL, over the rows of ``FrameQuery.rows``.

    :attr:`supports_table` is false if a column has a type whose JSON is not written here.
    """

    def __init__(self, names: list[str], types: list[str], layout: FrameLayout, options: TableOptions) -> None:
        self._layout = layout
        columns = Columns(names, options)
        self._types = dict(zip(columns.names, types, strict=True))
        self._columns = {ours: quote(name) for ours, name in zip(columns.names, names, strict=True)}
        self._template: Any = json.loads(columns.line([_MARK + name for name in columns.names]))
        self._texts = [
            name for name in self._types if _has_mark(self._template, _MARK + name) and not self._is_special(name)
        ]
        self._counts = {count.argument: (count, _whole(count, index)) for index, count in enumerate(layout.counts)}

    def _is_special(self, name: str) -> bool:
        return name in ("at", "estimated", "usage") or any(count.argument == name for count in self._layout.counts)

    @property
    def supports_table(self) -> bool:
        """Whether the rows of this table can be written in SQL."""
        if "request_id" not in self._types or "account" not in self._types or "usage" in self._types:
            return False
        if self._types.get("at") not in ("TIMESTAMP WITH TIME ZONE", "VARCHAR"):
            return False
        if self._types.get("estimated", "BOOLEAN") != "BOOLEAN":
            return False
        allowed = ("VARCHAR", "UUID", *_INTEGERS)
        return all(
            self._types[name] in (allowed if name in ("request_id", "account") else ("VARCHAR",))
            for name in self._texts
        )

    def column(self, name: str) -> str | None:
        """Return a text column in SQL, ``None`` if the table does not have it."""
        return f"nullif(CAST({self._columns[name]} AS VARCHAR), '')" if name in self._columns else None

    @property
    def request_id(self) -> str:
        """The request id in SQL."""
        return f"CAST({self._columns['request_id']} AS VARCHAR)"

    @property
    def at_text(self) -> str:
        """The time of a record in UTC without Z in SQL, as ``Record.at_text`` writes it."""
        if self._types["at"] == "VARCHAR":
            return f"rtrim({self._columns['at']}, 'Z')"
        moment = "make_timestamp(_b_time)"
        return (
            f"CASE WHEN _b_time % 1000000 = 0 THEN strftime({moment}, '%Y-%m-%dT%H:%M:%S') "
            f"ELSE strftime({moment}, '%Y-%m-%dT%H:%M:%S.%f') END"
        )

    def is_safe_value(self, name: str, value: str | None) -> bool:
        """Return whether a value of a text column is written in SQL as the core writes it."""
        if name not in self._texts or not value:
            return True
        return len(value) <= _MAX_LENGTH and re.fullmatch(_SAFE_TEXT, value) is not None

    def is_safe(self, tested: Container[str]) -> str:
        """Return whether the text of a row is written in SQL as the core writes it.

        The columns ``tested`` are left out, because their few values are tested by :meth:`is_safe_value`.
        """
        tests = [
            f"regexp_full_match({self.request_id}, {text_literal(_SAFE_ID)})",
            f"strlen({self.request_id}) <= {_MAX_LENGTH}",
        ]
        if self._types["at"] == "VARCHAR":
            tests.append(f"regexp_full_match({self._columns['at']}, {text_literal(_INSTANT)})")
        for name in self._texts:
            if name != "request_id" and name not in tested:
                text = f"coalesce({self.column(name)}, '')"
                tests.append(
                    f"strlen({text}) <= {_MAX_LENGTH} AND regexp_full_match({text}, {text_literal(_SAFE_TEXT)})"
                )
        for index, count in enumerate(self._layout.counts):
            if count.places:  # only whole quantities are written in SQL
                tests.append(f"_b{index} % {10**count.places} = 0")
        return " AND ".join(tests)

    def leaf(self, present: Container[str]) -> str:
        """Return the leaf hash of a row in hexadecimal in SQL. No row lacks a value in the columns ``present``."""
        return f"sha256(concat(chr(0), {', '.join(_join(self._pieces(self._template, present)))}))"

    def _pieces(self, value: Any, present: Container[str]) -> list[_Piece]:
        """Return a value of the template as pieces of its text."""
        if not isinstance(value, Mapping):
            return self._value(value, present)
        found: list[_Piece] = []
        for key in sorted(value):
            name = _Literal("," + canonical_json(key).decode() + ":")
            pieces = [name, *self._pieces(value[key], present)]
            found += pieces if self._is_present(value[key], present) else [_Sql(" || ".join(_join(pieces)))]
        if found and isinstance(found[0], _Literal):
            return [_Literal("{" + found[0][1:]), *found[1:], _Literal("}")]
        return [_Literal("{"), _Sql(f"substr(concat('', {', '.join(_join(found))}), 2)"), _Literal("}")]

    def _is_present(self, value: Any, present: Container[str]) -> bool:
        """Return whether every row has a value of the template."""
        if value is True:
            return False
        is_column = isinstance(value, str) and value.startswith(_MARK)
        return not is_column or value.removeprefix(_MARK) in present

    def _value(self, value: Any, present: Container[str]) -> list[_Piece]:
        """Return a value of the template that is no object. One piece is ``NULL`` if the record does not have it."""
        if value is True:  # the mark of an estimate, which a record has only if it is true
            return [_Sql(f"CASE WHEN {self._columns['estimated']} THEN 'true' END")]
        if not isinstance(value, str) or not value.startswith(_MARK):
            return [_Literal(canonical_json(value).decode())]
        name = value.removeprefix(_MARK)
        if name in self._counts:
            count, whole = self._counts[name]
            text = f"CAST({whole} AS VARCHAR)"
            return [_Sql(text if name in present else f"CASE WHEN {count.stated_sql} IS NOT NULL THEN {text} END")]
        if name == "at":
            # isoformat() of Python ends with the offset, and a text stays as it is.
            ending = "Z" if self._types["at"] == "VARCHAR" else "+00:00"
            return [_Literal('"'), _Sql(f"({self.at_text})"), _Literal(ending + '"')]
        text = f"CAST({self._columns[name]} AS VARCHAR)" if name in present else self.column(name) or "NULL"
        return [_Literal('"'), _Sql(text), _Literal('"')]


class _Literal(str):
    """A part of a text that is the same in all rows."""

    __slots__ = ()


class _Sql(str):
    """An expression for a part of a text."""

    __slots__ = ()


_Piece = _Literal | _Sql


def _join(pieces: Iterable[_Piece]) -> Iterator[str]:
    """Yield pieces in SQL. Literals that follow one another become one, which is faster."""
    literal = ""
    for piece in pieces:
        if isinstance(piece, _Literal):
            literal += piece
            continue
        if literal:
            yield text_literal(literal)
        literal = ""
        yield piece
    if literal:
        yield text_literal(literal)


def _whole(count: Count, index: int) -> str:
    return f"_b{index} // {10**count.places}" if count.places else f"_b{index}"


def _has_mark(value: Any, mark: str) -> bool:
    return value == mark or (isinstance(value, Mapping) and any(_has_mark(item, mark) for item in value.values()))
