"""Helpers that every reader of response bodies uses: counts, marks, totals, and keys without a price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import TOKEN_METERS
from brivionix_billing.usage.fields import require_count, require_flag

__all__ = [
    "ESTIMATED_KEY",
    "ContextKeys",
    "check_total",
    "format_keys",
    "is_estimated",
    "modality_arguments",
    "nested_value",
    "read_count",
    "read_model_name",
    "read_service_tier",
    "reject_unknown_counts",
    "require_list",
    "require_object",
]

ContextKeys = Mapping[str, str | None]
"""Keys of a response that state what was served, each with the name inside if the value is an object."""
ESTIMATED_KEY: Final = "estimated"
"""The key that marks a usage object whose counts the provider did not report."""

_MAX_DEPTH: Final = 8
_MAX_MODEL_NAME_LENGTH: Final = 256
# Keys without a price: parts of a count that is billed, times, and the upstream's own price.
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
    """Return the count under a key; 0 if the key is missing or null. Raises ``invalid_usage``."""
    value = usage.get(name)
    return 0 if value is None else require_count(name, value)


def is_estimated(usage: Mapping[str, Any]) -> bool:
    """Return whether the usage object is marked as an estimate."""
    return require_flag(usage.get(ESTIMATED_KEY, False))


def read_service_tier(value: Any) -> Any:
    """Return a served tier. A tier decides the price, so ``build_fields`` rejects one that is not a name."""
    return None if value == "" else value


def read_model_name(value: object) -> str | None:
    """Return a served model if it is a name of 1 to 256 characters, else ``None``."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_MODEL_NAME_LENGTH else None


def nested_value(value: Any, name: str | None) -> Any:
    """Return the value under ``name`` in an object; the value itself if ``name`` is ``None`` or it is no object."""
    if name is None or value is None:
        return value
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, value)


def modality_arguments(direction: str, cache: str | None = None) -> dict[str, str]:
    """Map each modality but text to the argument of ``Usage`` for a direction; text is what remains of a total."""
    return {
        meter.modality: meter.argument
        for meter in TOKEN_METERS
        if meter.modality is not None and meter.modality != "text"
        if meter.direction == direction and meter.cache == cache
    }


def require_object(name: str, value: Any) -> dict[str, Any]:
    """Return an inner object; null is an empty one. Raises ``invalid_usage`` for anything else."""
    if value is None:
        return {}
    if type(value) is dict:
        return value
    raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}; use an object")


def require_list(name: str, value: Any) -> list[Any] | tuple[Any, ...]:
    """Return an inner list; null is an empty one. Raises ``invalid_usage`` for anything else."""
    if value is None:
        return ()
    if isinstance(value, list | tuple):
        return value
    raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}; use a list")


def check_total(name: str, stated: Any, parts: Mapping[str, int]) -> None:
    """Raise ``usage_contradiction`` unless a stated total is the sum of its parts."""
    if stated is None:
        return
    total = sum(parts.values())
    if require_count(name, stated) != total:
        listed = " + ".join(f"{part} {count}" for part, count in parts.items())
        raise BillingError(
            "usage_contradiction", f"{name} {stated} is not {listed} = {total}; ask the provider which is right"
        )


def reject_unknown_counts(
    where: str, usage: Mapping[str, Any], known: Iterable[str] = (), kinds: tuple[type, ...] = (int,)
) -> None:
    """Raise ``unknown_usage_key`` for a non-zero count under a key that is not ``known``: it may cost money.

    ``kinds`` are the types of counts. Floats, texts and flags are no counts, unless a format writes counts as floats.
    """
    for key, value in usage.items():
        if key not in known and key not in _IGNORED_KEYS and _contains_count(value, kinds):
            raise BillingError(
                "unknown_usage_key",
                f"{where} has {safe_repr(key)}: {safe_repr(value)}, which has no known price; "
                "check the spelling of the key",
            )


def _contains_count(value: Any, kinds: tuple[type, ...], depth: int = 0) -> bool:
    """Return whether a value contains a non-zero count. A value nested too deep to inspect may contain one."""
    if isinstance(value, dict | list | tuple):
        items = value.values() if isinstance(value, dict) else value
        return depth > _MAX_DEPTH or any(_contains_count(item, kinds, depth + 1) for item in items)
    return type(value) in kinds and value != 0


def format_keys(usage: Iterable[Any]) -> str:
    """Format the first 20 keys of a usage object for a message."""
    names = [safe_repr(key, 40) for key in list(usage)[:20]]
    return ", ".join(names) if names else "(none)"
