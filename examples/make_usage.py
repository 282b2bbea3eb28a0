"""Makes ``usage.jsonl`` from a real trace of chat traffic: ``python examples/make_usage.py conversation_trace.jsonl``.

Lengths, cache hits and the gaps within a conversation are the trace's. The trace lasts an hour and has no customers,
models and tiers. Rules that depend on nothing but the conversation assign these, and place the conversation in a month.
So the same trace always gives the same file. README.md beside this says more, and where the trace comes from.
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
MONTH = datetime(2026, 10, 1, tzinfo=UTC)
LAST_DAY = 31
HOUR_MS = 3_600_000
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
WEEKDAY, WEEKEND = 10, 3
"""Weights of a day from Monday to Friday, and of a Saturday or Sunday."""
HOURS: Weighted[int] = dict(
    enumerate((1, 1, 1, 1, 1, 2, 3, 5, 8, 10, 10, 9, 7, 9, 10, 10, 9, 8, 6, 5, 4, 4, 3, 2)),
)
"""Weight of each hour of a day, in UTC."""
ACCOUNT_STARTS = {"acct_6": 12, "acct_8": 20}
"""First day of the accounts that are not there from the first of the month."""
TIER_STARTS = {"priority": 12, "flex": 12, "batch": 14}
"""First day on which pricing.yaml sells the tier. Before it, a request for the tier has no price."""
BOUNDARIES = {
    0: (1, "00:00:00.000"),  # the start of the month; the cache is empty before the trace's first request
    229: (11, "23:59:59.999"),  # before and after the first prices of priority and flex
    12: (12, "00:00:00.000"),
    13: (12, "00:00:00.000"),
    67: (14, "00:00:00.000"),  # the first price of batch
    103: (31, "15:59:59.999"),  # the end of the month in Asia/Shanghai
    234: (31, "16:00:00.000"),
    299: (31, "23:59:59.999"),  # the end of the month
}
"""Day and time of conversations of one request, by its number in the trace: the edges of periods and of prices."""


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


def placed(found: list[Request]) -> list[tuple[datetime, Request]]:
    """Place each conversation within one hour of the month, with the gaps of the trace. Returns them sorted by time."""
    conversations: dict[int, list[Request]] = {}
    for request in found:
        conversations.setdefault(request.conversation, []).append(request)
    moments = []
    for members in conversations.values():
        first, last = members[0], members[-1]
        start = start_of(first, last.milliseconds - first.milliseconds)
        moments += [(start + timedelta(milliseconds=one.milliseconds - first.milliseconds), one) for one in members]
    return sorted(moments, key=lambda moment: (moment[0], moment[1].number))


def start_of(first: Request, length: int) -> datetime:
    """The moment of a conversation's first request, so that all ``length`` milliseconds of it are within one hour."""
    if first.number in BOUNDARIES:
        assert length == 0
        day, time = BOUNDARIES[first.number]
        return datetime.fromisoformat(f"{MONTH:%Y-%m}-{day:02}T{time}+00:00")
    conversation = first.conversation
    account, _, _, tier = assigned(conversation)
    earliest = max(ACCOUNT_STARTS.get(account, 1), TIER_STARTS.get(tier, 1))
    days = {day: WEEKDAY if MONTH.replace(day=day).weekday() < 5 else WEEKEND for day in range(earliest, LAST_DAY + 1)}
    hour = MONTH.replace(day=pick("day", conversation, days), hour=pick("hour", conversation, HOURS))
    return hour + timedelta(milliseconds=draw("start", conversation, HOUR_MS - length))


def assigned(conversation: int) -> tuple[str, str, str, str]:
    """Account, group, model and tier of a conversation."""
    account = pick("account", conversation, ACCOUNTS)
    group = pick("group", conversation, GROUPS[account])
    model = pick("model", conversation, MODELS[group])
    tier = pick("tier", conversation, CODEX_TIERS if model == "gpt-5.3-codex" else TIERS)
    return account, group, model, tier


def record(request: Request, at: datetime) -> dict[str, Any]:
    """The request as a line of a usage file."""
    conversation, number = request.conversation, request.number
    account, group, model, tier = assigned(conversation)
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
    """The id of a request, by its number in the trace."""
    return "req_" + sha256(f"request {number}".encode()).hexdigest()[:24]


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
    by: dict[str, Counter[str]] = {
        name: Counter() for name in ("account", "group", "model", "tier served", "meter", "day")
    }
    conversations: set[int] = set()
    ids: set[str] = set()
    units = 0
    with given.out.open("w", encoding="utf-8", newline="\n") as out:
        for at, request in placed(list(requests(given.trace, given.requests))):
            line = record(request, at)
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
            by["day"][f"{at:%d}"] += 1
            units += charge.units

    print(f"{len(ids)} requests of {len(conversations)} conversations, {given.out.stat().st_size} bytes")
    print(f"input {totals['input']}, of it cached {totals['cached']}; output {totals['output']}")
    print(f"cached share of input: {100 * totals['cached'] / totals['input']:.2f} %")
    print(f"all together: {format_plain(decimal_from_scaled(units, UNIT_DECIMALS))} Credits")
    for name, counts_by in by.items():
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts_by.items())))


if __name__ == "__main__":
    main()
