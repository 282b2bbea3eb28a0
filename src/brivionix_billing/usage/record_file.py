"""Usage files: JSON Lines, one request per line, read in constant memory.

Every line yields a :class:`Record` or a :class:`RejectedRecord` with the reason; none is dropped. The *leaf* of a
record is the RFC 6962 leaf hash of the whole line in canonical JSON (RFC 8785). It covers every reported value. It does
not depend on the order of keys or on white space.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import count
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import format_instant, parse_instant
from brivionix_billing.usage.conventions import Conventions
from brivionix_billing.usage.fields import UsageExtras, make_fields
from brivionix_billing.usage.notes import UsageNotes
from brivionix_billing.usage.readers.openai import read_plain_counts
from brivionix_billing.usage.token_details import CHAT_KEYS, RESPONSES_KEYS, FormatKeys
from brivionix_billing.usage.usage import Usage

__all__ = ["MAX_LINE", "Record", "RejectedRecord", "RequestAttributes", "read_records"]

MAX_LINE: Final = 1024 * 1024
"""Maximum length of a line, in bytes. A longer line is rejected; the usage of one request has some hundred bytes."""

_OPTIONAL: Final = ("region", "mode", "upstream")
"""Keys of a record that few records have: the requested region and mode, and the name of the upstream."""
_REQUIRED: Final = ("request_id", "at", "account", "group", "model", "usage")
_MAX_CACHED: Final = 65_536
_FAST_AT: Final = frozenset({20, 22, 23, 24, 27})  # lengths of 2026-10-01T00:00:03Z with 0, 1, 2, 3 or 6 decimals
_SEPARATORS: Final = frozenset({"--T::Z", "--T::."})
_ABSENT: Final = object()
_tuple_new = tuple.__new__


class RequestAttributes:
    """Attributes that many records of a file share, such as account, group, model and requested service tier.

    Equal attributes of one file are one object, so that it can be a key without comparing texts.
    """

    __slots__ = ("account", "group", "head", "middle", "mode", "model", "region", "service_tier", "tail", "upstream")

    def __init__(
        self, account: str, group: str, model: str, service_tier: str | None, has_tier: bool, *others: str | None
    ) -> None:
        self.account, self.group, self.model, self.service_tier = account, group, model, service_tier
        self.region, self.mode, self.upstream = others or (None, None, None)
        # A leaf hashes a zero byte and the canonical text: head, time, middle, request id, tail, usage, brace.
        tier = f'"service_tier":{_json_text(service_tier)},' if has_tier else ""
        self.head = f'\0{{"account":{_json_text(account)},"at":"'
        self.middle = f'","group":{_json_text(group)},"model":{_json_text(model)},"request_id":'
        self.tail = f',{tier}"usage":'


class Record(NamedTuple):
    """One request of a usage file. Its counts are fields of their own for speed; :attr:`usage` combines them."""

    line: int
    """Line number in the file, from 1."""
    request_id: str
    at: datetime
    origin: RequestAttributes
    input_tokens: int
    """All input tokens, including cached ones."""
    text_input_tokens: int
    cache_read_tokens: int
    text_output_tokens: int
    reasoning_tokens: int
    # The fields of UsageExtras follow, in their order.
    served_tier: str | None
    served_model: str | None
    meters: tuple[tuple[str, int], ...]
    estimated: bool
    served_region: str | None
    served_mode: str | None
    notes: UsageNotes | None
    leaf: bytes
    at_text: str
    """``at`` in UTC without the Z. Texts of two records sort as their times do."""

    @property
    def usage(self) -> Usage:
        """The usage of the request."""
        return Usage.from_fields(
            make_fields(
                self.input_tokens,
                self.text_input_tokens,
                self.cache_read_tokens,
                self.text_output_tokens,
                self.reasoning_tokens,
                self.served_tier,
                self.served_model,
                self.meters,
                self.estimated,
                self.served_region,
                self.served_mode,
                self.notes,
            )
        )


class RejectedRecord(NamedTuple):
    """A line that cannot be billed, with the reason and as much of it as could be read."""

    line: int
    request_id: str | None
    account: str | None
    at: datetime | None
    code: str
    message: str
    leaf: bytes | None = None
    """The leaf of the line, if it is JSON with a request id."""
    model: str | None = None
    service_tier: str | None = None
    """The requested model and service tier, if they could be read."""

    def as_dict(self) -> dict[str, Any]:
        """Return the entry for the list of rejected records."""
        entry = self._asdict() | {"at": None if self.at is None else format_instant(self.at)}
        for name in ("leaf", "model", "service_tier"):
            del entry[name]
        return entry


def bounded_lines(lines: Iterable[bytes]) -> Iterable[bytes]:
    """Return the lines of a file, none read beyond ``MAX_LINE``: a file without line ends cannot fill the memory."""
    readline = getattr(lines, "readline", None)
    return lines if readline is None else iter(partial(readline, MAX_LINE + 2), b"")


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
    from pydantic_core import from_json

    origins: dict[tuple[Any, ...], RequestAttributes] = {}
    for number, line in zip(count(1) if numbers is None else numbers, bounded_lines(lines), strict=False):
        record: Record | RejectedRecord | None = None
        try:
            record = _parse_fast(number, line, from_json(line, allow_inf_nan=False), origins)
        except (ValueError, TypeError, KeyError, AttributeError, BillingError):
            pass  # the strict path finds the words for what is unusual or wrong
        if record is None:
            record = _parse_strict(number, line, origins, conventions)
            if record is None:
                continue
        yield record


ConventionsLookup = Callable[[str], Conventions]
"""Returns the conventions of an upstream by its name. Raises ``unknown_upstream``."""
DetailTemplates = dict[tuple[str, ...], tuple[str, str | None]]
"""Keys of token details -> the canonical text before and after the count that may not be zero."""
_INPUT_TEMPLATES: Final[DetailTemplates] = {}
_OUTPUT_TEMPLATES: Final[DetailTemplates] = {}


def _parse_fast(
    number: int, line: bytes, data: Any, origins: dict[tuple[Any, ...], RequestAttributes]
) -> Record | None:
    """Parse the usual line; return ``None``, or raise, for every other.

    The usual line has the keys of a record and no others, a time in UTC, and a chat or Responses usage that
    :func:`read_plain_counts` reads (alone, or in a response that has nothing else but texts). Everything about such a
    line is known, so its canonical text is put together here without a JSON encoder. Tests compare this path with the
    strict one.
    """
    usage, request_id, at_text, model = data["usage"], data["request_id"], data["at"], data["model"]
    account, group, tier = data["account"], data["group"], data.get("service_tier", _ABSENT)
    origin = origins.get((account, group, model, tier)) or _intern_attributes(account, group, model, tier, origins)
    served_tier = served_model = response = None
    if "usage" in usage:
        response, usage = usage, usage["usage"]
        if "output" in response:
            return None  # its items may have a fee
        served_tier, served_model = response.get("service_tier") or None, response.get("model") or None

    keys = CHAT_KEYS if "prompt_tokens" in usage else RESPONSES_KEYS
    counts = read_plain_counts(usage, keys)
    if (
        counts is None
        or not (served_tier is None or len(served_tier) <= 256)
        or not (served_model is None or len(served_model) <= 256)
        or len(data) != (6 if tier is _ABSENT else 7)
        or type(request_id) is not str
        or not request_id.isprintable()
        or not 0 < len(request_id) <= 256
        or len(at_text) not in _FAST_AT
        or at_text[4:20:3] not in _SEPARATORS
        or at_text[11:13] >= "24"
        or at_text[-1] != "Z"
        or len(line) > MAX_LINE
    ):
        return None

    input_tokens, cached, output, reasoning = counts
    usage_text = _canonical_usage(usage, keys, counts)
    if response is not None:
        usage_text = _canonical_response(response, usage_text)
    text = f"{origin.head}{at_text}{origin.middle}{encode_basestring(request_id)}{origin.tail}{usage_text}}}"
    if text.count(":") != line.count(b":") or b"\\u003" in line:
        return None  # a key is repeated, or a colon is written as an escape, which could hide that
    return _tuple_new(
        Record,
        (
            number,
            request_id,
            datetime.fromisoformat(at_text),
            origin,
            input_tokens,
            input_tokens - cached,
            cached,
            output,
            reasoning,
            served_tier,
            served_model,
            (),
            False,
            None,
            None,
            None,
            sha256(text.encode()).digest(),
            at_text[:-1],
        ),
    )


def _canonical_usage(usage: dict[str, Any], keys: FormatKeys, counts: tuple[int, int, int, int]) -> str:
    """Return the canonical text of a usual usage object."""
    input_tokens, cached, output, reasoning = counts
    input_details, output_details = usage.get(keys.input_details), usage.get(keys.output_details)
    if input_details is None:
        input_text = "null"
    else:
        names = tuple(input_details)
        before, after = _INPUT_TEMPLATES.get(names) or _details_template(_INPUT_TEMPLATES, "cached_tokens", names)
        input_text = before if after is None else f"{before}{cached}{after}"
    if output_details is None:
        output_text = "null"
    else:
        names = tuple(output_details)
        before, after = _OUTPUT_TEMPLATES.get(names) or _details_template(_OUTPUT_TEMPLATES, "reasoning_tokens", names)
        output_text = before if after is None else f"{before}{reasoning}{after}"
    total = usage.get("total_tokens")
    if total is None or len(usage) != len(keys.all) or usage[keys.output] is None:
        return _canonical_partial_usage(usage, input_text, output_text)
    if keys is CHAT_KEYS:  # all five keys, in canonical order
        return (
            f'{{"completion_tokens":{output},"completion_tokens_details":{output_text},"prompt_tokens":{input_tokens},'
            f'"prompt_tokens_details":{input_text},"total_tokens":{total}}}'
        )
    return (
        f'{{"input_tokens":{input_tokens},"input_tokens_details":{input_text},"output_tokens":{output},'
        f'"output_tokens_details":{output_text},"total_tokens":{total}}}'
    )


def _canonical_partial_usage(usage: dict[str, Any], input_text: str, output_text: str) -> str:
    """Return the canonical text of a usual usage object that has only some keys of its format."""
    parts = []
    for key in sorted(usage):
        value = usage[key]
        if key.endswith("_details"):
            value = input_text if key in (CHAT_KEYS.input_details, RESPONSES_KEYS.input_details) else output_text
        parts.append(f'"{key}":{_null(value)}')
    return "{" + ",".join(parts) + "}"


def _null(count: int | str | None) -> int | str:
    return "null" if count is None else count


def _details_template(cache: DetailTemplates, key: str, keys: tuple[str, ...]) -> tuple[str, str | None]:
    """Return the canonical text of token details in two parts, around the only count that may not be zero."""
    if any('"' in name for name in keys):
        raise ValueError("a name with a quote could be mistaken for the key")
    before, found, after = canonical_json(dict.fromkeys(keys, 0)).decode().partition(f'"{key}":0')
    template = (before + found[:-1], after) if found else (before, None)
    if len(cache) < _MAX_CACHED:
        cache[keys] = template
    return template


def _canonical_response(response: dict[str, Any], usage_text: str) -> str:
    """Return the canonical text of a response that has nothing but texts beside its usage object."""
    keys = tuple(response)
    order = _KEY_ORDERS.get(keys) or _canonical_key_order(keys)
    parts = [f"{text}:{usage_text if key == 'usage' else encode_basestring(response[key])}" for key, text in order]
    return "{" + ",".join(parts) + "}"


_KEY_ORDERS: Final[dict[tuple[str, ...], list[tuple[str, str]]]] = {}


def _canonical_key_order(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the keys in canonical order, each with its JSON text."""
    if not all(key.isascii() for key in keys):
        raise ValueError("RFC 8785 sorts by UTF-16, which differs for keys beyond ASCII")
    order = [(key, encode_basestring(key)) for key in sorted(keys)]
    if len(_KEY_ORDERS) < _MAX_CACHED:
        _KEY_ORDERS[keys] = order
    return order


def _intern_attributes(
    account: Any, group: Any, model: Any, tier: Any, origins: dict[tuple[Any, ...], RequestAttributes], *others: Any
) -> RequestAttributes:
    """Return the one object for these names. Raises ``invalid_record`` for an invalid name."""
    has_tier = tier is not _ABSENT
    for what, name in (("account", account), ("group", group), ("model", model)):
        if _require_name(what, name) != name.strip():
            raise BillingError(
                "invalid_record",
                f"{what} is {safe_repr(name)}, which would be another {what}; remove the space at its end",
            )
    requested = _require_name("service_tier", tier) if has_tier and tier is not None else None
    stated = tuple(
        None if name is None else _require_name(what, name) for what, name in zip(_OPTIONAL, others, strict=False)
    )
    key = (account, group, model, tier, *(stated if any(stated) else ()))
    attributes = origins.get(key)
    if attributes is None:
        if len(origins) > _MAX_CACHED:
            origins.clear()  # a file with many made-up names must not fill the memory
        attributes = RequestAttributes(account, group, model, requested, has_tier, *stated)
        origins[key] = attributes
    return attributes


def _parse_strict(
    number: int,
    line: bytes,
    origins: dict[tuple[Any, ...], RequestAttributes],
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
                parsed[name] = _require_name(name, data[name])
        for name in ("model", "service_tier"):
            if isinstance(data.get(name), str) and len(data[name]) <= 256:
                parsed[name] = escape_unprintable(data[name])
        parsed["leaf"] = sha256(b"\0" + canonical_json(data)).digest()
        missing = [name for name in _REQUIRED if data.get(name) is None]
        if "at" not in missing:
            parsed["at"] = parse_instant(data["at"])
        if missing:
            raise BillingError("invalid_record", f"{', '.join(missing)} missing; a record needs {', '.join(_REQUIRED)}")
        request_id = _require_name("request_id", data["request_id"])
        tier = data.get("service_tier", _ABSENT)
        others = [data.get(name) for name in _OPTIONAL]
        origin = _intern_attributes(data["account"], data["group"], data["model"], tier, origins, *others)
        conventions = None
        if origin.upstream is not None:
            if lookup is None:
                raise BillingError("unknown_upstream", "the record names an upstream; give the price file that has it")
            conventions = lookup(origin.upstream)
        usage = Usage.from_response(data["usage"], conventions=conventions)
        at = parsed["at"]
        # The path depends on how a line is written; the result must not.
        at_text = data["at"] if data["at"][-1] == "Z" and len(data["at"]) in _FAST_AT else format_instant(at)
        fields = (*usage[:5], *(usage.extras or UsageExtras()))
        return _tuple_new(Record, (number, request_id, at, origin, *fields, parsed["leaf"], at_text[:-1]))
    except BillingError as error:
        code = "invalid_record" if error.code == "invalid_document" else error.code
        get = parsed.get
        names = get("leaf"), get("model"), get("service_tier")
        return RejectedRecord(number, get("request_id"), get("account"), get("at"), code, str(error), *names)


def _require_name(what: str, value: object) -> str:
    return require_text(what, value, code="invalid_record")


def _json_text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)
