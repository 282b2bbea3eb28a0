"""Parses the files of sources: JSON and TOML with exact numbers, of bounded size, without repeated keys."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.file_kinds import describe_kind

__all__ = ["MAX_SOURCE_BYTES", "as_list", "as_mapping", "parse_source", "unreadable"]

MAX_SOURCE_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of a file of a source, in bytes."""
_MAX_NUMBER_LENGTH: Final = 60
"""Longer numbers stay text, and no row accepts them."""
_MAX_EXPONENT: Final = 1_000
"""Numbers of 10^1001 and more stay text, too: as an integer, 1e999999999999 would need all memory."""


def unreadable(source: str, problem: str, fix: str) -> BillingError:
    """Return the error for a file that is not one of the source."""
    return BillingError("source_unreadable", f"{source}: {problem}; {fix}")


def as_mapping(value: object) -> dict[str, Any]:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def parse_source(content: bytes, source: str, *, toml: bool = False) -> Any:
    """Return the data of a file: numbers are ``int`` or ``Decimal``. Raises ``source_unreadable``."""
    if len(content) > MAX_SOURCE_BYTES:
        raise unreadable(source, f"the file has more than {MAX_SOURCE_BYTES} bytes", "pass the file of the source")
    try:
        text = content.decode("utf-8-sig")
        if toml:
            return tomllib.loads(text, parse_float=_parse_decimal)
        return json.loads(
            text,
            parse_float=_parse_decimal,
            parse_int=_parse_int,
            parse_constant=_reject_constant,
            object_pairs_hook=_reject_repeated_keys,
        )
    except RecursionError:
        raise unreadable(source, "the file is nested too deeply", "pass the file of the source") from None
    except UnicodeDecodeError:
        raise unreadable(source, "the file is not UTF-8", "save it as UTF-8") from None
    except ValueError as error:
        kind, other = "TOML" if toml else "JSON", describe_kind(content)
        if other is not None:
            raise unreadable(source, f"the file is {other}, not {kind}", "pass the file of the source") from None
        raise unreadable(
            source, f"the file is not valid {kind} ({safe_repr(str(error), 120)})", "download it again"
        ) from None


def _parse_decimal(text: str) -> Any:
    if len(text) > _MAX_NUMBER_LENGTH:
        return text
    try:
        number = Decimal(text.replace("_", ""))
    except InvalidOperation:  # an exponent beyond the limits of decimal
        return text
    return number if not number.is_finite() or abs(number.adjusted()) <= _MAX_EXPONENT else text


def _parse_int(text: str) -> Any:
    return int(text) if len(text) <= _MAX_NUMBER_LENGTH else text


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {safe_repr(key)} occurs twice in one object")
            seen.add(key)
    return members
