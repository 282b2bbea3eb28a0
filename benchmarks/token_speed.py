"""How fast tokens are counted: a conversation that grows, beside litellm's counter; fresh text, beside tiktoken."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens.encodings import encoding
from timing import ROOT, Row, calls, show

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

TURNS: Final = 200
MODEL: Final = "gpt-4o"
TOOLS: Final = [
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Looks a word up in a dictionary.",
            "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
        },
    }
]


def conversation(turns: int, size: int) -> list[dict[str, Any]]:
    """Messages of about ``size`` characters, cut out of this project's documentation; the same every time."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    draw = random.Random(20261001)
    lengths = [draw.randint(size // 2, size * 3 // 2) for _ in range(turns)]
    starts = [draw.randrange(len(text) - length) for length in lengths]
    return [
        {"role": ("user", "assistant")[place % 2], "content": text[start : start + length]}
        for place, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def growing(size: int, demanded: int) -> Row:
    """After every turn the whole request is counted, as a gateway does that sees each request whole."""
    import litellm

    messages = conversation(TURNS, size)
    bodies = [json.dumps({"messages": messages[:turn], "tools": TOOLS}) for turn in range(1, TURNS + 1)]

    def ours(parsed: list[dict[str, Any]]) -> int:
        counter = TokenCounter(MODEL)  # with an empty memory
        return sum(map(counter.chat, parsed))

    def theirs(parsed: list[dict[str, Any]]) -> int:
        return sum(litellm.token_counter(model=MODEL, messages=b["messages"], tools=b["tools"]) for b in parsed)

    def run(count: Callable[[list[dict[str, Any]]], int]) -> float:
        parsed = list(map(json.loads, bodies))  # no text is the same object as a turn before
        start = time.perf_counter()
        count(parsed)
        return time.perf_counter() - start

    run(ours), run(theirs)  # vocabularies are loaded
    taken = [(run(ours), run(theirs)) for _ in range(5)]
    here, there = map(min, zip(*taken, strict=True))
    measured = f"{here * 1e3:.0f} ms; litellm {there * 1e3:.0f} ms"
    ratio = there / here
    what = f"tokens: {TURNS} turns of {size} characters, each counted"
    met = ratio >= demanded if demanded else None
    return Row(what, measured, f"{ratio:.0f}x", f">= {demanded}x" if demanded else "", met)


def fresh() -> list[Row]:
    """A text that was never seen before, against tiktoken's own call on the same text."""
    encoder = encoding("o200k_base")
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    rows = []
    for name, size in (("source code, 2 kB", 2_000), ("source code, 100 kB", 100_000)):
        times = []
        for start in range(40):
            # Each round has a text of its own, so that nothing is remembered; the two count it right after each other.
            text = f"{start} {code[start * 97 : start * 97 + size]}"
            counter = TokenCounter("gpt-5.4-mini")
            counter.text("warm")
            taken = calls({"tiktoken": partial(encoder.encode_ordinary, text), "here": partial(counter.text, text)}, 1)
            times.append((taken["here"].best, taken["tiktoken"].best))
        ours, theirs = (sum(column) for column in zip(*sorted(times)[:30], strict=True))
        measured = f"{ours / 30 * 1e6:.0f} us; tiktoken {theirs / 30 * 1e6:.0f} us"
        rows.append(Row(f"tokens: fresh {name}", measured, f"{ours / theirs:.3f}x", "<= 1.05x", ours / theirs <= 1.05))
    return rows


def tokens() -> list[Row]:
    """All rows of this file."""
    # An answer in the real traffic of examples/README.md has 343 tokens, which are about 1 400 characters.
    return [growing(1_400, 50), growing(300, 0), *fresh()]


if __name__ == "__main__":
    print(show(tokens()))
