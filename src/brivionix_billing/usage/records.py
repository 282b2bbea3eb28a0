"""The records of a usage file: a request with its usage, or a line that cannot be billed."""

from __future__ import annotations

import json
import re
from datetime import datetime
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import format_instant
from brivionix_billing.usage.fields import make_fields
from brivionix_billing.usage.notes import UsageNotes
from brivionix_billing.usage.usage import Usage

__all__ = [
    "ABSENT",
    "MAX_LINE",
    "OPTIONAL",
    "TIME",
    "Origins",
    "Record",
    "RejectedRecord",
    "RequestAttributes",
    "require_name",
]

MAX_LINE: Final = 1024 * 1024
"""Maximum length of a line, in bytes. A longer line is rejected; the usage of one request has some hundred bytes."""
ABSENT: Final = object()
"""The service tier of a record that does not have this key."""
OPTIONAL: Final = ("region", "mode", "upstream")
"""Keys of a record that few records have: the requested region and mode, and the name of the upstream."""
TIME: Final = re.compile(
    r"(([0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9])T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.(?:[0-9]{6}|[0-9]{1,3}))?)Z"
)
"""The usual form of a time, such as 2026-10-01T00:00:03.974Z. Other forms are normalised.

Its groups are the time without the Z, and the date.
"""
_MAX_CACHED: Final = 65_536


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
        self.middle = f'Z","group":{_json_text(group)},"model":{_json_text(model)},"request_id":'
        self.tail = f',{tier}"usage":'

    def hash_record(self, at: str, request_id: str, usage: str) -> bytes:
        """Return the leaf hash of a record with these attributes, a time without Z, and canonical JSON as usage.

        The request id has no character that JSON escapes.
        """
        return sha256(f'{self.head}{at}{self.middle}"{request_id}"{self.tail}{usage}}}'.encode()).digest()


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


class Origins:
    """The attributes of the records of one file: equal ones are one object."""

    __slots__ = ("_by_names", "_by_text")

    def __init__(self) -> None:
        self._by_names: dict[tuple[Any, ...], RequestAttributes] = {}
        self._by_text: dict[tuple[str, ...], RequestAttributes] = {}

    def intern(self, account: Any, group: Any, model: Any, tier: Any, *others: Any) -> RequestAttributes:
        """Return the one object for these names: ``tier`` may be :data:`ABSENT`, and ``others`` are :data:`OPTIONAL`.

        Raises ``invalid_record`` for an invalid name.
        """
        has_tier = tier is not ABSENT
        for what, name in (("account", account), ("group", group), ("model", model)):
            if require_name(what, name) != name.strip():
                raise BillingError(
                    "invalid_record",
                    f"{what} is {safe_repr(name)}, which would be another {what}; remove the space at its end",
                )
        requested = require_name("service_tier", tier) if has_tier and tier is not None else None
        stated = tuple(
            None if name is None else require_name(what, name) for what, name in zip(OPTIONAL, others, strict=False)
        )
        key = (account, group, model, tier, *(stated if any(stated) else ()))
        attributes = self._by_names.get(key)
        if attributes is None:
            if len(self._by_names) > _MAX_CACHED:
                self._by_names.clear()  # a file with many made-up names must not fill the memory
            attributes = RequestAttributes(account, group, model, requested, has_tier, *stated)
            self._by_names[key] = attributes
        return attributes

    def intern_texts(self, texts: tuple[str, ...]) -> RequestAttributes:
        """Return what :meth:`intern` returns, for account, group, model and service tier as they are written in JSON.

        An empty text is an absent service tier. Raises ``invalid_record`` for an invalid name.
        """
        attributes = self._by_text.get(texts)
        if attributes is None:
            attributes = self.intern(*(json.loads(text) if text else ABSENT for text in texts))
            if len(self._by_text) > _MAX_CACHED:
                self._by_text.clear()
            self._by_text[texts] = attributes
        return attributes


def require_name(what: str, value: object) -> str:
    """Return a name of a record. Raises ``invalid_record`` for every other value."""
    return require_text(what, value, code="invalid_record")


def _json_text(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)
