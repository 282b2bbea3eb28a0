"""What a price file states is shown: in the price table, the price list, the page, explanations and bills."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.pages import bill_page, price_list, pricing_page
from pages_kit import opened
from samples import utc

FILE: Final = Path(__file__).parent / "data" / "everything.yaml"
AT: Final = utc("2026-09-07T02:30:00")  # a Monday, 10:30 in Shanghai
SHORT: Final = {"prompt_tokens": 1, "completion_tokens": 0}
LONG: Final = {"prompt_tokens": 300_000, "completion_tokens": 9}
USAGE: Final = {
    "prompt_tokens": 200_000,
    "completion_tokens": 1000,
    "prompt_tokens_details": {"cached_tokens": 1000},
    "completion_tokens_details": {"reasoning_tokens": 400},
    "quantities": {"robot_minutes": 3},
    "unheard_of_units": 7,
}
BASE: Final = {"account": "a", "group": "default", "at": "2026-09-07T02:30:00Z", "service_tier": "ultrafast"}
RECORDS: Final = [
    {**BASE, "request_id": "r1", "model": "alpha", "region": "us-east-1", "usage": USAGE},
    {
        **BASE,
        "request_id": "r2",
        "model": "router",
        "usage": {"model": "alpha", "usage": {"prompt_tokens": 1, "completion_tokens": 0}},
    },
    {
        **BASE,
        "request_id": "r3",
        "model": "alpha",
        "mode": "quick",
        "usage": {"prompt_tokens": 300_000, "completion_tokens": 9},
    },
]


@cache
def book() -> PriceBook:
    """Return the price book of the file."""
    return PriceBook.load(FILE)


def missing(text: str, expected: str) -> list[str]:
    """Return the lines of ``expected`` that a text does not have."""
    return [line for line in map(str.strip, expected.strip().splitlines()) if line not in text]


def test_the_price_table_shows_everything(capsys: pytest.CaptureFixture[str]) -> None:
    """``prices`` shows prices, conditions, ranges, currencies, minimum, labels and the hours of windows."""
    assert main(["prices", "--prices", str(FILE), "--at", "2026-09-07", "--view", "topup"]) == 0
    text = capsys.readouterr().out
    assert not missing(
        text,
        """
        Group default (Everyone)
        up to 128,000
        over 128,000 and under 256,000
        from 256,000
        ultra
        us
        quick
        peak
        CNY
        0.125
        robot minutes
        robot_minutes per 60 minutes
        reasoning
        request
        router fee
        web search
        cache read
        minimum
        model alpha: Acme Alpha One
        service tier ultra: Ultra fast
        region us: United States
        mode quick: Quick answers
        window peak: Busy hours
        channel rmb: WeChat
        meter robot_minutes: Robot time
        Asia/Shanghai: Mon, Tue, Wed
        10:00–12:00, 22:00–06:00 of the next day; except Oct 1, 2026 to Oct 7, 2026, Dec 25, 2026
        From Nov 1, 2026: every day: 07:30–11:45
    """,
    )


def test_the_price_list_has_everything() -> None:
    """Each value that the file states for prices and readers is in the price list, texts in both languages."""
    prices = price_list(book(), at=AT)
    stated = json.dumps(prices, ensure_ascii=False)
    texts = re.findall(r"(?:en|zh_CN): \"?([^,}\"]+)", FILE.read_text("utf-8"))
    assert len(texts) > 20
    assert not [text for text in texts if text not in stated]
    assert not missing(
        stated,
        """
        "weekdays": ["mon", "tue", "wed"]
        "hours": ["10:00-12:00", "22:00-06:00"]
        2026-10-01/2026-10-07
        Asia/Shanghai
        "07:30-11:45"
        {"over": 128000, "under": 256000}
        {"from": 256000}
        "exchange_rate": "0.125"
        "input": "24"
        "minimum": "0.005"
        "minimum": ["0.0064", "0.0128"]
        "minimum_topup"
        {"region": "us"}
        {"mode": "quick"}
        {"window": "peak"}
        alpha-latest
        2026-01-01
        "window": 400000
        "max_input": 300000
        "max_output": 100000
        "price_per_credit": ["0.85", "0.87"]
        "steps": [{"at_least": "500", "discount": "0.03"}]
        "min_payment": "10"
        "max_payment": "5000"
        router_fee
        robot_minutes
        "ratio": "0.5"
        "2026-12-01T00:00:00Z"
        "2026-12-03T00:00:00Z"
    """,
    )


ON_THE_PAGE: Final = {
    "en": """
        Prices of group default (Everyone)
        The usual prices
        Acme Alpha One
        Long documents
        Ultra fast
        region us (United States)
        mode quick (Quick answers)
        in the window peak (Busy hours)
        Asia/Shanghai
        Mon, Tue, Wed: 10:00–12:00, 22:00–06:00 of the next day; except Oct 1, 2026 to Oct 7, 2026, Dec 25, 2026
        From Nov 1, 2026: every day: 07:30–11:45
        list prices in CNY: 1 CNY = 0.125 USD
        CN¥24.00
        over 128,000 and under 256,000 input tokens
        from 256,000 input tokens
        Robot time
        per 60 minutes
        Reasoning
        Web search
        Router fee
        at least $0.005
        context 400,000
        input up to 300,000
        output up to 100,000
        released 2026-01-01
        also alpha-latest
        rmb (WeChat <script>alert(1)</script>)
        Top-up in RMB
        CN¥10.00
        CN¥5,000.00
        3% off
        50% below list price
        At least per request
        $0.0064 → $0.0128
    """,
    "zh_CN": """
        分组 default（所有人） 的价格
        常规价格
        顶点 阿尔法一
        长文档
        极速
        区域 us（美国）
        模式 quick（快速回答）
        时段 peak（高峰时段） 内
        周一、周二、周三：10:00–12:00、22:00–次日 06:00；2026年10月1日至2026年10月7日、2026年12月25日除外
        自 2026年11月1日 起：每天：07:30–11:45
        官方价以 CNY 计：1 CNY = 0.125 USD
        ¥24.00
        输入 token 超过 128,000、不足 256,000
        输入 token 256,000 起
        机器人时间
        每 60 分钟
        推理
        联网搜索
        路由费
        每次请求至少
        输入不超过 300,000
        输出不超过 100,000
        发布于 2026-01-01
        别名 alpha-latest
        rmb（微信支付）
        人民币充值
        官方价 5 折
        每次请求至少：US$0.0064 → US$0.0128
    """,
}


@pytest.mark.parametrize("language", ON_THE_PAGE)
@pytest.mark.parametrize("scripts", [True, False])
def test_the_page_shows_everything(browser: Browser, tmp_path: Path, language: str, scripts: bool) -> None:
    """With and without scripts, the page shows it in both languages, and texts of the file stay texts."""
    page = pricing_page(book(), at=AT, locale=language)
    with opened(browser, tmp_path / "p.html", page, "", java_script_enabled=scripts) as tab:
        if scripts:
            tab.page.eval_on_selector_all(".expand", "all => all.forEach(one => one.click())")
        assert not missing(tab.text("body"), ON_THE_PAGE[language])


EXPLAINED: Final = {
    "en": """
        alpha (Acme Alpha One), group default (Everyone), service tier ultra (Ultra fast)
        Over 128,000 and under 256,000 input tokens (here 200000)
        Serving region us (United States): list prices x 1.5
        calendar peak (Busy hours): list prices x 2
        1 CNY = 0.125 USD
        at least 0.005 USD
        Robot time (minutes): 3 x 144 CNY / 60 x exchange rate 0.125 x ratio 0.5
        reasoning tokens: 400
        requests: 1
        rmb (WeChat <script>alert(1)</script>)
        0.85 CNY
        unheard_of_units 7
    """,
    "zh_CN": """
        alpha（顶点 阿尔法一），分组 default（所有人），服务层级 ultra（极速）
        输入 token 超过 128,000、不足 256,000（
        服务区域 us（美国）：官方价 x 1.5
        日历 peak（高峰时段）
        1 CNY = 0.125 USD
        至少收费 0.005 USD
        机器人时间（分钟）：3 x 144 CNY
        推理 token：400
        请求次数：1
        rmb（微信支付）
        unheard_of_units = 7
    """,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the usage file, and the bill of it in ``bill``."""
    folder = tmp_path_factory.mktemp("shown")
    usage = folder / "usage.jsonl"
    usage.write_text("\n".join(map(json.dumps, RECORDS)), "utf-8")
    command = ["invoice", str(usage), "--account", "a", "--period", "2026-09", "--prices", str(FILE)]
    assert main([*command, "--out", str(folder / "bill"), "--issuer", "X"]) == 0
    return folder


@pytest.mark.parametrize("language", EXPLAINED)
def test_an_explanation_states_everything(files: Path, capsys: pytest.CaptureFixture[str], language: str) -> None:
    """``explain`` states all that the price of a request depended on, with labels."""
    args = ["--request", "r1", "--prices", str(FILE), "--locale", language]
    assert main(["explain", str(files / "usage.jsonl"), *args]) == 0
    assert not missing(capsys.readouterr().out, EXPLAINED[language])


def bill(files: Path) -> dict[str, Any]:
    """Return the document of the bill."""
    document: dict[str, Any] = json.loads((files / "bill" / "invoice.json").read_text("utf-8"))
    return document


def test_a_bill_has_the_labels_of_its_names(files: Path) -> None:
    """The document has the label of each name that it has, in both languages, and no others."""
    assert {kind: sorted(labels) for kind, labels in bill(files)["labels"].items()} == {
        "models": ["alpha"],
        "groups": ["default"],
        "channels": ["rmb"],
        "service_tiers": ["ultra"],
        "regions": ["us"],
        "modes": ["quick"],
        "windows": ["peak"],
        "meters": ["robot_minutes"],
    }
    assert bill(files)["labels"]["meters"]["robot_minutes"] == {"en": "Robot time", "zh_CN": "机器人时间"}


def test_a_bill_verifies_with_other_labels(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A price file may improve its labels, and bills from before still verify."""
    prices = tmp_path / "better.yaml"
    prices.write_text(FILE.read_text("utf-8").replace("Busy hours", "Peak hours"), "utf-8")
    paths = [str(files / "bill" / "invoice.json"), "--usage", str(files / "usage.jsonl"), "--prices", str(prices)]
    assert main(["verify", *paths]) == 0
    capsys.readouterr()


def test_the_text_of_a_bill_shows_everything(files: Path) -> None:
    """The text page has conditions, currencies, labels, and what was not charged."""
    assert not missing(
        (files / "bill" / "invoice.txt").read_text("utf-8"),
        """
        ultra, us, peak
        ultra, router, peak
        ultra, quick, peak
        >128000
        CNY (x 0.125)
        robot_minutes
        request
        router_fee
        minimum_charge
        model alpha
        Acme Alpha One
        group default
        Everyone
        Ultra fast
        region us
        United States
        Quick answers
        window peak
        Busy hours
        meter robot_minutes
        Robot time
        channel rmb
        WeChat
        Not charged: the provider reports usage.unheard_of_units, in all 7 in 1 number
    """,
    )


ON_THE_BILL: Final = {
    "en": """
        alpha (Acme Alpha One)
        Ultra fast
        group default (Everyone)
        region us (United States)
        mode quick (Quick answers)
        in the window peak (Busy hours)
        requested as router
        list prices in CNY, exchange rate 0.125
        Robot time
        Reasoning
        Requests
        Router fee
        Supplement to the minimum charge
        rmb (WeChat <script>alert(1)</script>)
        usage.unheard_of_units = 7 · 1 number
        Not charged
    """,
    "zh_CN": """
        alpha（顶点 阿尔法一）
        极速
        default（所有人）
        us（美国）
        quick（快速回答）
        peak（高峰时段）
        机器人时间
        rmb（微信支付）
        未计费
        usage.unheard_of_units = 7 · 1 个数值
    """,
}


@pytest.mark.parametrize("language", ON_THE_BILL)
def test_the_page_of_a_bill_shows_everything(browser: Browser, files: Path, tmp_path: Path, language: str) -> None:
    """The page has labels and what was not charged, in both languages, and its own check finds it consistent."""
    page = bill_page(bill(files), locale=language)
    assert not missing(html.unescape(re.sub("<[^>]*>", "", page)), ON_THE_BILL[language])
    with opened(browser, tmp_path / "bill.html", page) as tab:
        tab.page.wait_for_selector("#check[data-verdict], #checks li")
        assert not missing(tab.text("main"), ON_THE_BILL[language])
        assert {"en": "is consistent", "zh_CN": "一致"}[language] in tab.text("#verdict")


NOT_SHOWN: Final = {
    "meters: {idle_minutes: {unit: minute, label: x}}": "meters.idle_minutes: no price uses it",
    "calendars: {idle: {time_zone: UTC, rules: [{from: 2026-01-01, hours: ['08:00-09:00']}]}}": (
        "calendars.idle: no price uses it"
    ),
    "service_tiers: {idle: []}": "service_tiers.idle: no model is sold in this tier",
    "service_tiers: {reserved: [leased]}": "service_tiers.reserved: no model is sold in this tier",
    "regions: {mars: [m1]}": "regions.mars: no price uses it",
    "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}]}": "exchange_rates.CNY: no price uses it",
    "labels: {service_tiers: {flex: Later}}": "labels.service_tiers.flex: no model is sold in this tier",
    "regions: {mars: [m1]}\nlabels: {regions: {mars: Mars}}": "labels.regions.mars: no price uses this region",
    "labels: {service_tiers: {standard: {en: Usual}}}": "labels.service_tiers.standard: has no text in 'zh_CN'",
}


@pytest.mark.parametrize(("stated", "note"), NOT_SHOWN.items(), ids=lambda text: text.split(":")[0])
def test_check_reports_what_nothing_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stated: str, note: str
) -> None:
    """``check`` notes what the file states and no table, page or bill will show."""
    path = tmp_path / "pricing.yaml"
    path.write_text(
        f"version: 1\ncredit: {{currency: USD, nominal_per_credit: 1}}\n{stated}\n"
        "models: {m: {prices: [{from: 2026-01-01, standard: {input: 1, output: 2}}]}}\n"
        "groups: {default: {terms: [{from: 2026-01-01, ratio: 1, models: [m]}]}}\n",
        "utf-8",
    )
    assert main(["check", str(path)]) == 0
    assert note in capsys.readouterr().out
