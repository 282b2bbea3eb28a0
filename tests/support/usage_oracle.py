"""An oracle for bodies: docs/usage-file.md's rules once more, on plain data, one shape after the other.

Nothing of the library is imported. It reads sound bodies only, and finds fault with none.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["Read", "read"]

Json = Any
FEES: Final = ("web_search", "file_search", "code_interpreter", "image_generation")


class Read(NamedTuple):
    """What a body says."""

    meters: dict[str, int]
    """Disjoint, zeros left out."""
    total: int | None
    """The total that the provider states."""
    reasoning: int
    tier: str | None
    model: str | None
    estimated: bool

    @property
    def tokens(self) -> int:
        """All tokens, in and out."""
        return sum(count for name, count in self.meters.items() if name not in FEES)

    @property
    def input(self) -> int:
        """All tokens that went in."""
        return self.tokens - sum(self.meters.get(name, 0) for name in ("output", "audio_output", "image_output"))


def read(body: Json) -> Read:
    """The usage of a body, a whole response or a bare usage object."""
    for name in ("usage", "usageMetadata", "usage_metadata", "meta"):
        if name in body:
            return _shape(body[name], body)
    return _shape(body, {})


def _shape(usage: Json, around: Json) -> Read:
    names = set(usage)
    if "billed_units" in names:
        return _cohere(usage)
    if names & {"promptTokenCount", "prompt_token_count"}:
        return _gemini(usage, around)
    if "inputTokens" in names:
        return _bedrock(usage, around)
    apart = names & {"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"}
    told = names & {"service_tier", "speed", "server_tool_use", "inference_geo", "iterations"}
    if "prompt_tokens" not in names and (apart or (told and not names & {"total_tokens", "input_tokens_details"})):
        return _anthropic(usage, around)
    return _openai(usage, around)


def _made(usage: Json, counts: dict[str, int], total: int | None, reasoning: int, tier: Json, model: Json) -> Read:
    meters = {name: count for name, count in counts.items() if count}
    return Read(meters, total, reasoning, tier, model, usage.get("estimated", False))


def _openai(usage: Json, around: Json) -> Read:
    a, b = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    inside = usage.get(f"{a}_tokens_details") or {}
    outside = usage.get(f"{b}_tokens_details") or {}
    again = inside.get("cached_tokens_details") or {}
    places = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
    cached = max([inside.get("cached_tokens") or 0, *(usage.get(name) or 0 for name in places)])
    kinds = {
        kind: (inside.get(f"{kind}_tokens") or 0, again.get(f"{kind}_tokens") or 0)
        for kind in ("audio", "image", "video")
    }
    written = inside.get("cache_write_tokens") or 0
    out = usage.get(f"{b}_tokens") or 0
    thought = outside.get("reasoning_tokens") or 0
    total = usage.get("total_tokens")
    if thought and total == usage[f"{a}_tokens"] + out + thought:
        out += thought
    spoken, drawn = outside.get("audio_tokens") or 0, outside.get("image_tokens") or 0
    items: list[Any] = around.get("output") or []
    searches = sum(
        i["type"] == "web_search_call" and (i.get("action") or {}).get("type", "search") == "search" for i in items
    )
    files = sum(i["type"] == "file_search_call" for i in items)
    images = sum(i["type"] == "image_generation_call" for i in items)
    ran = [i.get("container_id") for i in items if i["type"] == "code_interpreter_call"]
    sessions = len({c for c in ran if c}) + sum(not c for c in ran)
    for name in ("server_tool_use", "server_tool_use_details", "server_side_tool_usage_details"):
        if usage.get(name):
            searches = usage[name].get("web_search_requests") or usage[name].get("web_search_calls") or 0
            files = usage[name].get("file_search_calls") or 0
            images = sessions = 0
    counts = {
        "input": usage[f"{a}_tokens"] - cached - written - sum(whole - part for whole, part in kinds.values()),
        "cache_read": cached - sum(part for _, part in kinds.values()),
        "cache_write": written,
        "output": out - spoken - drawn,
        "audio_output": spoken,
        "image_output": drawn,
        "web_search": searches,
        "file_search": files,
        "code_interpreter": sessions,
        "image_generation": images,
    }
    for kind, (whole, part) in kinds.items():
        counts |= {f"{kind}_input": whole - part, f"{kind}_cache_read": part}
    return _made(usage, counts, total, thought, around.get("service_tier") or None, around.get("model"))


def _anthropic(usage: Json, around: Json) -> Read:
    runs = [usage, *(e for e in usage.get("iterations") or [] if e["type"] == "compaction")]
    counts = {"input": 0, "cache_read": 0, "cache_write": 0, "cache_write_1h": 0, "output": 0}
    for run in runs:
        kept = run.get("cache_creation") or {}
        hour = kept.get("ephemeral_1h_input_tokens") or 0
        counts["input"] += run["input_tokens"]
        counts["cache_read"] += run.get("cache_read_input_tokens") or 0
        counts["cache_write_1h"] += hour
        written = run.get("cache_creation_input_tokens")
        counts["cache_write"] += kept.get("ephemeral_5m_input_tokens", 0) if written is None else written - hour
        counts["output"] += run["output_tokens"]
    counts["web_search"] = (usage.get("server_tool_use") or {}).get("web_search_requests") or 0
    tier = "fast" if usage.get("speed") == "fast" else usage.get("service_tier")
    thought = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return _made(usage, counts, None, thought, tier, around.get("model") or usage.get("model"))


def _gemini(usage: Json, around: Json) -> Read:
    snake = "prompt_token_count" in usage

    def of(name: str) -> Json:
        return usage.get("".join("_" + c.lower() if c.isupper() else c for c in name) if snake else name)

    def kinds(name: str) -> dict[str, int]:
        found = dict.fromkeys(("AUDIO", "IMAGE", "VIDEO"), 0)
        for entry in of(name) or []:
            if entry["modality"] in found:
                found[entry["modality"]] += entry["token_count" if snake else "tokenCount"]
        return found

    went, again = kinds("promptTokensDetails"), kinds("toolUsePromptTokensDetails")
    cached, came = kinds("cacheTokensDetails"), kinds("candidatesTokensDetails")
    read_all = of("cachedContentTokenCount") or 0
    whole = (of("promptTokenCount") or 0) + (of("toolUsePromptTokenCount") or 0)
    thought = of("thoughtsTokenCount") or 0
    counts = {
        "output": (of("candidatesTokenCount") or 0) + thought - came["AUDIO"] - came["IMAGE"],
        "audio_output": came["AUDIO"],
        "image_output": came["IMAGE"],
        "cache_read": read_all - sum(cached.values()),
    }
    for kind in went:
        fresh = went[kind] + again[kind] - cached[kind]
        counts |= {f"{kind.lower()}_input": fresh, f"{kind.lower()}_cache_read": cached[kind]}
    counts["input"] = whole - sum(c for name, c in counts.items() if name.endswith(("_input", "_read")))
    traffic = {"ON_DEMAND": "standard", "ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
    tier = of("serviceTier") or traffic.get(of("trafficType"))
    model = around.get("modelVersion") or around.get("model_version")
    return _made(usage, counts, of("totalTokenCount"), thought, tier, model)


def _bedrock(usage: Json, around: Json) -> Read:
    def of(name: str) -> int:
        return usage.get(name) or usage.get(name.replace("Tokens", "TokenCount")) or 0

    hour = sum(e["inputTokens"] for e in usage.get("cacheDetails") or [] if e["ttl"] == "1h")
    counts = {
        "input": usage["inputTokens"],
        "cache_read": of("cacheReadInputTokens"),
        "cache_write": of("cacheWriteInputTokens") - hour,
        "cache_write_1h": hour,
        "output": usage["outputTokens"],
    }
    tier = (around.get("serviceTier") or {}).get("type")
    return _made(usage, counts, usage.get("totalTokens"), 0, tier, None)


def _cohere(usage: Json) -> Read:
    paid = {name: int(count) for name, count in usage["billed_units"].items() if count is not None}
    counts = {
        "input": paid.get("input_tokens", 0),
        "image_input": paid.get("image_tokens", 0),
        "output": paid.get("output_tokens", 0),
    }
    return _made(usage, counts, None, 0, None, None)
