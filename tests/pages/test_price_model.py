"""Everything that a price depends on appears on the page, in the price list, the price table and the bill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.pages import price_list, pricing_page
from pages_kit import opened
from samples import utc

RICH = """version: 1
credit: {currency: USD, nominal_per_credit: 1}
meters: {robot_minutes: {unit: minute, label: {en: Robot time, zh_CN: 机器人时间}}}
calendars:
  peak: {time_zone: Asia/Shanghai, rules: [{from: 2026-01-01, hours: ["09:00-12:00"]}]}
service_tiers: {reserved: []}
exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}]}
channels:
  rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}
models:
  deep:
    display_name: {en: Deep One, zh_CN: 深一}
    vendor: Acme
    currency: CNY
    prices:
      - from: 2026-01-01
        standard:
          input: 4
          cache_read: 0.4
          output: 8
          reasoning: 9
          robot_minutes: 2
          minimum: 0.5
          long_context:
            - {above: 32000, input: 5, cache_read: 0.5, output: 10, reasoning: 11}
            - {at_least: 128000, input: 6, cache_read: 0.6, output: 12, reasoning: 13}
          windows: {peak: {factor: 2}}
          regions: {us: {factor: 1.1}}
          modes: {fast: {input: 40, cache_read: 4, output: 80, reasoning: 90}}
        reserved: {input: 1, cache_read: 0.1, output: 2}
  router:
    routes_to: [deep]
    prices: [{from: 2026-01-01, standard: {router_fee: 0.14}}]
groups: {default: {terms: [{from: 2026-01-01, ratio: 0.5, models: ["*"]}]}}
"""
AT = utc("2026-09-01T02:00:00")
EXPECTED = {
    "en": "region us|mode fast|in the window peak|over 32,000 and under 128,000|at least $0.035|Acme Deep One",
    "zh_CN": "区域 us|模式 fast|时段 peak 内|超过 32,000、不足 128,000|每次请求至少 US$0.035|Acme 深一",
}


@pytest.mark.parametrize("language", EXPECTED)
def test_the_page_states_what_a_price_depends_on(browser: Browser, tmp_path: Path, language: str) -> None:
    """Regions, modes, windows, ranges, minimum charges, meters and names are on the page, with and without scripts."""
    html = pricing_page(PriceBook.loads(RICH), at=AT, locale=language)
    with opened(browser, tmp_path / "p.html", html, f"#lang={language}") as tab:
        tab.page.locator(".expand").first.click()
        shown = tab.text("#prices")
    for text in EXPECTED[language].split("|"):
        assert text in html, text
        assert text in shown, text
    for text in {"en": ["Robot time", "per minute"], "zh_CN": ["机器人时间"]}[language]:
        assert text in shown


def test_the_calculator_prices_a_call_in_the_range_of_its_tokens(browser: Browser, tmp_path: Path) -> None:
    """The calculator takes the usual price of the range that the input tokens are in."""
    html = pricing_page(PriceBook.loads(RICH), at=AT)
    with opened(browser, tmp_path / "p.html", html, "#model=deep&n.input=100000&n.cache_read=0&n.output=0") as tab:
        assert "$0.035" in tab.text("#result")  # 100000 x 5 CNY x 0.14 x 0.5 / 1 M


def test_the_price_list_has_the_conditions_of_each_row() -> None:
    """A row of a region, a mode or a window names it, and other rows have no such key."""
    rows = price_list(PriceBook.loads(RICH), at=AT)["groups"][0]["prices"]
    usual = [row for row in rows if "conditions" not in row]
    assert [(row["model"], row["service_tier"], row["context"], row["above"], row.get("up_to")) for row in usual] == [
        ("deep", "standard", "short", 32_000, None),
        ("deep", "standard", ">32000", 32_000, 127_999),
        ("deep", "standard", ">=128000", 127_999, None),
        ("deep", "reserved", "any", None, None),
        ("router", "standard", "any", None, None),
    ]
    assert {json.dumps(row["conditions"]) for row in rows if "conditions" in row} == {
        json.dumps(conditions)
        for conditions in (
            {"window": "peak"}, {"mode": "fast"}, {"mode": "fast", "window": "peak"}, {"region": "us"},
            {"region": "us", "window": "peak"}, {"region": "us", "mode": "fast"},
            {"region": "us", "mode": "fast", "window": "peak"},
        )
    }  # fmt: skip


def test_the_price_table_has_columns_for_what_a_price_depends_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``prices`` has columns for region, mode, window, list currency and minimum charge if the file has such prices."""
    path = tmp_path / "rich.yaml"
    path.write_text(RICH, "utf-8")
    assert main(["prices", "--prices", str(path), "--at", "2026-09-01T02:00:00Z", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    usual = [r for r in rows if r["model"] == "deep" and r["service_tier"] == "standard" and not r["mode"]]
    (row,) = [r for r in usual if (r["region"], r["window"], r["context_tier"]) == ("us", "peak", "<=32000")]
    assert (row["input"], row["minimum"]) == ("0.616", "0.035")
    assert (row["list_currency"], row["exchange_rate"]) == ("CNY", "0.14")


def test_a_bill_names_what_its_prices_depended_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of a bill name region, mode, window, router and currency, in the document, the text and the page."""
    path, usage, out = tmp_path / "rich.yaml", tmp_path / "usage.jsonl", tmp_path / "bill"
    path.write_text(RICH, "utf-8")
    base = {"account": "a", "group": "default", "at": "2026-09-01T02:00:00Z"}
    body = {"prompt_tokens": 40_000, "completion_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 40}}
    records = [
        {**base, "request_id": "r1", "model": "deep", "region": "us", "mode": "fast", "usage": body},
        {**base, "request_id": "r2", "model": "router", "usage": {"model": "deep", "usage": body}},
    ]
    usage.write_text("\n".join(json.dumps(record) for record in records), "utf-8")
    command = ["invoice", str(usage), "--account", "a", "--period", "2026-09", "--prices", str(path), "--out", str(out)]
    assert main([*command, "--issuer", "X"]) == 0
    lines = json.loads((out / "invoice.json").read_text("utf-8"))["lines"]
    assert {(line.get("router"), line.get("region"), line.get("mode"), line.get("window")) for line in lines} == {
        (None, "us", "fast", "peak"),
        ("router", None, None, "peak"),
    }
    assert {line["meter"]: line.get("list_currency") for line in lines if line.get("router")} == {
        "input": "CNY", "output": "CNY", "reasoning": "CNY", "router_fee": None, "minimum_charge": None,
    }  # fmt: skip
    assert "standard, us, fast, peak" in (out / "invoice.txt").read_text("utf-8")
    assert main(["render", str(out / "invoice.json"), "--html", str(out / "page.html")]) == 0
    assert "region us · mode fast · in the window peak" in (out / "page.html").read_text("utf-8")
    assert main(["verify", str(out / "invoice.json"), "--usage", str(usage), "--prices", str(path)]) == 0
    capsys.readouterr()
