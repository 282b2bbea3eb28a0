"""Bounds of token counts against OpenAI's reported usage, by family and kind of request.

    python benchmarks/token_bounds.py               the table, beside litellm's counter if it is installed
    python benchmarks/token_bounds.py --half kept   only the projects that were used for no rule, see README.md
    python benchmarks/token_bounds.py --list        and every exact count that differs and every bound that is too low

The pairs are recorded requests of 16 public projects, each with the input tokens that OpenAI reported. Without them the
script reads the small file of the tests.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from brivionix_billing.tokens import TokenCount, TokenCounter
from tokens import SHARED, SIZES, SMALL, Pair, kind_of, litellm_count, read_pairs

PAIRS: Final = SHARED / "token_pairs.jsonl"
_ROUND_TYPES: Final = ("function_call_output", "custom_tool_call_output")


class Figures(NamedTuple):
    """The figures of one line of the table."""

    pairs: int
    exact: int
    """Counts called exact."""
    wrong: int
    """Counts called exact that differ from the reported number."""
    low: int
    """Bounds below the reported number."""
    unbounded: int
    median: float
    """Median of bound / reported."""
    p95: float
    litellm: str
    """litellm's counts that equal the reported number, and the largest share by which one is too low."""


def read_all(path: Path) -> list[Pair]:
    """Return the pairs of a file that prove something, in the format of either file of pairs."""
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    if rows and "usage" in rows[0]:
        return [pair for pair in read_pairs(path) if pair.reported]
    return [
        Pair(number, row["api"], row["model"], row["request"], row["reported_input_tokens"], kind(row), kept(row))
        for number, row in enumerate(rows)
        if row["reported_input_tokens"] and not row.get("redacted")
    ]


def kept(row: dict[str, Any]) -> bool:
    """Return whether a project belongs to the half that no rule was derived from: 8 of 16 projects."""
    return bool(sha256(row["source"].encode()).digest()[9] & 1)


def kind(row: dict[str, Any]) -> str:
    """Return the kind of a request: as in ``tokens.py``, and rounds of tools and other fields apart."""
    request = row["request"]
    found = "embeddings" if row["api"] == "embeddings" else kind_of(request)
    if found not in ("plain", "tools"):
        return found
    if (request.get("reasoning") or {}).get("mode"):
        return "reasoning.mode"
    items = [item for item in request.get("input") or [] if isinstance(item, dict)]
    parts = [part for item in items + (request.get("messages") or []) for part in _parts(item)]
    if any(part.get("type") == "input_audio" for part in parts):
        return "audio"
    is_round = any(item.get("type") in _ROUND_TYPES for item in items)
    is_round = is_round or any(message.get("role") == "tool" for message in request.get("messages") or [])
    return "tool rounds" if is_round else found


def _parts(item: dict[str, Any]) -> list[dict[str, Any]]:
    content = item.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def count_pair(pair: Pair, counter: TokenCounter) -> TokenCount:
    """Return this library's count of a pair's request."""
    return counter.request(pair.request, api=pair.endpoint)  # type: ignore[arg-type]  # an API of the recordings


def summarize(found: Sequence[tuple[Pair, TokenCount, int | None]]) -> Figures:
    """Return the figures of one line."""
    bounds = [(count.upper, pair.reported) for pair, count, _ in found if count.upper is not None]
    ratios = sorted(upper / reported for upper, reported in bounds)
    others = [(other, pair.reported) for pair, _, other in found if other is not None]
    litellm = "-"
    if others:
        lowest = max(1 - min(1.0, other / reported) for other, reported in others)
        litellm = f"{sum(other == reported for other, reported in others):>5} {lowest:>7.0%}"
    return Figures(
        len(found),
        sum(count.exact for _, count, _ in found),
        sum(count.exact and count != pair.reported for pair, count, _ in found),
        sum(upper < reported for upper, reported in bounds),
        len(found) - len(bounds),
        median(ratios) if ratios else 0.0,
        ratios[min(len(ratios) - 1, len(ratios) * 95 // 100)] if ratios else 0.0,
        litellm,
    )


def judge(pairs: Iterable[Pair], with_litellm: bool = False) -> list[tuple[Pair, TokenCount, int | None]]:
    """Count every pair. The third value is litellm's count, if there is one."""
    counters: dict[str, TokenCounter] = {}
    judged = []
    for pair in pairs:
        counter = counters.setdefault(pair.model, TokenCounter(pair.model, image_size=SIZES.get))
        chat_like = with_litellm and pair.endpoint != "embeddings"
        judged.append((pair, count_pair(pair, counter), litellm_count(pair) if chat_like else None))
    return judged


def table(judged: Iterable[tuple[Pair, TokenCount, int | None]]) -> str:
    """Return the table by family and kind."""
    groups: defaultdict[tuple[str, str], list[tuple[Pair, TokenCount, int | None]]] = defaultdict(list)
    families: dict[str, str] = {}
    for entry in judged:
        pair = entry[0]
        family = families.setdefault(pair.model, TokenCounter(pair.model).family.name)
        half = "~ kept aside" if pair.holdout else "~ fitted half"
        for group in (
            (family, pair.kind),
            ("~ all", pair.kind),
            ("~ all", "~ all"),
            (half, pair.kind),
            (half, "~ all"),
        ):
            groups[group].append(entry)
    columns = ("pairs", "exact", "wrong", "low", "open", "median", "p95")
    head = (
        f"{'family':<14} {'kind':<31} " + " ".join(f"{name:>6}" for name in columns) + "   litellm: equal, too low by"
    )
    lines = [head, "-" * len(head)]
    for (family, name), found in sorted(groups.items()):
        line = summarize(found)
        numbers = " ".join(f"{number:>6}" for number in line[:5])
        ratios = f"{line.median:>6.3f} {line.p95:>6.2f}" if line.median else f"{'-':>6} {'-':>6}"
        lines.append(f"{family:<14} {name:<31} {numbers} {ratios}   {line.litellm}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, help="a file of pairs")
    parser.add_argument("--half", choices=("all", "fitted", "kept"), default="all")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--no-litellm", action="store_true")
    args = parser.parse_args()
    path = args.pairs or next(path for path in (PAIRS, SMALL) if path.exists())
    pairs = [pair for pair in read_all(path) if args.half == "all" or pair.holdout == (args.half == "kept")]
    with_litellm = not args.no_litellm and importlib.util.find_spec("litellm") is not None
    judged = judge(pairs, with_litellm)
    print(table(judged))
    print("\nwrong: called exact and not equal; low: bound below the reported number; open: no bound;")
    print("median, p95: bound / reported" + ("" if with_litellm else "; litellm is not installed or was skipped"))
    for pair, count, _ in judged if args.list else ():
        if (count.exact and count != pair.reported) or (count.upper is not None and count.upper < pair.reported):
            print(f"{pair.number}: {pair.model} {pair.kind}, reported {pair.reported}, counted {count}, {count.upper}")


if __name__ == "__main__":
    main()
