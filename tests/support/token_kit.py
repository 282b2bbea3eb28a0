"""Pairs of a request and its reported tokens, and helpers of the tests of token counting."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from types import ModuleType
from typing import Any

import pytest

from brivionix_billing.tokens import TokenCount, TokenCounter
from paths import DATA, ROOT, SHARED_DATA

__all__ = ["PAIRS", "bench", "chat", "counter", "fresh", "shared_pairs", "small_pairs"]

PAIRS = DATA / "token_pairs.jsonl"


@cache
def bench() -> ModuleType:
    """Return the benchmark script that reads pairs and judges counts. Tests and figures use the same."""
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("token_pairs", ROOT / "benchmarks" / "tokens.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["token_pairs"] = module
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
