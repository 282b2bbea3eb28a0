"""The meters of the importer are those of the library."""

from __future__ import annotations

from brivionix_billing.importing.units import METER_ORDER, PER, sort_meters, steps_per_price


def test_prices_are_quoted_and_counted_as_the_library_does() -> None:
    """A price per second is for 1000 steps, one of tokens for 10^6, and meters of the file count millionths."""
    assert [steps_per_price(name) for name in ("input", "audio_input_seconds", "web_search")] == [10**6, 1_000, 1_000]
    assert steps_per_price("robot_minutes", per=60) == 60 * 10**6


def test_every_meter_has_a_place_in_the_order() -> None:
    """Text comes before other modalities, input before output, and tokens before what is not a token."""
    assert METER_ORDER.keys() == PER.keys()
    written = ["input", "cache_read", "output", "reasoning", "audio_input", "request", "web_search", "own"]
    assert sort_meters(reversed(written)) == written
