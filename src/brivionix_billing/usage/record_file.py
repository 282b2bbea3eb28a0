"""Usage files: JSON Lines, one request a line, read in constant memory.

Every line gives a :class:`Record` or a :class:`RejectedRecord` with the reason; none is dropped. A record's *leaf* is
the RFC 6962 leaf hash of the whole line in canonical JSON (RFC 8785): it pins every value that was reported,
whatever the order of keys or the spaces of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json, loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.times import format_instant, parse_instant
from brivionix_billing.usage import MAX_COUNT, Usage
from brivionix_billing.usage.usage import UsageExtras, usage_from_meters

__all__ = ["MAX_LINE", "RequestAttributes", "Record", "RejectedRecord", "read_records"]

MAX_LINE: Final = 1024 * 1024
"""A longer line is set aside: one request's usage has a few hundred bytes."""

_REQUIRED: Final = ("request_id", "at", "account", "group", "model", "usage")
_MAX_CACHED: Final = 65_536
_FAST_AT: Final = frozenset({20, 22, 23, 24, 27})  # 2026-10-01T00:00:03Z with 0, 1, 2, 3 or 6 digits of a second
_SEPARATORS: Final = frozenset({"--T::Z", "--T::."})
_ABSENT: Final = object()
_ZERO: Final = 0
_new = tuple.__new__


class RequestAttributes:
    """What many records of a file share: account, group, model and the service tier that was asked for.

    Equal ones of a file are one object, so that it can serve as a key without comparing texts.
    """

    __slots__ = ("account", "group", "head", "middle", "model", "service_tier", "tail")

    def __init__(self, account: str, group: str, model: str, service_tier: str | None, has_tier: bool) -> None:
        self.account, self.group, self.model, self.service_tier = account, group, model, service_tier
        # A leaf is over a zero byte and the canonical text: head, time, middle, request id, tail, usage, brace.
        tier = f'"service_tier":{_json_text(service_tier)},' if has_tier else ""
        self.head = f'\0{{"account":{_json_text(account)},"at":"'
        self.middle = f'","group":{_json_text(group)},"model":{_json_text(model)},"request_id":'
        self.tail = f',{tier}"usage":'


class Record(NamedTuple):
    """One request of a usage file. Its counts lie flat in it; :attr:`usage` puts them together."""

    line: int
    """Its line in the file, from 1."""
    request_id: str
    at: datetime
    origin: RequestAttributes
    input_tokens: int
    """With all that it contains."""
    text_input_tokens: int
    cache_read_tokens: int
    text_output_tokens: int
    reasoning_tokens: int
    served_tier: str | None
    served_model: str | None
    meters: tuple[tuple[int, int], ...]
    estimated: bool
    leaf: bytes
    at_text: str
    """``at`` in UTC without the Z: texts of two records sort as their times do."""

    @property
    def usage(self) -> Usage:
        """What was used."""
        return usage_from_meters(*self[4:13])


class RejectedRecord(NamedTuple):
    """A line that cannot be billed, and why. As much of it as could be read."""

    line: int
    request_id: str | None
    account: str | None
    at: datetime | None
    code: str
    message: str
    leaf: bytes | None = None
    """The leaf that it would have, where the line is JSON with a request id."""

    def as_dict(self) -> dict[str, Any]:
        """For the list of records set aside."""
        at = None if self.at is None else format_instant(self.at)
        shown = self._asdict() | {"at": at}
        del shown["leaf"]
        return shown


def bounded_lines(lines: Iterable[bytes]) -> Iterable[bytes]:
    """The lines of a file, none read further than is kept of it: what has no line ends cannot fill the memory."""
    readline = getattr(lines, "readline", None)
    return lines if readline is None else iter(partial(readline, MAX_LINE + 2), b"")


def read_records(lines: Iterable[bytes], first: int = 1) -> Iterator[Record | RejectedRecord]:
    """What the lines hold, one by one. Blank lines are passed over.

    ``lines`` is a file opened for bytes, or any iterable of lines; ``first`` is the number of its first line.
    """
    from pydantic_core import from_json

    origins: dict[tuple[Any, ...], RequestAttributes] = {}
    for number, line in enumerate(bounded_lines(lines), first):
        found: Record | RejectedRecord | None = None
        try:
            found = _parse_fast(number, line, from_json(line, allow_inf_nan=False), origins)
        except (ValueError, TypeError, KeyError, AttributeError, BillingError):
            pass  # whatever is unusual is looked at by the slow way, which finds the words for it
        if found is None:
            found = _parse_strict(number, line, origins)
            if found is None:
                continue
        yield found


# The usual kinds of usage object: their keys, and what OpenAI calls input, output and the details of each.
_CHAT: Final = frozenset(
    {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details", "completion_tokens_details"}
)
_RESPONSES: Final = frozenset(
    {"input_tokens", "output_tokens", "total_tokens", "input_tokens_details", "output_tokens_details"}
)
DetailTemplates = dict[tuple[str, ...], tuple[str, str | None]]
_INPUT_TEMPLATES: Final[DetailTemplates] = {}
_OUTPUT_TEMPLATES: Final[DetailTemplates] = {}


def _parse_fast(
    number: int, line: bytes, data: Any, origins: dict[tuple[Any, ...], RequestAttributes]
) -> Record | None:
    """The usual line, read fast; ``None`` (or an error that means it) for every other.

    Usual is: the keys of a record and no more, time in UTC, and a chat or Responses usage (bare, or in a response that
    holds nothing else but texts) in which everything is a whole number and, beyond the totals, only the cached and the
    reasoning tokens are not zero. Of such a line all is known, so its canonical text is put together here without a
    JSON writer. Tests hold this against the slow way, which says the same of every line.
    """
    usage, request_id, at_text, model = data["usage"], data["request_id"], data["at"], data["model"]
    account, group, tier = data["account"], data["group"], data.get("service_tier", _ABSENT)
    origin = origins.get((account, group, model, tier)) or _intern_attributes(account, group, model, tier, origins)
    served_tier = served_model = response = None
    if "usage" in usage:
        response, usage = usage, usage["usage"]
        if "output" in response:
            return None  # its items may cost something
        served_tier, served_model = response.get("service_tier") or None, response.get("model") or None

    if "prompt_tokens" in usage:
        prompt, output = usage["prompt_tokens"], usage["completion_tokens"]
        inside, outside = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        chat = True
    else:
        prompt, output = usage["input_tokens"], usage["output_tokens"]
        inside, outside = usage.get("input_tokens_details"), usage.get("output_tokens_details")
        chat = False
    total = usage.get("total_tokens")
    read = reasoning = 0
    if inside is not None:
        for key, count in inside.items():
            if count is not _ZERO:
                if key != "cached_tokens":
                    return None
                read = count
    if outside is not None:
        for key, count in outside.items():
            if count is not _ZERO:
                if key != "reasoning_tokens":
                    return None
                reasoning = count
    if not (
        usage.keys() <= (_CHAT if chat else _RESPONSES)
        and type(prompt) is type(output) is type(read) is type(reasoning) is int
        and 0 <= read <= prompt <= MAX_COUNT
        and 0 <= reasoning <= output <= MAX_COUNT
        and (total is None or (type(total) is int and total == prompt + output))
        and (served_tier is None or len(served_tier) <= 256)
        and (served_model is None or len(served_model) <= 256)
        and len(data) == (6 if tier is _ABSENT else 7)
        and type(request_id) is str
        and request_id.isprintable()
        and 0 < len(request_id) <= 256
        and len(at_text) in _FAST_AT
        and at_text[4:20:3] in _SEPARATORS
        and at_text[11:13] < "24"
        and at_text[-1] == "Z"
        and len(line) <= MAX_LINE
    ):
        return None

    if inside is None:
        ins = "null"
    else:
        keys = tuple(inside)
        before, after = _INPUT_TEMPLATES.get(keys) or _details_template(_INPUT_TEMPLATES, "cached_tokens", keys)
        ins = before if after is None else f"{before}{read}{after}"
    if outside is None:
        outs = "null"
    else:
        keys = tuple(outside)
        before, after = _OUTPUT_TEMPLATES.get(keys) or _details_template(_OUTPUT_TEMPLATES, "reasoning_tokens", keys)
        outs = before if after is None else f"{before}{reasoning}{after}"
    if total is not None and len(usage) == 5:  # the five keys of its kind, in their order
        if chat:
            counted = (
                f'{{"completion_tokens":{output},"completion_tokens_details":{outs},"prompt_tokens":{prompt},'
                f'"prompt_tokens_details":{ins},"total_tokens":{total}}}'
            )
        else:
            counted = (
                f'{{"input_tokens":{prompt},"input_tokens_details":{ins},"output_tokens":{output},'
                f'"output_tokens_details":{outs},"total_tokens":{total}}}'
            )
    else:
        counted = _canonical_partial_usage(usage, ins, outs)
    if response is not None:
        counted = _canonical_response(response, counted)
    text = f"{origin.head}{at_text}{origin.middle}{encode_basestring(request_id)}{origin.tail}{counted}}}"
    if text.count(":") != line.count(b":") or b"\\u003" in line:
        return None  # a key stands twice, or a colon is written as an escape, which could hide that
    return _new(
        Record,
        (
            number,
            request_id,
            datetime.fromisoformat(at_text),
            origin,
            prompt,
            prompt - read,
            read,
            output,
            reasoning,
            served_tier,
            served_model,
            (),
            False,
            sha256(text.encode()).digest(),
            at_text[:-1],
        ),
    )


def _canonical_partial_usage(usage: dict[str, Any], ins: str, outs: str) -> str:
    """The canonical text of a usual usage that has some of the five keys of its kind."""
    parts = []
    for key in sorted(usage):
        value = usage[key]
        if key.endswith("_details"):
            value = ins if key in ("prompt_tokens_details", "input_tokens_details") else outs
        parts.append(f'"{key}":{_null(value)}')
    return "{" + ",".join(parts) + "}"


def _null(count: int | str | None) -> int | str:
    return "null" if count is None else count


def _details_template(made_before: DetailTemplates, key: str, keys: tuple[str, ...]) -> tuple[str, str | None]:
    """The canonical text of token details, in two parts around the only count that may be other than zero."""
    if any('"' in name for name in keys):
        raise ValueError("a name with a quote in it could look like the key that is sought")
    before, found, after = canonical_json(dict.fromkeys(keys, 0)).decode().partition(f'"{key}":0')
    made = (before + found[:-1], after) if found else (before, None)
    if len(made_before) < _MAX_CACHED:
        made_before[keys] = made
    return made


def _canonical_response(response: dict[str, Any], counted: str) -> str:
    """The canonical text of a response around its usage's; beside that it may hold nothing but texts."""
    keys = tuple(response)
    order = _ORDERS.get(keys) or _canonical_key_order(keys)
    parts = [f"{written}:{counted if key == 'usage' else encode_basestring(response[key])}" for key, written in order]
    return "{" + ",".join(parts) + "}"


_ORDERS: Final[dict[tuple[str, ...], list[tuple[str, str]]]] = {}


def _canonical_key_order(keys: tuple[str, ...]) -> list[tuple[str, str]]:
    """The keys in canonical order, each with its JSON text."""
    if not all(key.isascii() for key in keys):
        raise ValueError("a key that is not ASCII has an order of its own")
    made = [(key, encode_basestring(key)) for key in sorted(keys)]
    if len(_ORDERS) < _MAX_CACHED:
        _ORDERS[keys] = made
    return made


def _intern_attributes(
    account: Any, group: Any, model: Any, tier: Any, origins: dict[tuple[Any, ...], RequestAttributes]
) -> RequestAttributes:
    """The one origin of these names. Raises ``invalid_record`` for a name that is none."""
    has_tier = tier is not _ABSENT
    for what, name in (("account", account), ("group", group), ("model", model)):
        if _require_name(what, name) != name.strip():
            raise BillingError(
                "invalid_record", f"{what} is {safe_repr(name)}; a space at either end would make it another {what}"
            )
    asked = _require_name("service_tier", tier) if has_tier and tier is not None else None
    found = origins.get((account, group, model, tier))
    if found is None:
        if len(origins) > _MAX_CACHED:
            origins.clear()  # names that a file makes up cannot fill the memory
        found = origins[account, group, model, tier] = RequestAttributes(account, group, model, asked, has_tier)
    return found


def _parse_strict(
    number: int, line: bytes, origins: dict[tuple[Any, ...], RequestAttributes]
) -> Record | RejectedRecord | None:
    """A line read with care: what is wrong with it is said, and as much as can be read is kept."""
    seen: dict[str, Any] = {}
    try:
        if len(line) > MAX_LINE:
            raise BillingError("invalid_record", f"the line has {len(line)} bytes, more than {MAX_LINE}")
        if not line.strip():
            return None
        data = loads_strict(line, "the line")
        if not isinstance(data, dict):
            raise BillingError("invalid_record", f"{safe_repr(data)} is not an object; a record is one request")
        for name in ("request_id", "account"):
            if isinstance(data.get(name), str):
                seen[name] = _require_name(name, data[name])
        seen["leaf"] = sha256(b"\0" + canonical_json(data)).digest()
        missing = [name for name in _REQUIRED if data.get(name) is None]
        if "at" not in missing:
            seen["at"] = parse_instant(data["at"])
        if missing:
            raise BillingError("invalid_record", f"{', '.join(missing)} missing; a record has {', '.join(_REQUIRED)}")
        request_id = _require_name("request_id", data["request_id"])
        tier = data.get("service_tier", _ABSENT)
        origin = _intern_attributes(data["account"], data["group"], data["model"], tier, origins)
        usage = Usage.from_response(data["usage"])
        total, text, read, output, reasoning, more = usage
        at = seen["at"]
        rest = more or UsageExtras()
        # Which way a line is read depends on how it is written; what is read must not.
        at_text = data["at"] if data["at"][-1] == "Z" and len(data["at"]) in _FAST_AT else format_instant(at)
        return Record(
            number, request_id, at, origin, total, text, read, output, reasoning, *rest, seen["leaf"], at_text[:-1]
        )
    except BillingError as error:
        code = "invalid_record" if error.code == "invalid_document" else error.code
        known = seen.get
        return RejectedRecord(
            number, known("request_id"), known("account"), known("at"), code, error.message, known("leaf")
        )


def _require_name(what: str, value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= 256 and value.isprintable():
        return value
    raise BillingError(
        "invalid_record", f"{what} is {safe_repr(value)}; names are 1 to 256 printable characters, nothing else"
    )


def _json_text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)
