"""Files of processors and providers, as they are downloaded and as editors and locales change them."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.cli import main
from brivionix_billing.ledger import Ledger
from brivionix_billing.reconcile.exported_files import _unpack, read_files
from brivionix_billing.reconcile.exported_values import NumberFormat, parse_count, parse_local_time
from brivionix_billing.reconcile.payments.run import read_statement
from brivionix_billing.reconcile.payments.statement import Statement
from brivionix_billing.reconcile.provider.report import decimals_of
from brivionix_billing.reconcile.provider.run import read_report
from brivionix_billing.times import load_zone
from paths import DATA, SHARED_DATA

FILES = DATA / "statements"
Change = Callable[[str], bytes]


def written(folder: Path, content: bytes, name: str = "file") -> str:
    """Write a file and return its path."""
    (folder / name).write_bytes(content)
    return str(folder / name)


def text_of(name: str) -> str:
    """Return the text of a file of the tests."""
    return (FILES / name).read_text(encoding="utf-8")


def figures(statement: Statement) -> list[tuple[Any, ...]]:
    """Return what a comparison depends on."""
    return [
        (line.id, line.kind.value, line.at, line.currency, line.gross, line.fee, line.net, line.order_amount)
        for line in statement.lines
    ]


def at(text: str) -> datetime:
    """Return a time in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


D = Decimal
WECHAT, REFUND = "4200000000202610030000000011", "50300000000202610030000000011"
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "stripe": [
        ("txn_a1", "payment", at("2026-10-03 07:15"), "USD", D("24"), D("1"), D("23"), None),
        ("txn_a2", "payment", at("2026-10-03 09:00"), "USD", D("11.52"), D("0.64"), D("10.88"), None),
        ("txn_a3", "refund", at("2026-10-04 10:00"), "USD", D("-6"), D("0"), D("-6"), None),
        ("txn_a4", "dispute", at("2026-10-06 10:00"), "USD", D("-11.52"), D("15"), D("-26.52"), None),
        ("txn_a5", "dispute_reversal", at("2026-10-20 10:00"), "USD", D("11.52"), D("-15"), D("26.52"), None),
        ("txn_a6", "fee", at("2026-10-21 00:00"), "USD", D("-2"), D("0"), D("-2"), None),
        ("txn_a7", "payout", at("2026-10-22 00:00"), "USD", D("-27.88"), D("0"), D("-27.88"), None),
        ("txn_a8", "other", at("2026-10-23 00:00"), "USD", D("3"), D("0"), D("3"), None),
    ],
    "wechat": [
        (WECHAT, "payment", at("2026-10-02 16:00:05"), "CNY", D("80"), D("0.48"), D("79.52"), D("85")),
        (REFUND, "refund", at("2026-10-03 15:59:59"), "CNY", D("-40"), D("-0.24"), D("-39.76"), D("-42.5")),
        (REFUND[:-1] + "2", "refund", at("2026-10-03 04:00"), "CNY", D("0"), D("0"), D("0"), None),
    ],
    "alipay": [
        ("2026100322000000000000000021", "payment", at("2026-10-03 00:00:09"), "CNY", D("168"), D("1.11"), D("166.89"),
         D("170")),
        ("back_z1_0001", "refund", at("2026-10-04 10:00"), "CNY", D("-17"), D("-0.10"), D("-16.90"), None),
    ],
}  # fmt: skip
NAMES = {"stripe": "stripe_itemized.csv", "wechat": "wechat_all.csv", "alipay": "alipay_details.csv"}


def zipped(content: bytes) -> bytes:
    """Return an archive with a file in a folder."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("export/bill.csv", content)
        archive.writestr("__MACOSX/._bill.csv", b"\0\5\26\7")
    return out.getvalue()


CHANGES: dict[str, Change] = {
    "as it is": str.encode,
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16": lambda text: text.encode("utf-16"),
    "GBK": lambda text: text.encode("gbk"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines": lambda text: ("\n" + text + "\n\n").encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "ZIP": lambda text: zipped(text.encode("gbk")),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("source", NAMES)
def test_a_statement_is_read_in_any_encoding(tmp_path: Path, source: str, change: str) -> None:
    """Every row has exact amounts and UTC times, however the file is encoded and packed."""
    path = written(tmp_path, CHANGES[change](text_of(NAMES[source])))
    assert figures(read_statement([path], source)) == EXPECTED[source]


def test_ids_and_hints_of_a_statement() -> None:
    """A row has the ids of its payment and of itself, texts that may name the account, and its payout."""
    stripe = read_statement([str(FILES / NAMES["stripe"])], "stripe").lines
    assert stripe[2].references["payment_intent_id"] == "pi_a1"
    assert stripe[2].operation_ids["source_id"] == "re_a1"
    assert (stripe[1].customer_amount, stripe[1].customer_currency, stripe[1].payout) == (D("9.90"), "EUR", "po_a")
    wechat = read_statement([str(FILES / NAMES["wechat"])], "wechat").lines
    assert wechat[0].text == "100 Credits, gift"
    assert (wechat[1].references["商户订单号"], wechat[1].operation_ids["商户退款单号"]) == ("lot_w1", "back_w1")
    assert wechat[0].hints["商户数据包"] == "acct_9"
    alipay = read_statement([str(FILES / NAMES["alipay"])], "alipay")
    assert (alipay.lines[0].text, alipay.lines[0].references["商户订单号"]) == ("200 Credits,yearly", "lot_z1")
    assert str(alipay.period) == "2026-10-02T16:00:00Z/2026-10-04T16:00:00Z"


def test_columns_of_a_stripe_report_are_optional(tmp_path: Path) -> None:
    """A report with other columns, in another order and with a decimal comma, has the same rows."""
    names = ["reporting_category", "net", "source_id", "created", "gross", "currency", "fee"]
    rows = [line.split(",") for line in text_of(NAMES["stripe"]).replace('"200 Credits, yearly"', "x").splitlines()]
    index = [rows[0].index(name) for name in names]
    text = "\n".join(";".join(row[i].replace(".", ",") for i in index) for row in rows)
    lines = read_statement([written(tmp_path, text.encode())], "stripe", "Asia/Shanghai").lines
    expected = EXPECTED["stripe"]
    assert [(line.kind.value, line.at, line.gross, line.fee, line.net) for line in lines] == [
        (kind, time, gross, fee, net) for _, kind, time, _, gross, fee, net, _ in expected
    ]


@pytest.mark.parametrize(
    ("currency", "minor", "amount"),
    [("usd", 2400, "24"), ("jpy", 2400, "2400"), ("isk", 170000, "1700"), ("kwd", 1500, "1.5"), ("mga", 100, "100")],
)
def test_balance_transactions_have_minor_units_of_stripe(
    tmp_path: Path, currency: str, minor: int, amount: str
) -> None:
    """The amounts of balance transactions (JSON) are read by Stripe's decimals of the currency, not by ISO 4217."""
    item = (
        f'{{"object": "balance_transaction", "id": "txn_1", "amount": {minor}, "fee": 0, "net": {minor}, '
        f'"currency": "{currency}", "created": 1791072000, "reporting_category": "charge", "source": "ch_1"}}'
    )
    content = f'{{"object": "list", "data": [{item}], "has_more": false}}'.encode()
    (line,) = read_statement([written(tmp_path, content)], "stripe").lines
    assert (line.gross, line.references) == (D(amount), {"charge_id": "ch_1"})


WRONG: dict[str, tuple[str, Change, str]] = {
    "another source": ("wechat", lambda _: text_of(NAMES["stripe"]).encode(), "expected a heading"),
    "a bill of funds": ("wechat", lambda _: "记账时间,微信支付业务单号\n".encode(), "bill of funds"),
    "a bill of the account": ("alipay", lambda _: "账务流水号,业务流水号\n".encode(), "账务明细"),
    "a summary of Stripe": ("stripe", lambda _: b"category,description,net_amount\n", "a summary"),
    "missing columns": ("stripe", lambda text: text.replace(",net,", ",nett,", 1).encode(), "no column net"),
    "rows are missing": ("wechat", lambda text: "\n".join(text.splitlines()[:2] + text.splitlines()[3:]).encode(),
                         "总交易单数 is 3"),
    "an amount was edited": ("wechat", lambda text: text.replace("`80.00", "`81.00", 1).encode(), "rows add up to 81"),
    "a total was edited": ("alipay", lambda text: text.replace("共168.00", "共169.00").encode(), "rows of 168"),
    "net is wrong": ("stripe", lambda text: text.replace(",23.00,", ",22.00,").encode(), "net is 22.00"),
    "ids of a spreadsheet": ("wechat", lambda text: text.replace(WECHAT, "4.2E+27").encode(), "a spreadsheet"),
    "a cell too many": ("stripe", lambda text: text.replace("Radar (2026-10)", "Radar, October").encode(), "26 cells"),
    "no amount": ("stripe", lambda text: text.replace(",11.52,0.64,10.88,", ",free,0.64,10.88,").encode(), "'free'"),
    "no time": ("alipay", lambda text: text.replace("2026-10-03 08:00:09", "45933.33").encode(), "45933.33"),
    "an unknown currency": ("stripe", lambda text: text.replace(",usd,24", ",xyz,24").encode(), "'xyz'"),
    "an unknown status": ("wechat", lambda text: text.replace("NATIVE,`SUCCESS", "NATIVE,`PAYING").encode(), "PAYING"),
    "a workbook": ("stripe", lambda _: b"\xd0\xcf\x11\xe0 workbook", "Excel"),
    "a page of a login": ("stripe", lambda _: b"<!doctype html>", "HTML"),
    "no text": ("stripe", lambda _: b"a\0b,c\0d", "no text"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_trusted_is_rejected(tmp_path: Path, name: str) -> None:
    """Every kind of wrong or edited file is one error that says where and what is wrong."""
    source, change, message = WRONG[name]
    with pytest.raises(BillingError) as error:
        read_statement([written(tmp_path, change(text_of(NAMES[source])))], source)
    assert error.value.code == "invalid_statement"
    assert message in error.value.message


def test_a_bill_without_totals_is_read_with_a_note(tmp_path: Path) -> None:
    """Without totals, nothing shows whether a bill is complete: a note says so."""
    text = "\n".join(text_of(NAMES["wechat"]).splitlines()[:-2])
    statement = read_statement([written(tmp_path, text.encode())], "wechat")
    assert len(statement.lines) == 3
    assert "no totals" in statement.notes[0]


def test_a_month_of_daily_bills_is_one_statement(tmp_path: Path) -> None:
    """Bills of several days may be in one file: each has its heading, its rows and its totals."""
    text = text_of(NAMES["wechat"])
    other = text.replace("2026-10-03", "2026-10-04").replace("20261003", "20261004")
    statement = read_statement([written(tmp_path, (text + other).encode())], "wechat")
    assert len(statement.lines) == 6
    assert str(statement.period) == "2026-10-02T16:00:00Z/2026-10-04T16:00:00Z"


def provider_lines(name: str, source: str) -> list[tuple[Any, ...]]:
    """Return the lines of a report."""
    report = read_report([str(FILES / name)], source)
    return [(e.model, e.tier, e.project, e.meter, e.quantity, e.amount, e.list_amount) for e in report.lines]


def test_openai_costs() -> None:
    """Line items are split into model, tier and kind; a day without costs is covered by the report."""
    model = "gpt-5.5-2026-04-23"
    assert provider_lines("openai_costs_export.tsv", "openai") == [
        (model, None, "proj_A", "cache_read", None, D("0.25125"), None),
        (None, None, None, "web_search", None, D("0.000012"), None),
    ]
    assert provider_lines("openai_costs.json", "openai") == [
        (model, "batch", "proj_A", "output", None, D("0.30000000000000004"), None),
        (None, None, None, "file_search", None, D("0.0025"), None),
    ]
    assert len(read_report([str(FILES / "openai_costs_export.tsv")], "openai").buckets) == 3
    assert read_report([str(FILES / "openai_costs.json")], "openai").decimals == 4


def test_openai_usage() -> None:
    """Counts that contain each other become disjoint meters, and add up to the totals of the row."""
    lines = provider_lines("openai_usage_export.csv", "openai")
    assert {line[:3] for line in lines} == {("gpt-5.5-2026-04-23", "batch", "proj_A")}
    assert {line[3]: line[4] for line in lines} == {
        "input": 600,
        "cache_read": 280,
        "output": 250,
        "audio_input": 70,
        "audio_cache_read": 20,
        "audio_output": 10,
        "image_input": 30,
    }


def test_anthropic_costs_of_both_generations() -> None:
    """Amounts are cents, with fractions, and a report after discounts keeps the amount before them."""
    assert provider_lines("anthropic_costs.json", "anthropic") == [
        ("claude-opus-5", "batch", "wrkspc_1", "cache_write_1h", None, D("0.5025"), None),
        (None, None, None, "web_search", None, D("0.03"), None),
    ]
    assert provider_lines("anthropic_analytics.json", "anthropic") == [
        ("claude-opus-5", "priority", None, "cache_read", None, D("0.45125"), D("0.501388")),
    ]


WRONG_REPORTS = {
    "an error": ("openai", '{"error": {"message": "no"}}', "not a page"),
    "another object": ("openai", '{"data": [{"start_time": 1, "end_time": 2, "results": [{}]}]}', "None"),
    "cut off": ("openai", text_of("openai_costs.json")[:400], "invalid JSON"),
    "infinite": ("openai", '{"object": "page", "data": [], "cost": NaN}', "NaN is no number"),
    "costs of Anthropic": ("openai", text_of("anthropic_costs.json"), "start_time"),
    "costs of OpenAI": ("anthropic", text_of("openai_costs.json"), "starting_at"),
    "groups overlap": (
        "anthropic",
        text_of("anthropic_analytics.json").replace('"product":null', '"rbac_group_id":"g"'),
        "overlap",
    ),
    "an item of a number": ("openai", text_of("openai_costs.json").replace('"proj_A"', "7"), "project_id is 7"),
    "a model of a list": (
        "anthropic", text_of("anthropic_analytics.json").replace('"claude-opus-5"', "[]"), "model is []"
    ),
    "no cost": ("openrouter", '{"id": "gen-1", "usage": {"prompt_tokens": 1}}', "no cost"),
    "another export": ("openai", "start_time,end_time,requests\n1,2,3\n", "neither amount_value nor input_tokens"),
    "contradiction": ("openai", text_of("openai_usage_export.csv").replace("700.0", "701.0"), "input_tokens is 1000"),
    "a fraction of a token": ("openai", text_of("openai_usage_export.csv").replace("260.0", "260.5"), "'260.5'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_REPORTS)
def test_a_report_that_cannot_be_trusted_is_rejected(tmp_path: Path, name: str) -> None:
    """Every kind of wrong or damaged report is one error that says what is wrong."""
    source, text, message = WRONG_REPORTS[name]
    with pytest.raises(BillingError) as error:
        read_report([written(tmp_path, text.encode())], source)
    assert error.value.code == "invalid_statement"
    assert message in error.value.message


def test_an_amount_that_could_mean_two_values_is_an_error() -> None:
    """``1,234`` is read only if other amounts show what the comma is."""
    assert NumberFormat(["1,234.50"]).parse("1,234", "row 1") == 1234
    assert NumberFormat(["0,5"]).parse("1,234", "row 1") == D("1.234")
    assert NumberFormat([]).parse("1.234", "row 1") == D("1.234")
    for texts in ([], ["0.5", "0,5"]):
        with pytest.raises(BillingError, match="row 1"):
            NumberFormat(texts).parse("1,234", "row 1")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("¥85.00", "85"),
        ("-42.50", "-42.5"),
        ("(6.00)", "-6"),
        ("1 234.5", "1234.5"),
        ("1'234.50", "1234.5"),
        ("−3", "-3"),
    ],
)
def test_amounts_as_editors_write_them(text: str, amount: str) -> None:
    """Currency signs, spaces, apostrophes, parentheses and the minus sign are read."""
    assert NumberFormat([text]).parse(text, "row 1") == D(amount)


@pytest.mark.parametrize("text", ["", "-", "1.2.3", "12e3", "nan", "1,23,4", "--1", "٣"])
def test_what_is_no_amount(text: str) -> None:
    """Texts that are not one plain amount are errors."""
    with pytest.raises(BillingError, match="not an amount"):
        NumberFormat([text]).parse(text, "row 1")


def test_counts_and_times() -> None:
    """Counts may end with ``.0``; times may be as a spreadsheet writes them, with or without a zone."""
    assert parse_count("59200.0", "row 1", "tokens") == 59200
    zone = load_zone("Asia/Shanghai")
    for text in ("2026/10/3 8:00", "2026-10-03T00:00:00Z", "2026-10-03 08:00:00", "2026-10-03T08:00:00+08:00"):
        assert parse_local_time(text, zone, "row 1", "time") == at("2026-10-03 00:00")


def test_a_damaged_archive_is_an_error() -> None:
    """An archive with any byte changed, or cut off anywhere, is read or is one error: never a traceback."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("明细.csv", b"a,b\n" * 9)
    content = out.getvalue()
    flips = [content[:at] + bytes([byte]) + content[at + 1 :] for at in range(4, len(content)) for byte in (0, 64, 255)]
    for damaged in (*flips, *(content[:end] for end in range(4, len(content)))):
        with suppress(BillingError):
            list(_unpack("bill.zip", damaged))


def test_amounts_of_any_size_have_decimal_places() -> None:
    """The rounding of a report is found also if an amount has more digits than decimals compute with."""
    assert decimals_of([D("1e40"), D("0.25"), D("0.30000000000000004")]) == 2


@pytest.mark.parametrize("value", ['"id": 7', '"id": "t", "reporting_category": {}'])
def test_a_balance_transaction_has_texts(tmp_path: Path, value: str) -> None:
    """A balance transaction without an id is not named 'None', and one of a category that is no text is an error."""
    item = f'{{"object": "balance_transaction", "amount": 1, "fee": 0, "net": 1, "currency": "usd", {value}}}'
    with pytest.raises(BillingError, match="item 1") as error:
        read_statement([written(tmp_path, f'[{item[:-1]}, "created": 1}}]'.encode())], "stripe")
    assert error.value.code == "invalid_statement"


def test_an_archive_of_unusual_compression_is_rejected(tmp_path: Path) -> None:
    """A member that is neither stored nor deflated is rejected before a decompressor with other errors sees it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("bill.csv", "x")
    with pytest.raises(BillingError, match="unusual compression"):
        read_files([written(tmp_path, content.getvalue(), "bill.zip")])


def test_a_heading_of_many_columns_is_read_in_linear_time(tmp_path: Path) -> None:
    """A repeated name among 200,000 columns is found without comparing each with each."""
    heading = ",".join(
        ["balance_transaction_id", "reporting_category", *(f"c{number}" for number in range(200_000)), "c7"]
    )
    with pytest.raises(BillingError, match="'c7' is repeated"):
        read_statement([written(tmp_path, heading.encode())], "stripe")


def test_an_archive_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that unpacks to more than the limit is an error, not a full memory."""
    monkeypatch.setattr("brivionix_billing.reconcile.exported_files.MAX_FILE_BYTES", 1000)
    for content in (gzip.compress(b"a" * 5000), zipped(b"a" * 5000)):
        with pytest.raises(BillingError, match="more than 1000 bytes"):
            read_files([written(tmp_path, content)])


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="the full recordings are not here")
@pytest.mark.parametrize("name", sorted(path.name for path in SHARED_DATA.glob("p*/*") if path.parent.name != "prices"))
def test_the_recorded_files_are_read(name: str) -> None:
    """Every recorded file of a processor or provider is read."""
    folder = SHARED_DATA / "payments"
    if (folder / name).exists():
        assert read_statement([str(folder / name)], name.split("_")[0]).lines
    else:
        assert read_report([str(SHARED_DATA / "provider_reports" / name)], name.split("_")[0]).lines


@pytest.mark.parametrize(
    ("command", "file", "use"),
    [
        ("payments --source stripe --ledger LEDGER", "statements/alipay_details.csv", "payments --source alipay"),
        ("payments --source alipay --ledger LEDGER", "statements/wechat_all.csv", "payments --source wechat"),
        ("provider --source openai --usage USAGE", "statements/anthropic_costs.json", "provider --source anthropic"),
        ("gateway --source new-api", "statements/stripe_itemized.csv", "payments --source stripe"),
        ("gateway --source litellm", "../../examples/month/log.jsonl", "gateway --source new-api"),
    ],
)
def test_a_file_of_another_source_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, file: str, use: str
) -> None:
    """The error of a file that another source has made names this source, and the command that reads it."""
    root = Path(__file__).resolve().parents[2]
    options = ["--prices", str(root / "pricing.yaml"), "--out", str(tmp_path / "out")]
    Ledger.open(f"sqlite:///{tmp_path}/ledger.db").close()
    places = {"LEDGER": str(tmp_path / "ledger.db"), "USAGE": str(root / "examples/usage.jsonl")}
    words = [places.get(word, word) for word in command.split()]
    assert main(["reconcile", words[0], str(root / "tests/data" / file), *words[1:], *options]) == 2
    assert f"use 'reconcile {use}'" in capsys.readouterr().err


def test_a_log_without_its_mapping_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A log of new-api that is read as usage is an error that names the mapping, and is read with it."""
    root = Path(__file__).resolve().parents[2]
    command = ["rate", str(root / "examples/month/log.jsonl"), "--prices", str(root / "pricing.yaml")]
    assert main(command) == 2
    assert "looks like a log of new-api; use --map new-api" in capsys.readouterr().err
    assert main([*command, "--map", "new-api"]) == 0


def test_an_empty_report_says_what_the_usage_has(capsys: pytest.CaptureFixture[str]) -> None:
    """A report of a month without records names the days that the usage has."""
    root = Path(__file__).resolve().parents[2]
    command = ["report", str(root / "examples/usage.jsonl"), "--by", "account", "--period", "2026-11"]
    assert main([*command, "--prices", str(root / "pricing.yaml")]) == 0
    assert "the usage has records from 2026-10-01 to 2026-10-31 (UTC)" in capsys.readouterr().err
