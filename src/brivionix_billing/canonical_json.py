"""Canonical JSON (RFC 8785, JCS), and a strict reader that loses nothing.

A value has exactly one canonical text, so its hash can be recomputed in any language.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["canonical_json", "is_plain_json", "json_digest", "loads_strict", "sha256"]

_MAX_SAFE_INTEGER: Final = 2**53
_MAX_DEPTH: Final = 64
# The encoder of json follows RFC 8785 with three exceptions: the order of keys beyond the BMP, floats, and integers
# that a double cannot hold. These three take the slow path.
_encode: Final[Callable[[Any], str]] = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def canonical_json(value: Any) -> bytes:
    """Return the canonical JSON text in UTF-8.

    Raises ``invalid_document`` for integers beyond 2^53, lone surrogates, and values that JSON does not have.

    >>> canonical_json({"b": 1, "a": [1.0, "x"]})
    b'{"a":[1,"x"],"b":1}'
    """
    return (_encode(value) if is_plain_json(value) else _encode_checked(value, 0)).encode()


def sha256(data: bytes) -> bytes:
    """Return SHA-256 of the data, 32 bytes."""
    return hashlib.sha256(data).digest()


def json_digest(value: Any) -> str:
    """Return ``sha256:`` and the hash of the canonical JSON text in hexadecimal."""
    return "sha256:" + sha256(canonical_json(value)).hex()


def is_plain_json(value: Any, depth: int = 0) -> bool:
    """Return whether any encoder that sorts keys and writes no spaces writes the canonical text.

    It does for ASCII keys, small integers and valid Unicode without floats. ``depth``: the levels around the value.
    Raises ``invalid_document`` as :func:`canonical_json`.
    """
    kind = type(value)
    if kind is dict:
        try:
            if not "".join(value).isascii():
                return False
        except TypeError:  # a key that is not a string
            return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        value, depth = (value,), depth - 1
    _check_depth(depth + 1 if value else depth)
    for item in value:
        kind = type(item)
        if kind is str:
            if not item.isascii():
                _check_unicode(item)
        elif kind is int:
            if not -_MAX_SAFE_INTEGER < item < _MAX_SAFE_INTEGER:
                _check_safe_integer(item)
        elif kind is dict or kind is list or kind is tuple:
            if not is_plain_json(item, depth + 1):
                return False
        elif kind is not bool and item is not None:
            return False
    return True


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BillingError("invalid_document", f"the JSON is nested deeper than {_MAX_DEPTH} levels")


def _check_safe_integer(value: int) -> bool:
    if -_MAX_SAFE_INTEGER < value < _MAX_SAFE_INTEGER:
        return True
    raise BillingError(
        "invalid_document", f"{safe_repr(value)} is beyond 2^53, so many JSON readers round it; write it as a string"
    )


def _check_unicode(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BillingError("invalid_document", f"{safe_repr(text)} contains half a surrogate pair") from None
    return True


def _encode_checked(value: Any, depth: int) -> str:
    _check_depth(depth)
    if isinstance(value, float):
        return _format_double(value)
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise BillingError("invalid_document", f"the key {safe_repr(key)} is not a string")
            _check_unicode(key)
        items = sorted(value.items(), key=lambda item: item[0].encode("utf-16-be"))
        return "{" + ",".join(f"{_encode(key)}:{_encode_checked(item, depth + 1)}" for key, item in items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_encode_checked(item, depth + 1) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return _encode(value)
    if (isinstance(value, int) and _check_safe_integer(value)) or (isinstance(value, str) and _check_unicode(value)):
        return _encode(value)
    raise BillingError("invalid_document", f"{safe_repr(value)} ({type(value).__name__}) is not a JSON value")


def _format_double(value: float) -> str:
    """Return a double as ECMAScript writes it, as RFC 8785 requires."""
    if not math.isfinite(value):
        raise BillingError("invalid_document", f"{value} is not a JSON number")
    if value == 0:
        return "0"
    text = repr(value)
    sign, text = ("-", text[1:]) if text[0] == "-" else ("", text)
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0")
    if 0 < point <= 21:
        body = digits.ljust(point, "0") if len(digits) <= point else f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        body = "0." + "0" * -point + digits
    else:
        tail = f".{digits[1:]}" if len(digits) > 1 else ""
        body = f"{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return sign + body


def loads_strict(text: bytes | str, what: str) -> Any:
    """Parse JSON. Integers of any size stay exact.

    ``what`` names the text in messages. Raises ``invalid_document`` for invalid JSON, repeated keys and NaN.
    """
    try:
        # json.loads would detect UTF-16 from a NUL byte and misread the file.
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return _strict_decoder.decode(text)
    except RecursionError:
        raise BillingError("invalid_document", f"{what}: the JSON is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BillingError("invalid_document", f"{what}: not valid JSON: {error}") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() gives None
        raise ValueError(f"the key {safe_repr(repeated)} occurs twice in one object")
    return members


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


_strict_decoder: Final = json.JSONDecoder(object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant)
