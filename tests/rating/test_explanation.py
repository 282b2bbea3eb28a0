"""Explanations: labels, ranges of input tokens, meters and currencies, in both languages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brivionix_billing import Charge, PriceBook, Usage
from brivionix_billing.cli import main
from samples import D, utc

FILE = """version: 1
credit: {currency: USD, nominal_per_credit: 1}
meters:
  ocr_pages: {unit: page, per: 100, label: {en: OCR pages, zh_CN: OCR 页}}
  robot_minutes: {unit: minute, label: {en: Robot time, zh_CN: 机器人时间}}
  blobs: {unit: blob}
calendars:
  peak:
    display_name: {en: Peak hours, zh_CN: 高峰时段}
    time_zone: UTC
    rules: [{from: 2026-01-01, hours: ["08:00-12:00"]}]
service_tiers: {ultra: []}
labels:
  service_tiers: {ultra: {en: Ultra fast, zh_CN: 极速}}
  regions: {us: {en: United States, zh_CN: 美国}}
  modes: {quick: {en: Quick mode, zh_CN: 快速模式}}
exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.125}]}
channels:
  rmb:
    currency: CNY
    display_name: {en: WeChat Pay, zh_CN: 微信支付}
    prices: [{from: 2026-01-01, price_per_credit: 0.85}]
models:
  deep:
    display_name: {en: Deep One, zh_CN: 深一}
    vendor: Acme
    currency: CNY
    prices:
      - from: 2026-01-01
        ultra:
          input: 8
          output: 16
          minimum: 0.08
          long_context: [{above: 128000, input: 16, output: 32}, {at_least: 256000, input: 24, output: 48}]
          regions: {us: {factor: 2}}
          modes: {quick: {factor: 3}}
          windows: {peak: {factor: 0.5}}
  yuan: {currency: CNY, prices: [{from: 2026-01-01, standard: {input: 8, output: 16}}]}
  pages:
    prices: [{from: 2026-01-01, standard: {ocr_pages: 1.5, robot_minutes: 0.2, blobs: 3}}]
groups:
  default: {display_name: {en: Everyone, zh_CN: 所有人}, terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}
  own:
    terms:
      - from: 2026-01-01
        ratio: 1
        models: ["*"]
        overrides: {yuan: {prices: {standard: {input: 3, output: 5}}}}
"""
AT = utc("2026-09-01T09:00:00")
LATE = utc("2026-09-01T13:00:00")


def charge(tokens: int) -> Charge:
    """Return a charge outside the peak hours, in the usual region and mode."""
    book = PriceBook.loads(FILE)
    return book.rate(Usage(input_tokens=tokens), model="deep", group="default", at=LATE, service_tier="ultra")


@pytest.mark.parametrize(
    ("locale", "texts"),
    [
        (
            "en",
            "deep (Acme Deep One), group default (Everyone), service tier ultra (Ultra fast)|region us (United States)"
            "|Mode quick (Quick mode)|calendar peak (Peak hours)|through rmb (WeChat Pay)|= 0.01 USD per request",
        ),
        (
            "zh_CN",
            "deep（Acme 深一），分组 default（所有人），服务层级 ultra（极速）|区域 us（美国）|模式 quick（快速模式）"
            "|日历 peak（高峰时段）|rmb（微信支付）|= 0.01 USD；",
        ),
    ],
)
def test_an_explanation_has_the_labels_of_the_file(locale: str, texts: str) -> None:
    """Model, group, tier, region, mode, window and channel are named with their labels, and a minimum is stated."""
    book = PriceBook.loads(FILE)
    text = book.rate(
        Usage(input_tokens=1), model="deep", group="default", at=AT, service_tier="ultra", region="us", mode="quick"
    ).explain(locale)
    for part in texts.split("|"):
        assert part in text


@pytest.mark.parametrize(
    ("tokens", "english", "chinese"),
    [
        (128_000, "Up to 128,000 input tokens (here 128000)", "输入 token 不超过 128,000（本次 128000 个）"),
        (255_999, "Over 128,000 and under 256,000 input tokens", "输入 token 超过 128,000、不足 256,000（"),
        (256_000, "From 256,000 input tokens", "输入 token 256,000 起（"),
    ],
)
def test_ranges_of_input_tokens_are_stated_as_in_the_file(tokens: int, english: str, chinese: str) -> None:
    """A boundary of ``above`` is "over" and "up to", one of ``at_least`` is "from" and "under"."""
    assert english in charge(tokens).explain()
    assert chinese in charge(tokens).explain("zh_CN")


@pytest.mark.parametrize(
    ("locale", "lines"),
    [
        ("en", ["OCR pages: 250 x 1.5", "Robot time (minutes): 3 x 0.2", "blobs: 2 x 3"]),
        ("zh_CN", ["OCR 页：250 x 1.5", "机器人时间（分钟）：3 x 0.2", "blobs：2 x 3"]),
    ],
)
def test_meters_of_the_file_have_their_labels_and_one_unit(locale: str, lines: list[str]) -> None:
    """A label is shown as stated, with its unit in the language of the explanation, unless the label has it already."""
    usage = Usage(quantities={"ocr_pages": D("250"), "robot_minutes": D("3"), "blobs": D("2")})
    text = PriceBook.loads(FILE).rate(usage, model="pages", group="default", at=AT).explain(locale)
    for line in lines:
        assert f"  {line}" in text


def test_the_list_price_beside_a_group_price_has_its_own_currency() -> None:
    """A group-specific price is in the nominal currency, and the list price beside it in that of the model."""
    text = PriceBook.loads(FILE).rate(Usage(input_tokens=1000), model="yuan", group="own", at=AT).explain()
    assert "1000 x 3 USD / 1000000 (group-specific price; list price 8 CNY) =" in text


@pytest.mark.parametrize(("currency", "shown"), [("USD", True), ("EUR", False)])
def test_the_quota_of_a_gateway_is_shown_for_dollars_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], currency: str, shown: bool
) -> None:
    """Gateways count quota per USD, so ``explain`` leaves it out if the nominal currency is another one."""
    prices, usage = tmp_path / "p.yaml", tmp_path / "u.jsonl"
    prices.write_text(FILE.replace("credit: {currency: USD", f"credit: {{currency: {currency}"), "utf-8")
    record = {
        "request_id": "r",
        "at": "2026-09-01T09:00:00Z",
        "account": "a",
        "group": "default",
        "model": "yuan",
        "usage": {"prompt_tokens": 10, "completion_tokens": 1},
    }
    usage.write_text(json.dumps(record), "utf-8")
    assert main(["explain", str(usage), "--request", "r", "--prices", str(prices)]) == 0
    assert ("per USD" in capsys.readouterr().out) == shown
