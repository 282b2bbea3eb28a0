"""Usage files: JSON Lines, one request per line, read in constant memory.

Every line yields a :class:`Record` or a :class:`RejectedRecord` with the reason; none is dropped. The *leaf* of a
record is the RFC 6962 leaf hash of the whole line in canonical JSON (RFC 8785). It covers every reported value. It does
not depend on the order of keys or on white space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from itertools import chain, count
from typing import Any, Final, cast

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.times import format_instant, parse_instant
from brivionix_billing.usage import line_patterns
from brivionix_billing.usage.conventions import Conventions
from brivionix_billing.usage.fields import UsageExtras
from brivionix_billing.usage.line_patterns import UsualLine
from brivionix_billing.usage.records import (
    ABSENT,
    MAX_LINE,
    OPTIONAL,
    TIME,
    Origins,
    Record,
    RejectedRecord,
    RequestAttributes,
    require_name,
)
from brivionix_billing.usage.usage import Usage

__all__ = ["MAX_LINE", "Record", "RejectedRecord", "RequestAttributes", "read_records"]

_BLOCK_BYTES: Final = 1 << 20
"""At most ``_MAX_PIECE``."""
_MAX_PIECE: Final = MAX_LINE + 2
"""Maximum length of what is read as one line. It is longer than a line may be, so that the line is rejected."""
_REQUIRED: Final = ("request_id", "at", "account", "group", "model", "usage")
_tuple_new = tuple.__new__


def line_blocks(lines: Iterable[bytes]) -> Iterator[bytes] | None:
    """Return blocks of whole lines of a source that has them at hand, or ``None``.

    That is a file, or an object with a method ``blocks``. To read and to pass on a block takes less time than its
    lines one by one.
    """
    blocks = getattr(lines, "blocks", None)
    if blocks is not None:
        return cast(Iterator[bytes], blocks())
    read = getattr(lines, "read1", None)
    return None if read is None else _read_blocks(read)


def bounded_lines(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Return the lines of a file, none read beyond ``MAX_LINE``: a file without line ends cannot fill the memory."""
    blocks = line_blocks(lines)
    return map(_encode_line, lines) if blocks is None else chain.from_iterable(map(split_lines, blocks))


def split_lines(block: bytes) -> list[bytes]:
    """Return the lines of a block, each with its end."""
    return BytesIO(block).readlines()


def _encode_line(line: bytes) -> bytes:
    if type(line) is not bytes:  # such as the lines of a file that was opened for text
        line = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else bytes(line)
    return line


def _read_blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield blocks of whole lines. One that is longer than ``MAX_LINE`` comes in pieces, each a block of its own."""
    rest = b""
    while block := read(_BLOCK_BYTES):
        first = block.find(b"\n") + 1 or len(block)
        if len(rest) + first > _MAX_PIECE:
            cut = _MAX_PIECE - len(rest)
            yield rest + block[:cut]
            rest, block = b"", block[cut:]
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
            rest = b""
        rest += block[end:]
    if rest:
        yield rest


def read_records(
    lines: Iterable[bytes],
    numbers: Iterable[int] | None = None,
    *,
    conventions: ConventionsLookup | None = None,
) -> Iterator[Record | RejectedRecord]:
    """Yield a record, or a rejected record, for every line that is not blank.

    ``lines`` is a file opened for bytes, or any iterable of lines; ``numbers`` are theirs in the file, by default from
    1 on. ``conventions`` is ``book.conventions``, for records that name their upstream. Without it they are rejected.
    """
    reader = LineReader(conventions)
    for number, line in zip(count(1) if numbers is None else numbers, bounded_lines(lines), strict=False):
        record = reader.parse(number, line, reader.match(line))
        if record is not None:
            yield record


ConventionsLookup = Callable[[str], Conventions]
"""Returns the conventions of an upstream by its name. Raises ``unknown_upstream``."""


class LineReader:
    """Reads lines of a usage file one by one."""

    def __init__(self, conventions: ConventionsLookup | None = None) -> None:
        self._conventions = conventions
        self._origins = Origins()
        self._patterns = line_patterns.PATTERNS
        self.match: Callable[[bytes], UsualLine | None] = self._patterns.read
        """Returns what a usual line has, or ``None`` for one that must be parsed in full."""

    def parse(self, number: int, line: bytes, usual: UsualLine | None) -> Record | RejectedRecord | None:
        """Return the record of a line, or ``None`` for a blank one. ``usual`` is the result of ``match``."""
        if usual is not None:
            try:
                return usual.record(number, self._origins)
            except (ValueError, BillingError):
                pass  # parsing it in full finds the words for what is wrong
        record = _parse(number, line, self._origins, self._conventions)
        if type(record) is Record:
            self._patterns.observe(line, record, self._origins)
        return record


def _parse(
    number: int,
    line: bytes,
    origins: Origins,
    lookup: ConventionsLookup | None = None,
) -> Record | RejectedRecord | None:
    """Parse any line. A rejected one keeps the reason and as much as could be read."""
    parsed: dict[str, Any] = {}
    try:
        if len(line) > MAX_LINE:
            raise BillingError("invalid_record", f"the line has {len(line)} bytes; at most {MAX_LINE} are allowed")
        if not line.strip():
            return None
        data = loads_strict(line, "the line")
        if not isinstance(data, dict):
            raise BillingError(
                "invalid_record", f"{safe_repr(data)} is not an object; write one JSON object per request"
            )
        for name in ("request_id", "account"):
            if isinstance(data.get(name), str):
                parsed[name] = require_name(name, data[name])
        for name in ("model", "service_tier"):
            if isinstance(data.get(name), str) and len(data[name]) <= 256:
                parsed[name] = escape_unprintable(data[name])
        parsed["leaf"] = sha256(b"\0" + canonical_json(data)).digest()
        missing = [name for name in _REQUIRED if data.get(name) is None]
        if "at" not in missing:
            parsed["at"] = parse_instant(data["at"])
        if missing:
            raise BillingError("invalid_record", f"{', '.join(missing)} missing; a record needs {', '.join(_REQUIRED)}")
        request_id = require_name("request_id", data["request_id"])
        tier = data.get("service_tier", ABSENT)
        others = [data.get(name) for name in OPTIONAL]
        origin = origins.intern(data["account"], data["group"], data["model"], tier, *others)
        conventions = None
        if origin.upstream is not None:
            if lookup is None:
                raise BillingError("unknown_upstream", "the record names an upstream; give the price file that has it")
            conventions = lookup(origin.upstream)
        usage = Usage.from_response(data["usage"], conventions=conventions)
        at = parsed["at"]
        # The path depends on how a line is written; the result must not.
        at_text = data["at"] if TIME.fullmatch(data["at"]) else format_instant(at)
        fields = (*usage[:5], *(usage.extras or UsageExtras()))
        return _tuple_new(Record, (number, request_id, at, origin, *fields, parsed["leaf"], at_text[:-1]))
    except BillingError as error:
        code = "invalid_record" if error.code == "invalid_document" else error.code
        get = parsed.get
        names = get("leaf"), get("model"), get("service_tier")
        return RejectedRecord(number, get("request_id"), get("account"), get("at"), code, str(error), *names)
