"""Canonical JSON of entries and columns.

msgspec writes it faster than the encoder of json. ``verify`` compares each entry with :func:`canonical_json`, which
does not use msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from brivionix_billing.canonical_json import canonical_json, is_plain_json
from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["encode_envelope", "read_column"]

T = TypeVar("T")

_BUILT_IN: Final = frozenset({str, int, bool, type(None), dict, list, tuple})
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder().decode


def encode_envelope(envelope: Mapping[str, Any], member: str) -> bytes:
    """Return what :func:`canonical_json` returns for an envelope around one unchecked member.

    All other members have only ASCII keys, valid Unicode and small integers. Only members that are texts themselves may
    be of a class of the caller, such as an id. Raises ``invalid_document``.
    """
    # msgspec would write a text of some classes as an object.
    if _BUILT_IN.issuperset(map(type, envelope.values())) and is_plain_json(envelope[member], 1):
        return _encode(envelope)
    return canonical_json(envelope)


def read_column(text: str, read: Callable[[Any], T], kind: type = dict) -> T:
    """Return what ``read`` makes of the JSON of a column, a ``dict`` or ``list``.

    Raises ``journal_broken`` if the column was altered so that it is unreadable.
    """
    try:
        value = _decode(text)
        if type(value) is kind:
            return read(value)
    except (BillingError, msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise BillingError("journal_broken", f"a column with {safe_repr(text)} is unreadable; rebuild the tables")
