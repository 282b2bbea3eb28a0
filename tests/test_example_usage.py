"""The example usage file follows the rules of examples/make_usage.py, and examples/README.md has its figures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import PriceBook, Usage
from examples.make_usage import ACCOUNT_STARTS, BOUNDARIES, LAST_DAY, TIER_STARTS, request_id
from examples.month import make_month

ROOT = Path(__file__).resolve().parent.parent
CONTENT = (ROOT / "examples" / "usage.jsonl").read_bytes()
LINES: list[dict[str, Any]] = [json.loads(line) for line in CONTENT.splitlines()]
README = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
TRACE = os.environ.get("BRIVIONIX_TRACE")


def day(line: dict[str, Any]) -> int:
    """Return the day of the month of a record."""
    return datetime.fromisoformat(line["at"]).day


def format_number(number: int) -> str:
    """Return a number as in the README, such as 40 550 180."""
    return f"{number:,}".replace(",", " ")


def test_the_example_is_the_start_of_the_trace() -> None:
    """The example has the ids of the first 3000 requests of the trace, each once."""
    assert sorted(line["request_id"] for line in LINES) == sorted(map(request_id, range(3000)))


def test_the_example_is_sorted_and_covers_the_month() -> None:
    """The lines are sorted by time, and there is at least one on every day of October 2026."""
    times = [line["at"] for line in LINES]
    assert times == sorted(times)
    assert {time[:8] for time in times} == {"2026-10-"}
    assert set(map(day, LINES)) == set(range(1, LAST_DAY + 1))


def test_the_example_has_more_requests_on_weekdays() -> None:
    """On average, a day from Monday to Friday has more than twice the requests of a Saturday or Sunday."""
    by_day = Counter(map(day, LINES))
    weekend = [by_day[number] for number in by_day if date(2026, 10, number).weekday() >= 5]
    weekday_requests = len(LINES) - sum(weekend)
    assert weekday_requests / (LAST_DAY - len(weekend)) > 2 * sum(weekend) / len(weekend)


def test_the_example_has_the_boundary_cases() -> None:
    """Requests at boundaries of periods and prices have exactly the times of make_usage.py."""
    times = {line["request_id"]: line["at"] for line in LINES}
    actual = {number: times[request_id(number)] for number in BOUNDARIES}
    assert actual == {number: f"2026-10-{day:02}T{time}Z" for number, (day, time) in BOUNDARIES.items()}


@pytest.mark.parametrize(
    ("key", "name", "start"),
    [("account", *item) for item in ACCOUNT_STARTS.items()] + [("service_tier", *item) for item in TIER_STARTS.items()],
)
def test_accounts_and_tiers_of_the_example_start_on_their_day(key: str, name: str, start: int) -> None:
    """No request of an account or a tier is before its first day."""
    assert min(day(line) for line in LINES if line[key] == name) >= start


def test_the_readme_of_the_example_has_its_figures() -> None:
    """The table in examples/README.md has the requests, tokens, Credits and counts of the example."""
    book = PriceBook.load(ROOT / "pricing.yaml")
    totals: Counter[str] = Counter()
    counts_by: dict[str, Counter[str]] = {name: Counter() for name in ("accounts", "groups", "models", "tiers served")}
    charges = []
    for line in LINES:
        usage, at = Usage.from_response(line["usage"]), datetime.fromisoformat(line["at"])
        charge = book.rate(usage, model=line["model"], group=line["group"], at=at, service_tier=line["service_tier"])
        charges.append(charge.credits)
        totals.update(input=usage.input_tokens, cached=usage.cache_read_tokens, output=usage.output_tokens)
        names = (line["account"], line["group"], charge.model, charge.service_tier)
        for counts, name in zip(counts_by.values(), names, strict=True):
            counts[name] += 1
    table = dict(re.findall(r"^\| (.+?) \| (.+) \|$", README, re.MULTILINE))
    assert table["requests"].startswith(f"{format_number(len(LINES))}, ")
    assert table["input tokens"] == format_number(totals["input"])
    assert table["of which cached"].startswith(f"{format_number(totals['cached'])} (")
    assert table["output tokens"] == format_number(totals["output"])
    assert table["total charge"] == f"{sum(charges)} Credits"
    for title, counts in counts_by.items():
        assert table[title] == ", ".join(f"{name} {format_number(count)}" for name, count in counts.most_common())


@pytest.mark.skipif(not TRACE, reason="BRIVIONIX_TRACE does not name the trace; examples/README.md says where it is")
def test_the_example_can_be_regenerated_from_the_trace(tmp_path: Path) -> None:
    """make_usage.py writes the committed file from the trace, byte for byte."""
    command = [sys.executable, str(ROOT / "examples" / "make_usage.py"), str(TRACE), "--out", str(tmp_path / "again")]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "again").read_bytes() == CONTENT


def test_the_example_month_is_stored(tmp_path: Path) -> None:
    """The stored files of the example month are those that its script writes."""
    for name in ("log.jsonl", "wechat.csv", "stripe.csv", "costs.json"):
        write = getattr(make_month, f"write_{Path(name).stem}")
        write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == (ROOT / "examples" / "month" / name).read_bytes()
