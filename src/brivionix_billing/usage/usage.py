"""The :class:`Usage` of one request: arguments that contain one another outside, disjoint meters inside."""

from __future__ import annotations

from typing import Any, Final, NoReturn, final

from brivionix_billing.meters import DESCENDANTS, METERS
from brivionix_billing.usage.detect import read_usage
from brivionix_billing.usage.fields import MAX_COUNT, UsageFields, build_fields

__all__ = ["MAX_COUNT", "Usage"]

_tuple_new = tuple.__new__
_INPUT_METERS: Final = tuple(meter for meter in METERS if meter.direction == "input")
_OUTPUT_METERS: Final = tuple(meter for meter in METERS if meter.direction == "output")
_CALL_METERS: Final = tuple(meter for meter in METERS if meter.direction is None)


@final
class Usage(UsageFields):
    """The quantity of each meter that one request consumed. Immutable.

    The arguments count as OpenAI and OpenTelemetry count, one containing the other:

    - ``input_tokens`` contains ``cache_read_tokens``, ``cache_write_tokens`` (kept for 5 minutes),
      ``cache_write_1h_tokens``, ``audio_input_tokens``, ``image_input_tokens`` and ``video_input_tokens``.
    - ``output_tokens`` contains ``reasoning_tokens``, ``audio_output_tokens`` and ``image_output_tokens``.
    - ``cache_read_tokens`` contains ``audio_cache_read_tokens``, ``image_cache_read_tokens`` and
      ``video_cache_read_tokens``; the audio, image and video inputs contain these too.
    - ``web_search_calls``, ``file_search_calls``, ``code_interpreter_sessions`` (containers) and
      ``image_generation_calls`` are counted apart from the tokens.
    - ``total_tokens``, if given, must be input plus output.
    - ``service_tier`` and ``model`` are what the provider reports as served. A served tier decides the price.
    - ``estimated`` marks counts that the provider did not report. They cost the same; charge and bill show the mark.

    Inside, the meters are disjoint (:attr:`meters`) and add up to input plus output. Raises ``invalid_usage`` for a
    count that is not a whole number from 0 to 10^12, ``usage_contradiction`` for counts that contradict each other,
    ``TypeError`` for an unknown argument.

    >>> Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800).meters
    {'input': 2000, 'cache_read': 10000, 'output': 800}
    """

    __slots__ = ()

    def __new__(
        cls,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        *,
        total_tokens: int | None = None,
        service_tier: str | None = None,
        model: str | None = None,
        estimated: bool = False,
        **quantities: int,
    ) -> Usage:
        # Fast path: one test for the usual request. Everything else takes the validating path, which finds the words
        # for what is wrong.
        if (
            type(input_tokens) is type(output_tokens) is type(cache_read_tokens) is type(reasoning_tokens) is int
            and 0 <= cache_read_tokens <= input_tokens <= MAX_COUNT
            and 0 <= reasoning_tokens <= output_tokens <= MAX_COUNT
            and cache_write_tokens is _ZERO
            and total_tokens is None
            and service_tier is None
            and model is None
            and estimated is False
            and not quantities
        ):
            uncached = input_tokens - cache_read_tokens
            return _tuple_new(cls, (input_tokens, uncached, cache_read_tokens, output_tokens, reasoning_tokens, None))
        counts = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            **quantities,
        }
        return _tuple_new(
            cls,
            build_fields(
                counts,
                reasoning_tokens=reasoning_tokens,
                total_tokens=total_tokens,
                service_tier=service_tier,
                model=model,
                estimated=estimated,
            ),
        )

    @classmethod
    def from_response(cls, body: object) -> Usage:
        """Read the usage that a provider reported: a response or its usage object, as ``dict`` or SDK object.

        Reads the formats of OpenAI (chat completions, Responses, embeddings, and OpenAI-compatible providers),
        Anthropic, Gemini, Bedrock Converse and Cohere; docs/usage-file.md lists the keys by which each is recognised.

        Raises ``unknown_usage_format`` for any other format (with the keys it found), ``unknown_usage_key`` for a
        non-zero count with an unknown key, ``invalid_usage`` and ``usage_contradiction`` as the class does.

        >>> Usage.from_response({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})
        Usage(input_tokens=9, output_tokens=3)
        """
        return _tuple_new(cls, read_usage(body))

    @classmethod
    def from_fields(cls, fields: UsageFields) -> Usage:
        """Wrap fields that a reader validated."""
        return _tuple_new(cls, fields)

    @property
    def output_tokens(self) -> int:
        """All output tokens, including reasoning."""
        return self._contained_quantity("output") if self._has_other_meters else self.output_quantity

    @property
    def cache_read_tokens(self) -> int:
        """Input tokens read from a cache, of every modality."""
        return self._contained_quantity("cache_read") if self._has_other_meters else self.cache_read_quantity

    @property
    def cache_write_tokens(self) -> int:
        """Input tokens written to the 5-minute cache."""
        return self._contained_quantity("cache_write") if self._has_other_meters else 0

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    @property
    def service_tier(self) -> str | None:
        """The served service tier as the provider wrote it (Vertex: the meaning of its traffic type)."""
        return self.extras.service_tier if self.extras else None

    @property
    def model(self) -> str | None:
        """The model that the provider reports as served."""
        return self.extras.model if self.extras else None

    @property
    def estimated(self) -> bool:
        """``True`` if the counts are an estimate because the provider did not report any."""
        return self.extras.estimated if self.extras else False

    @property
    def meters(self) -> dict[str, int]:
        """Meter name -> quantity of every meter that is not zero. The token meters add up to ``total_tokens``."""
        return {METERS[position].name: quantity for position, quantity in self.quantities() if quantity}

    def quantities(self) -> tuple[tuple[int, int], ...]:
        """Return (meter position, quantity): input, cache read and output always, then all that are not zero."""
        basic = ((0, self.input_quantity), (1, self.cache_read_quantity), (2, self.output_quantity))
        return basic + self.extras.meters if self.extras else basic

    @property
    def _has_other_meters(self) -> bool:
        return self.extras is not None and bool(self.extras.meters)

    def _contained_quantity(self, name: str) -> int:
        meters = self.meters
        return meters.get(name, 0) + sum(meters.get(part, 0) for part in DESCENDANTS[name])

    def _constructor_arguments(self) -> dict[str, Any]:
        return {
            **{meter.argument: self._contained_quantity(meter.name) for meter in _INPUT_METERS},
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            **{meter.argument: self._contained_quantity(meter.name) for meter in (*_OUTPUT_METERS, *_CALL_METERS)},
            "service_tier": self.service_tier,
            "model": self.model,
            "estimated": self.estimated,
        }

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in self._constructor_arguments().items() if value)
        return f"Usage({', '.join(arguments)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __add__(self, other: object) -> NoReturn:  # the plus of a tuple would concatenate two usages
        raise TypeError("usages are not added: price each request, then add the charges; context tiers are per request")

    def __reduce__(self) -> tuple[Any, ...]:
        return Usage.from_fields, (UsageFields(*self),)


_ZERO: Final = 0
