"""What new users of the price file type wrong: each finding or note says what to write instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.errors import PriceFileError

BASE = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
models:
  model-one:
    prices:
      - from: 2026-01-01
        standard:
          input: 1.25
groups:
  default:
    terms:
      - from: 2026-01-01
        ratio: 1
        models: ["*", model-one]
"""


def findings(old: str, new: str) -> list[str]:
    """Return the findings of the file with a replacement, each with its hint."""
    assert old in BASE
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(BASE.replace(old, new))
    return [f"{finding.message}; {finding.hint}" for finding in caught.value.findings]


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("1.25", "1,25", "'1,25' is not a plain number; write 1.25 with a point"),
        ("\n          input: 1.25", " {input: 1,25}",
         "the key '25' is not known; if it follows a decimal comma, write a point instead of the comma"),
        ("        standard:\n          input", "        input",
         "is a price outside of a service tier; put meters in a tier: standard: {input: ...}"),
        ('["*", model-one]', "[*]", "a '*' without quotes; quote it: \"*\""),
        ('["*", model-one]', "[*-codex]",
         '*-codex refers to itself or to nothing; write the value out; quote a pattern: "*-codex"'),
        ("          input", "\t  input", "a tab; indent with spaces"),
        ("    prices", "    display_name: {zh: a}\n    prices", "the language 'zh' is not known; did you mean zh_CN?"),
        ("    prices", "    vendor: {fr: a}\n    prices", "the language 'fr' is not known; known here: en, zh_CN"),
        ("    prices", "    currency: CNY\n    prices",
         "no exchange rate of CNY; add what 1 CNY is worth in USD: exchange_rates: {CNY: [{from: DATE, rate: RATE}]}"),
        ("models:\n", "model:\n", "the key 'model' is not known; did you mean 'models'?"),
        ("    prices:", "    price:", "the key 'price' is not known; did you mean 'prices'?"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_finding_that_says_what_to_write(old: str, new: str, finding: str) -> None:
    """The finding names the mistake itself, and nothing that only follows from it."""
    assert findings(old, new) == [finding]


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ("1.25", "0.00000125", "0.00000125 is a price per 1 M tokens; did you mean 1.25?"),
        ("1.25", "1\n          web_search: 0.01", "0.01 is a price per 1000 calls; did you mean 10?"),
        ("models:\n", "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 0.01, models: [model-one]}]}\nmodels:\n",
         "0.01 is a price per 1000 calls; did you mean 10?"),
        ("1.25", "1\n          windows: {}\n          regions: {us: {input: 0.000002}}",
         "0.000002 is a price per 1 M tokens; did you mean 2?"),
    ],
)  # fmt: skip
def test_a_price_of_one_token_or_call_is_noted(old: str, new: str, note: str, tmp_path: Path) -> None:
    """``check`` notes prices that are so small that they are probably those of a single token or call."""
    path = tmp_path / "pricing.yaml"
    path.write_text(BASE.replace(old, new, 1), "utf-8")
    assert f"{note}" in [f"{each.message}; {each.hint}" for each in PriceBook.load_with_notes(path)[1]]


CALENDARS = """calendars:
  night: {time_zone: Europe/Berlin, rules: [{from: 2026-01-01, hours: ["22:00-02:00"]}]}
  late: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ["%s"]}]}
models:
"""


@pytest.mark.parametrize(
    ("hours", "noted"),
    [
        ("00:30-01:30", True),  # 01:30 in Berlin in winter: only then in the window that ends at 02:00
        ("20:30-20:45", True),  # 22:30 in Berlin in summer only
        ("01:00-20:00", False),
        ("02:00-03:00", False),
    ],
)
def test_windows_that_overlap_are_noted(hours: str, noted: bool, tmp_path: Path) -> None:
    """``check`` notes a window in which the price of an earlier window of its tier applies, in summer or winter."""
    path = tmp_path / "pricing.yaml"
    windows = "1.25\n          windows: {night: {factor: 2}, late: {factor: 3}}"
    path.write_text(BASE.replace("1.25", windows, 1).replace("models:\n", CALENDARS % hours, 1), "utf-8")
    notes = [note.message for note in PriceBook.load_with_notes(path)[1]]
    assert notes == (["overlaps the window 'night', whose price applies while both do, as it stands first"] * noted)


def test_patterns_by_which_no_name_means_a_model_are_noted(tmp_path: Path) -> None:
    """``check`` notes patterns that lead to no model, or only to each other; those that reach one need no note."""
    path = tmp_path / "pricing.yaml"
    aliases = """aliases:
  "azure/*": "*"
  "a/*": "azure/*"
  "x/*": "y/*"
  "y/*": "x/*"
  "k/*": "model-two-*"
  "one/*": "model-one-*"
models:
"""
    path.write_text(BASE.replace("models:\n", aliases, 1), "utf-8")
    book, notes = PriceBook.load_with_notes(path)
    assert {note.path for note in notes} == {"aliases.x/*", "aliases.y/*", "aliases.k/*"}
    assert book.resolve_model("a/model-one") == book.resolve_model("one/2026-09-01") == "model-one"


def test_a_price_before_the_first_exchange_rate_is_noted(tmp_path: Path) -> None:
    """``check`` notes a list price that starts before the first exchange rate of its currency: it sells nothing yet."""
    path = tmp_path / "pricing.yaml"
    rate = "exchange_rates: {CNY: [{from: 2030-02-01, rate: 0.14}]}\nmodels:\n"
    text = BASE.replace("models:\n", rate, 1).replace("    prices:\n", "    currency: CNY\n    prices:\n", 1)
    path.write_text(text, "utf-8")
    assert [note.message for note in PriceBook.load_with_notes(path)[1]] == [
        "no exchange rate of CNY before 2030-02-01T00:00:00Z, so requests until then have no price"
    ]


def test_small_prices_that_exist_are_not_noted(tmp_path: Path) -> None:
    """A price of 0, and the smallest prices that providers ask, are no mistakes."""
    path = tmp_path / "pricing.yaml"
    path.write_text(BASE.replace("1.25", "0.0028\n          output: 0\n          web_search: 0.1"), "utf-8")
    assert PriceBook.load_with_notes(path)[1] == []


@pytest.mark.parametrize(
    ("group", "model", "close"), [("defalt", "model-one", "default"), ("default", "modell-one", "model-one")]
)
def test_a_misspelt_name_in_a_usage_file_gets_a_suggestion(
    group: str, model: str, close: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command ``rate`` suggests the group or model that was probably meant."""
    (tmp_path / "pricing.yaml").write_text(BASE, "utf-8")
    record = {"request_id": "r", "at": "2026-10-01T00:00:00Z", "account": "a", "group": group, "model": model}
    record["usage"] = {"prompt_tokens": 1, "completion_tokens": 0}  # type: ignore[assignment]
    (tmp_path / "usage.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    assert main(["rate", str(tmp_path / "usage.jsonl"), "--prices", str(tmp_path / "pricing.yaml")]) == 2
    assert f"did you mean '{close}'?" in capsys.readouterr()[1]
