"""An oracle for bodies: the rules of docs/usage-file.md, implemented again on plain data, one format after the other.

It imports nothing from the library. It reads valid bodies only and does not detect errors.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

__all__ = ["OracleUsage", "read"]

Json = Any
FEES: Final = ("web_search", "file_search", "code_interpreter", "image_generation")


class OracleUsage(NamedTuple):
    """The usage that a body states."""

    meters: dict[str, int]
    """Disjoint quantities, without zeros."""
    total: int | None
    """The total that the provider states."""
    reasoning: int
    tier: str | None
    model: str | None
    estimated: bool

    @property
    def tokens(self) -> int:
        """The sum of input and output tokens."""
        return sum(count for name, count in self.meters.items() if name not in FEES)

    @property
    def input(self) -> int:
        """The sum of input tokens."""
        return self.tokens - sum(self.meters.get(name, 0) for name in ("output", "audio_output", "image_output"))


def read(body: Json) -> OracleUsage:
    """Return the usage of a body: a whole response or a bare usage object."""
    for name in ("usage", "usageMetadata", "usage_metadata", "meta"):
        if name in body:
            return _read_format(body[name], body)
    return _read_format(body, {})


def _read_format(usage: Json, envelope: Json) -> OracleUsage:
    names = set(usage)
    if "billed_units" in names:
        return _cohere(usage)
    if names & {"promptTokenCount", "prompt_token_count"}:
        return _gemini(usage, envelope)
    if "inputTokens" in names:
        return _bedrock(usage, envelope)
    cache_keys = names & {"cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation"}
    anthropic_keys = names & {"service_tier", "speed", "server_tool_use", "inference_geo", "iterations"}
    if "prompt_tokens" not in names and (
        cache_keys or (anthropic_keys and not names & {"total_tokens", "input_tokens_details"})
    ):
        return _anthropic(usage, envelope)
    return _openai(usage, envelope)


def _usage_of(
    usage: Json, counts: dict[str, int], total: int | None, reasoning: int, tier: Json, model: Json
) -> OracleUsage:
    meters = {name: count for name, count in counts.items() if count}
    return OracleUsage(meters, total, reasoning, tier, model, usage.get("estimated", False))


def _openai(usage: Json, envelope: Json) -> OracleUsage:
    input_prefix, output_prefix = ("prompt", "completion") if "prompt_tokens" in usage else ("input", "output")
    input_details = usage.get(f"{input_prefix}_tokens_details") or {}
    output_details = usage.get(f"{output_prefix}_tokens_details") or {}
    cached_details = input_details.get("cached_tokens_details") or {}
    cached_keys = ("cached_tokens", "num_cached_tokens", "prompt_cache_hit_tokens")
    cached = max([input_details.get("cached_tokens") or 0, *(usage.get(name) or 0 for name in cached_keys)])
    kinds = {
        kind: (input_details.get(f"{kind}_tokens") or 0, cached_details.get(f"{kind}_tokens") or 0)
        for kind in ("audio", "image", "video")
    }
    written = input_details.get("cache_write_tokens") or 0
    out = usage.get(f"{output_prefix}_tokens") or 0
    reasoning_tokens = output_details.get("reasoning_tokens") or 0
    total = usage.get("total_tokens")
    if reasoning_tokens and total == usage[f"{input_prefix}_tokens"] + out + reasoning_tokens:
        out += reasoning_tokens
    audio_output, image_output = output_details.get("audio_tokens") or 0, output_details.get("image_tokens") or 0
    items: list[Any] = envelope.get("output") or []
    searches = sum(
        i["type"] == "web_search_call" and (i.get("action") or {}).get("type", "search") == "search" for i in items
    )
    files = sum(i["type"] == "file_search_call" for i in items)
    images = sum(i["type"] == "image_generation_call" for i in items)
    containers = [i.get("container_id") for i in items if i["type"] == "code_interpreter_call"]
    sessions = len({c for c in containers if c}) + sum(not c for c in containers)
    for name in ("server_tool_use", "server_tool_use_details", "server_side_tool_usage_details"):
        if usage.get(name):
            searches = usage[name].get("web_search_requests") or usage[name].get("web_search_calls") or 0
            files = usage[name].get("file_search_calls") or 0
            images = sessions = 0
    counts = {
        "input": usage[f"{input_prefix}_tokens"]
        - cached
        - written
        - sum(whole - part for whole, part in kinds.values()),
        "cache_read": cached - sum(part for _, part in kinds.values()),
        "cache_write": written,
        "output": out - audio_output - image_output,
        "audio_output": audio_output,
        "image_output": image_output,
        "web_search": searches,
        "file_search": files,
        "code_interpreter": sessions,
        "image_generation": images,
    }
    for kind, (whole, part) in kinds.items():
        counts |= {f"{kind}_input": whole - part, f"{kind}_cache_read": part}
    return _usage_of(
        usage, counts, total, reasoning_tokens, envelope.get("service_tier") or None, envelope.get("model")
    )


def _anthropic(usage: Json, envelope: Json) -> OracleUsage:
    runs = [usage, *(e for e in usage.get("iterations") or [] if e["type"] == "compaction")]
    counts = {"input": 0, "cache_read": 0, "cache_write": 0, "cache_write_1h": 0, "output": 0}
    for run in runs:
        by_lifetime = run.get("cache_creation") or {}
        hour = by_lifetime.get("ephemeral_1h_input_tokens") or 0
        counts["input"] += run["input_tokens"]
        counts["cache_read"] += run.get("cache_read_input_tokens") or 0
        counts["cache_write_1h"] += hour
        written = run.get("cache_creation_input_tokens")
        counts["cache_write"] += by_lifetime.get("ephemeral_5m_input_tokens", 0) if written is None else written - hour
        counts["output"] += run["output_tokens"]
    counts["web_search"] = (usage.get("server_tool_use") or {}).get("web_search_requests") or 0
    tier = usage.get("service_tier")
    reasoning_tokens = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    return _usage_of(usage, counts, None, reasoning_tokens, tier, envelope.get("model") or usage.get("model"))


def _gemini(usage: Json, envelope: Json) -> OracleUsage:
    snake = "prompt_token_count" in usage

    def of(name: str) -> Json:
        return usage.get("".join("_" + c.lower() if c.isupper() else c for c in name) if snake else name)

    def kinds(name: str) -> dict[str, int]:
        tokens = dict.fromkeys(("AUDIO", "IMAGE", "VIDEO"), 0)
        for entry in of(name) or []:
            if entry["modality"] in tokens:
                tokens[entry["modality"]] += entry["token_count" if snake else "tokenCount"]
        return tokens

    prompt, tool_use = kinds("promptTokensDetails"), kinds("toolUsePromptTokensDetails")
    cached, candidates = kinds("cacheTokensDetails"), kinds("candidatesTokensDetails")
    read_all = of("cachedContentTokenCount") or 0
    whole = (of("promptTokenCount") or 0) + (of("toolUsePromptTokenCount") or 0)
    reasoning_tokens = of("thoughtsTokenCount") or 0
    counts = {
        "output": (of("candidatesTokenCount") or 0) + reasoning_tokens - candidates["AUDIO"] - candidates["IMAGE"],
        "audio_output": candidates["AUDIO"],
        "image_output": candidates["IMAGE"],
        "cache_read": read_all - sum(cached.values()),
    }
    for kind in prompt:
        fresh = prompt[kind] + tool_use[kind] - cached[kind]
        counts |= {f"{kind.lower()}_input": fresh, f"{kind.lower()}_cache_read": cached[kind]}
    counts["input"] = whole - sum(c for name, c in counts.items() if name.endswith(("_input", "_read")))
    traffic = {"ON_DEMAND": "standard", "ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority"}
    tier = of("serviceTier") or traffic.get(of("trafficType"))
    model = envelope.get("modelVersion") or envelope.get("model_version")
    return _usage_of(usage, counts, of("totalTokenCount"), reasoning_tokens, tier, model)


def _bedrock(usage: Json, envelope: Json) -> OracleUsage:
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
    tier = (envelope.get("serviceTier") or {}).get("type")
    return _usage_of(usage, counts, usage.get("totalTokens"), 0, tier, None)


def _cohere(usage: Json) -> OracleUsage:
    paid = {name: int(count) for name, count in usage["billed_units"].items() if count is not None}
    counts = {
        "input": paid.get("input_tokens", 0),
        "image_input": paid.get("image_tokens", 0),
        "output": paid.get("output_tokens", 0),
    }
    return _usage_of(usage, counts, None, 0, None, None)
