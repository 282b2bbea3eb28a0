"""Make ``usage.jsonl`` from a real trace of chat traffic: ``python examples/make_usage.py conversation_trace.jsonl``.

Lengths, cache hits and the gaps within a conversation come from the trace. The trace covers one hour and has no
customers, models and tiers. Rules assign these, and the time in the month. The rules depend only on the conversation,
so the same trace always gives the same file. README.md explains the rules and the source of the trace.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from brivionix_billing import PriceBook, Usage
from brivionix_billing.decimals import decimal_from_scaled, format_plain
from brivionix_billing.rating.charge import UNIT_DECIMALS

HERE = Path(__file__).resolve().parent
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
LAST_DAY = 31
HOUR_MS = 3_600_000
BLOCK = 512
"""Tokens per block of the trace. The last block of a request has the remaining tokens."""

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
    "acct_5": {"default": 3, "coding": 1},  # has API tokens of two groups
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
"""The tier in a response. The body of a batched request states no tier."""
WEEKDAY, WEEKEND = 10, 3
"""Weight of a day from Monday to Friday, and of a Saturday or Sunday."""
HOURS: Weighted[int] = dict(
    enumerate((1, 1, 1, 1, 1, 2, 3, 5, 8, 10, 10, 9, 7, 9, 10, 10, 9, 8, 6, 5, 4, 4, 3, 2)),
)
"""Weight of each hour of a day, in UTC."""
ACCOUNT_STARTS = {"acct_6": 12, "acct_8": 20}
"""First day of the accounts that do not start on the first of the month."""
TIER_STARTS = {"priority": 12, "flex": 12, "batch": 14}
"""First day on which pricing.yaml sells the tier. Earlier requests for the tier have no price."""
BOUNDARIES = {
    0: (1, "00:00:00.000"),  # start of the month, with the trace's first request, because the cache is empty before it
    229: (11, "23:59:59.999"),  # before and at the first prices of priority and flex
    12: (12, "00:00:00.000"),
    13: (12, "00:00:00.000"),
    67: (14, "00:00:00.000"),  # at the first price of batch
    103: (31, "15:59:59.999"),  # before and at the end of the month in Asia/Shanghai
    234: (31, "16:00:00.000"),
    299: (31, "23:59:59.999"),  # before the end of the month
}
"""Request number in the trace -> day and time: one-request conversations at the boundaries of periods and prices."""


class Request(NamedTuple):
    """One line of the trace, with its cached input tokens."""

    number: int
    milliseconds: int
    input: int
    cached: int
    output: int
    conversation: int


def read_requests(trace: Path, count: int) -> Iterator[Request]:
    """Yield the first requests of the trace, in order.

    A leading run of blocks that earlier requests had is a cache hit. If the run is the whole request, its last block
    counts with its actual tokens, not with 512.
    """
    seen: set[int] = set()
    with trace.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            if number == count:
                return
            row = json.loads(line)
            blocks = row["hash_ids"]
            hits = next((index for index, block in enumerate(blocks) if block not in seen), len(blocks))
            seen.update(blocks)
            cached = min(hits * BLOCK, row["input_length"])
            # All requests start with block 0 (one system prompt), so block 1 identifies the conversation. An id
            # identifies its block and all blocks before it: a shared block 1 means 1024 equal tokens at the start.
            conversation = blocks[1] if len(blocks) > 1 else -number
            yield Request(number, row["timestamp"], row["input_length"], cached, row["output_length"], conversation)


def pick(purpose: str, key: int, options: Weighted[T]) -> T:
    """Return one of the options by weight, always the same for the same purpose and key."""
    remaining = draw(purpose, key, sum(options.values()))
    for value, weight in options.items():
        remaining -= weight
        if remaining < 0:
            return value
    raise AssertionError("the drawn number is below the sum of the weights")


def draw(purpose: str, key: int, limit: int) -> int:
    """Return a number from 0 to ``limit - 1``, always the same for the same purpose and key."""
    return int.from_bytes(sha256(f"{purpose} {key}".encode()).digest()[:8]) % limit


def schedule(requests: Iterable[Request]) -> list[tuple[datetime, Request]]:
    """Schedule each conversation within one hour of the month, with the gaps of the trace.

    Returns the requests with their times, sorted by time.
    """
    conversations: dict[int, list[Request]] = {}
    for request in requests:
        conversations.setdefault(request.conversation, []).append(request)
    scheduled = []
    for members in conversations.values():
        first, last = members[0], members[-1]
        start = start_time(first, last.milliseconds - first.milliseconds)
        for request in members:
            scheduled.append((start + timedelta(milliseconds=request.milliseconds - first.milliseconds), request))
    return sorted(scheduled, key=lambda item: (item[0], item[1].number))


def start_time(first: Request, duration: int) -> datetime:
    """Return the time of a conversation's first request. All ``duration`` milliseconds of it are within one hour."""
    if first.number in BOUNDARIES:
        assert duration == 0
        day, time = BOUNDARIES[first.number]
        return datetime.fromisoformat(f"{MONTH:%Y-%m}-{day:02}T{time}+00:00")
    conversation = first.conversation
    account, _, _, tier = assign(conversation)
    earliest = max(ACCOUNT_STARTS.get(account, 1), TIER_STARTS.get(tier, 1))
    days = {day: WEEKDAY if MONTH.replace(day=day).weekday() < 5 else WEEKEND for day in range(earliest, LAST_DAY + 1)}
    hour = MONTH.replace(day=pick("day", conversation, days), hour=pick("hour", conversation, HOURS))
    return hour + timedelta(milliseconds=draw("start", conversation, HOUR_MS - duration))


def assign(conversation: int) -> tuple[str, str, str, str]:
    """Return the account, group, model and tier of a conversation."""
    account = pick("account", conversation, ACCOUNTS)
    group = pick("group", conversation, GROUPS[account])
    model = pick("model", conversation, MODELS[group])
    tier = pick("tier", conversation, CODEX_TIERS if model == "gpt-5.3-codex" else TIERS)
    return account, group, model, tier


def build_record(request: Request, at: datetime) -> dict[str, Any]:
    """Return the record of a request in a usage file."""
    conversation, number = request.conversation, request.number
    account, group, model, tier = assign(conversation)
    responses = model == "gpt-5.3-codex" or draw("api", conversation, 10) < 4
    reasoning = 0
    if draw("reasons", conversation, 2):
        reasoning = request.output * draw("reasoning", number, 80) // 100 // 64 * 64
    usage = (responses_usage if responses else chat_usage)(request, reasoning)
    if draw("whole", number, 4) == 0:
        usage = whole_response(request, model, tier, usage, responses)
    return {
        "request_id": request_id(number),
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "account": account,
        "group": group,
        "model": SNAPSHOTS[model] if draw("by snapshot", conversation, 25) == 0 else model,
        "service_tier": tier,
        "usage": usage,
    }


def request_id(number: int) -> str:
    """Return the id of a request, given its number in the trace."""
    return "req_" + sha256(f"request {number}".encode()).hexdigest()[:24]


def chat_usage(request: Request, reasoning: int) -> dict[str, Any]:
    """Return the usage object of a chat completion."""
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
    """Return the usage object of the Responses API."""
    return {
        "input_tokens": request.input,
        "input_tokens_details": {"cached_tokens": request.cached},
        "output_tokens": request.output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": request.input + request.output,
    }


def whole_response(request: Request, model: str, tier: str, usage: dict[str, Any], responses: bool) -> dict[str, Any]:
    """Return the response as the gateway received it, without its texts."""
    served = SERVED[tier]
    if tier == "priority" and draw("downgraded", request.number, 4) == 0:
        served = "default"  # the provider was at its limit; the served tier decides the price, not the requested one
    body: dict[str, Any] = {
        "id": ("resp_" if responses else "chatcmpl-") + sha256(f"body {request.number}".encode()).hexdigest()[:24],
        "object": "response" if responses else "chat.completion",
        "model": SNAPSHOTS[model],
    }
    if served is not None:
        body["service_tier"] = served
    if responses and tier != "batch" and draw("searches", request.number, 10) == 0:
        search = {"type": "web_search_call", "action": {"type": "search"}}
        page = {"type": "web_search_call", "action": {"type": "open_page"}}
        items = [search, page, search][: 1 + draw("how many", request.number, 3)]
        body["output"] = [*items, {"type": "message"}]
    return {**body, "usage": usage}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path, help="the trace, JSON Lines")
    parser.add_argument("--requests", type=int, default=3000, help="number of requests (default 3000)")
    parser.add_argument(
        "--out",
        type=Path,
        default=HERE / "usage.jsonl",
        help="output file (default: usage.jsonl in the folder of this script)",
    )
    arguments = parser.parse_args()

    book = PriceBook.load(HERE.parent / "pricing.yaml")
    totals: Counter[str] = Counter()
    by: dict[str, Counter[str]] = {
        name: Counter() for name in ("account", "group", "model", "tier served", "meter", "day")
    }
    conversations: set[int] = set()
    ids: set[str] = set()
    units = 0
    with arguments.out.open("w", encoding="utf-8", newline="\n") as out:
        for at, request in schedule(read_requests(arguments.trace, arguments.requests)):
            record = build_record(request, at)
            out.write(json.dumps(record, separators=(",", ":")) + "\n")
            # Every record must have a price, and the counts of the trace.
            usage = Usage.from_response(record["usage"])
            charge = book.rate(
                usage,
                model=record["model"],
                group=record["group"],
                at=datetime.fromisoformat(record["at"]),
                service_tier=record["service_tier"],
            )
            counts = (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens)
            assert counts == (request.input, request.cached, request.output)
            assert record["request_id"] not in ids
            ids.add(record["request_id"])
            conversations.add(request.conversation)
            totals.update(input=request.input, cached=request.cached, output=request.output)
            by["meter"].update(usage.meters)
            by["account"][record["account"]] += 1
            by["group"][record["group"]] += 1
            by["model"][charge.model] += 1
            by["tier served"][charge.service_tier] += 1
            by["day"][f"{at:%d}"] += 1
            units += charge.units

    print(f"{len(ids)} requests of {len(conversations)} conversations, {arguments.out.stat().st_size} bytes")
    print(f"input {totals['input']}, of which cached {totals['cached']}; output {totals['output']}")
    print(f"cached share of input: {100 * totals['cached'] / totals['input']:.2f} %")
    print(f"total charge: {format_plain(decimal_from_scaled(units, UNIT_DECIMALS))} Credits")
    for name, counts_by in by.items():
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts_by.items())))


if __name__ == "__main__":
    main()
