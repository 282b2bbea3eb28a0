"""The meters: every kind of token or call that can have a price of its own.

Meters are disjoint. One token is on exactly one meter, so a request's price is a plain sum over its meters.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["METERS_BY_NAME", "CALL_METERS", "METERS", "TOKEN_METERS", "Meter"]


class Meter(NamedTuple):
    """A meter: its place in every rate vector, its name, and how its price is quoted."""

    position: int
    name: str
    per: int
    """A price is quoted in USD for so many: 1 000 000 tokens, or 1 000 calls or sessions."""
    uncached_meter: str | None = None
    """For a cache read: the meter these tokens would have been on without the cache."""


_DEFINED: Final[tuple[tuple[str, int, str | None], ...]] = (
    # The four that nearly every request has come first: the hot path names them by position.
    ("input", 1_000_000, None),
    ("cache_read", 1_000_000, "input"),
    ("output", 1_000_000, None),
    ("cache_write", 1_000_000, None),
    ("cache_write_1h", 1_000_000, None),
    ("audio_input", 1_000_000, None),
    ("audio_cache_read", 1_000_000, "audio_input"),
    ("audio_output", 1_000_000, None),
    ("image_input", 1_000_000, None),
    ("image_cache_read", 1_000_000, "image_input"),
    ("image_output", 1_000_000, None),
    ("video_input", 1_000_000, None),
    ("video_cache_read", 1_000_000, "video_input"),
    ("web_search", 1_000, None),
    ("file_search", 1_000, None),
    ("code_interpreter", 1_000, None),
    ("image_generation", 1_000, None),
)

METERS: Final[tuple[Meter, ...]] = tuple(Meter(i, *row) for i, row in enumerate(_DEFINED))
TOKEN_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in METERS if meter.per == 1_000_000)
"""The meters that a model has prices for; calls have fees that no model sets."""
CALL_METERS: Final[tuple[Meter, ...]] = tuple(meter for meter in METERS if meter not in TOKEN_METERS)
"""Tools that the provider runs: a fee for each call, or for each session of a code interpreter."""
METERS_BY_NAME: Final[dict[str, Meter]] = {meter.name: meter for meter in METERS}
