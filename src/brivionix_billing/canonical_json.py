"""Canonical JSON (RFC 8785, JCS) and reading JSON so that nothing is lost on the way.

One value has exactly one canonical text, so its hash can be redone in any language.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["canonical_json", "canonical_json_envelope", "json_digest", "loads_strict", "sha256"]

_MAX_SAFE_INTEGER: Final = 2**53
_MAX_DEPTH: Final = 64
# json's own writer already does what RFC 8785 asks, but for three things: the order of keys beyond the BMP, floats,
# and integers that a double cannot hold. Those three take the slow way.
_encode: Final[Callable[[Any], str]] = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
).encode


def canonical_json(value: Any) -> bytes:
    """The canonical JSON text in UTF-8. Integers beyond 2^53 and lone surrogates are refused (``invalid_document``).

    >>> canonical_json({"b": 1, "a": [1.0, "x"]})
    b'{"a":[1,"x"],"b":1}'
    """
    return _encode_trusted(value) if _needs_no_checks(value, 0) else _encode_checked(value, 0).encode()


def canonical_json_envelope(value: Mapping[str, Any], member: str) -> bytes:
    """The same where ``member`` alone can hold anything but ASCII keys, sound texts and small integers."""
    return _encode_trusted(value) if _needs_no_checks(value[member], 1) else _encode_checked(value, 0).encode()


def _encode_trusted(value: Any) -> bytes:
    return _encode(value).encode()


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(data).digest()


def json_digest(value: Any) -> str:
    """``sha256:`` and the hash of the canonical JSON text, in hex."""
    return "sha256:" + sha256(canonical_json(value)).hex()


def _needs_no_checks(value: Any, depth: int) -> bool:
    """Whether json's writer gives the canonical text: ASCII keys, no floats, small integers, sound Unicode."""
    _check_depth(depth)
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str or not key.isascii():
                return False
        value = value.values()
    elif kind is not list and kind is not tuple:
        value, depth = (value,), depth - 1
    if value:
        _check_depth(depth + 1)
    for item in value:
        kind = type(item)
        if kind is str:
            if not item.isascii():
                _check_unicode(item)
        elif kind is int:
            if not -_MAX_SAFE_INTEGER < item < _MAX_SAFE_INTEGER:
                _check_safe_integer(item)
        elif kind is dict or kind is list or kind is tuple:
            if not _needs_no_checks(item, depth + 1):
                return False
        elif kind is not bool and item is not None:
            return False
    return True


def _check_depth(depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise BillingError("invalid_document", f"JSON nested deeper than {_MAX_DEPTH}")


def _check_safe_integer(value: int) -> bool:
    if -_MAX_SAFE_INTEGER < value < _MAX_SAFE_INTEGER:
        return True
    raise BillingError(
        "invalid_document", f"{safe_repr(value)} is beyond 2^53, which JSON readers do not keep; write it as a string"
    )


def _check_unicode(text: str) -> bool:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BillingError("invalid_document", f"{safe_repr(text)} has half a surrogate pair") from None
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
    raise BillingError("invalid_document", f"{safe_repr(value)} ({type(value).__name__}) cannot stand in JSON")


def _format_double(value: float) -> str:
    """A double as ECMAScript writes it, which RFC 8785 asks for."""
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
    """JSON with no key twice, no NaN; numbers too large for a double stay integers. Raises ``invalid_document``."""

    def refuse(name: str) -> Any:
        raise ValueError(f"{name} is not a JSON number")

    try:
        # Left to itself, json would guess UTF-16 from a NUL byte, and read half a file so.
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=refuse)
    except RecursionError:
        raise BillingError("invalid_document", f"{what}: nested too deep to be one of ours") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BillingError("invalid_document", f"{what}: not sound JSON: {error}") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # add() gives None
        raise ValueError(f"the key {safe_repr(twice)} stands twice in one object")
    return out
