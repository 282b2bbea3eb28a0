"""Accuracy of token counts against OpenAI's reported usage: this library and litellm, by family and kind of request.

    python benchmarks/tokens.py                     the table
    python benchmarks/tokens.py --worst 10          and the requests that are furthest off
    python benchmarks/tokens.py --streams           the same for the streams, which were used for no rule
    python benchmarks/tokens.py --rules             the number of requests that confirm each rule
    python benchmarks/tokens.py --derive            the numbers of the rules, refitted on one half of the requests

The requests are recorded ones (tests of pydantic-ai, MIT licence), each with the usage that OpenAI reported. README.md
in this folder describes the split and the kinds.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from brivionix_billing.token_families import FAMILIES, Rule
from brivionix_billing.tokens import TokenCount, TokenCounter
from timing import ROOT

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

SHARED: Final = ROOT.parent / "shared" / "data"
SMALL: Final = ROOT / "tests" / "data" / "token_pairs.jsonl"
# The requests refer to this picture by URL. It has 400 x 301 pixels. Nothing is fetched.
SIZES: Final = {"https://www.gstatic.com/webp/gallery3/1.png": (400, 301)}
# Three records are not measurements: a usage of zeros, and two invented answers of tests.
NOT_MEASURED: Final = "usage of zeros, or of a made-up answer"
# Until some date between March and June 2025, Responses counted 216 tokens more for tools of gpt-4o.
OLD_COUNTING: Final = "tools, as counted in March 2025"
_OLD: Final = re.compile(r"\b(?:msg|fc|resp)_(?:[0-9a-f]{16}00)?(67[0-9a-f]{6})")
_FILES: Final = ("file", "input_file")
_IMAGES: Final = ("image_url", "input_image")


class Pair(NamedTuple):
    """A request and its reported input tokens."""

    number: int
    endpoint: str
    model: str
    request: dict[str, Any]
    reported: int
    kind: str
    holdout: bool
    """Whether the pair belongs to the holdout, which ``--derive`` does not use."""


def read_pairs(path: Path) -> list[Pair]:
    """Return the pairs of a file of requests, or of streams with their usage in an event near the end."""
    pairs = []
    for number, line in enumerate(path.read_bytes().splitlines()):
        row = json.loads(line)
        if row["endpoint"] == "embeddings":
            continue  # their encoding is not bundled, and there is nothing to test
        if "sse" in row:
            row |= _end_of_stream(row["sse"])
        usage = row["usage"]
        reported = usage.get("prompt_tokens", usage.get("input_tokens"))
        made_up = reported == 0 or "resp_1234" in line.decode() or b"msg_test_previous" in line
        kind = NOT_MEASURED if made_up else kind_of(row["request"])
        if kind == "tools" and row["endpoint"] == "responses" and _OLD.search(line.decode()):
            kind = OLD_COUNTING
        holdout = bool(sha256(line).digest()[0] & 1)
        pairs.append(Pair(number, row["endpoint"], row["response_model"], row["request"], reported, kind, holdout))
    return pairs


def _end_of_stream(sse: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in sse.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line[6:])
            event = event.get("response") or event
            if event.get("usage"):
                found = {"usage": event["usage"], "response_model": event["model"]}
    return found


def kind_of(request: Mapping[str, Any]) -> str:
    """Return the first matching kind: stored by the provider, files, images, tools, formats, plain."""
    items = [item for item in _list(request.get("input")) if isinstance(item, dict)]
    items += _list(request.get("messages"))
    types = {item.get("type") for item in items}
    parts = {part.get("type") for item in items for part in _parts(item)}
    tools = {tool.get("type") for tool in _list(request.get("tools"))}
    if any(request.get(key) for key in ("previous_response_id", "conversation")) or "compaction" in types:
        return "kept by the provider"
    if tools - {"function", "tool_search", "custom", None}:
        return "tools of the provider"
    if parts & set(_FILES):
        return "files"
    if parts & set(_IMAGES):
        return "images" if all(_known(part) for item in items for part in _parts(item)) else "images of unknown size"
    wanted = request.get("response_format") or (request.get("text") or {}).get("format") or {}
    if wanted.get("type") not in (None, "text"):
        return "structured output"
    if "reasoning" in types and tools:
        return "tools, with hidden reasoning"
    return "tools" if tools else "plain"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parts(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("content", "output"):
        yield from (part for part in _list(item.get(key)) if isinstance(part, dict))


def _known(part: Mapping[str, Any]) -> bool:
    if part.get("type") not in _IMAGES:
        return True
    source = part.get("image_url")
    url = source.get("url") if isinstance(source, dict) else source
    return isinstance(url, str) and (url in SIZES or url.startswith("data:"))


def counters() -> defaultdict[str, TokenCounter]:
    """Return counters by model, which are created at first use."""

    class _Counters(defaultdict[str, TokenCounter]):
        def __missing__(self, model: str) -> TokenCounter:
            self[model] = counter = TokenCounter(model, image_size=SIZES.get)
            return counter

    return _Counters()


def count(pair: Pair, counter: TokenCounter) -> TokenCount:
    """Return this library's count of a pair's request."""
    return counter.chat(pair.request) if pair.endpoint == "chat" else counter.responses(pair.request)


def litellm_count(pair: Pair) -> int | None:
    """Return litellm's count, or ``None`` if it fails.

    It has no Responses, so their input is converted to chat messages.
    """
    import litellm

    messages, tools = as_chat(pair.request)
    try:
        found = litellm.token_counter(
            model=pair.model,
            messages=messages,
            tools=tools or None,
            tool_choice=pair.request.get("tool_choice") if tools else None,
            use_default_image_token_count=True,
        )
    except Exception:  # an unknown format
        return None
    return int(found)


def as_chat(request: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a request's messages and function tools in the format of chat completions."""
    tools = [
        tool if "function" in tool else {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        for tool in _list(request.get("tools"))
        if tool.get("type") == "function"
    ]
    if "messages" in request:
        return list(request["messages"]), tools
    messages: list[dict[str, Any]] = []
    if request.get("instructions"):
        messages.append({"role": "system", "content": request["instructions"]})
    given = request.get("input")
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else _list(given):
        if item.get("type") == "function_call":
            call = {"id": item["call_id"], "type": "function", "function": {k: item[k] for k in ("name", "arguments")}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif item.get("type") == "function_call_output" and isinstance(item["output"], str):
            messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["output"]})
        elif "role" in item and "content" in item:
            messages.append({"role": item["role"], "content": _chat_content(item["content"])})
    return messages, tools


def _chat_content(content: Any) -> Any:
    if isinstance(content, str):
        return content
    out = []
    for part in content:
        if "text" in part:
            out.append({"type": "text", "text": part["text"]})
        elif part.get("type") == "input_image" and part.get("image_url"):
            out.append({"type": "image_url", "image_url": {"url": part["image_url"]}})
    return out


class Line(NamedTuple):
    """Format one line of the table."""

    family: str
    kind: str
    pairs: int
    exact: int
    median: float
    worst: float
    other: str


def summarize(family: str, kind: str, found: list[tuple[Pair, TokenCount, int | None]]) -> Line:
    """Return exact counts, and errors relative to the reported number."""
    errors = [abs(counted - pair.reported) / pair.reported for pair, counted, _ in found]
    known = [(pair, other) for pair, _, other in found if other is not None]
    other = "-"
    if known:
        off = [abs(count - pair.reported) / pair.reported for pair, count in known]
        exact = sum(count == pair.reported for pair, count in known)
        other = f"{exact:>4} {median(off):>8.2%} {max(off):>8.2%}"
    return Line(family, kind, len(found), sum(e == 0 for e in errors), median(errors), max(errors), other)


def table(pairs: Iterable[Pair], with_litellm: bool) -> tuple[str, list[tuple[float, Pair, TokenCount]]]:
    """Return the table, and all pairs with their errors, the largest first."""
    counters_by_model = counters()
    groups: defaultdict[tuple[str, str], list[tuple[Pair, TokenCount, int | None]]] = defaultdict(list)
    errors = []
    for pair in pairs:
        if pair.kind == NOT_MEASURED:
            continue
        counter = counters_by_model[pair.model]
        counted = count(pair, counter)
        upper = counted.upper
        if upper is not None and upper < pair.reported and pair.kind != OLD_COUNTING:
            print(f"bound exceeded: request {pair.number}, reported {pair.reported}, upper bound {upper}")
        other = litellm_count(pair) if with_litellm else None
        groups[counter.family.name, pair.kind].append((pair, counted, other))
        groups["all", pair.kind].append((pair, counted, other))
        groups["all, holdout" if pair.holdout else "all, fitted half", pair.kind].append((pair, counted, other))
        errors.append((abs(counted - pair.reported) / pair.reported, pair, counted))
    lines = [summarize(family, kind, found) for (family, kind), found in sorted(groups.items())]
    names = f"{'family':<20} {'kind':<32} {'pairs':>5} {'exact':>5} {'median':>8} {'worst':>8}"
    head = f"{names}   litellm: exact, median, worst"
    out = [head, "-" * len(head)]
    for line in lines:
        figures = f"{line.pairs:>5} {line.exact:>5} {line.median:>8.2%} {line.worst:>8.2%}"
        out.append(f"{line.family:<20} {line.kind:<32} {figures}   {line.other}")
    return "\n".join(out), sorted(errors, key=lambda found: -found[0])


def support(pairs: Iterable[Pair]) -> dict[tuple[str, str], int]:
    """Return, by (dialect, rule), the number of pairs that use the rule and are counted exactly."""
    counters_by_model = counters()
    samples: defaultdict[tuple[str, str], int] = defaultdict(int)
    for pair in pairs:
        if pair.kind in (NOT_MEASURED, OLD_COUNTING):
            continue
        counter = counters_by_model[pair.model]
        counted = count(pair, counter)
        if counted == pair.reported:
            for rule in counted.rules:
                samples[counter.family.dialect.name, rule] += 1
    return samples


def derive(pairs: list[Pair]) -> list[str]:
    """Return the value of each rule that counts most requests of the fitted half exactly."""
    half = [pair for pair in pairs if not pair.holdout and pair.kind not in (NOT_MEASURED, OLD_COUNTING)]
    out = []
    for name in ("classic", "harmony", "harmony-5.4", "harmony-5.6"):
        dialect_pairs = [pair for pair in half if counters()[pair.model].family.dialect.name == name]
        dialect = next(family.dialect for family in FAMILIES.values() if family.dialect.name == name)
        for field in fields(dialect):
            rule = getattr(dialect, field.name)
            if not isinstance(rule, Rule) or not rule.samples:
                continue
            scores = {}
            for tokens in range(max(0, rule.tokens - 3), rule.tokens + 4):
                counters_by_model = counters()
                change: dict[str, Any] = {field.name: rule._replace(tokens=tokens)}
                changed = replace(dialect, **change)
                exact = 0
                for pair in dialect_pairs:
                    counter = counters_by_model[pair.model]
                    counter.family = replace(counter.family, dialect=changed)
                    exact += count(pair, counter) == pair.reported
                scores[tokens] = exact
            best = max(scores.values())
            winners = [tokens for tokens, exact in scores.items() if exact == best]
            verdict = "the same" if winners == [rule.tokens] else f"not determined by this half: {winners}"
            out.append(f"{name:<12} {field.name:<20} {rule.tokens:>4}   {verdict}")
    return out


def claims(pairs: Iterable[Pair]) -> str:
    """Return the accuracy of exact counts."""
    counters_by_model = counters()
    counted = [(count(pair, counters_by_model[pair.model]), pair) for pair in pairs if pair.kind != NOT_MEASURED]
    errors = [abs(counted - pair.reported) / pair.reported for counted, pair in counted if counted.exact]
    equal = errors.count(0)
    return (
        f"{len(errors)} exact counts: {equal} equal the reported number, the others differ by at most {max(errors):.2%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a file of requests with their usage")
    parser.add_argument("--worst", type=int, default=0, metavar="N")
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--derive", action="store_true")
    parser.add_argument("--streams", action="store_true", help="the recorded streams, which were used for no rule")
    parser.add_argument("--no-litellm", action="store_true")
    args = parser.parse_args()
    name = "openai_streams.jsonl" if args.streams else "openai_requests.jsonl"
    path = args.pairs or next(p for p in (SHARED / name, SMALL) if p.exists())
    pairs = read_pairs(path)
    if args.derive:
        print("\n".join(derive(pairs)))
        return
    if args.rules:
        for (dialect, rule), samples in sorted(support(pairs).items()):
            print(f"{dialect:<14} {rule:<20} {samples:>4}")
        return
    with_litellm = not args.no_litellm and importlib.util.find_spec("litellm") is not None
    if not with_litellm and not args.no_litellm:
        print("litellm is not installed (make bench installs it): only this library is measured")
    text, errors = table(pairs, with_litellm)
    print(
        f"{len(pairs)} requests of {path.name}; {sum(p.kind == NOT_MEASURED for p in pairs)} left out: {NOT_MEASURED}"
    )
    print(claims(pairs))
    print(text)
    for off, pair, counted in errors[: args.worst]:
        print(
            f"request {pair.number}: {pair.model}, reported {pair.reported}, counted {counted}, off {off:.1%}; "
            f"{counted.reasons}"
        )


if __name__ == "__main__":
    main()
