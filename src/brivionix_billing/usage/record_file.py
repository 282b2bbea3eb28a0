"""Usage files: JSON Lines, one request per line, read in constant memory.

Every line yields a :class:`Record` or a :class:`RejectedRecord` with the reason; none is dropped. The *leaf* of a
record is the RFC 6962 leaf hash of the whole line in canonical JSON (RFC 8785). It covers every reported value. It does
not depend on the order of keys or on white space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from itertools import count
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.times import format_instant, parse_instant
from brivionix_billing.usage import line_patterns
from brivionix_billing.usage.conventions import Conventions
from brivionix_billing.usage.fields import UsageExtras
from brivionix_billing.usage.records import (
    ABSENT,
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

MAX_LINE: Final = 1024 * 1024
"""Maximum length of a line, in bytes. A longer line is rejected; the usage of one request has some hundred bytes."""

_BLOCK_BYTES: Final = 1 << 20
_MAX_PIECE: Final = MAX_LINE + 2
"""Maximum length of what is read as one line. It is longer than a line may be, so that the line is rejected."""
_REQUIRED: Final = ("request_id", "at", "account", "group", "model", "usage")
_tuple_new = tuple.__new__


def bounded_lines(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Return the lines of a file, none read beyond ``MAX_LINE``: a file without line ends cannot fill the memory."""
    read = getattr(lines, "read1", None)
    return lines if read is None else _read_lines(read)


def _read_lines(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield lines that are read in blocks, which takes less time than to read each. A longer line comes in pieces."""
    rest = b""
    while block := read(_BLOCK_BYTES):
        lines = BytesIO(rest + block).readlines()
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        if max(map(len, lines), default=0) > _MAX_PIECE:
            lines = [piece for line in lines for piece in _split_line(line)]
        yield from lines
        if len(rest) > _MAX_PIECE:
            *pieces, rest = _split_line(rest)
            yield from pieces
    if rest:
        yield rest


def _split_line(line: bytes) -> list[bytes]:
    return [line[start : start + _MAX_PIECE] for start in range(0, len(line), _MAX_PIECE)]


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
    origins, patterns = Origins(), line_patterns.PATTERNS
    for number, line in zip(count(1) if numbers is None else numbers, bounded_lines(lines), strict=False):
        record: Record | RejectedRecord | None = None
        if type(line) is not bytes:  # such as the lines of a file that was opened for text
            line = line.encode("utf-8", "surrogatepass") if isinstance(line, str) else bytes(line)
        if len(line) <= MAX_LINE:
            record = patterns.parse(number, line, origins)
        if record is None:
            record = _parse(number, line, origins, conventions)
            if record is None:
                continue
            if type(record) is Record:
                patterns.observe(line, record, origins)
        yield record


ConventionsLookup = Callable[[str], Conventions]
"""Returns the conventions of an upstream by its name. Raises ``unknown_upstream``."""


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
