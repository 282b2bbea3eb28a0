"""Bodies of every shape that is read, built from disjoint counts: what they must be read as is known beforehand.

The builders write what the providers document: which count contains which, and what a total is the sum of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from pydantic import BaseModel, ConfigDict

from oracle import FEES

__all__ = ["SHAPES", "Made", "made", "sdk", "spaced"]

Json = dict[str, Any]


class Made(NamedTuple):
    """A body, and what it must be read as."""

    shape: str
    body: Json
    name: str
    """What the body calls its usage object."""
    meters: dict[str, int]
    """Disjoint, zeros left out."""
    reasoning: int
    tier: str | None
    model: str | None
    total: str | None
    """The key of the total that the provider states; ``None`` where it states none."""
    estimated: bool

    @property
    def usage(self) -> Json:
        """The usage object."""
        found: Json = self.body[self.name]
        return found

    @property
    def tokens(self) -> int:
        """All tokens."""
        return sum(count for meter, count in self.meters.items() if meter not in FEES)


# --- dicts, and what SDKs hand out ---


class Anything(BaseModel):
    """What an SDK hands out: a model that keeps unknown fields."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())


def sdk(value: Any) -> Any:
    """The body as pydantic objects all the way down."""
    if isinstance(value, dict):
        return Anything(**{key: sdk(item) for key, item in value.items()})
    return [sdk(item) for item in value] if isinstance(value, list) else value


def spaced(value: Any) -> Any:
    """The body as simple objects all the way down."""
    if isinstance(value, dict):
        return SimpleNamespace(**{key: spaced(item) for key, item in value.items()})
    return [spaced(item) for item in value] if isinstance(value, list) else value


# --- counts ---

_count = st.one_of(st.just(0), st.integers(1, 400), st.integers(0, 400_000))
_words = st.sampled_from(["hello", "长长的回答", "x" * 500])


def _counts(draw: DrawFn, *meters: str) -> dict[str, int]:
    return {meter: draw(_count) for meter in meters}


def _sum(of: dict[str, int], *meters: str) -> int:
    return sum(of.get(meter, 0) for meter in meters)


def _zeros(draw: DrawFn, keys: dict[str, Any]) -> Json:
    """The same keys; a zero is a zero, null, or not there."""
    how = draw(st.sampled_from(["zero", "null", "missing"]))
    found = {}
    for key, value in keys.items():
        if value or how == "zero":
            found[key] = value
        elif how == "null":
            found[key] = None
    return found


def _result(draw: DrawFn, shape: str, around: Json, name: str, usage: Json, of: dict[str, int], **more: Any) -> Made:
    mark = draw(st.sampled_from([None, None, False, True]))
    if mark is not None:
        usage = {**usage, "estimated": mark}
    keys = list(usage)
    usage = {key: usage[key] for key in draw(st.permutations(keys))}
    given = {"reasoning": 0, "tier": None, "model": None, "total": None} | more
    meters = {meter: count for meter, count in of.items() if count}
    return Made(shape, {**around, name: usage}, name, meters, estimated=bool(mark), **given)


# --- OpenAI and those who copy it ---

_CHAT: Final = ("openai", "deepseek", "mistral", "moonshot", "xai", "openrouter", "groq")
_IN: Final = (
    "input",
    "cache_read",
    "cache_write",
    "audio_input",
    "audio_cache_read",
    "image_input",
    "image_cache_read",
)
_VIDEO: Final = ("video_input", "video_cache_read")


def _openai(draw: DrawFn, shape: str, who: str) -> Made:
    a, b = ("input", "output") if shape == "responses" else ("prompt", "completion")
    of = _counts(draw, *_IN, *_VIDEO, "output", "audio_output", "image_output")
    if who in ("deepseek", "mistral", "moonshot"):
        of = of | dict.fromkeys(set(of) - {"input", "cache_read", "output"}, 0)
    cached = _sum(of, "cache_read", "audio_cache_read", "image_cache_read", "video_cache_read")
    whole, out = _sum(of, *_IN, *_VIDEO), _sum(of, "output", "audio_output", "image_output")
    thought = draw(st.integers(0, of["output"]))
    again = {f"{kind}_tokens": of[f"{kind}_cache_read"] for kind in ("audio", "image", "video")}
    kinds = {f"{kind}_tokens": _sum(of, f"{kind}_input", f"{kind}_cache_read") for kind in ("audio", "image", "video")}
    inside = {
        **({} if who in ("mistral", "moonshot") else {"cached_tokens": cached}),
        "cache_write_tokens": of["cache_write"],
        **kinds,
        "cached_tokens_details": _zeros(draw, again),
    }
    outside = {"reasoning_tokens": thought, "audio_tokens": of["audio_output"], "image_tokens": of["image_output"]}
    outside["accepted_prediction_tokens"] = draw(st.sampled_from([0, 3]))  # contained, and nothing to bill
    usage: Json = {f"{a}_tokens": whole, f"{b}_tokens": out - thought if who == "xai" else out}
    total = "total_tokens" if who == "xai" or draw(st.booleans()) else None
    if total:
        usage[total] = whole + out
    usage |= {f"{a}_tokens_details": _zeros(draw, inside), f"{b}_tokens_details": _zeros(draw, outside)}
    if who == "deepseek":
        usage |= {"prompt_cache_hit_tokens": cached, "prompt_cache_miss_tokens": of["input"]}
    elif who in ("mistral", "moonshot"):
        usage |= _zeros(draw, {"num_cached_tokens" if who == "mistral" else "cached_tokens": cached})
    elif who == "groq":
        usage |= {"queue_time": 0.25, "prompt_time": 0.1, "completion_time": 0.5, "total_time": 0.6}
    around: Json = {"id": "x", "choices": [{"message": {"content": draw(_words)}}]}
    searches = draw(st.integers(0, 3)) if who in ("openrouter", "xai") or shape == "responses" else 0
    files = draw(st.integers(0, 2)) if who == "xai" or (shape == "responses" and who == "openai") else 0
    if who == "openrouter":
        key = draw(st.sampled_from(["server_tool_use", "server_tool_use_details"]))
        native = draw(st.booleans())
        ran = {"tool_calls_requested": searches, "tool_calls_executed": 0 if native else searches}
        usage |= {"cost": 1, "cost_details": {"upstream_inference_cost": 0.5}, "is_byok": True}
        usage[key] = {"web_search_requests": searches, **ran}
    elif who == "xai":
        usage |= {"num_sources_used": 0, "num_server_side_tools_used": searches + files, "cost_in_usd_ticks": 9}
        usage["server_side_tool_usage_details"] = {
            "web_search_calls": searches,
            "file_search_calls": files,
            "x_search_calls": 0,
            "mcp_calls": draw(st.integers(0, 2)),
        }
    if shape == "responses" and (who == "openai" or draw(st.booleans())):  # stated calls are not counted once more
        free = [{"type": "web_search_call", "action": {"type": "open_page", "url": "u"}}, {"type": "message"}]
        paid: list[Json] = [{"type": "web_search_call", "action": {"type": "search", "query": draw(_words)}}]
        paid *= searches
        paid += [{"type": "file_search_call"}] * files
        if who == "openai":
            containers = draw(st.lists(st.sampled_from(["cntr_1", "cntr_2", "", None]), max_size=4))
            paid += [{"type": "code_interpreter_call", "container_id": name, "code": "1"} for name in containers]
            drawn = draw(st.integers(0, 2))
            paid += [{"type": "image_generation_call", "result": "QUJD"}] * drawn
            sessions = len({c for c in containers if c}) + sum(not c for c in containers)
            of |= {"code_interpreter": sessions, "image_generation": drawn}
        around["output"] = draw(st.permutations([*free, *paid]))
    tier, model = draw(st.sampled_from([None, "default", "flex"])), draw(st.sampled_from([None, "m-1"]))
    around |= _zeros(draw, {"service_tier": tier, "model": model})
    of |= {"web_search": searches, "file_search": files}
    if usage[f"{a}_tokens_details"] and shape == "responses" and usage[f"{b}_tokens_details"] is None:
        usage[f"{b}_tokens_details"] = {}
    return _result(
        draw, f"{shape} {who}", around, "usage", usage, of, reasoning=thought, tier=tier, model=model, total=total
    )


def _embedding(draw: DrawFn) -> Made:
    of = _counts(draw, "input")
    usage = {"prompt_tokens": of["input"], "total_tokens": of["input"]}
    around = {"object": "list", "model": "e"}
    return _result(draw, "embedding", around, "usage", usage, of, model="e", total="total_tokens")


# --- Anthropic ---


def _run(draw: DrawFn, of: dict[str, int]) -> Json:
    written = _sum(of, "cache_write", "cache_write_1h")
    kept = {"ephemeral_5m_input_tokens": of["cache_write"], "ephemeral_1h_input_tokens": of["cache_write_1h"]}
    optional = {"cache_read_input_tokens": of["cache_read"], "cache_creation_input_tokens": written}
    told = of["cache_write_1h"] or draw(st.booleans())
    return {
        "input_tokens": of["input"],
        "output_tokens": of["output"],
        **_zeros(draw, optional),
        **({"cache_creation": kept} if told else {}),
    }


def _anthropic(draw: DrawFn) -> Made:
    meters = ("input", "cache_read", "cache_write", "cache_write_1h", "output")
    messages = [_counts(draw, *meters) for _ in range(draw(st.integers(1, 3)))]
    own = {meter: sum(run[meter] for run in messages) for meter in meters}
    usage = _run(draw, own)
    of = dict(own)
    if len(messages) > 1 or draw(st.booleans()):
        entries = [{"type": "message", **_run(draw, run)} for run in messages]
        for compacted in [_counts(draw, *meters) for _ in range(draw(st.integers(0, 2)))]:
            entries.append({"type": "compaction", **_run(draw, compacted)})
            of = {meter: of[meter] + compacted[meter] for meter in meters}
        usage["iterations"] = draw(st.permutations(entries))
    thought = draw(st.integers(0, own["output"]))
    if thought:
        usage["output_tokens_details"] = {"thinking_tokens": thought}
    searches = draw(st.integers(0, 3))
    usage |= _zeros(draw, {"server_tool_use": {"web_search_requests": searches, "web_fetch_requests": 2}})
    tier, speed = draw(st.sampled_from([(None, None), ("standard", "standard"), ("batch", None), ("standard", "fast")]))
    usage |= _zeros(draw, {"service_tier": tier, "speed": speed})
    if "cache_read_input_tokens" not in usage and "cache_creation_input_tokens" not in usage:
        usage["inference_geo"] = "global"
    around = {"type": "message", "model": "claude", "content": [{"type": "text", "text": draw(_words)}]}
    served = "fast" if speed == "fast" else tier
    of |= {"web_search": searches}
    return _result(draw, "anthropic", around, "usage", usage, of, reasoning=thought, tier=served, model="claude")


# --- Gemini ---


def _snake(value: Any) -> Any:
    if isinstance(value, list):
        return [_snake(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): _snake(v) for k, v in value.items()}


def _details(draw: DrawFn, counts: dict[str, int]) -> list[Json]:
    """By modality; text is named, or what is left."""
    found = [{"modality": kind.upper(), "tokenCount": count} for kind, count in counts.items() if count]
    plain = [entry for entry in found if entry["modality"] not in ("TEXT", "DOCUMENT")]
    return draw(st.permutations(found if draw(st.booleans()) else plain))


def _gemini(draw: DrawFn, snake: bool) -> Made:
    kinds = ("audio", "image", "video")
    fresh = {kind: draw(_count) for kind in ("text", "document", *kinds)}
    cached = {kind: draw(_count) for kind in ("text", "document", *kinds)}
    tools = {kind: draw(_count) for kind in ("text", "audio", "image")}
    came = {kind: draw(_count) for kind in ("text", "audio", "image")}
    thought = draw(_count)
    prompt = {kind: fresh[kind] + cached[kind] for kind in fresh}
    counts = {
        "toolUsePromptTokenCount": sum(tools.values()),
        "candidatesTokenCount": sum(came.values()),
        "thoughtsTokenCount": thought,
        "cachedContentTokenCount": sum(cached.values()),
    }
    details = {
        "promptTokensDetails": _details(draw, prompt),
        "toolUsePromptTokensDetails": _details(draw, tools),
        "candidatesTokensDetails": _details(draw, came),
    }
    usage: Json = {"promptTokenCount": sum(prompt.values()), **_zeros(draw, counts), **_zeros(draw, details)}
    if sum(cached.values()):
        usage["cacheTokensDetails"] = _details(draw, cached) or [{"modality": "TEXT", "tokenCount": 0}]
    total = "totalTokenCount" if draw(st.booleans()) else None
    if total:
        usage[total] = sum(prompt.values()) + sum(tools.values()) + sum(came.values()) + thought
    how = draw(st.sampled_from([None, "serviceTier", "trafficType"]))
    tier = draw(st.sampled_from(["standard", "flex", "priority"])) if how else None
    traffic = {"standard": "ON_DEMAND", "flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY"}
    if how and tier:
        usage[how] = tier if how == "serviceTier" else traffic[tier]
    of = {
        "input": _sum(fresh, "text", "document") + tools["text"],
        "cache_read": _sum(cached, "text", "document"),
        "output": came["text"] + thought,
        "audio_output": came["audio"],
        "image_output": came["image"],
    }
    for kind in kinds:
        of |= {f"{kind}_input": fresh[kind] + tools.get(kind, 0), f"{kind}_cache_read": cached[kind]}
    around: Json = {"modelVersion": "gemini", "candidates": [{"content": {"parts": [{"text": draw(_words)}]}}]}
    name = "usageMetadata"
    if snake:
        around, usage, name, total = _snake(around), _snake(usage), "usage_metadata", total and "total_token_count"
    shape = f"gemini {'snake' if snake else 'camel'}"
    return _result(draw, shape, around, name, usage, of, reasoning=thought, tier=tier, model="gemini", total=total)


# --- Bedrock, Cohere ---


def _bedrock(draw: DrawFn) -> Made:
    of = _counts(draw, "input", "cache_read", "cache_write", "cache_write_1h", "output")
    written = _sum(of, "cache_write", "cache_write_1h")
    usage: Json = {"inputTokens": of["input"], "outputTokens": of["output"]}
    total = "totalTokens" if draw(st.booleans()) else None
    if total:
        usage[total] = sum(of.values())
    names = draw(st.sampled_from([("Tokens",), ("TokenCount",), ("Tokens", "TokenCount")]))
    for name in names:
        usage |= _zeros(draw, {f"cacheReadInput{name}": of["cache_read"], f"cacheWriteInput{name}": written})
    if of["cache_write_1h"] or draw(st.booleans()):
        kept = (("1h", of["cache_write_1h"]), ("5m", of["cache_write"]))
        usage["cacheDetails"] = [{"ttl": ttl, "inputTokens": count} for ttl, count in kept if count]
    usage |= _zeros(draw, {"serverToolUsage": {}})
    tier = draw(st.sampled_from([None, "default", "flex", "priority"]))
    around: Json = {"output": {"message": {"content": [{"text": draw(_words)}]}}, "metrics": {"latencyMs": 900}}
    if tier:
        around |= {"serviceTier": {"type": tier}, "performanceConfig": {"latency": "standard"}}
    return _result(draw, "bedrock", around, "usage", usage, of, tier=tier, total=total)


def _cohere(draw: DrawFn, name: str) -> Made:
    of = _counts(draw, "input", "image_input", "output")
    number = draw(st.sampled_from([int, float]))
    billed = {"input_tokens": number(of["input"]), "output_tokens": number(of["output"])}
    if of["image_input"]:
        billed |= {"image_tokens": number(of["image_input"]), "images": number(1)}
    usage: Json = {"billed_units": billed}
    if draw(st.booleans()):
        more = {"input_tokens": number(of["input"] + 500), "output_tokens": number(of["output"] + 3)}
        usage |= {"tokens": more, "cached_tokens": number(450)}
    around: Json = {"id": "x", "message": {"content": [{"text": draw(_words)}]}}
    if name == "meta":
        usage["api_version"] = {"version": "2", "is_experimental": False}
    return _result(draw, f"cohere {name}", around, name, usage, of)


# --- all of them ---

SHAPES: Final[dict[str, Callable[[DrawFn], Made]]] = {
    **{f"chat {who}": partial(_openai, shape="chat", who=who) for who in _CHAT},
    **{f"responses {who}": partial(_openai, shape="responses", who=who) for who in ("openai", "openrouter")},
    "embedding": _embedding,
    "anthropic": _anthropic,
    "gemini camel": partial(_gemini, snake=False),
    "gemini snake": partial(_gemini, snake=True),
    "bedrock": _bedrock,
    "cohere usage": partial(_cohere, name="usage"),
    "cohere meta": partial(_cohere, name="meta"),
}
"""Every shape by a name of it."""


@st.composite
def made(draw: DrawFn, shape: str | None = None) -> Made:
    """A body of one shape, or of any."""
    return SHAPES[shape or draw(st.sampled_from(sorted(SHAPES)))](draw)
