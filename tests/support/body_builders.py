"""Bodies of every supported format, built from disjoint counts, so that the expected usage is known.

The builders follow the documentation of the providers: which count contains which, and which counts a total includes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from pydantic import BaseModel, ConfigDict

from brivionix_billing import Usage
from oracle import FEES

__all__ = ["FORMATS", "BuiltBody", "as_namespaces", "as_sdk_objects", "built_bodies", "counted"]

Json = dict[str, Any]


class BuiltBody(NamedTuple):
    """A body and its expected usage."""

    body_format: str
    body: Json
    name: str
    """The key of the usage object in the body."""
    meters: dict[str, int]
    """Disjoint quantities, without zeros."""
    reasoning: int
    tier: str | None
    model: str | None
    total: str | None
    """The key of the stated total, ``None`` if the body states no total."""
    estimated: bool
    mode: str | None = None

    @property
    def usage(self) -> Json:
        """The usage object."""
        usage: Json = self.body[self.name]
        return usage

    @property
    def tokens(self) -> int:
        """The sum of all tokens."""
        return sum(count for meter, count in self.meters.items() if meter not in FEES)


# --- objects of SDKs ---


class SdkObject(BaseModel):
    """A model of an SDK, which keeps unknown fields."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


def counted(usage: Usage) -> Usage:
    """Return a usage without its notes, for comparisons of what is billed."""
    if usage.extras is None or usage.extras.notes is None:
        return usage
    extras = usage.extras._replace(notes=None)
    return Usage.from_fields(usage._replace(extras=extras if any(extras) else None))


def as_sdk_objects(value: Any) -> Any:
    """Return the body as nested pydantic objects."""
    if isinstance(value, dict):
        return SdkObject(**{key: as_sdk_objects(item) for key, item in value.items()})
    return [as_sdk_objects(item) for item in value] if isinstance(value, list) else value


def as_namespaces(value: Any) -> Any:
    """Return the body as nested simple namespaces."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: as_namespaces(item) for key, item in value.items()})
    return [as_namespaces(item) for item in value] if isinstance(value, list) else value


# --- counts ---

_count = st.one_of(st.just(0), st.integers(1, 400), st.integers(0, 400_000))
_texts = st.sampled_from(["hello", "长长的回答", "x" * 500])


def _counts(draw: DrawFn, *meters: str) -> dict[str, int]:
    return {meter: draw(_count) for meter in meters}


def _sum(counts_by_meter: dict[str, int], *meters: str) -> int:
    return sum(counts_by_meter.get(meter, 0) for meter in meters)


def _zeros(draw: DrawFn, keys: dict[str, Any]) -> Json:
    """Return the same keys, where falsy values stay, are null or are missing."""
    style = draw(st.sampled_from(["zero", "null", "missing"]))
    result = {}
    for key, value in keys.items():
        if value or style == "zero":
            result[key] = value
        elif style == "null":
            result[key] = None
    return result


def _built(
    draw: DrawFn, body_format: str, envelope: Json, name: str, usage: Json, counts_by_meter: dict[str, int], **more: Any
) -> BuiltBody:
    mark = draw(st.sampled_from([None, None, False, True]))
    if mark is not None:
        usage = {**usage, "estimated": mark}
    usage = {key: usage[key] for key in draw(st.permutations(list(usage)))}
    fields = {"reasoning": 0, "tier": None, "model": None, "total": None} | more
    meters = {meter: count for meter, count in counts_by_meter.items() if count}
    return BuiltBody(body_format, {**envelope, name: usage}, name, meters, estimated=bool(mark), **fields)


# --- OpenAI and OpenAI-compatible providers ---

_CHAT_PROVIDERS: Final = ("openai", "deepseek", "mistral", "moonshot", "xai", "openrouter", "groq")
_INPUT_METERS: Final = (
    "input",
    "cache_read",
    "cache_write",
    "audio_input",
    "audio_cache_read",
    "image_input",
    "image_cache_read",
)
_VIDEO_METERS: Final = ("video_input", "video_cache_read")


def _openai(draw: DrawFn, body_format: str, provider: str) -> BuiltBody:
    input_prefix, output_prefix = ("input", "output") if body_format == "responses" else ("prompt", "completion")
    counts_by_meter = _counts(draw, *_INPUT_METERS, *_VIDEO_METERS, "output", "audio_output", "image_output")
    if provider in ("deepseek", "mistral", "moonshot"):
        counts_by_meter = counts_by_meter | dict.fromkeys(set(counts_by_meter) - {"input", "cache_read", "output"}, 0)
    cached = _sum(counts_by_meter, "cache_read", "audio_cache_read", "image_cache_read", "video_cache_read")
    whole, out = (
        _sum(counts_by_meter, *_INPUT_METERS, *_VIDEO_METERS),
        _sum(counts_by_meter, "output", "audio_output", "image_output"),
    )
    reasoning_tokens = draw(st.integers(0, counts_by_meter["output"]))
    cached_details = {f"{kind}_tokens": counts_by_meter[f"{kind}_cache_read"] for kind in ("audio", "image", "video")}
    kinds = {
        f"{kind}_tokens": _sum(counts_by_meter, f"{kind}_input", f"{kind}_cache_read")
        for kind in ("audio", "image", "video")
    }
    input_details = {
        **({} if provider in ("mistral", "moonshot") else {"cached_tokens": cached}),
        "cache_write_tokens": counts_by_meter["cache_write"],
        **kinds,
        "cached_tokens_details": _zeros(draw, cached_details),
    }
    output_details = {
        "reasoning_tokens": reasoning_tokens,
        "audio_tokens": counts_by_meter["audio_output"],
        "image_tokens": counts_by_meter["image_output"],
    }
    # The output contains these tokens, and they are not billed separately.
    output_details["accepted_prediction_tokens"] = draw(st.sampled_from([0, 3]))
    usage: Json = {
        f"{input_prefix}_tokens": whole,
        f"{output_prefix}_tokens": out - reasoning_tokens if provider == "xai" else out,
    }
    total = "total_tokens" if provider == "xai" or draw(st.booleans()) else None
    if total:
        usage[total] = whole + out
    usage |= {
        f"{input_prefix}_tokens_details": _zeros(draw, input_details),
        f"{output_prefix}_tokens_details": _zeros(draw, output_details),
    }
    if provider == "deepseek":
        usage |= {"prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": counts_by_meter["input"]}
    elif provider in ("mistral", "moonshot"):
        usage |= _zeros(draw, {"num_cached_tokens" if provider == "mistral" else "cached_tokens": cached})
    elif provider == "groq":
        usage |= {"queue_time": 0.25, "prompt_time": 0.1, "completion_time": 0.5, "total_time": 0.6}
    envelope: Json = {"id": "x", "choices": [{"message": {"content": draw(_texts)}}]}
    searches = draw(st.integers(0, 3)) if provider in ("openrouter", "xai") or body_format == "responses" else 0
    files = draw(st.integers(0, 2)) if provider == "xai" or (body_format == "responses" and provider == "openai") else 0
    if provider == "openrouter":
        key = draw(st.sampled_from(["server_tool_use", "server_tool_use_details"]))
        native = draw(st.booleans())
        tool_calls = {"tool_calls_requested": searches, "tool_calls_executed": 0 if native else searches}
        usage |= {"cost": 1, "cost_details": {"upstream_inference_cost": 0.5}, "is_byok": True}
        usage[key] = {"web_search_requests": searches, **tool_calls}
    elif provider == "xai":
        usage |= {"num_sources_used": 0, "num_server_side_tools_used": searches + files, "cost_in_usd_ticks": 9}
        usage["server_side_tool_usage_details"] = {
            "web_search_calls": searches,
            "file_search_calls": files,
            "x_search_calls": 0,
            "mcp_calls": draw(st.integers(0, 2)),
        }
    # Calls that the usage states are not counted again from the output.
    if body_format == "responses" and (provider == "openai" or draw(st.booleans())):
        free = [{"type": "web_search_call", "action": {"type": "open_page", "url": "u"}}, {"type": "message"}]
        paid: list[Json] = [{"type": "web_search_call", "action": {"type": "search", "query": draw(_texts)}}]
        paid *= searches
        paid += [{"type": "file_search_call"}] * files
        if provider == "openai":
            containers = draw(st.lists(st.sampled_from(["cntr_1", "cntr_2", "", None]), max_size=4))
            paid += [{"type": "code_interpreter_call", "container_id": name, "code": "1"} for name in containers]
            images = draw(st.integers(0, 2))
            paid += [{"type": "image_generation_call", "result": "QUJD"}] * images
            sessions = len({c for c in containers if c}) + sum(not c for c in containers)
            counts_by_meter |= {"code_interpreter": sessions, "image_generation": images}
        envelope["output"] = draw(st.permutations([*free, *paid]))
    tier, model = draw(st.sampled_from([None, "default", "flex"])), draw(st.sampled_from([None, "m-1"]))
    envelope |= _zeros(draw, {"service_tier": tier, "model": model})
    counts_by_meter |= {"web_search": searches, "file_search": files}
    if (
        usage[f"{input_prefix}_tokens_details"]
        and body_format == "responses"
        and usage[f"{output_prefix}_tokens_details"] is None
    ):
        usage[f"{output_prefix}_tokens_details"] = {}
    return _built(
        draw,
        f"{body_format} {provider}",
        envelope,
        "usage",
        usage,
        counts_by_meter,
        reasoning=reasoning_tokens,
        tier=tier,
        model=model,
        total=total,
    )


def _embedding(draw: DrawFn) -> BuiltBody:
    counts_by_meter = _counts(draw, "input")
    usage = {"prompt_tokens": counts_by_meter["input"], "total_tokens": counts_by_meter["input"]}
    envelope = {"object": "list", "model": "e"}
    return _built(draw, "embedding", envelope, "usage", usage, counts_by_meter, model="e", total="total_tokens")


# --- Anthropic ---


def _run(draw: DrawFn, counts_by_meter: dict[str, int]) -> Json:
    """Return the counts of one run of the model."""
    written = _sum(counts_by_meter, "cache_write", "cache_write_1h")
    by_lifetime = {
        "ephemeral_5m_input_tokens": counts_by_meter["cache_write"],
        "ephemeral_1h_input_tokens": counts_by_meter["cache_write_1h"],
    }
    optional = {"cache_read_input_tokens": counts_by_meter["cache_read"], "cache_creation_input_tokens": written}
    has_lifetimes = counts_by_meter["cache_write_1h"] or draw(st.booleans())
    return {
        "input_tokens": counts_by_meter["input"],
        "output_tokens": counts_by_meter["output"],
        **_zeros(draw, optional),
        **({"cache_creation": by_lifetime} if has_lifetimes else {}),
    }


def _anthropic(draw: DrawFn) -> BuiltBody:
    meters = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
    messages = [_counts(draw, *meters) for _ in range(draw(st.integers(1, 3)))]
    own = {meter: sum(run[meter] for run in messages) for meter in meters}
    usage = _run(draw, own)
    counts_by_meter = dict(own)
    if len(messages) > 1 or draw(st.booleans()):
        entries = [{"type": "message", **_run(draw, run)} for run in messages]
        for compacted in [_counts(draw, *meters) for _ in range(draw(st.integers(0, 2)))]:
            entries.append({"type": "compaction", **_run(draw, compacted)})
            counts_by_meter = {meter: counts_by_meter[meter] + compacted[meter] for meter in meters}
        usage["iterations"] = draw(st.permutations(entries))
    reasoning_tokens = draw(st.integers(0, own["output"]))
    if reasoning_tokens:
        usage["output_tokens_details"] = {"thinking_tokens": reasoning_tokens}
    searches = draw(st.integers(0, 3))
    usage |= _zeros(draw, {"server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 2}})
    tier, speed = draw(st.sampled_from([(None, None), ("standard", "standard"), ("batch", None), ("standard", "fast")]))
    usage |= _zeros(draw, {"service_tier": tier, "speed": speed})
    if "cache_read_input_tokens" not in usage and "cache_creation_input_tokens" not in usage:
        usage["inference_geo"] = "global"
    envelope = {"type": "message", "model": "claude", "content": [{"type": "text", "text": draw(_texts)}]}
    counts_by_meter |= {"web_search": searches}
    return _built(
        draw,
        "anthropic",
        envelope,
        "usage",
        usage,
        counts_by_meter,
        reasoning=reasoning_tokens,
        tier=tier,
        mode="fast" if speed == "fast" else None,
        model="claude",
    )


# --- Gemini ---


def _snake(value: Any) -> Any:
    if isinstance(value, list):
        return [_snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): _snake(v) for k, v in value.items()}


def _details(draw: DrawFn, counts: dict[str, int]) -> list[Json]:
    """Return details by modality, which name text or leave it out."""
    entries = [{"modality": kind.upper(), "tokenCount": count} for kind, count in counts.items() if count]
    without_text = [entry for entry in entries if entry["modality"] not in ("TEXT", "DOCUMENT")]
    return draw(st.permutations(entries if draw(st.booleans()) else without_text))


def _gemini(draw: DrawFn, snake: bool) -> BuiltBody:
    kinds = ("audio", "image", "video")
    fresh = {kind: draw(_count) for kind in ("text", "document", *kinds)}
    cached = {kind: draw(_count) for kind in ("text", "document", *kinds)}
    tools = {kind: draw(_count) for kind in ("text", "audio", "image")}
    candidates = {kind: draw(_count) for kind in ("text", "audio", "image")}
    reasoning_tokens = draw(_count)
    prompt = {kind: fresh[kind] + cached[kind] for kind in fresh}
    counts = {
        "toolUsePromptTokenCount": sum(tools.values()),
        "candidatesTokenCount": sum(candidates.values()),
        "thoughtsTokenCount": reasoning_tokens,
        "cachedContentTokenCount": sum(cached.values()),
    }
    details = {
        "promptTokensDetails": _details(draw, prompt),
        "toolUsePromptTokensDetails": _details(draw, tools),
        "candidatesTokensDetails": _details(draw, candidates),
    }
    usage: Json = {"promptTokenCount": sum(prompt.values()), **_zeros(draw, counts), **_zeros(draw, details)}
    if sum(cached.values()):
        usage["cacheTokensDetails"] = _details(draw, cached) or [{"modality": "TEXT", "tokenCount": 0}]
    total = "totalTokenCount" if draw(st.booleans()) else None
    if total:
        usage[total] = sum(prompt.values()) + sum(tools.values()) + sum(candidates.values()) + reasoning_tokens
    tier_key = draw(st.sampled_from([None, "serviceTier", "trafficType"]))
    tier = draw(st.sampled_from(["standard", "flex", "priority"])) if tier_key else None
    traffic = {"standard": "ON_DEMAND", "flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY"}
    if tier_key and tier:
        usage[tier_key] = tier if tier_key == "serviceTier" else traffic[tier]
    counts_by_meter = {
        "input": _sum(fresh, "text", "document") + tools["text"],
        "cache_read": _sum(cached, "text", "document"),
        "output": candidates["text"] + reasoning_tokens,
        "audio_output": candidates["audio"],
        "image_output": candidates["image"],
    }
    for kind in kinds:
        counts_by_meter |= {f"{kind}_input": fresh[kind] + tools.get(kind, 0), f"{kind}_cache_read": cached[kind]}
    envelope: Json = {"modelVersion": "gemini", "candidates": [{"content": {"parts": [{"text": draw(_texts)}]}}]}
    name = "usageMetadata"
    if snake:
        envelope, usage, name, total = _snake(envelope), _snake(usage), "usage_metadata", total and "total_token_count"
    body_format = f"gemini {'snake' if snake else 'camel'}"
    return _built(
        draw,
        body_format,
        envelope,
        name,
        usage,
        counts_by_meter,
        reasoning=reasoning_tokens,
        tier=tier,
        model="gemini",
        total=total,
    )


# --- Bedrock, Cohere ---


def _bedrock(draw: DrawFn) -> BuiltBody:
    counts_by_meter = _counts(draw, "input", "cache_read", "cache_write", "cache_write_1h", "output")
    written = _sum(counts_by_meter, "cache_write", "cache_write_1h")
    usage: Json = {"inputTokens": counts_by_meter["input"], "outputTokens": counts_by_meter["output"]}
    total = "totalTokens" if draw(st.booleans()) else None
    if total:
        usage[total] = sum(counts_by_meter.values())
    names = draw(st.sampled_from([("Tokens",), ("TokenCount",), ("Tokens", "TokenCount")]))
    for name in names:
        usage |= _zeros(
            draw, {f"cacheReadInput{name}": counts_by_meter["cache_read"], f"cacheWriteInput{name}": written}
        )
    if counts_by_meter["cache_write_1h"] or draw(st.booleans()):
        lifetimes = (("1h", counts_by_meter["cache_write_1h"]), ("5m", counts_by_meter["cache_write"]))
        usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in lifetimes if count]
    usage |= _zeros(draw, {"serverToolUsage": {}})
    tier = draw(st.sampled_from([None, "default", "flex", "priority"]))
    envelope: Json = {"output": {"message": {"content": [{"text": draw(_texts)}]}}, "metrics": {"latencyMs": 900}}
    if tier:
        envelope |= {"serviceTier": {"type": tier}, "performanceConfig": {"latency": "standard"}}
    return _built(draw, "bedrock", envelope, "usage", usage, counts_by_meter, tier=tier, total=total)


def _cohere(draw: DrawFn, name: str) -> BuiltBody:
    counts_by_meter = _counts(draw, "input", "image_input", "output")
    number = draw(st.sampled_from([int, float]))
    billed = {"input_tokens": number(counts_by_meter["input"]), "output_tokens": number(counts_by_meter["output"])}
    if counts_by_meter["image_input"]:
        billed |= {"image_tokens": number(counts_by_meter["image_input"]), "images": number(1)}
    usage: Json = {"billed_units": billed}
    if draw(st.booleans()):
        processed = {
            "input_tokens": number(counts_by_meter["input"] + 500),
            "output_tokens": number(counts_by_meter["output"] + 3),
        }
        usage |= {"tokens": processed, "cached_tokens": number(450)}
    envelope: Json = {"id": "x", "message": {"content": [{"text": draw(_texts)}]}}
    if name == "meta":
        usage["api_version"] = {"version": "2", "is_experimental": False}
    return _built(draw, f"cohere {name}", envelope, name, usage, counts_by_meter)


# --- all formats ---

FORMATS: Final[dict[str, Callable[[DrawFn], BuiltBody]]] = {
    **{f"chat {provider}": partial(_openai, body_format="chat", provider=provider) for provider in _CHAT_PROVIDERS},
    **{
        f"responses {provider}": partial(_openai, body_format="responses", provider=provider)
        for provider in ("openai", "openrouter")
    },
    "embedding": _embedding,
    "anthropic": _anthropic,
    "gemini camel": partial(_gemini, snake=False),
    "gemini snake": partial(_gemini, snake=True),
    "bedrock": _bedrock,
    "cohere usage": partial(_cohere, name="usage"),
    "cohere meta": partial(_cohere, name="meta"),
}
"""Name of a format -> the strategy for its bodies."""


@st.composite
def built_bodies(draw: DrawFn, body_format: str | None = None) -> BuiltBody:
    """Draw a body of one format, or of any format."""
    return FORMATS[body_format or draw(st.sampled_from(sorted(FORMATS)))](draw)
