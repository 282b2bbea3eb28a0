"""The meters: every kind of token, call, second, image and so on that can have a price of its own.

Meters are disjoint. A token is on exactly one meter, so the price of a request is a plain sum over its meters. The
arguments of ``Usage`` are not disjoint: ``input_tokens`` contains ``cache_read_tokens``, as OpenAI and OpenTelemetry
count. The table below says which argument contains which. Everything else that depends on the list of meters is derived
from it: ``Usage``, the readers of response bodies, the schema of the price file, explanations and pages. To add a
meter, add a row here and its label in each language of ``rating/messages.py``. A price file may declare further meters.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from brivionix_billing.decimals import format_trimmed

__all__ = [
    "BASIC_METERS",
    "CHILDREN",
    "CONTAINERS",
    "DESCENDANTS",
    "MAX_QUANTITY_PLACES",
    "METERS",
    "MINIMUM_METER",
    "REQUEST_METERS",
    "TOKEN_METERS",
    "TOOL_METERS",
    "UNITS",
    "Meter",
    "Unit",
    "custom_meter",
    "format_quantity",
]

BASIC_METERS: Final = ("input", "cache_read", "output")
"""The meters that nearly every request has. What is fast, or in a packed row, has them by name."""
MAX_QUANTITY_PLACES: Final = 6
"""Decimal places of the quantities of a meter that a price file declares; the most that any meter has."""


class Unit(NamedTuple):
    """A unit in which meters count."""

    per: int
    """The quantity that a price is quoted for, unless a meter of a price file states another."""
    places: int
    """Decimal places of a quantity."""


UNITS: Final[Mapping[str, Unit]] = MappingProxyType(
    {
        "token": Unit(1_000_000, 0),
        "call": Unit(1_000, 0),
        "session": Unit(1_000, 0),
        "query": Unit(1_000, 0),
        "page": Unit(1_000, 0),
        "request": Unit(1, 0),
        "second": Unit(1, 3),
        "image": Unit(1, 0),
        "pixel": Unit(1_000_000, 0),
        "character": Unit(1_000_000, 0),
        "gigabyte_day": Unit(1, 6),
        "token_hour": Unit(1_000_000, 0),
        "credit": Unit(1, 18),
    }
)
"""Unit -> how prices and quantities are written. A price file may use further words; their prices are per 1."""


class Meter(NamedTuple):
    """A quantity with a price of its own."""

    name: str
    unit: str
    per: int
    """The quantity that a price is quoted for."""
    places: int = 0
    """Decimal places of a quantity. Quantities are stored as whole numbers of ``10**-places``."""
    direction: str | None = None
    """``input`` or ``output`` for tokens, ``None`` for all other units."""
    modality: str | None = None
    """``text``, ``audio``, ``image`` or ``video`` for tokens, ``None`` for all other units."""
    parents: tuple[str, ...] = ()
    """Meters whose arguments contain the argument of this one. The first one is where the tokens would be counted
    without a cache, for a meter of a cache."""
    cache: str | None = None
    """``read`` or ``write`` for the meters of a cache."""
    fallback: str | None = None
    """The meter that these quantities are billed on if a model has no price for this one, nor for a meter that contains
    them and is not the fallback itself; ``None``: they must have a price."""
    argument: str = ""
    """The argument of ``Usage``, such as ``cache_read_tokens``; empty for a meter that no usage states by name."""
    labels: Mapping[str, str] | None = None
    """Language -> label, of a meter that a price file declares; under ``""``, one for all languages."""

    @property
    def is_token(self) -> bool:
        """Whether the meter counts tokens of the request."""
        return self.direction is not None

    @property
    def is_tool(self) -> bool:
        """Whether the meter is the fee of a tool that the provider runs. Factors on a model's prices leave it alone."""
        return self.unit in ("call", "session")

    def fallback_among(self, priced: Container[str]) -> str | None:
        """Return the fallback, unless a meter that contains this one has a price of its own."""
        if self.fallback is None or any(parent in priced for parent in self.parents if parent != self.fallback):
            return None
        return self.fallback

    @property
    def uncached_meter(self) -> str | None:
        """For the meters of a cache: the meter that these tokens would be on without it."""
        if self.cache is None:
            return None
        parent = METERS[self.parents[0]]
        return parent.uncached_meter or parent.name


def _token(
    name: str,
    direction: str,
    modality: str = "text",
    parents: tuple[str, ...] = (),
    cache: str | None = None,
    *,
    fallback: str | None = None,
) -> Meter:
    return Meter(name, "token", UNITS["token"].per, 0, direction, modality, parents, cache, fallback, f"{name}_tokens")


def _counted(
    name: str, unit: str, argument: str | None = None, parents: tuple[str, ...] = (), *, is_optional: bool = False
) -> Meter:
    per, places = UNITS[unit]
    fallback = parents[0] if is_optional else None
    return Meter(name, unit, per, places, None, None, parents, None, fallback, argument or name)


_TABLE: Final = (
    # The three that nearly every request has come first, because the fast path of rating has them by name.
    _token("input", "input"),
    _token("cache_read", "input", parents=("input",), cache="read"),
    _token("output", "output"),
    _token("cache_write", "input", parents=("input",), cache="write"),  # kept for 5 minutes
    _token("cache_write_1h", "input", parents=("input",), cache="write"),
    _token("cache_write_12h", "input", parents=("input",), cache="write"),
    # A cache that the client created by name. Most providers charge its reads like those of the implicit cache.
    _token("explicit_cache_read", "input", parents=("cache_read",), cache="read", fallback="cache_read"),
    _token("audio_input", "input", "audio", ("input",)),
    _token("audio_cache_read", "input", "audio", ("audio_input", "cache_read"), "read"),
    _token("audio_cache_write", "input", "audio", ("audio_input", "cache_write"), "write"),
    _token("audio_output", "output", "audio", ("output",)),
    # Most providers charge images and videos that a model reads like text; the others publish a price for them.
    _token("image_input", "input", "image", ("input",), fallback="input"),
    _token("image_cache_read", "input", "image", ("image_input", "cache_read"), "read", fallback="cache_read"),
    _token("image_output", "output", "image", ("output",)),
    _token("video_input", "input", "video", ("input",), fallback="input"),
    _token("video_cache_read", "input", "video", ("video_input", "cache_read"), "read", fallback="cache_read"),
    _token("video_output", "output", "video", ("output",)),
    _token("citation", "output", parents=("output",), fallback="output"),
    # Tools that the provider runs.
    _counted("web_search", "call", "web_search_calls"),
    _counted("web_search_low", "call", "web_search_low_calls", ("web_search",), is_optional=True),
    _counted("web_search_high", "call", "web_search_high_calls", ("web_search",), is_optional=True),
    _counted("maps_search", "call", "maps_search_calls"),
    _counted("file_search", "call", "file_search_calls"),
    _counted("code_interpreter", "session", "code_interpreter_sessions"),
    _counted("image_generation", "call", "image_generation_calls"),
    # Models that are not priced by the token.
    _counted("audio_input_seconds", "second"),
    _counted("audio_output_seconds", "second"),
    _counted("video_input_seconds", "second"),
    _counted("video_output_seconds", "second"),
    _counted("compute_seconds", "second"),
    _counted("input_characters", "character"),
    _counted("output_characters", "character"),
    _counted("input_images", "image"),
    _counted("output_images", "image"),
    _counted("input_pixels", "pixel"),
    _counted("output_pixels", "pixel"),
    _counted("pages", "page"),
    _counted("annotation_pages", "page"),
    _counted("queries", "query"),
    _counted("vector_storage", "gigabyte_day", "vector_storage_gigabyte_days"),
    _counted("cache_storage", "token_hour", "cache_storage_token_hours"),
)

METERS: Final[Mapping[str, Meter]] = MappingProxyType({meter.name: meter for meter in _TABLE})
"""Name -> meter, of all quantities that a usage can state, in the order of lines and columns."""
TOKEN_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in _TABLE if meter.is_token)
TOOL_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in _TABLE if meter.is_tool)
"""Tools that the provider runs, for a fee per call, or per session of a code interpreter."""

MINIMUM_METER: Final = Meter("minimum_charge", "credit", *UNITS["credit"])
"""What a request costs less than the minimum charge of its model, in Credits."""

REQUEST_METERS: Final[Mapping[str, Meter]] = MappingProxyType(
    {
        meter.name: meter
        for meter in (
            # Part of the output. They have the price of output, unless the model has a price for them.
            _token("reasoning", "output", parents=("output",), fallback="output"),
            _counted("request", "request"),
            # A router charges for every input token, beside the price of the model that served the request.
            Meter("router_fee", "token", UNITS["token"].per),
            MINIMUM_METER,
        )
    }
)
"""Meters whose quantity follows from the request and its price, so that no usage states it."""

CHILDREN: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(child.name for child in _TABLE if name in child.parents) for name in METERS
}
"""Meter -> the meters whose arguments its argument contains, directly."""


def _descendants(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for child in CHILDREN[name] for found in (child, *_descendants(child))))


DESCENDANTS: Final[Mapping[str, tuple[str, ...]]] = {name: _descendants(name) for name in METERS}
"""Meter -> all meters whose arguments its argument contains, each once."""


def _containers(names: tuple[str, ...]) -> tuple[str, ...]:
    around = tuple(parent for name in names for parent in METERS[name].parents)
    return tuple(dict.fromkeys((*names, *(_containers(around) if around else ()))))


CONTAINERS: Final[Mapping[str, tuple[str, ...]]] = {
    name: _containers(("cache_write",) if name.startswith("cache_write_") else meter.parents)
    for name, meter in METERS.items()
    if meter.is_token and meter.parents
}
"""Meter of tokens -> the meters that contain them, the closest first. A cache write of one hour is a cache write."""


def custom_meter(name: str, unit: str, per: int | None = None, labels: Mapping[str, str] | None = None) -> Meter:
    """Return a meter that a price file declares. Its quantities may have six decimal places."""
    usual = UNITS[unit].per if unit in UNITS else 1
    return Meter(name, unit, usual if per is None else per, MAX_QUANTITY_PLACES, labels=labels)


def format_quantity(quantity: int, meter: Meter) -> str:
    """Format a stored quantity without trailing zeros.

    >>> format_quantity(12500, METERS["audio_input_seconds"])
    '12.5'
    """
    return format_trimmed(quantity, meter.places)
