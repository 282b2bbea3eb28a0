"""Helpers that every reader of response bodies uses: counts, names, inner objects and sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from types import MappingProxyType
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, TOKEN_METERS
from brivionix_billing.usage.fields import raise_contradiction, require_count, require_flag
from brivionix_billing.usage.notes import NotesBuilder, is_number_text

__all__ = [
    "ESTIMATED_KEY",
    "ContextKeys",
    "decimal_to_json",
    "format_keys",
    "is_estimated",
    "modality_arguments",
    "nested_value",
    "overlap_modalities",
    "read_count",
    "read_modalities",
    "read_model_name",
    "read_quantity",
    "read_service_tier",
    "read_stated",
    "read_whole_count",
    "require_list",
    "require_object",
    "require_total",
    "split_writes",
    "whole_numbers",
]

ContextKeys = Mapping[str, str | None]
"""Keys of a response that state what was served, each with the name inside if the value is an object."""
ESTIMATED_KEY: Final = "estimated"
"""The key that marks a usage object whose counts the provider did not report."""

_PLACES: Final = {meter.argument: meter.places for meter in METERS.values()}
_MAX_MODEL_NAME_LENGTH: Final = 256
_TEXT_MODALITIES: Final = frozenset({"text", "document"})
_NO_NUMBERS: Final[Mapping[int, str]] = MappingProxyType({})
_MAX_DEPTH: Final = 12
_MAX_TEXT_DIGITS: Final = 13


def read_count(usage: Mapping[str, Any], name: str) -> int:
    """Return the count under a key; 0 if the key is missing or null. Raises ``invalid_usage``."""
    value = usage.get(name)
    return 0 if value is None else require_count(name, value)


def read_whole_count(usage: Mapping[str, Any], name: str) -> int:
    """Return the count under a key. A float is accepted if it is whole, and named as a float if it is not."""
    value = usage.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return 0 if value is None else require_count(name, value)


def read_quantity(name: str, value: Any, argument: str) -> Decimal | int:
    """Return a quantity, rounded half up to the decimal places of its meter: floats of JSON have noise."""
    places = _PLACES[argument]
    if type(value) is float and places and abs(value) < 10**15:
        return Decimal(repr(value)).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    if type(value) not in (int, Decimal):
        raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}; use a number from 0 to 10^12")
    quantity: Decimal | int = value
    return quantity


def whole_numbers(value: Any, key: object = "", depth: int = 0) -> Any:
    """Return JSON data in which every whole number is an integer; the same object if all of them are.

    JSON does not distinguish ``12.0`` from 12. Protobuf writes 64-bit integers as texts.
    """
    kind = type(value)
    if kind is float or kind is Decimal:
        return int(value) if -(10**15) < value < 10**15 and value == int(value) else value
    if kind is str:
        is_whole = len(value) <= _MAX_TEXT_DIGITS and value.isdecimal() and is_number_text(key, value)
        return int(value) if is_whole else value
    if depth > _MAX_DEPTH:
        return value
    if kind is dict:
        changed = {name: whole_numbers(item, name, depth + 1) for name, item in value.items()}
        return changed if any(item is not value[name] for name, item in changed.items()) else value
    if kind is list:
        items = [whole_numbers(item, key, depth + 1) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def decimal_to_json(value: Decimal) -> float | int | None:
    """Return a decimal number as JSON data of exactly its value; ``None`` if there is none.

    A caller may parse the numbers of a body as ``Decimal``.
    """
    if not value.is_finite() or not -(10**15) < value < 10**15:
        return None
    if value == int(value):
        return int(value)
    number = float(value)
    return number if Decimal(repr(number)) == value else None


def is_estimated(usage: Mapping[str, Any]) -> bool:
    """Return whether the usage object is marked as an estimate."""
    return require_flag(usage.get(ESTIMATED_KEY, False))


def read_service_tier(value: Any) -> Any:
    """Return a served tier. A tier decides the price, so ``build_fields`` rejects one that is not a name."""
    return None if value == "" else value


def read_model_name(value: object) -> str | None:
    """Return a served model if it is a name of 1 to 256 characters, else ``None``."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_MODEL_NAME_LENGTH else None


def read_stated(value: Any, *usual: str) -> Any:
    """Return a name that the provider states, unless it is one of the usual ones, which state nothing."""
    return None if value in ("", *usual) else value


def split_writes(written: int | None, of_5m: int | None, of_1h: int | None, notes: NotesBuilder) -> tuple[int, int]:
    """Return the tokens written to a cache for 5 minutes and for 1 hour.

    Written tokens that the lifetimes leave out are kept for 5 minutes, which is the usual lifetime. Raises
    ``usage_contradiction`` for lifetimes that are more than the whole.
    """
    short, long = of_5m or 0, of_1h or 0
    if written is None or written == short + long:
        return short, long
    if short + long > written:
        raise_contradiction("cache_creation_input_tokens", written, {"5 minutes": short, "1 hour": long})
    if short or long:
        notes.warn(f"{written - short - long} of {written} tokens written to the cache have no lifetime: 5 minutes")
    return written - long, long


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


def require_total(name: str, stated: Any, parts: Mapping[str, int]) -> None:
    """Raise ``usage_contradiction`` unless a stated count is the sum of its parts. For sums that decide a price."""
    if stated is None:
        return
    total = sum(parts.values())
    if require_count(name, stated) != total:
        listed = " + ".join(f"{part} {count}" for part, count in parts.items())
        raise BillingError(
            "usage_contradiction", f"{name} {stated} is not {listed} = {total}; ask the provider which is right"
        )


def read_modalities(
    entries: Any,
    where: str,
    whole: tuple[str, int],
    arguments: Mapping[str, str],
    notes: NotesBuilder,
    *,
    count_keys: tuple[str, ...],
    numbers: Mapping[int, str] = _NO_NUMBERS,
) -> dict[str, int]:
    """Return the tokens of each modality with a meter of its own, by argument of ``Usage``, from a list of entries.

    ``whole`` is the count that contains them, with its name. Text and documents have no meter of their own. Tokens of
    an unknown modality are billed as text and listed as unaccounted, because they may have another price. So is a sum
    above the whole, if all of it is text, whose price does not depend on it. ``numbers`` are the modalities of an
    enumeration. Raises ``usage_contradiction`` for more tokens than the whole of modalities with different meters.
    """
    found: dict[str, int] = {}
    total = 0
    for index, value in enumerate(require_list(where, entries)):
        place = f"{where}[{index}]"
        entry = require_object(place, value)
        key = next((name for name in count_keys if name in entry), count_keys[-1])
        notes.list_unknown(place, entry, (key, "modality"))
        tokens, modality = read_count(entry, key), entry.get("modality")
        if type(modality) is int:
            modality = numbers.get(modality)
        name = modality.lower() if isinstance(modality, str) else ""
        total += tokens
        if name in arguments:
            found[arguments[name]] = found.get(arguments[name], 0) + tokens
        elif name not in _TEXT_MODALITIES:
            notes.list_number(f"{place}.{key}", tokens)
    if total > whole[1]:
        if not whole[1] or any(found.values()):
            raise_contradiction(*whole, {where.rpartition(".")[2]: total})
        notes.list_number(where, total)
    return {argument: tokens for argument, tokens in found.items() if tokens}


def overlap_modalities(
    counts: dict[str, int], arguments: Mapping[str, str], cached_arguments: Mapping[str, str], notes: NotesBuilder
) -> None:
    """Complete the modalities of cached tokens as far as the numbers force it, in place.

    ``arguments`` and ``cached_arguments`` map modalities to arguments of ``Usage``. If cached tokens and tokens of a
    modality together are more than the input, some of the tokens of the modality are cached, even if the body does not
    say so. Cached images beyond the images of the input are cached text: they are the pages of a document. More cached
    audio than audio stays a contradiction, because its price differs.
    """
    read, total = counts.get("cache_read_tokens", 0), counts.get("input_tokens", 0)
    written = sum(counts.get(name, 0) for name in ("cache_write_tokens", "cache_write_1h_tokens"))
    for modality, argument in cached_arguments.items():
        cached, stated = counts.get(argument, 0), counts.get(arguments[modality], 0)
        if stated < cached <= read and modality != "audio":
            notes.warn(f"{cached} cached {modality} tokens, but {stated} {modality} tokens; the others count as text")
            counts[argument] = stated
    of_modalities = {modality: counts.get(argument, 0) for modality, argument in arguments.items()}
    cached_of = {modality: counts.get(argument, 0) for modality, argument in cached_arguments.items()}
    excess = sum(of_modalities.values()) - sum(cached_of.values()) + read + written - total
    if excess <= 0 or read > total:
        return
    room = read - sum(cached_of.values())
    for modality in sorted(cached_arguments, key=lambda name: (name == "audio", -of_modalities[name])):
        moved = min(excess, room, of_modalities[modality] - cached_of[modality])
        if moved > 0:
            notes.warn(f"{moved} of the cached tokens must be {modality} tokens, which the usage does not state")
            argument = cached_arguments[modality]
            counts[argument] = counts.get(argument, 0) + moved
            excess, room = excess - moved, room - moved


def format_keys(usage: Iterable[Any]) -> str:
    """Format the first 20 keys of a usage object for a message."""
    names = [safe_repr(key, 40) for key in list(usage)[:20]]
    return ", ".join(names) if names else "(none)"
