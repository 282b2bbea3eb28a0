"""Prints per provider what is read, estimated, unreadable, unaccounted and rejected of recorded answers, and why.

Run: ``python benchmarks/recorded_answers.py [BODIES [STREAMS]]``. Both files are JSON Lines. A body is in ``body``. A
stream is a list of ``events`` in the framing that ``kind`` names (``sse``, ``ndjson``, ``array``, ``aws-stream``), or
the text of server-sent events in ``sse``. Both may name their ``provider``.

A stream is *free* if its result says that there is nothing to bill. Whether it may be is decided by a scan that knows
no format: it looks for numbers other than zero in whatever is named like a usage object or a count. The exit code is 1
if a stream that states such a number is free.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from brivionix_billing import BillingError, Usage
from brivionix_billing.streams import StreamResult, StreamUsage

ROOT: Final = Path(__file__).resolve().parents[1]
SHARED: Final = ROOT.parent / "shared" / "data"
SAMPLES: Final = ROOT / "tests" / "data"
STATES: Final = ("reported", "estimated", "unreadable", "free", "rejected")
USAGE_NAME: Final = re.compile(r"usage|metrics|billed_?units", re.IGNORECASE)
COUNT_NAME: Final = re.compile(r"tokens?_?count|eval_count|_tokens$|Tokens$", re.IGNORECASE)
REQUEST_NAME: Final = re.compile(r"max|budget|limit|requested", re.IGNORECASE)
"""Names that repeat a setting of the request, such as ``max_output_tokens``."""


class Tally:
    """Counts per provider, and the reasons for what is not read in full."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.reasons: Counter[tuple[str, str, str]] = Counter()

    def add(self, provider: str, column: str, *reasons: str) -> None:
        """Count one answer in a column, with the reasons."""
        self.counts[provider][column] += 1
        self.reasons.update((provider, column, re.sub(r"\d+", "#", reason)[:110]) for reason in reasons)

    def print(self, columns: tuple[str, ...]) -> None:
        """Print the table and the reasons."""
        print(f"{'provider':14}" + "".join(f"{name:>13}" for name in columns))
        rows = [*sorted(self.counts.items()), ("all", sum(self.counts.values(), Counter()))]
        for provider, counts in rows:
            print(f"{provider:14}" + "".join(f"{counts[name]:13}" for name in columns))
        for (provider, column, reason), count in sorted(self.reasons.items()):
            print(f"{count:6} {provider}: {column}: {reason}")


def read_bodies(path: Path) -> Tally:
    """Read every body of a file."""
    tally = Tally()
    for entry in read_lines(path):
        provider = entry.get("provider", "unnamed")
        tally.add(provider, "answers")
        try:
            usage = Usage.from_response(entry["body"])
        except BillingError as error:
            tally.add(provider, "rejected", error.message)
            continue
        tally.add(provider, "read")
        if usage.estimated:
            tally.add(provider, "estimated")
        if usage.unaccounted:
            tally.add(provider, "unaccounted", *(place for place, _ in usage.unaccounted))
    return tally


def read_streams(path: Path) -> Tally:
    """Read every stream of a file."""
    tally = Tally()
    for entry in read_lines(path):
        provider = entry.get("provider", "unnamed")
        stream = StreamUsage()
        for piece in pieces_of(entry):
            stream.feed(piece)
        result = stream.result()
        tally.add(provider, "streams")
        state = state_of(result)
        if state != "reported":
            tally.add(provider, state, result.usage_error.message if result.usage_error else result.reason or "")
        else:
            tally.add(provider, state)
        if result.usage_error is None and result.usage.unaccounted:
            tally.add(provider, "unaccounted", *(place for place, _ in result.usage.unaccounted))
        stated = next(stated_numbers(events_of(entry)), None)
        if stated is not None:
            tally.add(provider, "stated")
            if state == "free":
                tally.add(provider, "free by mistake", stated)
    return tally


def state_of(result: StreamResult) -> str:
    """Return the column of a result. A usage without any quantity is free as well."""
    if result.usage_error is not None:
        return "rejected"
    if not result.answered or not (result.unreadable or result.usage.meters or result.usage.parts):
        return "free"
    return result.state


def pieces_of(entry: dict[str, Any]) -> list[Any]:
    """Return what a gateway would feed: bytes in the framing of the stream, or objects for binary frames."""
    if "sse" in entry:
        return [entry["sse"]]
    if entry["kind"] == "sse":
        return [_frame_sse(entry["events"])]
    events = events_of(entry)
    if entry["kind"] == "array":
        return [json.dumps(events)]
    return [f"{json.dumps(event)}\n" for event in events] if entry["kind"] == "ndjson" else events


def _frame_sse(events: list[Any]) -> str:
    frames = []
    for event in events:
        data = event.get("data", event)
        name = f"event: {event['event']}\n" if event.get("event") else ""
        frames.append(f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n")
    return "".join(frames)


def events_of(entry: dict[str, Any]) -> list[Any]:
    """Return the data of all events."""
    if "events" in entry:
        return [event.get("data", event) if isinstance(event, dict) else event for event in entry["events"]]
    lines = [line[5:].strip() for line in entry["sse"].splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line.startswith("{")]


def stated_numbers(value: Any, place: str = "", inside: bool = False) -> Iterator[str]:
    """Yield the place and value of every number but zero in something that is named like a usage or a count."""
    if isinstance(value, list):
        for item in value:
            yield from stated_numbers(item, place, inside)
    if not isinstance(value, dict):
        return
    for key, item in value.items():
        where = f"{place}.{key}" if place else key
        is_quantity = (inside or COUNT_NAME.search(key)) and not REQUEST_NAME.search(key)
        if isinstance(item, dict | list):
            yield from stated_numbers(item, where, inside or bool(USAGE_NAME.search(key)))
        elif is_quantity and type(item) in (int, float) and item:
            yield f"{where} {item}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def choose(argument: int, name: str, sample: str) -> Path:
    """Return the file of an argument, the shared recordings, or the sample in the repository."""
    if len(sys.argv) > argument:
        return Path(sys.argv[argument])
    return SHARED / name if (SHARED / name).exists() else SAMPLES / sample


def main() -> int:
    """Print both tables."""
    read_bodies(choose(1, "provider_bodies.jsonl", "provider_responses.jsonl")).print(
        ("answers", "read", "estimated", "unaccounted", "rejected")
    )
    print()
    streams = read_streams(choose(2, "provider_streams.jsonl", "streams.jsonl"))
    streams.print(("streams", *STATES, "unaccounted", "stated"))
    mistakes = sum(counts["free by mistake"] for counts in streams.counts.values())
    print(f"streams that state quantities and are free: {mistakes}")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
