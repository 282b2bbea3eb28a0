"""Peak prices of a source and of a price file are compared by their hours, whatever their calendars are called."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import PriceBook, Usage
from brivionix_billing.cli import main
from brivionix_billing.importing.merge import merge_catalog
from import_kit import read_data
from samples import utc

OFF_PEAK = [
    {"hours_utc": ["00:00-01:00", "04:00-06:00", "10:00-00:00"], "weekdays": [1, 2, 3, 4, 5]},
    {"hours_utc": "00:00-00:00", "weekdays": [6, 7]},
]
FILE = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
calendars:
  CALENDAR:
    time_zone: Asia/Shanghai
    rules:
      - from: 2026-08-16T16:00:00Z
        weekdays: [mon, tue, wed, thu, fri]
        hours: ["09:00-12:00", "14:00-18:00"]
        excluded_dates: [2027-01-04]
models:
  m:
    prices:
      - from: 2026-08-16T16:00:00Z
        standard: {input: 1, output: 4, windows: {CALENDAR: WINDOW}}
groups:
  default:
    terms:
      - {from: 2026-01-01, ratio: 1, models: ["*"]}
"""
PEAK, USUAL = utc("2027-01-05T02:00:00Z"), utc("2027-01-05T12:00:00Z")
SAME_NAME = "utc-mon-fri-0100-0400-0600-1000"
"""The name that the import gives to the calendar of the source."""


def row(peak: str, usual: str = "1") -> dict[str, Any]:
    """Return a row of litellm with prices in and outside of the peak hours, in USD per 1 M tokens."""
    one, other = float(Decimal(peak) / 10**6), float(Decimal(usual) / 10**6)
    off_peak = {"input_cost_per_token": other, "output_cost_per_token": other * 4, "windows": OFF_PEAK}
    prices = {"input_cost_per_token": one, "output_cost_per_token": one * 4, "off_peak_pricing": off_peak}
    return {"m": {"litellm_provider": "x", "mode": "chat", **prices}}


def file_with(window: str = "{factor: 2}", calendar: str = "peak", old: str = "", new: str = "") -> str:
    """Return the price file with a window."""
    return FILE.replace("WINDOW", window).replace("CALENDAR", calendar).replace(old, new)


def prices(text: str) -> tuple[Any, Any]:
    """Return the price of 1 M input tokens in and outside of the peak hours."""
    book, usage = PriceBook.loads(text), Usage(input_tokens=1_000_000)
    charges = [book.rate(usage, model="m", group="default", at=at).credits for at in (PEAK, USUAL)]
    return charges[0], charges[1]


@pytest.mark.parametrize("window", ["{factor: 2}", "{input: 2, output: 8}"])
@pytest.mark.parametrize("calendar", ["peak", SAME_NAME])
def test_the_same_peak_prices_get_no_entry(window: str, calendar: str) -> None:
    """A calendar with the same hours in another time zone, and prices instead of a factor, change nothing."""
    text = file_with(window, calendar)
    result = merge_catalog(read_data("litellm", row("2")), text.encode(), "p", "2027-01-01")
    assert (result.unchanged, result.text) == (["m"], text)


@pytest.mark.parametrize("calendar", ["peak", SAME_NAME])
def test_another_peak_price_replaces_that_of_the_file(calendar: str) -> None:
    """The source's factor applies in the file's calendar, and the file's own factor does not apply any more."""
    text = merge_catalog(read_data("litellm", row("3")), file_with(calendar=calendar).encode(), "p", "2027-01-01").text
    assert prices(text) == (3, 1)
    assert list(PriceBook.loads(text).calendars()) == [calendar]


@pytest.mark.parametrize("calendar", ["peak", SAME_NAME])
def test_other_hours_get_a_calendar_of_their_own(calendar: str) -> None:
    """If the hours differ, the source's calendar is added under a name that is free, and its windows alone apply."""
    content = file_with("{factor: 5}", calendar, "09:00-12:00", "00:00-12:00")
    catalog = read_data("litellm", row("2"))
    text = merge_catalog(catalog, content.encode(), "p", "2027-01-01").text
    assert prices(text) == (2, 1)
    assert list(PriceBook.loads(text).calendars()) == [calendar, SAME_NAME + ("-2" if calendar == SAME_NAME else "")]
    assert [note.code for note in catalog.notes] == ["windows_replaced"]


def test_a_peak_price_becomes_the_usual_one() -> None:
    """Windows of the file do not multiply a usual price of the source that contains them already."""
    text = merge_catalog(read_data("litellm", row("2", "1.5")), file_with().encode(), "p", "2027-01-01").text
    assert prices(text) == (2, Decimal("1.5"))


def drift(
    tmp_path: Path, text: str, source: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> tuple[int, list[Any]]:
    """Compare a price file with a source at a time outside of the peak. Returns the status and the differences."""
    (tmp_path / "p.yaml").write_text(text, "utf-8")
    (tmp_path / "s.json").write_text(json.dumps(source), "utf-8")
    arguments = ["--prices", str(tmp_path / "p.yaml"), "--at", "2027-01-05T12:00:00Z", "--format", "json"]
    status = main(["drift", "litellm", str(tmp_path / "s.json"), *arguments])
    return status, json.loads(capsys.readouterr()[0])["differences"]


@pytest.mark.parametrize("calendar", ["peak", SAME_NAME])
def test_drift_compares_peak_prices(calendar: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another factor, or other hours of the same calendar, are differences at any time of the day."""
    assert drift(tmp_path, file_with(calendar=calendar), row("2"), capsys) == (0, [])
    status, found = drift(tmp_path, file_with("{factor: 3}", calendar), row("2"), capsys)
    assert status == 1
    assert [(each["meter"], each["ours"], each["theirs"]) for each in found] == [
        ("input", "3", "2"), ("output", "12", "8")
    ]  # fmt: skip
    longer = file_with("{factor: 2}", calendar, "09:00-12:00", "09:00-13:00")
    status, found = drift(tmp_path, longer, row("2"), capsys)
    assert status == 1
    assert [(each["variation"], each["ours"], each["theirs"]) for each in found] == [
        (f"no window (price file: window {calendar})", "2", "1"),
        (f"no window (price file: window {calendar})", "8", "4"),
    ]
