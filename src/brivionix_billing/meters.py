"""The meters: every kind of token or call that can have a price of its own.

Meters are disjoint. A token is on exactly one meter, so the price of a request is a plain sum over its meters. The
arguments of ``Usage`` are not disjoint: ``input_tokens`` contains ``cache_read_tokens``, as OpenAI and OpenTelemetry
count. The table below says which argument contains which. Everything else that depends on the list of meters is derived
from it: ``Usage``, the readers of response bodies, the schema of the price file, explanations and pages. To add a
meter, add a row here and its label in each language of ``rating/messages.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["CALL_METERS", "CHILDREN", "DESCENDANTS", "METERS", "METERS_BY_NAME", "TOKEN_METERS", "Meter"]


class Meter(NamedTuple):
    """A kind of token or call with a price of its own."""

    position: int
    """Index in every vector of prices and rates."""
    name: str
    unit: str
    """``token``, ``call`` or ``session``."""
    direction: str | None
    """``input`` or ``output`` for tokens, ``None`` for calls and sessions."""
    modality: str | None
    """``text``, ``audio``, ``image`` or ``video`` for tokens, ``None`` for calls and sessions."""
    parents: tuple[str, ...]
    """Meters whose arguments contain the argument of this one. The first one is where the tokens would be counted
    without a cache, for a meter of a cache."""
    cache: str | None
    """``read`` or ``write`` for the meters of a cache."""
    argument: str
    """The argument of ``Usage``, such as ``cache_read_tokens``."""
    per: int
    """The quantity that a price is quoted for: 1 000 000 tokens, or 1 000 calls or sessions."""

    @property
    def uncached_meter(self) -> str | None:
        """For a cache read: the meter that these tokens would be on without the cache."""
        return self.parents[0] if self.cache == "read" else None


_PER: Final = {"token": 1_000_000, "call": 1_000, "session": 1_000}

# name, unit, direction, modality, parents, cache
_ROWS: Final[tuple[tuple[str, str, str | None, str | None, tuple[str, ...], str | None], ...]] = (
    # The three that nearly every request has come first, because the fast path of rating has them by position.
    ("input", "token", "input", "text", (), None),
    ("cache_read", "token", "input", "text", ("input",), "read"),
    ("output", "token", "output", "text", (), None),
    ("cache_write", "token", "input", "text", ("input",), "write"),  # kept for 5 minutes
    ("cache_write_1h", "token", "input", "text", ("input",), "write"),
    ("audio_input", "token", "input", "audio", ("input",), None),
    ("audio_cache_read", "token", "input", "audio", ("audio_input", "cache_read"), "read"),
    ("audio_output", "token", "output", "audio", ("output",), None),
    ("image_input", "token", "input", "image", ("input",), None),
    ("image_cache_read", "token", "input", "image", ("image_input", "cache_read"), "read"),
    ("image_output", "token", "output", "image", ("output",), None),
    ("video_input", "token", "input", "video", ("input",), None),
    ("video_cache_read", "token", "input", "video", ("video_input", "cache_read"), "read"),
    ("web_search", "call", None, None, (), None),
    ("file_search", "call", None, None, (), None),
    ("code_interpreter", "session", None, None, (), None),
    ("image_generation", "call", None, None, (), None),
)

METERS: Final[tuple[Meter, ...]] = tuple(
    Meter(position, name, unit, direction, modality, parents, cache, f"{name}_{unit}s", _PER[unit])
    for position, (name, unit, direction, modality, parents, cache) in enumerate(_ROWS)
)
TOKEN_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in METERS if meter.unit == "token")
"""The meters that the price of a model covers."""
CALL_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in METERS if meter.unit != "token")
"""Tools that the provider runs, for a fee per call, or per session of a code interpreter."""
METERS_BY_NAME: Final[dict[str, Meter]] = {meter.name: meter for meter in METERS}

CHILDREN: Final[dict[str, tuple[str, ...]]] = {
    meter.name: tuple(child.name for child in METERS if meter.name in child.parents) for meter in METERS
}
"""Meter -> the meters whose arguments its argument contains, directly."""


def _descendants(name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(found for child in CHILDREN[name] for found in (child, *_descendants(child))))


DESCENDANTS: Final[dict[str, tuple[str, ...]]] = {meter.name: _descendants(meter.name) for meter in METERS}
"""Meter -> all meters whose arguments its argument contains, each once."""
