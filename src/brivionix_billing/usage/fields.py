"""The validated fields behind ``Usage``, which the readers of response bodies return."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

from brivionix_billing.decimals import decimal_places, to_scaled
from brivionix_billing.errors import BillingError, closest_name, safe_repr
from brivionix_billing.meters import BASIC_METERS, CHILDREN, DESCENDANTS, MAX_QUANTITY_PLACES, METERS, REQUEST_METERS
from brivionix_billing.usage.notes import NotesBuilder, UsageNotes

__all__ = [
    "MAX_COUNT",
    "UsageExtras",
    "UsageFields",
    "build_fields",
    "make_fields",
    "raise_contradiction",
    "require_count",
    "require_flag",
    "require_quantity",
    "with_quantities",
    "with_tier",
]

MAX_COUNT: Final = 10**12
"""Maximum quantity of one meter in one request. A larger number is a unit error, an overflow or an attack."""

_MAX_NAME_LENGTH: Final = 256
_OTHER_NAMES: Final = {
    "cache_creation_input_tokens": "cache_write_tokens",
    "cache_creation_tokens": "cache_write_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cached_tokens": "cache_read_tokens",
    "completion_tokens": "output_tokens",
    "prompt_tokens": "input_tokens",
}
"""What providers call an argument of ``Usage`` whose own name is not the most similar one."""
_CUSTOM_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)


class UsageExtras(NamedTuple):
    """Fields that few requests have, kept apart so that the usual request stays small and fast."""

    service_tier: str | None = None
    model: str | None = None
    meters: tuple[tuple[str, int], ...] = ()
    """(meter, quantity) of every other meter that is not zero: in the order of the table, then by name."""
    estimated: bool = False
    region: str | None = None
    """The serving region as the provider wrote it."""
    mode: str | None = None
    """The serving mode as the provider wrote it, such as ``fast``."""
    notes: UsageNotes | None = None
    """Unaccounted numbers, warnings, and the runs of other models."""


class UsageFields(NamedTuple):
    """What a ``Usage`` stores. A caller that constructs it directly must validate the counts first."""

    input_tokens: int = 0
    """All input tokens, including cached ones. Context tiers compare these."""
    input_quantity: int = 0
    """Quantity of the meter ``input``."""
    cache_read_quantity: int = 0
    """Quantity of the meter ``cache_read``."""
    output_quantity: int = 0
    """Quantity of the meter ``output``."""
    reasoning_tokens: int = 0
    """Output tokens spent on reasoning. They have the price of output, so they are no meter of their own."""
    extras: UsageExtras | None = None


_tuple_new = tuple.__new__
_NO_QUANTITIES: Final[Mapping[str, object]] = MappingProxyType({})
_ARGUMENTS: Final = frozenset(meter.argument for meter in METERS.values())
_BOTTOM_UP: Final = sorted(METERS.values(), key=lambda meter: len(DESCENDANTS[meter.name]))
"""Every meter after all meters that its argument contains."""
_PLACES: Final = {meter.argument: meter.places for meter in METERS.values()}
_QUANTITY_METERS: Final = {meter.argument: meter for meter in METERS.values() if not meter.is_token}
"""Argument -> its meter, of all that is not a token."""
_OTHER_METERS: Final = tuple(name for name in METERS if name not in BASIC_METERS)


def make_fields(
    input_tokens: int,
    input_quantity: int,
    cache_read_quantity: int,
    output_quantity: int,
    reasoning_tokens: int,
    service_tier: str | None,
    model: str | None,
    meters: tuple[tuple[str, int], ...] = (),
    estimated: bool = False,
    region: str | None = None,
    mode: str | None = None,
    notes: UsageNotes | None = None,
) -> UsageFields:
    """Return the fields of validated counts. Equal usages have equal fields, however they were read."""
    extras = None
    if service_tier or model or meters or estimated or region or mode or notes:
        extras = _tuple_new(UsageExtras, (service_tier, model, meters, estimated, region, mode, notes))
    return _tuple_new(
        UsageFields, (input_tokens, input_quantity, cache_read_quantity, output_quantity, reasoning_tokens, extras)
    )


def build_fields(
    counts: Mapping[str, object],
    *,
    reasoning_tokens: object = 0,
    total_tokens: object = None,
    service_tier: object = None,
    model: object = None,
    estimated: object = False,
    region: object = None,
    mode: object = None,
    custom: Mapping[str, object] = _NO_QUANTITIES,
    notes: NotesBuilder | None = None,
) -> UsageFields:
    """Validate counts, one containing the other as :class:`Usage` describes, and return disjoint quantities.

    ``counts`` has arguments of ``Usage`` such as ``cache_read_tokens``, ``custom`` the quantities of meters that a
    price file declares, ``notes`` what a reader noted. Raises ``invalid_usage`` for a count that is not a whole number
    from 0 to 10^12, ``usage_contradiction`` for parts that are more than what contains them.
    """
    if not counts.keys() <= _ARGUMENTS:
        unknown = next(name for name in counts if name not in _ARGUMENTS)
        names = tuple(sorted(_ARGUMENTS))
        close = _OTHER_NAMES.get(unknown) or closest_name(unknown, names, 0.6) or f"{unknown}_tokens"
        advice = f"did you mean {safe_repr(close)}?" if close in _ARGUMENTS else f"use one of {', '.join(names)}"
        raise TypeError(f"Usage has no argument {safe_repr(unknown)}; {advice}")
    given = {
        name: require_count(name, count) if _PLACES[name] == 0 else require_quantity(name, count, _PLACES[name])
        for name, count in counts.items()
    }
    reasoning = require_count("reasoning_tokens", reasoning_tokens)
    quantities: dict[str, int] = {}
    for meter in _BOTTOM_UP:
        quantity = given.get(meter.argument, 0)
        for name in DESCENDANTS[meter.name]:
            quantity -= quantities[name]
        if quantity < 0:
            _raise_overfull(meter.name, given, quantities)
        quantities[meter.name] = quantity
    input_tokens, output_tokens = given.get("input_tokens", 0), given.get("output_tokens", 0)
    if reasoning > output_tokens:
        raise_contradiction("output_tokens", output_tokens, {"reasoning_tokens": reasoning})
    if total_tokens is not None and require_count("total_tokens", total_tokens) != input_tokens + output_tokens:
        raise BillingError(
            "usage_contradiction",
            f"total_tokens {total_tokens} is not input_tokens {input_tokens} + output_tokens {output_tokens} "
            f"= {input_tokens + output_tokens}; ask the provider which is right",
        )
    return make_fields(
        input_tokens,
        quantities["input"],
        quantities["cache_read"],
        quantities["output"],
        reasoning,
        _require_optional_name("service_tier", service_tier),
        _require_optional_name("model", model),
        tuple([(name, quantities[name]) for name in _OTHER_METERS if quantities[name]]) + _custom_quantities(custom),
        require_flag(estimated),
        _require_optional_name("region", region),
        _require_optional_name("mode", mode),
        None if notes is None else notes.build(),
    )


def with_tier(fields: UsageFields, service_tier: str) -> UsageFields:
    """Return the fields with another served tier."""
    extras = fields.extras or UsageExtras()
    return fields._replace(extras=extras._replace(service_tier=service_tier))


def with_quantities(fields: UsageFields, custom: Any) -> UsageFields:
    """Return the fields with further quantities: by the names of meters that a price file declares, or of arguments.

    Raises ``invalid_usage``.
    """
    if not isinstance(custom, Mapping):
        raise BillingError("invalid_usage", f"quantities is {safe_repr(custom)}; use {{meter: quantity}}")
    extras = fields.extras or UsageExtras()
    own = _custom_quantities({name: value for name, value in custom.items() if name not in _QUANTITY_METERS})
    found = dict(extras.meters)
    for argument, meter in _QUANTITY_METERS.items():
        if argument in custom:
            quantity = require_quantity(argument, custom[argument], meter.places)
            found[meter.name] = found.get(meter.name, 0) + quantity
    found |= own
    meters = (
        *((name, found[name]) for name in _OTHER_METERS if found.get(name)),
        *sorted((name, quantity) for name, quantity in found.items() if name not in METERS),
    )
    return fields._replace(extras=extras._replace(meters=meters)) if meters else fields


def _custom_quantities(quantities: Mapping[str, object]) -> tuple[tuple[str, int], ...]:
    """Return the quantities of meters that a price file declares, by name. They have six decimal places."""
    if not quantities:
        return ()
    if not isinstance(quantities, Mapping):
        raise BillingError("invalid_usage", f"quantities is {safe_repr(quantities)}; use {{meter: quantity}}")
    out = []
    for name, value in quantities.items():
        if not isinstance(name, str) or not _CUSTOM_NAME.fullmatch(name):
            raise BillingError("invalid_usage", f"quantities has {safe_repr(name)}; use the name of a meter")
        if name in METERS or name in REQUEST_METERS:
            argument = METERS[name].argument if name in METERS else f"{name} in the price file"
            raise BillingError("invalid_usage", f"quantities has the meter {name} of this library; use {argument}")
        quantity = require_quantity(name, value, MAX_QUANTITY_PLACES)
        if quantity:
            out.append((name, quantity))
    return tuple(sorted(out))


def require_quantity(name: str, value: object, places: int) -> int:
    """Return a quantity that may have decimal places, as a whole number of ``10**-places``. Raises ``invalid_usage``.

    A float is read as the decimal number that Python writes for it: 12.5 seconds are 12.5 seconds.
    """
    if type(value) is float:
        value = Decimal(repr(value))
    if type(value) is int:
        scaled: int = require_count(name, value) * 10**places
        return scaled
    if not isinstance(value, Decimal) or not value.is_finite():
        raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}; use a number from 0 to 10^12")
    if not 0 <= value <= MAX_COUNT:
        raise BillingError("invalid_usage", f"{name} is {value:.12g}, which is out of range; use 0 to 10^12")
    if decimal_places(value) > places:
        raise BillingError("invalid_usage", f"{name} is {value}, which has more than {places} decimal places; round it")
    coefficient, have = to_scaled(value)
    if have > places:  # the decimal places beyond are zeros
        return coefficient // int(10 ** (have - places))
    return coefficient * int(10 ** (places - have))


def require_count(name: str, value: object) -> int:
    """Return ``value`` if it is a whole number from 0 to 10^12 and no bool. Raises ``invalid_usage``."""
    if type(value) is not int:
        raise BillingError(
            "invalid_usage",
            f"{name} is {safe_repr(value)} ({type(value).__name__}); use a whole number from 0 to 10^12",
        )
    if not 0 <= value <= MAX_COUNT:
        problem = "negative" if value < 0 else "above 10^12"
        raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}, which is {problem}; use 0 to 10^12")
    return value


def require_flag(value: object) -> bool:
    """Return ``value`` if it is a bool. Raises ``invalid_usage``: 1 or "false" could mean either."""
    if type(value) is not bool:
        raise BillingError("invalid_usage", f"estimated is {safe_repr(value)}; use true or false")
    return value


def raise_contradiction(whole: str, whole_count: int, parts: Mapping[str, int]) -> NoReturn:
    """Raise ``usage_contradiction`` with both names and both numbers."""
    listed = [f"{name} {count}" for name, count in parts.items() if count]
    total = listed[0] if len(listed) == 1 else f"{' + '.join(listed)} = {sum(parts.values())}"
    raise BillingError("usage_contradiction", f"{total} is more than {whole} {whole_count}, which must contain it")


def _raise_overfull(whole: str, given: Mapping[str, int], quantities: Mapping[str, int]) -> NoReturn:
    parts: dict[str, int] = {}
    counted: set[str] = set()
    for child in CHILDREN[whole]:
        contained = {child, *DESCENDANTS[child]}
        label = METERS[child].argument
        if contained & counted:  # such as cached audio, which both the audio and the cached tokens contain
            label += " not cached"
        parts[label] = sum(quantities[name] for name in contained - counted)
        counted |= contained
    argument = METERS[whole].argument
    raise_contradiction(argument, given.get(argument, 0), parts)


def _require_optional_name(what: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= _MAX_NAME_LENGTH):
        return value
    raise BillingError(
        "invalid_usage", f"{what} is {safe_repr(value)}; use a string of 1 to {_MAX_NAME_LENGTH} characters"
    )
