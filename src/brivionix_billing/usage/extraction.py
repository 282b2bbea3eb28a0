"""Extracts what a usage file should keep of a response: everything that its charge depends on, and no text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.detect import detect_format, get_field, locate_usage, unreadable_error
from brivionix_billing.usage.parsing import nested_value
from brivionix_billing.usage.readers.openai import read_responses
from brivionix_billing.usage.tool_calls import billable_item_type, container_id, require_output_items

__all__ = ["billable_body", "reduce_item", "truncate_name"]

_MAX_DEPTH: Final = 12
"""Maximum nesting of a usage object. Readers look for counts in fewer levels."""
_MAX_NAME_LENGTH: Final = 257
"""Maximum length of an extracted name, in characters. One more than a name may have, so that a reader rejects it."""


def billable_body(body: object) -> dict[str, Any]:
    """See :func:`brivionix_billing.usage.billable_body`."""
    try:
        return _extract(body)
    except BillingError:
        raise
    except Exception as error:  # an SDK object may raise anything when an attribute is read
        raise unreadable_error(body, error) from error


def _extract(body: object) -> dict[str, Any]:
    usage, response, usage_key = locate_usage(body)
    body_format = detect_format(usage)
    counts: dict[str, Any] = _to_json_value(usage)
    if response is None:
        return counts
    context = {}
    for key, name in body_format.context_keys.items():
        value = get_field(response, key)
        if value is not None:
            served = _name_value(nested_value(value, name))
            context[key] = served if name is None else {name: served}
    items = get_field(response, "output")
    if isinstance(items, Iterator) and body_format.reader is not read_responses:
        items = None  # the reader of this format does not look at them
    kinds = [(item, billable_item_type(item)) for item in require_output_items(items)]
    billable = [reduce_item(item, kind) for item, kind in kinds if kind is not None]
    return {**context, **({"output": billable} if billable else {}), usage_key: counts}


def reduce_item(item: object, kind: str) -> dict[str, Any]:
    """Reduce an output item of a billable ``kind`` to what its fee depends on, without its texts and results.

    The action of a web search is kept, because not every action is paid.
    """
    kind = str.__str__(kind)  # an SDK's enumeration is a string as well
    if kind == "web_search_call" and get_field(get_field(item, "action"), "type") is not None:
        return {"type": kind, "action": {"type": "search"}}
    container = container_id(item) if kind == "code_interpreter_call" else None
    return {"type": kind} if container is None else {"type": kind, "container_id": truncate_name(container)}


def truncate_name(name: str) -> str:
    """Truncate a name to a length that is still too long for a name."""
    return name[:_MAX_NAME_LENGTH]


def _name_value(value: Any) -> Any:
    """Return a name, truncated. A value that is not a name becomes a list, which is not a name either."""
    if isinstance(value, dict | list | tuple):
        return [safe_repr(value)]
    name = _to_json_value(value)
    return truncate_name(name) if isinstance(name, str) else name


def _to_json_value(value: Any, depth: int = 0) -> Any:
    """Convert to JSON data. A value that JSON cannot hold becomes a list of its text: neither a count nor a name."""
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
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    return [safe_repr(value)]
