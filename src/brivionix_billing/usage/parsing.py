"""What all readers of bodies share: counts, marks, totals, and what is known to carry nothing to bill."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.usage.usage import require_count, require_flag

__all__ = ["ESTIMATED_KEY", "ContextKeys", "check_total", "read_count", "nested_value", "format_keys", "is_estimated"]
__all__ += ["read_model_name", "require_object", "reject_unknown_counts", "read_service_tier"]

ContextKeys = Mapping[str, str | None]
"""The keys around a usage object that say what was served; and the name inside, where such a key holds an object."""
ESTIMATED_KEY: Final = "estimated"
"""The key that marks a usage object whose counts no provider reported."""

# Keys that carry nothing to bill: contained in a count that is billed, or times and the upstream's own price.
_IGNORED_KEYS: Final = frozenset(
    {
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "text_tokens",
        "context_details",
        "cost",
        "cost_details",
        "cost_in_usd_ticks",
        "is_byok",
        "completion_time",
        "prompt_time",
        "queue_time",
        "total_time",
    }
)


def read_count(usage: Mapping[str, Any], name: str) -> int:
    """The count under a key; what is not there, or null, is none."""
    value = usage.get(name)
    return 0 if value is None else require_count(name, value)


def is_estimated(usage: Mapping[str, Any]) -> bool:
    """Whether the usage object says that it was estimated."""
    return require_flag(usage.get(ESTIMATED_KEY, False))


def read_service_tier(value: Any) -> Any:
    """A served tier: a tier decides the price, so one that cannot be read is left to ``Usage``, which refuses it."""
    return None if value == "" else value


def read_model_name(value: object) -> str | None:
    """A served model, if it is a name."""
    return value if isinstance(value, str) and 0 < len(value) <= 256 else None


def nested_value(value: Any, name: str | None) -> Any:
    """What an object says under a name; with ``None``, and of what is no object, the value itself."""
    if name is None or value is None:
        return value
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, value)


def require_object(name: str, details: Any) -> dict[str, Any]:
    """The keys and values of an inner object; null is an empty one."""
    if details is None:
        return {}
    if type(details) is dict:
        return details
    raise BillingError("invalid_usage", f"{name} is {safe_repr(details)}, not an object")


def check_total(name: str, stated: Any, parts: Mapping[str, int]) -> None:
    """Hold a total that the provider states against the counts that it must be the sum of."""
    if stated is None:
        return
    found = sum(parts.values())
    if require_count(name, stated) != found:
        listed = " + ".join(f"{part} {count}" for part, count in parts.items())
        raise BillingError(
            "usage_contradiction", f"{name} {stated} is not {listed} = {found}; ask the provider which is right"
        )


def reject_unknown_counts(where: str, rest: Mapping[str, Any], kinds: tuple[type, ...] = (int,)) -> None:
    """A whole number that nobody can account for may be money; floats, texts and flags are not counts.

    ``kinds`` are the types of counts: of a shape that writes its counts as floats, those are counts as well.
    """
    for key, value in rest.items():
        if key not in _IGNORED_KEYS and _contains_count(value, kinds):
            raise BillingError(
                "unknown_usage_key",
                f"{where} has {safe_repr(key)}: {safe_repr(value)}, and nobody here knows what that costs; "
                "is the name misspelt?",
            )


def _contains_count(value: Any, kinds: tuple[type, ...], depth: int = 0) -> bool:
    """Whether a count other than zero stands anywhere in it; what is too deep to see through may hold one."""
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 8 or any(_contains_count(item, kinds, depth + 1) for item in inner)
    return type(value) in kinds and value != 0


def format_keys(usage: Iterable[Any]) -> str:
    """The first keys of a usage object, for a message."""
    names = [safe_repr(key, 40) for key in list(usage)[:20]]
    return ", ".join(names) if names else "(none)"
