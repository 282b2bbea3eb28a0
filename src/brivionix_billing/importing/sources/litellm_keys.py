"""The keys of litellm's map.

``input_cost_per_token_above_272k_tokens_priority`` is the price of input tokens above a boundary in a service tier.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.importing.names import meter_word

__all__ = ["DUPLICATES", "REGION_FACTORS", "PriceKey", "parse_key"]


class PriceKey(NamedTuple):
    """The meaning of a key."""

    meter: str
    scale: Decimal
    """Factor from the source's price to the price file's."""
    tier: str = "standard"
    above: int | None = None
    """Input tokens above which the price applies."""
    declaration: dict[str, Any] | None = None
    """What the price file must declare, for a meter that is not built in."""

    @property
    def per(self) -> int | None:
        """The quantity that a price is quoted for, if the meter is not built in."""
        return None if self.declaration is None else int(self.declaration["per"])


_TOKEN: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1_000)
_ONE: Final = Decimal(1)

_KEYS: Final[dict[str, tuple[str, Decimal]]] = {
    "input_cost_per_token": ("input", _TOKEN),
    "output_cost_per_token": ("output", _TOKEN),
    "output_cost_per_reasoning_token": ("reasoning", _TOKEN),
    "cache_read_input_token_cost": ("cache_read", _TOKEN),
    "input_cost_per_token_cache_hit": ("cache_read", _TOKEN),
    "cache_creation_input_token_cost": ("cache_write", _TOKEN),
    "cache_creation_input_token_cost_above_1hr": ("cache_write_1h", _TOKEN),
    "cache_creation_input_token_cost_above_12hr": ("cache_write_12h", _TOKEN),
    "explicit_cache_read_input_token_cost": ("explicit_cache_read", _TOKEN),
    "citation_cost_per_token": ("citation", _TOKEN),
    "input_cost_per_audio_token": ("audio_input", _TOKEN),
    "output_cost_per_audio_token": ("audio_output", _TOKEN),
    "cache_read_input_audio_token_cost": ("audio_cache_read", _TOKEN),
    "cache_creation_input_audio_token_cost": ("audio_cache_write", _TOKEN),
    "input_cost_per_image_token": ("image_input", _TOKEN),
    "output_cost_per_image_token": ("image_output", _TOKEN),
    "cache_read_input_image_token_cost": ("image_cache_read", _TOKEN),
    "input_cost_per_video_token": ("video_input", _TOKEN),
    "output_cost_per_video_token": ("video_output", _TOKEN),
    "cache_read_input_video_token_cost": ("video_cache_read", _TOKEN),
    "input_cost_per_character": ("input_characters", _TOKEN),
    "output_cost_per_character": ("output_characters", _TOKEN),
    "input_cost_per_pixel": ("input_pixels", _TOKEN),
    "output_cost_per_pixel": ("output_pixels", _TOKEN),
    "input_cost_per_image": ("input_images", _ONE),
    "output_cost_per_image": ("output_images", _ONE),
    "input_cost_per_audio_per_second": ("audio_input_seconds", _ONE),
    "output_cost_per_audio_per_second": ("audio_output_seconds", _ONE),
    "input_cost_per_video_per_second": ("video_input_seconds", _ONE),
    "output_cost_per_video_per_second": ("video_output_seconds", _ONE),
    "cost_per_second": ("compute_seconds", _ONE),
    "input_cost_per_request": ("request", _ONE),
    "input_cost_per_query": ("queries", _THOUSAND),
    "ocr_cost_per_page": ("pages", _THOUSAND),
    "annotation_cost_per_page": ("annotation_pages", _THOUSAND),
    "google_maps_grounding_cost_per_query": ("maps_search", _THOUSAND),
    "code_interpreter_cost_per_session": ("code_interpreter", _THOUSAND),
    "file_search_cost_per_1k_calls": ("file_search", _ONE),
    "file_search_cost_per_gb_per_day": ("vector_storage", _ONE),
    "vector_store_cost_per_gb_per_day": ("vector_storage", _ONE),
}
_OWN_METERS: Final = {
    "input_cost_per_text_message": ("text_messages", "message"),
    "ocr_cost_per_credit": ("ocr_credits", "provider_credit"),
}
"""Keys of units that no built-in meter counts: (meter, unit)."""
_SECONDS: Final = {
    ("input", "audio_transcription"): "audio_input_seconds",
    ("input", "realtime"): "audio_input_seconds",
    ("output", "audio_transcription"): "audio_output_seconds",
    ("output", "realtime"): "audio_output_seconds",
    ("output", "audio_speech"): "audio_output_seconds",
    ("input", "video_generation"): "video_input_seconds",
    ("output", "video_generation"): "video_output_seconds",
}
"""(direction, mode of the model) -> meter of ``input_cost_per_second`` and ``output_cost_per_second``. Models of other
modes are rented by the second."""
DUPLICATES: Final = {
    "input_cost_per_token_cache_hit": "cache_read_input_token_cost",
    "cost_per_second": "input_cost_per_second",
}
"""Key -> the key that states the same price, usually also present."""
REGION_FACTORS: Final = {
    "regional_processing_uplift_multiplier_eu": "eu",
    "regional_processing_uplift_multiplier_us": "us",
    "fedramp_uplift_multiplier": "fedramp",
    "regional_endpoint_uplift_multiplier": "regional",
}
"""Key of a factor on all token prices -> region of the price file. ``regional``: every location but the global one."""

_TIERS: Final = {
    "batches": "batch",
    **{name: name for name in ("flex", "priority", "ultrafast", "balanced", "decisions")},
}
_TIER: Final = re.compile(rf"_({'|'.join(_TIERS)})(?=$|_above_[0-9]+k?_tokens$)")
_ABOVE: Final = re.compile(r"_above_([0-9]{1,9})(k?)_tokens$", re.ASCII)
_PER_SECOND: Final = re.compile(r"(input|output)_cost_per_second$")
_RESOLUTION: Final = re.compile(
    r"(output_cost_per_second|output_cost_per_image|input_cost_per_image)_([0-9][0-9.]{0,7}[kp]?)$", re.IGNORECASE
)
_INTERVAL: Final = re.compile(r"input_cost_per_video_per_second_above_[0-9]{1,4}s_interval$")


def parse_key(field: str, mode: str) -> PriceKey | None:
    """Return the meaning of a key for a model of some mode, or ``None`` if it is not known.

    >>> parse_key("input_cost_per_token_above_272k_tokens_priority", "chat")[:4]
    ('input', Decimal('1000000'), 'priority', 272000)
    """
    rest, tier, above = field, "standard", None
    found = _TIER.search(rest)
    if found:
        tier, rest = _TIERS[found[1]], rest[: found.start()] + rest[found.end() :]
    bound = _ABOVE.search(rest)
    if bound:
        above, rest = int(bound[1]) * (1000 if bound[2] else 1), rest[: bound.start()]
        if not 0 < above <= 10**12:
            return None
    known = _KEYS.get(rest)
    if known is not None:
        return PriceKey(*known, tier, above)
    seconds = _PER_SECOND.match(rest)
    if seconds:
        return PriceKey(_SECONDS.get((seconds[1], mode), "compute_seconds"), _ONE, tier, above)
    own = _OWN_METERS.get(rest)
    if own is not None:
        return PriceKey(own[0], _ONE, tier, above, {"unit": own[1], "per": 1})
    resolution = _RESOLUTION.match(rest)
    if resolution:
        plain = parse_key(resolution[1], mode)
        if plain is not None:
            unit = "second" if resolution[1].endswith("second") else "image"
            meter = meter_word(f"{plain.meter}_{resolution[2]}")
            return PriceKey(meter, _ONE, tier, above, {"unit": unit, "per": 1})
    if _INTERVAL.match(rest):
        meter = meter_word(rest.replace("input_cost_per_video_per_second", "video_input_seconds"))
        return PriceKey(meter, _ONE, tier, above, {"unit": "second", "per": 1})
    return None
