"""Speed of token counts: a growing conversation against litellm's counter, and new text against tiktoken."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens.encodings import load_encoding
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


def conversation(messages: int, sizes: tuple[int, int]) -> list[dict[str, Any]]:
    """Return questions and answers of about these sizes from this project's documentation, always the same."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    draw = random.Random(20261001)
    lengths = [draw.randint(size // 2, size * 3 // 2) for size in sizes * (messages // 2)]
    starts = [draw.randrange(len(text) - length) for length in lengths]
    return [
        {"role": ("user", "assistant")[place % 2], "content": text[start : start + length]}
        for place, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]


def growing(sizes: tuple[int, int], step: int, demanded: int) -> Row:
    """Count the whole request after every ``step`` messages, as a gateway does."""
    import litellm

    messages = conversation(TURNS * step, sizes)
    bodies = [json.dumps({"messages": messages[: turn * step + 1], "tools": TOOLS}) for turn in range(TURNS)]

    def theirs(body: dict[str, Any]) -> int:
        return int(litellm.token_counter(model=MODEL, messages=body["messages"], tools=body["tools"]))

    def run(count: Callable[[dict[str, Any]], int]) -> float:
        taken = 0.0
        for body in bodies:
            parsed = json.loads(body)  # as received: no text is the same object as in the turn before
            start = time.perf_counter()
            count(parsed)
            taken += time.perf_counter() - start
        return taken

    run(TokenCounter(MODEL).chat), run(theirs)  # load the vocabularies
    # Each round of this library starts with an empty cache.
    taken = [(run(TokenCounter(MODEL).chat), run(theirs)) for _ in range(5)]
    here, there = map(min, zip(*taken, strict=True))
    measured = f"{here * 1e3:.0f} ms; litellm {there * 1e3:.0f} ms"
    ratio = there / here
    each = f"question ({sizes[0]}) and answer ({sizes[1]})" if step == 2 else f"{sizes[0]} characters"
    what = f"tokens: {TURNS} turns of {each}"
    met = ratio >= demanded if demanded else None
    return Row(what, measured, f"{ratio:.0f}x", f">= {demanded}x" if demanded else "", met)


def fresh() -> list[Row]:
    """Count new texts, and compare with tiktoken's own call on the same text."""
    encoder = load_encoding("o200k_base")
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py")))
    rows = []
    for name, size in (("source code, 2 kB", 2_000), ("source code, 100 kB", 100_000)):
        times = []
        for start in range(40):
            # Each round has its own text, so that nothing is cached. The two count it one after the other.
            text = f"{start} {code[start * 97 : start * 97 + size]}"
            counter = TokenCounter("gpt-5.4-mini")
            counter.text("warm")
            taken = calls({"tiktoken": partial(encoder.encode_ordinary, text), "here": partial(counter.text, text)}, 1)
            times.append((taken["here"].best, taken["tiktoken"].best))
        ours, theirs = (sum(column) for column in zip(*sorted(times)[:30], strict=True))
        measured = f"{ours / 30 * 1e6:.0f} us; tiktoken {theirs / 30 * 1e6:.0f} us"
        rows.append(Row(f"tokens: fresh {name}", measured, f"{ours / theirs:.3f}x", "<= 1.05x", ours / theirs <= 1.05))
    return rows


def waits() -> list[Row]:
    """Measure the first count and the longest text, without a requirement."""
    made = "import time; t = time.perf_counter(); from brivionix_billing.tokens import TokenCounter as T; "
    made += "T('gpt-4o').text('a'); print(time.perf_counter() - t)"
    first = min(
        float(subprocess.run([sys.executable, "-c", made], check=True, capture_output=True).stdout) for _ in "12"
    )
    start = time.perf_counter()
    TokenCounter(MODEL, cache_characters=0).text("a" * 10_000_000)
    long = time.perf_counter() - start
    return [
        Row("tokens: import and first count", f"{first * 1e3:.0f} ms", "", "", None),
        Row("tokens: ten million equal letters", f"{long:.1f} s", "", "", None),
    ]


def tokens() -> list[Row]:
    """Return all rows of this file."""
    # An answer in the traffic of examples/README.md has 343 tokens, about 1 400 characters. A turn is a question and
    # its answer. With one message per turn, new texts weigh more.
    return [
        growing((300, 1_400), 2, 50),
        growing((300, 300), 2, 0),
        growing((1_400, 1_400), 1, 0),
        growing((300, 300), 1, 0),
        *fresh(),
        *waits(),
    ]


if __name__ == "__main__":
    print(show(tokens()))
