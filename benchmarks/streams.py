"""Errors of estimates: recorded streams, cut right before the event with the usage, against that usage.

``python benchmarks/streams.py [FILE]``: FILE has one JSON object per line, with ``request`` and ``sse``. Without FILE,
the recorded streams next to the repository are used, or the few of them in the tests.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from brivionix_billing import Usage
from brivionix_billing.streams import StreamUsage
from brivionix_billing.tokens import TokenCounter
from timing import ROOT

ALL = ROOT.parent / "shared" / "data" / "openai_streams.jsonl"
FEW = ROOT / "tests" / "data" / "streams.jsonl"


class Measured(NamedTuple):
    """One stream: its estimate when it was cut, and its reported usage."""

    model: str
    kind: str
    input_estimated: int
    input: int
    output_estimated: int
    visible: int
    """The reported output without the reported reasoning."""
    output: int

    @property
    def cells(self) -> tuple[str, ...]:
        return (
            self.model,
            self.kind,
            f"{self.input_estimated}",
            f"{self.input}",
            _off(self.input_estimated, self.input),
            f"{self.output_estimated}",
            f"{self.visible}",
            _off(self.output_estimated, self.visible),
            f"{self.output}",
            _off(self.output_estimated, self.output),
        )


HEAD = ("model", "stream", "input est.", "reported", "off", "output est.", "shown", "off", "reported", "off")


def measure(sample: dict[str, Any]) -> Measured:
    """Feed a stream event by event until the usage, take the estimate, then feed the usage."""
    stream = StreamUsage(sample["request"])
    last = stream.result()
    for event in re.split(r"(?<=\n\n)", sample["sse"]):
        cut = stream.result()
        stream.feed(event)
        if stream.done:
            last = cut
            break
    reported = Usage.from_response({"usage": stream.result().body["usage"]})
    estimated = last.usage
    return Measured(
        sample["request"]["model"],
        _kind(sample),
        estimated.input_tokens,
        reported.input_tokens,
        estimated.output_tokens,
        reported.output_tokens - reported.reasoning_tokens,
        reported.output_tokens,
    )


def _kind(sample: dict[str, Any]) -> str:
    """Return the features of a stream that explain its error."""
    text = sample["sse"]
    marks = {
        "response.web_search_call.completed": "web search",
        "response.file_search_call.completed": "file search",
        "response.code_interpreter_call.completed": "code interpreter",
        "response.reasoning_summary_text.delta": "summary",
        "response.function_call_arguments.delta": "call",
        '"tool_calls":[': "call",
        '"previous_response_id":"resp': "earlier turns",
    }
    results = [name for mark, name in marks.items() if mark in text]
    return ", ".join(dict.fromkeys([sample["endpoint"], *results]))


def _off(estimated: int, reported: int) -> str:
    return f"{(estimated - reported) / reported:+.0%}" if reported else ""


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Format rows of text: the first two columns left-aligned, the figures right-aligned."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.ljust(w) if i < 2 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def summary(results: Sequence[Measured]) -> str:
    """Return the median and the extremes of each error."""
    ratios = {
        "input against reported": [(m.input_estimated - m.input) / m.input for m in results],
        "output against what was shown": [(m.output_estimated - m.visible) / m.visible for m in results],
        "output against all reported": [(m.output_estimated - m.output) / m.output for m in results],
    }
    totals = {
        "input against reported": (sum(m.input_estimated for m in results), sum(m.input for m in results)),
        "output against what was shown": (sum(m.output_estimated for m in results), sum(m.visible for m in results)),
        "output against all reported": (sum(m.output_estimated for m in results), sum(m.output for m in results)),
    }
    rows = [("off by", "", "median", "lowest", "highest", "in total")]
    for what, off in ratios.items():
        rows.append((what, "", f"{median(off):+.1%}", f"{min(off):+.0%}", f"{max(off):+.0%}", _off(*totals[what])))
    return table(rows)


def speed(samples: Sequence[dict[str, Any]]) -> str:
    """Measure the time to feed an event as bytes, and to estimate 256 kB of text."""
    events = [event.encode() for sample in samples for event in re.split(r"(?<=\n\n)", sample["sse"]) if event]
    best = min(_feed(events) for _ in range(5))
    counter = TokenCounter("gpt-5.4-mini", cache_characters=0)
    prose = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md")))
    prose = (prose * 4)[: 256 * 1024]
    counter.text("a")  # loads the vocabulary
    stream = StreamUsage(None, counter)
    for begin in range(0, len(prose), 20):
        stream.feed({"choices": [{"index": 0, "delta": {"content": prose[begin : begin + 20]}}]})
    start = time.perf_counter()
    stream.result()
    taken = time.perf_counter() - start
    return (
        f"feeding: {best / len(events) * 1e6:.1f} us an event ({sum(map(len, events)) / len(events):.0f} bytes); "
        f"an estimate of 256 kB of text: {taken * 1e3:.0f} ms"
    )


def _feed(events: Sequence[bytes]) -> float:
    stream = StreamUsage()
    start = time.perf_counter()
    for event in events:
        stream.feed(event)
    return time.perf_counter() - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", nargs="?", type=Path, default=ALL if ALL.exists() else FEW)
    path: Path = arguments.parse_args().file
    samples = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    results = [measure(sample) for sample in samples]
    print(f"{len(results)} streams, each cut right before the event with its usage")
    print(table([HEAD, *(result.cells for result in results)]))
    print()
    print(summary(results))
    print()
    plain = [result for result in results if "search" not in result.kind and "interpreter" not in result.kind]
    print(f"the {len(plain)} of them without tools that the provider runs")
    print(summary(plain))
    print()
    print(speed(samples))


if __name__ == "__main__":
    main()
