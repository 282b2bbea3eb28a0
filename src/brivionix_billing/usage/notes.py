"""Notes of a reader on a body: numbers that are on no meter, and oddities that change no price.

The law that every reader keeps: a number in a usage object that is not zero is on a meter, or contained in one, or a
total or a duplicate of one; or else it is in :attr:`UsageNotes.unaccounted`, or a warning says why it has no price.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr

if TYPE_CHECKING:
    from brivionix_billing.usage.fields import UsageFields

__all__ = [
    "MAX_UNACCOUNTED",
    "MAX_WARNINGS",
    "NotesBuilder",
    "Unaccounted",
    "UsageNotes",
    "is_number_text",
    "join_path",
    "show_number",
    "with_root",
]

MAX_UNACCOUNTED: Final = 256
"""Maximum number of unaccounted numbers in one body. A body with more of them is not the usage of one request."""
MAX_WARNINGS: Final = 32
_MAX_TIMES: Final = 16
_MAX_DEPTH: Final = 8
_MAX_DIGITS: Final = 30
_MAX_TOTAL_DIGITS: Final = 12
_MAX_KEY_LENGTH: Final = 64
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", re.ASCII)
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_TIME_WORDS: Final = frozenset({"time", "latency", "duration", "ms", "millis", "tps"})
_QUANTITY_WORDS: Final = frozenset(
    {"audio", "video", "speech", "image", "music", "compute", "gpu", "tokens", "requests", "calls", "cost", "count"}
)
"""A key with one of these words may name a quantity with a price, such as ``audio_duration``."""
_RATE_NAME: Final = re.compile(r"per_sec(ond)?(_|$)|time_sec$|(acceptance|hit)_rate$", re.IGNORECASE)
_COUNT_NAME: Final = re.compile(
    "token|count|unit|second|duration|character|image|page|request|call|quer|search|cost|fee|price|credit",
    re.IGNORECASE,
)
"""Names under which a text may be a number: protobuf writes 64-bit integers as texts in JSON."""
_NUMBER_TEXT: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?", re.ASCII)

Unaccounted = tuple[tuple[str, Decimal | int], ...]
"""(JSON path, number), in the order of the body."""


class UsageNotes(NamedTuple):
    """What few usages have: see :class:`brivionix_billing.Usage`."""

    unaccounted: Unaccounted = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[tuple[str, UsageFields], ...] = ()
    """(model, usage) of the runs of other models within the request."""
    reported: UsageFields | None = None
    """The usage as the provider reported it, if a policy priced or ignored some of its unaccounted numbers."""


class NotesBuilder:
    """Collects the notes while one body is read."""

    __slots__ = ("_further_warnings", "_times", "_unaccounted", "_warnings", "parts")

    def __init__(self) -> None:
        self._unaccounted: list[tuple[str, Decimal | int]] = []
        self._warnings: list[str] = []
        self._further_warnings = 0
        self._times: list[str] = []
        self.parts: list[tuple[str, UsageFields]] = []

    def warn(self, text: str) -> None:
        """Add a warning: an oddity that changes no price."""
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(escape_unprintable(text))  # keys of a provider
        else:
            self._further_warnings += 1

    def list_number(self, path: str, value: object) -> None:
        """List a value as unaccounted, if it is a number that is not zero."""
        if type(value) is str and is_number_text(path.rpartition(".")[2], value):
            value = Decimal(value)
        if type(value) in (float, Decimal) and not math.isfinite(value):  # type: ignore[arg-type]  # one of the two
            self.warn(f"{path} is {value}, which is no number")
            return
        if type(value) is float:
            value = Decimal(repr(value))
        if (type(value) is not int and type(value) is not Decimal) or not value:
            return
        if abs(value) >= 10**_MAX_DIGITS:
            self.warn(f"{path} is {safe_repr(value)}, which is no quantity")
            return
        if len(self._unaccounted) >= MAX_UNACCOUNTED:
            raise BillingError(
                "unknown_usage_key",
                f"the usage has more than {MAX_UNACCOUNTED} numbers without a known price; "
                "give the usage object of one request",
            )
        self._unaccounted.append((path, value))

    def list_unknown(self, path: str, value: Any, known: Collection[str] = ()) -> None:
        """List every number of an object, at any depth, except under its ``known`` keys.

        A time or a speed becomes a warning, because it has no price.
        """
        pending: list[tuple[str, Any, int]] = [(path, value, 0)]
        while pending:
            where, value, depth = pending.pop()
            if depth > _MAX_DEPTH:
                raise BillingError(
                    "unknown_usage_format",
                    f"{path} is nested more than {_MAX_DEPTH} deep; give the usage object alone",
                )
            found: list[tuple[str, Any, int]] = []
            if isinstance(value, Mapping):
                for key, item in value.items():
                    if depth == 0 and key in known:
                        continue
                    if isinstance(item, Mapping | list | tuple):
                        found.append((join_path(where, key), item, depth + 1))
                    elif _is_time(key) and type(item) in (int, float, Decimal) and item:
                        self._times.append(f"{safe_repr(str(key), 40)} {show_number(item)}")
                    else:
                        self.list_number(join_path(where, key), item)
            elif isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    if isinstance(item, Mapping | list | tuple):
                        found.append((f"{where}[{index}]", item, depth + 1))
                    else:
                        self.list_number(f"{where}[{index}]", item)
            else:
                self.list_number(where, value)
            pending += reversed(found)

    def list_contained(self, path: str, part: object, whole: int) -> None:
        """List a part of a count, if it is more than the count."""
        if type(part) is not int or not 0 <= part <= whole:
            self.list_number(path, part)

    def check_total(self, path: str, stated: object, parts: Mapping[str, int], extra: Iterable[int] = ()) -> None:
        """Compare a stated total with the sum of its parts, or with another possible sum of ``extra``.

        A total above the sum states tokens that are on no meter: it is unaccounted. One more or less, or any total
        below the sum, changes no price: a warning.
        """
        if stated is None:
            return
        name = path.rpartition(".")[2]
        if type(stated) is not int or not 0 <= stated <= 10**_MAX_TOTAL_DIGITS:
            raise BillingError("invalid_usage", f"{name} is {safe_repr(stated)}; use a whole number from 0 to 10^12")
        total = sum(parts.values())
        if stated == total or stated in extra:
            return
        if stated > total + 1:
            self.list_number(path, stated)
        else:
            listed = " + ".join(f"{name} {count}" for name, count in parts.items())
            self.warn(f"{path} {safe_repr(stated)} is not {listed} = {total}; the parts are billed")

    def rename(self, names: Mapping[str, str]) -> None:
        """Rename keys in the paths so far: of a body that writes the keys of its format in another case."""
        self._unaccounted = [
            (".".join(_rename_key(key, names) for key in path.split(".")), value) for path, value in self._unaccounted
        ]

    def build(self) -> UsageNotes | None:
        """Return the notes, or ``None`` if there are none."""
        warnings = self._warnings
        if self._times:
            further = len(self._times) - _MAX_TIMES
            shown = ", ".join(self._times[:_MAX_TIMES]) + (f" and {further} more" if further > 0 else "")
            warnings = [*warnings, f"times have no price: {shown}"]
        if self._further_warnings:
            warnings = [*warnings, f"and {self._further_warnings} more warnings"]
        if not (self._unaccounted or warnings or self.parts):
            return None
        return UsageNotes(tuple(self._unaccounted), tuple(warnings), tuple(self.parts))


def is_number_text(key: object, text: str) -> bool:
    """Return whether a text under a key is a number that was written as a text."""
    return _NUMBER_TEXT.fullmatch(text) is not None and _COUNT_NAME.search(str(key)[:_MAX_KEY_LENGTH]) is not None


def show_number(value: object) -> str:
    """Return a number for a message, the same whether it was parsed as a float or as a decimal number."""
    return safe_repr(value, 24) if type(value) is not Decimal else str(value)[:24]


def join_path(path: str, key: object) -> str:
    """Return the JSON path of a key: ``usage.cost``, or ``usage["a b"]`` for a key that is not a plain word."""
    name = str(key)
    if _PLAIN_KEY.fullmatch(name):
        return f"{path}.{name}"
    return f"{path}[{safe_repr(name, _MAX_KEY_LENGTH)}]"


def with_root(notes: UsageNotes, root: str) -> UsageNotes:
    """Return notes whose paths begin with the key under which the response has the usage object."""
    paths = [(f"{root}{path[path.index('.') :]}" if "." in path else path, value) for path, value in notes.unaccounted]
    return notes._replace(unaccounted=tuple(paths))


def _rename_key(key: str, names: Mapping[str, str]) -> str:
    name, bracket, index = key.partition("[")
    return names.get(name, name) + bracket + index


def _is_time(key: object) -> bool:
    """Return whether a key names a time or a speed of the machine, which has no price."""
    name = str(key)[:_MAX_KEY_LENGTH]
    if _RATE_NAME.search(name):
        return True
    words = {word.lower() for word in _WORD.findall(name)}
    return bool(words & _TIME_WORDS) and not words & _QUANTITY_WORDS
