"""The columns of a usage table, and the line of a usage file that a row becomes."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.times import load_zone, local_instant
from brivionix_billing.usage.readers.plain import COUNT_NAMES

__all__ = ["Columns", "SourcePosition", "TableOptions", "convert_value", "parse_mapping", "parse_values"]

_REQUIRED: Final = ("request_id", "at", "account", "group", "model")
_TEXTS: Final = (*_REQUIRED, "service_tier", "region", "mode", "upstream")
_KEPT: Final = ("token", "project", "tags")
"""Columns without an effect on the price, which are kept in the record."""
_MAX_COLUMNS: Final = 1000
_BESIDE_COUNTS: Final = ("estimated", "served_model", "served_service_tier")
"""Columns that a whole body contains."""
_KNOWN: Final = frozenset({*_TEXTS, "usage", *_BESIDE_COUNTS, *COUNT_NAMES})
_NUMBER: Final = re.compile(r"[0-9]{1,30}(\.[0-9]{1,30})?", re.ASCII)
_THOUSANDS: Final = re.compile(r"[0-9]{1,3}\.[0-9]{3}", re.ASCII)
_LOCAL_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?", re.ASCII)
_UNIX_TIME: Final = re.compile(r"[0-9]{10}([0-9]{3})?", re.ASCII)
_TRUE: Final = frozenset({"true", "1", "yes"})
_FALSE: Final = frozenset({"false", "0", "no", ""})


@dataclass(slots=True)
class SourcePosition:
    """How far usage was read, for a progress display."""

    total: int = 0
    """Size of all files, in bytes; 0 if it is not known, such as that of stdin."""
    done: int = 0
    """Size of the files that were read."""
    size: int = 0
    """Size of the present file."""
    fraction_of_file: Callable[[], float] = lambda: 0.0

    @property
    def fraction(self) -> float | None:
        """The part of the usage that was read, from 0 to 1; ``None`` if it is not known."""
        if not self.total:
            return None
        return min(1.0, (self.done + self.size * self.fraction_of_file()) / self.total)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """How the columns of tables are read."""

    mapping: Mapping[str, str] = field(default_factory=dict)
    """Other names of columns: ``{"created_at": "at"}``."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Values of columns that the table does not have, the same for every row: ``{"group": "default"}``."""
    meters: Collection[str] = ()
    """Meters that a price file declares; their columns are quantities too."""
    note: Callable[[str], None] = lambda _: None
    """Gets remarks for people, such as columns that are not read."""

    preset: str | None = None
    """A ready-made mapping, a name of :data:`brivionix_billing.tables.presets.PRESETS`."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Number of rows that the preset found to be no requests, by reason."""
    position: SourcePosition = field(default_factory=SourcePosition)
    naive_time_zone: str | None = None
    """The time zone of times without an offset."""

    @property
    def changes_rows(self) -> bool:
        """Whether rows that are records already are to be read like rows of a table."""
        return bool(self.mapping or self.values or self.preset or self.naive_time_zone)

    def note_skipped(self) -> None:
        """Note the rows that were no requests, and forget them."""
        if self.skipped:
            counts = ", ".join(f"{count} {reason}" for reason, count in sorted(self.skipped.items()))
            self.note(f"rows that are no requests, not read: {counts}")
            self.skipped.clear()


def parse_values(pairs: Iterable[str]) -> dict[str, str]:
    """Parse pairs such as ``group=default``. Raises ``invalid_argument``."""
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in _TEXTS or not value or name in values:
            raise BillingError(
                "invalid_argument", f"value {safe_repr(pair)}: use NAME=VALUE once for a name of {', '.join(_TEXTS)}"
            )
        values[name] = value
    return values


def parse_mapping(pairs: Iterable[str]) -> dict[str, str]:
    """Parse pairs such as ``at=created_at`` to ``{"created_at": "at"}``: the name of the table to that of this library.

    Raises ``invalid_argument``.
    """
    mapping: dict[str, str] = {}
    mapped: set[str] = set()
    for pair in pairs:
        ours, equals, theirs = pair.partition("=")
        if not equals or not ours or not theirs:
            raise BillingError("invalid_argument", f"mapping {safe_repr(pair)}: use NAME=COLUMN, such as at=created_at")
        if theirs in mapping or ours in mapped:
            raise BillingError("invalid_argument", f"mapping {safe_repr(pair)}: a name is mapped twice; map each once")
        mapping[theirs] = ours
        mapped.add(ours)
    return mapping


class Columns:
    """The columns of one table. Columns that are not read are noted. Raises ``invalid_argument`` if it has no usage."""

    def __init__(self, names: Sequence[str], options: TableOptions | None = None) -> None:
        options = options or TableOptions()
        mapping = options.mapping
        if len(names) > _MAX_COLUMNS:
            raise BillingError("invalid_argument", f"the table has {len(names)} columns; use at most {_MAX_COLUMNS}")
        unused = [theirs for theirs in mapping if theirs not in names]
        if unused:
            raise BillingError(
                "invalid_argument",
                f"the table has no column {safe_repr(unused[0])}, which is mapped; it has {_listed(names)}",
            )
        self.names = [mapping.get(name, name) for name in names]
        repeated = next((name for index, name in enumerate(self.names) if name in self.names[:index]), None)
        if repeated is not None:
            raise BillingError("invalid_argument", f"the table has two columns {safe_repr(repeated)}; rename one")
        stated = next((name for name in options.values if name in self.names), None)
        if stated is not None:
            raise BillingError(
                "invalid_argument", f"the table has a column {stated}, which also has a value for all rows; omit one"
            )
        self._values = dict(options.values)
        self._zone = None if options.naive_time_zone is None else load_zone(options.naive_time_zone)
        missing = [name for name in _REQUIRED if name not in self.names and name not in self._values]
        quantities = COUNT_NAMES | set(options.meters)
        counts = [name for name in self.names if name in quantities]
        if missing:
            raise BillingError(
                "invalid_argument",
                f"the table has no column {', '.join(missing)}; it has {_listed(names)}; "
                f"map a column (--map {missing[0]}=COLUMN), or set a value (--set {missing[0]}=VALUE)",
            )
        beside = [*counts, *(name for name in self.names if name in _BESIDE_COUNTS)]
        if "usage" in self.names and beside:
            raise BillingError(
                "invalid_argument", f"the table has a column usage and {beside[0]}; leave out one of them"
            )
        if "usage" not in self.names and not counts:
            raise BillingError(
                "invalid_argument",
                f"the table has no quantities; it has {_listed(names)}; "
                "map the columns of counts (--map input_tokens=COLUMN), or one of whole bodies (--map usage=COLUMN)",
            )
        self._counts = frozenset(counts)
        self.unread = [name for name in self.names if name not in _KNOWN | set(_KEPT) and name not in self._counts]
        """Columns without an effect on the price."""
        for name in self.unread:
            close = get_close_matches(name.lower(), COUNT_NAMES, 1, 0.85)
            if close:
                raise BillingError(
                    "invalid_argument",
                    f"the column {safe_repr(name)} looks like {close[0]}, and would not be read; map or rename it",
                )
        if self.unread:
            options.note(f"columns without an effect on the price: {', '.join(self.unread)}")

    def line(self, values: Sequence[Any]) -> bytes:
        """Return the line of a usage file for a row. A value that is wrong stays as it is, and is rejected there."""
        record: dict[str, Any] = dict(self._values)
        counts: dict[str, Any] = {}
        beside: dict[str, Any] = {}
        usage: Any = None
        if len(values) != len(self.names):
            problem = f"a row of {len(values)} cells in a table of {len(self.names)} columns"
            return json.dumps(problem).encode() + b"\n"
        for name, value in zip(self.names, values, strict=True):
            if value is None or value == "":
                continue
            if name in self._counts:
                counts[name] = _count(name, value)
            elif name == "usage":
                usage = _body(value)
            elif name == "at":
                record[name] = _instant(value, self._zone)
            elif name == "estimated":
                beside[name] = _flag(value)
            elif name in ("served_model", "served_service_tier"):
                beside[name.removeprefix("served_")] = _plain(value)
            elif name in _TEXTS:
                record[name] = str(value) if isinstance(value, int) and not isinstance(value, bool) else _plain(value)
            elif name in _KEPT:
                record[name] = _plain(value)
        if counts:
            stated: dict[str, Any] = {"counts": counts}
            if beside.pop("estimated", False):
                stated["estimated"] = True
            usage = {"usage": stated, **beside}
        return json.dumps({**record, "usage": usage}, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(safe_repr(name, 40) for name in names[:20])
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "") or "none"


def _count(name: str, value: Any) -> Any:
    """Return a quantity as JSON data. Tokens such as ``1.000`` may mean a thousand, so they stay a text."""
    if name.endswith("_tokens") and isinstance(value, str) and _THOUSANDS.fullmatch(value.strip()):
        return value
    return _number(value)


def _number(value: Any) -> Any:
    """Return a quantity as JSON data. What is no plain number stays a text, which is rejected with its name."""
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            return value
        value = Decimal(text)
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        number = float(value)
        return number if Decimal(repr(number)) == value else str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return _plain(value)


def _instant(value: Any, zone: tzinfo | None) -> Any:
    """Return a time as text. Whole numbers are Unix times: 10 digits are seconds, 13 are milliseconds.

    A time without an offset is one of ``zone``, if there is one. One that occurs there twice or never stays wrong.
    """
    if isinstance(value, datetime):
        text = value.isoformat()
    else:
        text = str(value).strip()
        if _UNIX_TIME.fullmatch(text):
            seconds, milliseconds = int(text[:10]), int(text[10:] or 0)
            return datetime.fromtimestamp(seconds, UTC).replace(microsecond=1000 * milliseconds).isoformat()
        if not isinstance(value, str | date):
            return _plain(value)
        text = text.replace(" ", "T", 1)
    if zone is None or not _LOCAL_TIME.fullmatch(text):
        return text
    try:
        return local_instant(datetime.fromisoformat(text), zone).isoformat()
    except BillingError:
        return f"{text} (twice or never in {zone})"
    except ValueError:
        return text


def _body(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return loads_strict(value, "usage")
        except BillingError:
            return value
    return _plain(value)


def convert_value(field: str, value: Any, zone: tzinfo = UTC) -> Any:
    """Return the value of a field of a record for a cell of a log, whose times are of a zone if they have no offset."""
    if field == "at":
        return _instant(value, zone)
    if field in _KEPT:
        return _body(value) if field == "tags" else str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else _plain(value)


def _flag(value: Any) -> Any:
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else str(value)


def _plain(value: Any) -> Any:
    """Return a value of a data frame as JSON data."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, date):
        return value.isoformat()
    return value if isinstance(value, float) else str(value)
