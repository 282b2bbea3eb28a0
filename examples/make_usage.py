"""Makes ``usage.jsonl`` from a real trace of chat traffic: ``python examples/make_usage.py conversation_trace.jsonl``.

Lengths, times and cache hits are the trace's. The trace has no customers, models and tiers; those are assigned by rules
that depend on nothing but the conversation, so the same trace always gives the same file. README.md beside this says
more, and where the trace comes from.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from brivionix_billing import PriceBook, Usage
from brivionix_billing.decimals import decimal_from_scaled, format_plain
from brivionix_billing.rating.charge import UNIT_DECIMALS

HERE = Path(__file__).resolve().parent
START = datetime(2026, 10, 20, 8, tzinfo=UTC)
BLOCK = 512
"""Tokens in each block of the trace but a request's last one, which has what is left."""

T = TypeVar("T")
Weighted = dict[T, int]

ACCOUNTS: Weighted[str] = {
    "acct_1": 26,
    "acct_2": 20,
    "acct_3": 15,
    "acct_4": 13,
    "acct_5": 10,
    "acct_6": 8,
    "acct_7": 5,
    "acct_8": 3,
}
GROUPS: dict[str, Weighted[str]] = {
    "acct_1": {"default": 1},
    "acct_2": {"default": 1},
    "acct_3": {"coding": 1},
    "acct_4": {"partner": 1},
    "acct_5": {"default": 3, "coding": 1},  # has tokens of two groups
    "acct_6": {"mini-only": 1},
    "acct_7": {"default": 1},
    "acct_8": {"free-trial": 1},
}
MODELS: dict[str, Weighted[str]] = {
    "default": {"gpt-5.4-mini": 40, "gpt-5.4": 20, "gpt-5.5": 15, "gpt-5.2": 15, "gpt-5.3-codex": 10},
    "coding": {"gpt-5.3-codex": 6, "gpt-5.4": 2, "gpt-5.4-mini": 2},
    "partner": {"gpt-5.2": 4, "gpt-5.4": 3, "gpt-5.5": 2, "gpt-5.4-mini": 2, "gpt-5.3-codex": 1},
    "mini-only": {"gpt-5.4-mini": 1},
    "free-trial": {"gpt-5.4-mini": 1},
}
SNAPSHOTS = {
    "gpt-5.5": "gpt-5.5-2026-04-23",
    "gpt-5.4": "gpt-5.4-2026-03-05",
    "gpt-5.4-mini": "gpt-5.4-mini-2026-03-17",
    "gpt-5.2": "gpt-5.2-2025-12-11",
    "gpt-5.3-codex": "gpt-5.3-codex",
}
TIERS: Weighted[str] = {"standard": 80, "priority": 8, "flex": 7, "batch": 5}
CODEX_TIERS: Weighted[str] = {"standard": 9, "priority": 1}  # sold neither as batch nor as flex
SERVED = {"standard": "default", "priority": "priority", "flex": "flex", "batch": None}
"""What a response calls the tier. The body of a batched request is not taken to say that it was batched."""


class Request(NamedTuple):
    """One line of the trace, with the input tokens that an earlier request left in the cache."""

    number: int
    milliseconds: int
    input: int
    cached: int
    output: int
    conversation: int


def requests(trace: Path, count: int) -> Iterator[Request]:
    """The first requests of the trace, in order.

    A leading run of blocks that earlier requests had is a cache hit. Where the run is the whole request, its last block
    counts with the tokens that it has, not with 512.
    """
    seen: set[int] = set()
    with trace.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number == count:
                return
            row = json.loads(line)
            blocks = row["hash_ids"]
            hits = next((place for place, block in enumerate(blocks) if block not in seen), len(blocks))
            seen.update(blocks)
            cached = min(hits * BLOCK, row["input_length"])
            # Block 0 begins every request of the trace (one system prompt); the next one tells conversations apart.
            # An id stands for its block and all before it, so a shared block 1 means shared first 1024 tokens.
            own = blocks[1] if len(blocks) > 1 else -number
            yield Request(number, row["timestamp"], row["input_length"], cached, row["output_length"], own)


def pick(what: str, key: int, among: Weighted[T]) -> T:
    """One of ``among``, by weight, always the same for the same ``key``."""
    place = draw(what, key, sum(among.values()))
    for value, weight in among.items():
        place -= weight
        if place < 0:
            return value
    raise AssertionError("weights add up to what was drawn from")


def draw(what: str, key: int, below: int) -> int:
    """A number from 0 up to ``below``, always the same for the same ``key``."""
    return int.from_bytes(sha256(f"{what} {key}".encode()).digest()[:8]) % below


def record(request: Request) -> dict[str, Any]:
    """The request as a line of a usage file."""
    conversation, number = request.conversation, request.number
    account = pick("account", conversation, ACCOUNTS)
    group = pick("group", conversation, GROUPS[account])
    model = pick("model", conversation, MODELS[group])
    tier = pick("tier", conversation, CODEX_TIERS if model == "gpt-5.3-codex" else TIERS)
    responses = model == "gpt-5.3-codex" or draw("api", conversation, 10) < 4
    reasoning = 0
    if draw("reasons", conversation, 2):
        reasoning = request.output * draw("reasoning", number, 80) // 100 // 64 * 64
    usage = (responses_usage if responses else chat_usage)(request, reasoning)
    if draw("whole", number, 4) == 0:
        usage = whole_response(request, model, tier, usage, responses)
    at = START + timedelta(milliseconds=request.milliseconds)
    return {
        "request_id": "req_" + sha256(f"request {number}".encode()).hexdigest()[:24],
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": account,
        "group": group,
        "model": SNAPSHOTS[model] if draw("by snapshot", conversation, 25) == 0 else model,
        "service_tier": tier,
        "usage": usage,
    }


def chat_usage(request: Request, reasoning: int) -> dict[str, Any]:
    """The usage object of a chat completion."""
    return {
        "prompt_tokens": request.input,
        "completion_tokens": request.output,
        "total_tokens": request.input + request.output,
        "prompt_tokens_details": {"cached_tokens": request.cached, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def responses_usage(request: Request, reasoning: int) -> dict[str, Any]:
    """The usage object of the Responses API."""
    return {
        "input_tokens": request.input,
        "input_tokens_details": {"cached_tokens": request.cached},
        "output_tokens": request.output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": request.input + request.output,
    }


def whole_response(request: Request, model: str, tier: str, usage: dict[str, Any], responses: bool) -> dict[str, Any]:
    """The response as the gateway received it, without its texts."""
    served = SERVED[tier]
    if tier == "priority" and draw("downgraded", request.number, 4) == 0:
        served = "default"  # the provider was at its limit: the tier served decides the price, not the one asked for
    body: dict[str, Any] = {
        "id": ("resp_" if responses else "chatcmpl-") + sha256(f"body {request.number}".encode()).hexdigest()[:24],
        "object": "response" if responses else "chat.completion",
        "model": SNAPSHOTS[model],
    }
    if served is not None:
        body["service_tier"] = served
    if responses and tier != "batch" and draw("searches", request.number, 10) == 0:
        search = {"type": "web_search_call", "action": {"type": "search"}}
        opened = {"type": "web_search_call", "action": {"type": "open_page"}}
        items = [search, opened, search][: 1 + draw("how many", request.number, 3)]
        body["output"] = [*items, {"type": "message"}]
    return {**body, "usage": usage}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("trace", type=Path, help="the trace, JSON Lines")
    arguments.add_argument("--requests", type=int, default=3000, help="how many to take (default 3000)")
    arguments.add_argument("--out", type=Path, default=HERE / "usage.jsonl", help="default: usage.jsonl beside this")
    given = arguments.parse_args()

    book = PriceBook.load(HERE.parent / "pricing.yaml")
    totals: Counter[str] = Counter()
    by: dict[str, Counter[str]] = {name: Counter() for name in ("account", "group", "model", "tier served", "meter")}
    conversations: set[int] = set()
    ids: set[str] = set()
    units = 0
    with given.out.open("w", encoding="utf-8", newline="\n") as out:
        for request in requests(given.trace, given.requests):
            line = record(request)
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
            # Every line must be priced, and mean what the trace says.
            usage = Usage.from_response(line["usage"])
            charge = book.rate(
                usage,
                model=line["model"],
                group=line["group"],
                at=datetime.fromisoformat(line["at"]),
                service_tier=line["service_tier"],
            )
            counts = (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens)
            assert counts == (request.input, request.cached, request.output)
            assert line["request_id"] not in ids
            ids.add(line["request_id"])
            conversations.add(request.conversation)
            totals.update(input=request.input, cached=request.cached, output=request.output)
            by["meter"].update(usage.meters)
            by["account"][line["account"]] += 1
            by["group"][line["group"]] += 1
            by["model"][charge.model] += 1
            by["tier served"][charge.service_tier] += 1
            units += charge.units

    print(f"{len(ids)} requests of {len(conversations)} conversations, {given.out.stat().st_size} bytes")
    print(f"input {totals['input']}, of it cached {totals['cached']}; output {totals['output']}")
    print(f"cached share of input: {100 * totals['cached'] / totals['input']:.2f} %")
    print(f"all together: {format_plain(decimal_from_scaled(units, UNIT_DECIMALS))} Credits")
    for name, counts_by in by.items():
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts_by.items())))


if __name__ == "__main__":
    main()
