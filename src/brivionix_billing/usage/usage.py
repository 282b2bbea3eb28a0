"""The :class:`Usage` of one request: arguments that contain one another outside, disjoint meters inside."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn, final

from brivionix_billing.decimals import decimal_from_scaled
from brivionix_billing.meters import DESCENDANTS, MAX_QUANTITY_PLACES, METERS, Meter
from brivionix_billing.usage.conventions import Conventions
from brivionix_billing.usage.detect import read_located_usage, read_usage
from brivionix_billing.usage.fields import MAX_COUNT, UsageExtras, UsageFields, build_fields
from brivionix_billing.usage.notes import Unaccounted

__all__ = ["MAX_COUNT", "Usage"]

_tuple_new = tuple.__new__
_ESTIMATED: Final = UsageExtras(estimated=True)
_INPUT_METERS: Final = tuple(meter for meter in METERS.values() if meter.direction == "input")
_OTHER_METERS: Final = tuple(
    meter for meter in METERS.values() if meter.direction != "input" and meter.name != "output"
)


@final
class Usage(UsageFields):
    """The quantity of each meter that one request consumed. Immutable.

    The arguments count as OpenAI and OpenTelemetry count, one containing the other:

    - ``input_tokens`` contains ``cache_read_tokens``, ``cache_write_tokens`` (kept for 5 minutes),
      ``cache_write_1h_tokens``, ``audio_input_tokens``, ``image_input_tokens`` and ``video_input_tokens``.
    - ``output_tokens`` contains ``reasoning_tokens``, ``citation_tokens``, ``audio_output_tokens``,
      ``image_output_tokens`` and ``video_output_tokens``.
    - ``cache_read_tokens`` contains ``explicit_cache_read_tokens``, ``audio_cache_read_tokens``,
      ``image_cache_read_tokens`` and ``video_cache_read_tokens``; the audio, image and video inputs contain these too.
    - ``web_search_calls``, ``file_search_calls``, ``code_interpreter_sessions`` (containers) and
      ``image_generation_calls`` are counted apart from the tokens, and so is all that is not a token: seconds,
      characters, images, pages. docs/pricing-yaml.md lists every meter.
    - ``quantities`` are of the meters that a price file declares: ``{"robot_minutes": 3}``.
    - ``total_tokens``, if given, must be input plus output.
    - ``service_tier``, ``model``, ``region`` and ``mode`` are what the provider reports as served. A served tier,
      region or mode decides the price.
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
        region: str | None = None,
        mode: str | None = None,
        quantities: Mapping[str, Decimal | int] | None = None,
        **counts: Decimal | int,
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
            and type(estimated) is bool
            and region is None
            and mode is None
            and not quantities
            and not counts
        ):
            uncached = input_tokens - cache_read_tokens
            extras = _ESTIMATED if estimated else None
            return _tuple_new(cls, (input_tokens, uncached, cache_read_tokens, output_tokens, reasoning_tokens, extras))
        all_counts = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "cache_read_tokens": cache_read_tokens,
            "cache_write_tokens": cache_write_tokens,
            **counts,
        }
        return _tuple_new(
            cls,
            build_fields(
                all_counts,
                reasoning_tokens=reasoning_tokens,
                total_tokens=total_tokens,
                service_tier=service_tier,
                model=model,
                estimated=estimated,
                region=region,
                mode=mode,
                custom={} if quantities is None else quantities,
            ),
        )

    @classmethod
    def from_response(cls, body: object, *, conventions: Conventions | None = None) -> Usage:
        """Read the usage that a provider reported: a response or its usage object, as ``dict`` or SDK object.

        ``conventions`` are those of the upstream, if its counts contain other counts than OpenAI's do:
        ``book.conventions("azure-grok")``.

        Reads the formats of OpenAI (chat completions, Responses, embeddings, images, audio, and OpenAI-compatible
        providers), Anthropic, Gemini, Bedrock, Cohere and others, also inside a line of batch results;
        docs/usage-file.md lists the keys by which each is recognised.

        A number that is on no meter is in :attr:`unaccounted`, never dropped. Raises ``unknown_usage_format`` for a
        format that is not known (with the keys it found), ``invalid_usage`` and ``usage_contradiction`` as the class
        does.

        >>> Usage.from_response({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})
        Usage(input_tokens=9, output_tokens=3)
        """
        if conventions is None:
            return _tuple_new(cls, read_usage(body))
        return _tuple_new(cls, read_located_usage(body, conventions))

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
    def region(self) -> str | None:
        """The region that the provider reports as serving."""
        return self.extras.region if self.extras else None

    @property
    def mode(self) -> str | None:
        """The mode that the provider reports as served, such as ``fast``."""
        return self.extras.mode if self.extras else None

    @property
    def unaccounted(self) -> Unaccounted:
        """(JSON path, number) of all that the body states and that is neither billed nor contained in what is billed.

        A price file says what to do with a path: see ``unaccounted`` in docs/pricing-yaml.md.
        """
        notes = self.extras.notes if self.extras else None
        return notes.unaccounted if notes else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Oddities of the body that change no price, such as a total that is one short."""
        notes = self.extras.notes if self.extras else None
        return notes.warnings if notes else ()

    @property
    def parts(self) -> tuple[tuple[str, Usage], ...]:
        """(model, usage) of the runs of other models within the request. The counts of this usage leave them out."""
        notes = self.extras.notes if self.extras else None
        return tuple((model, Usage.from_fields(fields)) for model, fields in notes.parts) if notes else ()

    @property
    def meters(self) -> dict[str, Decimal | int]:
        """Meter name -> quantity of every meter that is not zero. The token meters add up to ``total_tokens``."""
        return {name: _shown_quantity(name, quantity) for name, quantity in self.quantities() if quantity}

    def quantities(self) -> tuple[tuple[str, int], ...]:
        """Return (meter, stored quantity): input, cache read and output always, then all that are not zero.

        Stored quantities are whole numbers: of a meter with decimal places, in its last place; of a meter that a price
        file declares, in millionths.
        """
        basic = (
            ("input", self.input_quantity),
            ("cache_read", self.cache_read_quantity),
            ("output", self.output_quantity),
        )
        return basic + self.extras.meters if self.extras else basic

    @property
    def _has_other_meters(self) -> bool:
        return self.extras is not None and bool(self.extras.meters)

    def _contained_quantity(self, name: str) -> int:
        """Return a stored quantity with all that its argument contains."""
        stored = dict(self.quantities())
        return stored.get(name, 0) + sum(stored.get(part, 0) for part in DESCENDANTS[name])

    def _constructor_arguments(self) -> dict[str, Any]:
        def argument(meter: Meter) -> Decimal | int:
            return _shown_quantity(meter.name, self._contained_quantity(meter.name))

        return {
            **{meter.argument: argument(meter) for meter in _INPUT_METERS},
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            **{meter.argument: argument(meter) for meter in _OTHER_METERS},
            "quantities": {name: quantity for name, quantity in self.meters.items() if name not in METERS},
            "service_tier": self.service_tier,
            "model": self.model,
            "region": self.region,
            "mode": self.mode,
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


def _shown_quantity(name: str, quantity: int) -> Decimal | int:
    """Return a stored quantity as a caller gives it."""
    places = METERS[name].places if name in METERS else MAX_QUANTITY_PLACES
    whole, rest = divmod(quantity, int(10**places))
    return decimal_from_scaled(quantity, places) if rest else whole


_ZERO: Final = 0
