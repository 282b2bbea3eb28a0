"""The :class:`Usage` of one request: contained counts in, disjoint meters inside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypedDict, Unpack, final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, METERS_BY_NAME

__all__ = ["MAX_COUNT", "UsageExtras", "Usage"]

MAX_COUNT: Final = 10**12
"""No request has more of anything: what is above is a unit error, an overflow or an attack."""


class UsageExtras(NamedTuple):
    """What few requests have: kept aside so that the usual request stays small and fast."""

    service_tier: str | None = None
    model: str | None = None
    meters: tuple[tuple[int, int], ...] = ()
    """(meter index, quantity) of every meter that is not zero beyond input, cache read, output, in meter order."""
    estimated: bool = False


class ExtraCounts(TypedDict, total=False):
    """The rarer arguments of :class:`Usage`."""

    cache_write_1h_tokens: int
    audio_input_tokens: int
    audio_cache_read_tokens: int
    audio_output_tokens: int
    image_input_tokens: int
    image_cache_read_tokens: int
    image_output_tokens: int
    video_input_tokens: int
    video_cache_read_tokens: int
    web_search_calls: int
    file_search_calls: int
    code_interpreter_sessions: int
    image_generation_calls: int
    total_tokens: int | None
    service_tier: str | None
    model: str | None
    estimated: bool


_COUNTS: Final = tuple(
    name for name in ExtraCounts.__annotations__ if name.endswith(("_tokens", "_calls", "_sessions"))
)
_BASIC_COUNTS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_ZERO_COUNTS: Final = dict.fromkeys((name for name in _BASIC_COUNTS + _COUNTS if name != "total_tokens"), 0)
_new = tuple.__new__


@final
class Usage(tuple[int, int, int, int, int, UsageExtras | None]):
    """How many of each meter one request used. Immutable.

    The arguments count as OpenAI and OpenTelemetry count, one containing the other:

    - ``input_tokens`` contains ``cache_read_tokens``, ``cache_write_tokens`` (kept 5 minutes),
      ``cache_write_1h_tokens``, ``audio_input_tokens``, ``image_input_tokens`` and ``video_input_tokens``
    - ``output_tokens`` contains ``reasoning_tokens``, ``audio_output_tokens`` and ``image_output_tokens``
    - ``cache_read_tokens`` contains ``audio_cache_read_tokens``, ``image_cache_read_tokens`` and
      ``video_cache_read_tokens``, which the audio, image and video inputs contain too
    - ``web_search_calls``, ``file_search_calls``, ``code_interpreter_sessions`` (containers) and
      ``image_generation_calls`` stand beside the tokens
    - ``total_tokens``, where given, must be input plus output
    - ``service_tier`` and ``model`` are what the provider says it served; a served tier decides the price
    - ``estimated`` marks counts that no provider reported: somebody counted or guessed them. They cost the same, and
      charge and bill say so

    Inside, the meters are disjoint (:attr:`meters`) and add up to input plus output. Raises ``invalid_usage`` for a
    count that is not a whole number from 0 to 10^12, ``usage_contradiction`` for counts that do not fit together.

    >>> Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800).meters
    {'input': 2000, 'cache_read': 10000, 'output': 800}
    """

    # A tuple, because building one costs a third of a class with attributes and it cannot be changed:
    # (input_tokens with all it contains, text input, text cache read, text output, reasoning, the rest)
    __slots__ = ()

    def __new__(
        cls,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_read_tokens: int = 0,
        cache_write_tokens: int = 0,
        reasoning_tokens: int = 0,
        **more: Unpack[ExtraCounts],
    ) -> Usage:
        # The usual request passes this one test; whatever does not is looked at slowly and told apart.
        if (
            type(input_tokens) is type(output_tokens) is type(cache_read_tokens) is type(reasoning_tokens) is int
            and 0 <= cache_read_tokens <= input_tokens <= MAX_COUNT
            and 0 <= reasoning_tokens <= output_tokens <= MAX_COUNT
            and cache_write_tokens is _ZERO
            and not more
        ):
            text = input_tokens - cache_read_tokens
            return _new(cls, (input_tokens, text, cache_read_tokens, output_tokens, reasoning_tokens, None))
        counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
        return _build_validated(dict(zip(_BASIC_COUNTS, counts, strict=True)), more)

    @classmethod
    def from_response(cls, body: object) -> Usage:
        """The usage that a provider reported: a whole response or its usage object, as ``dict`` or SDK object.

        Reads the shapes of OpenAI (chat completions, Responses, embeddings, and those who copy them), Anthropic,
        Gemini, Bedrock Converse and Cohere; docs/usage-file.md says by which keys each is told. Raises
        ``unknown_usage_format`` for any other shape (with the keys it saw), ``unknown_usage_key`` for a non-zero count
        that nobody here knows, ``invalid_usage`` and ``usage_contradiction`` as the class does.

        >>> Usage.from_response({"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12})
        Usage(input_tokens=9, output_tokens=3)
        """
        return _read(body)

    @property
    def input_tokens(self) -> int:
        """All tokens that went in, cached ones contained. Context tiers count these."""
        return self[0]

    @property
    def output_tokens(self) -> int:
        """All tokens that came out, reasoning contained."""
        return self[3] + self._meter_quantity("audio_output") + self._meter_quantity("image_output")

    @property
    def cache_read_tokens(self) -> int:
        """Input tokens that were read from a cache, of every modality."""
        return self[2] + sum(map(self._meter_quantity, ("audio_cache_read", "image_cache_read", "video_cache_read")))

    @property
    def cache_write_tokens(self) -> int:
        """Input tokens written to the 5 minute cache."""
        return self._meter_quantity("cache_write")

    @property
    def reasoning_tokens(self) -> int:
        """Output tokens spent on reasoning. They cost what output costs, so they are no meter of their own."""
        return self[4]

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens

    @property
    def service_tier(self) -> str | None:
        """The service tier that the provider says it served, as it wrote it (Vertex: what its traffic type means)."""
        more = self[5]
        return more.service_tier if more else None

    @property
    def model(self) -> str | None:
        """The model that the provider says it served."""
        more = self[5]
        return more.model if more else None

    @property
    def estimated(self) -> bool:
        """Whether the counts were estimated because the provider reported none."""
        more = self[5]
        return more.estimated if more else False

    @property
    def meters(self) -> dict[str, int]:
        """Meter name -> quantity for every meter that is not zero. The token meters add up to ``total_tokens``."""
        return {METERS[index].name: quantity for index, quantity in self.quantities() if quantity}

    def quantities(self) -> tuple[tuple[int, int], ...]:
        """(meter index, quantity): input, cache read and output always, then whatever else is not zero."""
        more = self[5]
        basic = ((0, self[1]), (1, self[2]), (2, self[3]))
        return basic + more.meters if more else basic

    def _meter_quantity(self, name: str) -> int:
        return self.meters.get(name, 0) if self[5] else 0

    def _constructor_arguments(self) -> dict[str, Any]:
        of = self.meters.get
        audio_read, image_read, video_read = (of(f"{kind}_cache_read", 0) for kind in ("audio", "image", "video"))
        return {
            "input_tokens": self.input_tokens,
            "cache_read_tokens": self.cache_read_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "cache_write_1h_tokens": of("cache_write_1h", 0),
            "audio_input_tokens": of("audio_input", 0) + audio_read,
            "audio_cache_read_tokens": audio_read,
            "image_input_tokens": of("image_input", 0) + image_read,
            "image_cache_read_tokens": image_read,
            "video_input_tokens": of("video_input", 0) + video_read,
            "video_cache_read_tokens": video_read,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "audio_output_tokens": of("audio_output", 0),
            "image_output_tokens": of("image_output", 0),
            "web_search_calls": of("web_search", 0),
            "file_search_calls": of("file_search", 0),
            "code_interpreter_sessions": of("code_interpreter", 0),
            "image_generation_calls": of("image_generation", 0),
            "service_tier": self.service_tier,
            "model": self.model,
            "estimated": self.estimated,
        }

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._constructor_arguments().items() if value)
        return f"Usage({shown})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Usage) and tuple.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return tuple.__hash__(self)

    def __add__(self, other: object) -> NoReturn:  # a tuple's plus would chain two usages
        raise TypeError("usages are not added: price each request, then add the charges; context tiers are per request")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (tuple(self),)


_ZERO: Final = 0


def _read_first(body: object) -> Usage:
    """The readers import this module, so they are fetched at the first call, and only then."""
    global _read
    from brivionix_billing.usage.detect import read_usage

    _read = read_usage
    return read_usage(body)


_read: Callable[[object], Usage] = _read_first


def _restore(fields: tuple[int, int, int, int, int, UsageExtras | None]) -> Usage:
    return _new(Usage, fields)


def _build_validated(basic: dict[str, int], more: ExtraCounts) -> Usage:
    """The slow way: every count by name, every rule of containment, a clear error for the first that breaks."""
    given: dict[str, Any] = {**basic, **more}
    unknown = [name for name in more if name not in ExtraCounts.__annotations__]
    if unknown:
        raise TypeError(f"Usage() has no argument {safe_repr(unknown[0])}; it has {', '.join(_BASIC_COUNTS + _COUNTS)}")
    stated = given.pop("total_tokens", None)
    of = {**_ZERO_COUNTS, **{name: require_count(name, count) for name, count in given.items() if name in _ZERO_COUNTS}}
    input_tokens, output_tokens = of["input_tokens"], of["output_tokens"]
    audio = _subtract_contained(of, "audio_input_tokens", "audio_cache_read_tokens")
    image = _subtract_contained(of, "image_input_tokens", "image_cache_read_tokens")
    video = _subtract_contained(of, "video_input_tokens", "video_cache_read_tokens")
    reads = ("audio_cache_read_tokens", "image_cache_read_tokens", "video_cache_read_tokens")
    read = _subtract_contained(of, "cache_read_tokens", *reads)
    text = _subtract_parts(
        of,
        "input_tokens",
        {
            "cache_read_tokens": of["cache_read_tokens"],
            "cache_write_tokens": of["cache_write_tokens"],
            "cache_write_1h_tokens": of["cache_write_1h_tokens"],
            "audio_input_tokens not cached": audio,
            "image_input_tokens not cached": image,
            "video_input_tokens not cached": video,
        },
    )
    _subtract_contained(of, "output_tokens", "reasoning_tokens")
    output = _subtract_contained(of, "output_tokens", "audio_output_tokens", "image_output_tokens")
    if stated is not None and require_count("total_tokens", stated) != input_tokens + output_tokens:
        raise BillingError(
            "usage_contradiction",
            f"total_tokens {stated} is not input_tokens {input_tokens} + output_tokens {output_tokens} "
            f"= {input_tokens + output_tokens}; ask the provider which is right",
        )
    rest = {
        "cache_write": of["cache_write_tokens"],
        "cache_write_1h": of["cache_write_1h_tokens"],
        "audio_input": audio,
        "audio_cache_read": of["audio_cache_read_tokens"],
        "audio_output": of["audio_output_tokens"],
        "image_input": image,
        "image_cache_read": of["image_cache_read_tokens"],
        "image_output": of["image_output_tokens"],
        "video_input": video,
        "video_cache_read": of["video_cache_read_tokens"],
        "web_search": of["web_search_calls"],
        "file_search": of["file_search_calls"],
        "code_interpreter": of["code_interpreter_sessions"],
        "image_generation": of["image_generation_calls"],
    }
    return usage_from_meters(
        input_tokens,
        text,
        read,
        output,
        of["reasoning_tokens"],
        _require_optional_name("service_tier", given.get("service_tier")),
        _require_optional_name("model", given.get("model")),
        tuple((METERS_BY_NAME[name].position, quantity) for name, quantity in rest.items() if quantity),
        require_flag(given.get("estimated", False)),
    )


def usage_from_meters(
    input_tokens: int,
    text: int,
    read: int,
    output: int,
    reasoning: int,
    service_tier: str | None,
    model: str | None,
    meters: tuple[tuple[int, int], ...] = (),
    estimated: bool = False,
) -> Usage:
    """A usage from counts that were checked already; equal usages are equal however they were made."""
    if service_tier or model or meters or estimated:
        more = _new(UsageExtras, (service_tier, model, meters, estimated))
        return _new(Usage, (input_tokens, text, read, output, reasoning, more))
    return _new(Usage, (input_tokens, text, read, output, reasoning, None))


def require_count(name: str, value: object) -> int:
    """``value`` if it is a whole number from 0 to 10^12 and no bool, else ``invalid_usage``."""
    if type(value) is not int:
        raise BillingError(
            "invalid_usage", f"{name} is {safe_repr(value)} ({type(value).__name__}); a count is a whole number"
        )
    if not 0 <= value <= MAX_COUNT:
        what = "negative" if value < 0 else "above 10^12"
        raise BillingError("invalid_usage", f"{name} is {safe_repr(value)}, which is {what}; nothing was billed")
    return value


def require_flag(value: object) -> bool:
    """``value`` if it is true or false, else ``invalid_usage``: 1 or "false" could be meant either way."""
    if type(value) is not bool:
        raise BillingError("invalid_usage", f"estimated is {safe_repr(value)}; the mark is true or false, nothing else")
    return value


def raise_contradiction(whole: str, whole_count: int, parts: dict[str, int]) -> NoReturn:
    """Raise ``usage_contradiction`` with both names and numbers."""
    given = [f"{name} {count}" for name, count in parts.items() if count]
    listed = given[0] if len(given) == 1 else f"{' + '.join(given)} = {sum(parts.values())}"
    raise BillingError(
        "usage_contradiction",
        f"{listed} is more than {whole} {whole_count}, which should contain it",
    )


def _subtract_parts(of: dict[str, int], whole: str, parts: dict[str, int]) -> int:
    rest = of[whole] - sum(parts.values())
    if rest < 0:
        raise_contradiction(whole, of[whole], parts)
    return rest


def _subtract_contained(of: dict[str, int], whole: str, *contained: str) -> int:
    return _subtract_parts(of, whole, {name: of[name] for name in contained})


def _require_optional_name(what: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and 0 < len(value) <= 256):
        return value
    raise BillingError("invalid_usage", f"{what} is {safe_repr(value)}; a name is a string of 1 to 256 characters")
