"""Pairs of a request and its reported tokens, and helpers of the tests of token counting."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from brivionix_billing.tokens import TokenCount, TokenCounter
from paths import DATA, ROOT, SHARED_DATA

__all__ = [
    "OPENAI_BODIES",
    "PAIRS",
    "VENDOR_BODIES",
    "bench",
    "load_benchmark",
    "bounds_bench",
    "chat",
    "counter",
    "fresh",
    "places",
    "shared_bounds",
    "shared_pairs",
    "small_pairs",
    "with_unknown_key",
]

PAIRS = DATA / "token_pairs.jsonl"


@cache
def bench() -> ModuleType:
    """Return the benchmark script that reads pairs and judges counts. Tests and figures use the same."""
    return load_benchmark("tokens")


def load_benchmark(name: str) -> ModuleType:
    """Return a benchmark script as a module."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location(f"bench_{name}", ROOT / "benchmarks" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[f"bench_{name}"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@cache
def small_pairs() -> list[Any]:
    """Return the pairs of the project."""
    return list(bench().read_pairs(PAIRS))


def shared_pairs(name: str = "openai_requests.jsonl") -> list[Any]:
    """Return all recorded pairs. Skips the test if they are missing."""
    path = SHARED_DATA / name
    if not path.exists():
        pytest.skip("the recorded requests are not beside this clone")
    return list(bench().read_pairs(path))


@cache
def bounds_bench() -> ModuleType:
    """Return the benchmark script that judges bounds."""
    return load_benchmark("token_bounds")


def shared_bounds() -> list[Any]:
    """Return all recorded pairs of the bounds, without embeddings. Skips the test if they are missing."""
    path = SHARED_DATA / "token_pairs.jsonl"
    if not path.exists():
        pytest.skip("the recorded pairs are not beside this clone")
    return [pair for pair in bounds_bench().read_all(path) if pair.endpoint != "embeddings"]


@cache
def counter(model: str = "gpt-5.4-mini") -> TokenCounter:
    """Return a shared counter, because loading the vocabulary takes half a second."""
    return TokenCounter(model, image_size=bench().SIZES.get)


def fresh(body: Any, model: str = "gpt-5.4-mini") -> TokenCount:
    """Return the count by a counter without a cache."""
    return TokenCounter(model, cache_characters=0).request(body)


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    """Return a chat request with messages of the user and the assistant in turn."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)], **more}


_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
_CHAT: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "sunny"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "F.", "parameters": _SCHEMA}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}},
    "stream_options": {"include_usage": True},
}
_IMAGE_URL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="
OPENAI_BODIES: list[tuple[str, Any, dict[str, Any]]] = [
    (model, api, body)
    for model in ("gpt-4o", "gpt-5.4")
    for api, body in (
        ("chat", _CHAT),
        (
            "chat",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": _IMAGE_URL, "detail": "low"}},
                            {"type": "text", "text": "What is it?"},
                        ],
                    }
                ]
            },
        ),
        (
            "responses",
            {
                "input": [
                    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "sunny"},
                ],
                "reasoning": {"effort": "low"},
                "text": {"format": {"type": "json_schema", "name": "x", "schema": _SCHEMA}, "verbosity": "low"},
                "tools": [{"type": "function", "name": "f", "description": "F.", "parameters": _SCHEMA}],
            },
        ),
    )
]
"""Models, APIs and requests of every part that has a bound."""
VENDOR_BODIES: list[tuple[Any, dict[str, Any]]] = [
    (
        "anthropic",
        {
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Be brief."}],
            "messages": [
                {"role": "user", "content": "Hi"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "Hm.", "signature": "AAAA"},
                        {"type": "tool_use", "id": "c", "name": "f", "input": {"city": "Rome"}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "sunny"}]},
            ],
            "tools": [{"name": "f", "input_schema": _SCHEMA}],
            "thinking": {"type": "enabled", "budget_tokens": 50},
            "output_config": {"effort": "low"},
        },
    ),
    (
        "gemini",
        {
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"city": "Rome"}}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"weather": "sunny"}}}]},
            ],
            "tools": [{"functionDeclarations": [{"name": "f", "parameters": _SCHEMA}]}],
            "generationConfig": {"maxOutputTokens": 50, "thinkingConfig": {"thinkingBudget": 10}},
        },
    ),
]
"""APIs and requests of other vendors."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all objects in a body, except those whose keys are names."""
    if isinstance(value, dict):
        inner = [place for key, part in value.items() for place in places(part, (*path, key))]
        return inner if path and path[-1] in ("properties", "source") else [path, *inner]
    if isinstance(value, list):
        return [place for index, part in enumerate(value) for place in places(part, (*path, index))]
    return []


def with_unknown_key(body: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Return a copy of a body with an unknown key at a place."""
    changed: dict[str, Any] = json.loads(json.dumps(body))  # parts that are one object become several
    target: Any = changed
    for step in place:
        target = target[step]
    target["wibble"] = value
    return changed
