"""Extracts what a usage file should keep of a response: everything that its charge depends on, and no text."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.detect import detect_format, get_field, locate_usage, unreadable_error
from brivionix_billing.usage.parsing import decimal_to_json, nested_value
from brivionix_billing.usage.readers.openai import read_responses
from brivionix_billing.usage.readers.plain import read_total
from brivionix_billing.usage.response_context import reduce_response, truncate_name
from brivionix_billing.usage.token_details import CHAT_KEYS, RESPONSES_KEYS

__all__ = ["billable_body"]

_MAX_DEPTH: Final = 12
"""Maximum nesting of a usage object. Readers look for counts in fewer levels."""
_TOTALS: Final = frozenset({CHAT_KEYS.input, RESPONSES_KEYS.input})
_OPENAI_KEYS: Final = CHAT_KEYS.all | RESPONSES_KEYS.all
_NAMES: Final = frozenset({str})
_NUMBERS: Final = frozenset({int})


def billable_body(body: object) -> dict[str, Any]:
    """See :func:`brivionix_billing.usage.billable_body`."""
    try:
        return _extract(body)
    except BillingError:
        raise
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise unreadable_error(body, error) from error


def _extract(body: object) -> dict[str, Any]:
    if type(body) is dict and not _TOTALS.isdisjoint(body) and _OPENAI_KEYS.issuperset(body):
        counts = _copy_counts(body)
        if counts is not None:
            return counts
    usage, response, usage_key, is_batch = locate_usage(body)
    body_format = detect_format(usage, response)
    found: dict[str, Any] = _to_json_value(usage)
    reduced = found
    if response is not None:
        context = {}
        for key, name in body_format.context_keys.items():
            value = get_field(response, key)
            if value is not None:
                served = _name_value(nested_value(value, name))
                context[key] = served if name is None else {name: served}
        if body_format.reader is read_total:
            context["object"] = "list"
        beside = reduce_response(response, has_items=body_format.reader is read_responses)
        reduced = {**context, **beside, usage_key: found}
    return {"response": {"status_code": 200, "body": reduced}} if is_batch else reduced


def _copy_counts(usage: dict[str, Any]) -> dict[str, Any] | None:
    """Copy a usage object that has no response around it, and nothing but whole numbers; ``None`` for every other.

    A ledger settles most requests with such a body.
    """
    counts = dict(usage)
    for key, count in usage.items():
        if (
            type(count) is dict
            and _NAMES.issuperset(map(type, count))
            and _NUMBERS.issuperset(map(type, count.values()))
        ):
            counts[key] = dict(count)
        elif type(count) is not int:
            return None
    return counts


def _name_value(value: Any) -> Any:
    """Return a name, truncated. A value that is not a name becomes a list, which is not a name either."""
    if isinstance(value, dict | list | tuple):
        return [safe_repr(value)]
    name = _to_json_value(value)
    return truncate_name(name) if isinstance(name, str) else name


def _to_json_value(value: Any, depth: int = 0) -> Any:
    """Convert to JSON data. A value that JSON cannot hold becomes a list of its text: neither a count nor a name."""
    kind = type(value)
    if kind is int or kind is str or value is None or kind is bool:  # most values
        return value
    if isinstance(value, dict | list | tuple):
        if depth > _MAX_DEPTH:
            raise BillingError(
                "unknown_usage_format",
                f"the usage object is nested more than {_MAX_DEPTH} deep; give the usage object alone",
            )
        if isinstance(value, dict):
            return {str(key): _to_json_value(item, depth + 1) for key, item in value.items()}
        return [_to_json_value(item, depth + 1) for item in value]
    if isinstance(value, str):
        return str.__str__(value)  # enumerations of SDKs are strings as well
    if kind is float and math.isfinite(value):
        return value
    if kind is Decimal:
        number = decimal_to_json(value)
        if number is not None:
            return number
    return [safe_repr(value)]
