"""What a usage file should keep of a response: all that its charge depends on, and none of its texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.detect import detect_shape, get_field, locate_usage, unreadable_error
from brivionix_billing.usage.parsing import nested_value
from brivionix_billing.usage.readers.openai import read_responses
from brivionix_billing.usage.tool_calls import billable_item_type, container_id, require_output_items

__all__ = ["billable_body", "reduce_item", "truncate_name"]

_MAX_DEPTH: Final = 12
"""Deeper than a reader looks for counts."""
_MAX_NAME_LENGTH: Final = 257
"""Characters of a name that are kept. A name has at most 256, so a longer one stays too long and is rejected later."""


def billable_body(body: object) -> dict[str, Any]:
    """See :func:`brivionix_billing.usage.reported`."""
    try:
        return _extract(body)
    except BillingError:
        raise
    except Exception as error:  # as in the reading of it
        raise unreadable_error(body, error) from error


def _extract(body: object) -> dict[str, Any]:
    usage, around, called = locate_usage(body)
    shape = detect_shape(usage)
    kept: dict[str, Any] = _to_json_value(usage)
    if around is None:
        return kept
    found = {}
    for key, name in shape.context_keys.items():
        value = get_field(around, key)
        if value is not None:
            word = _name_value(nested_value(value, name))
            found[key] = word if name is None else {name: word}
    items = get_field(around, "output")
    if isinstance(items, Iterator) and shape.reader is not read_responses:
        items = None  # nobody reads it
    kinds = [(item, billable_item_type(item)) for item in require_output_items(items)]
    paid = [reduce_item(item, kind) for item, kind in kinds if kind is not None]
    return {**found, **({"output": paid} if paid else {}), called: kept}


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
    """Return a name, truncated. A value that is no name stays none."""
    if isinstance(value, dict | list | tuple):
        return [safe_repr(value)]
    word = _to_json_value(value)
    return truncate_name(word) if isinstance(word, str) else word


def _to_json_value(value: Any, depth: int = 0) -> Any:
    """The same as JSON can hold it. For what it cannot hold stands a list of its text: no count, and no name either."""
    if isinstance(value, dict | list | tuple):
        if depth > _MAX_DEPTH:
            raise BillingError(
                "unknown_usage_format", f"a usage object nested more than {_MAX_DEPTH} deep is not a usage object"
            )
        if isinstance(value, dict):
            return {str(key): _to_json_value(item, depth + 1) for key, item in value.items()}
        return [_to_json_value(item, depth + 1) for item in value]
    if isinstance(value, str):
        return str.__str__(value)  # an SDK's enumeration is a string as well
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return value
    return [safe_repr(value)]
