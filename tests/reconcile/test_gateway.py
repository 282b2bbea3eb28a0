"""The logs of new-api and litellm against a price file: each row has the right state, cause and difference."""

from __future__ import annotations

import base64
import csv
import json
import math
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import litellm_month
from brivionix_billing import BillingError, PriceBook, processes
from brivionix_billing.cli import main
from brivionix_billing.reconcile.gateway import comparing
from brivionix_billing.reconcile.gateway.expression import VARIABLES, ExpressionError, parse
from brivionix_billing.reconcile.gateway.litellm import reconcile_litellm
from brivionix_billing.reconcile.gateway.new_api_learning import find_refunded
from brivionix_billing.reconcile.gateway.new_api_log import reconcile_new_api
from brivionix_billing.reconcile.gateway.reading import database_source, file_source
from brivionix_billing.reconcile.result import Result
from inline_pool import InlinePool
from new_api_month import PRICES, Month
from profiles import examples

BOOK = PriceBook.loads(PRICES)
Rows = list[dict[str, str]]
Raw = dict[str, Any]


def write_log(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(folder: Path) -> Rows:
    with (folder / "rows.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run_new_api(folder: Path, rows: Iterable[Mapping[str, Any]], **options: Any) -> tuple[Result, Rows]:
    log = write_log(folder / "log.jsonl", rows)
    result = reconcile_new_api(file_source(str(log)), BOOK, folder / "out", **options)
    return result, read_rows(folder / "out")


def plain_row(number: int = 1, quota: int = 2925, other: Mapping[str, Any] | None = None, **changes: Any) -> Raw:
    """The row of the check figure of the field: 2925 quota are 0.00585 USD."""
    stated = {
        "model_ratio": 0.375,
        "group_ratio": 1,
        "completion_ratio": 6,
        "cache_tokens": 10_000,
        "cache_ratio": 0.1,
        "model_price": -1,
        "user_group_ratio": -1,
        **(other or {}),
    }
    row = {
        "id": number,
        "user_id": 7,
        "created_at": 1790812800 + number,
        "type": 2,
        "username": "acme",
        "model_name": "mini",
        "quota": quota,
        "prompt_tokens": 12_000,
        "completion_tokens": 800,
        "use_time": 3,
        "group": "default",
        "request_id": f"r-{number}",
        "upstream_request_id": "",
        "other": json.dumps(stated),
    }
    return row | changes


def accuracy(causes: Mapping[str, str], rows: Rows) -> tuple[dict[str, float], Counter[str]]:
    """Return the share of right causes by cause, and the causes of clean rows that are not matched."""
    last = {row["request_id"]: row["cause"] for row in rows}
    right = Counter(cause for name, cause in causes.items() if last[name] == cause)
    shares = {cause: right[cause] / count for cause, count in Counter(causes.values()).items()}
    return shares, Counter(
        row["cause"] for row in rows if row["request_id"] not in causes and row["state"] != "matched"
    )


def test_every_cause_of_new_api_is_found(tmp_path: Path) -> None:
    """In a month with faults of every cause, each fault has its cause, and no other row is accused."""
    month = Month(5)
    rows = list(month.rows(1500, 25))
    result, found = run_new_api(tmp_path, rows)
    shares, accused = accuracy(month.causes, found)
    assert not accused
    assert {cause: share for cause, share in shares.items() if share < 0.95} == {}
    assert len(found) == len(rows)
    assert result.totals["quota"].theirs == sum(
        row["quota"] if row["type"] == 2 else -row["quota"] if row["type"] == 6 else 0 for row in rows
    )


def test_every_cause_of_litellm_is_found(tmp_path: Path) -> None:
    """In a month of litellm with faults of every cause, each fault has its cause, and no other row is accused."""
    month = litellm_month.Month(5)
    log = write_log(tmp_path / "log.jsonl", month.rows(300, 20))
    reconcile_litellm(file_source(str(log)), BOOK, tmp_path / "out")
    shares, accused = accuracy(month.causes, read_rows(tmp_path / "out"))
    assert not accused
    assert {cause: share for cause, share in shares.items() if share < 0.9} == {}


def test_the_check_figure_matches(tmp_path: Path) -> None:
    """12 000 tokens, 10 000 of them cached, and 800 of output are 2925 quota."""
    result, (row,) = run_new_api(tmp_path, [plain_row()])
    assert result.agrees
    assert (row["state"], row["logged"], row["expected"], row["difference"]) == ("matched", "2925", "2925", "0")


OTHERS = [
    pytest.param({"quota": 2924}, {}, "rounding", id="one less"),
    pytest.param({"quota": 2926}, {}, "rounding", id="one more"),
    pytest.param({"quota": 4000}, {}, "arithmetic", id="another sum"),
    pytest.param({"quota": 6300}, {}, "cache_price", id="cached tokens at the full price"),
    pytest.param({"quota": 2960}, {}, "price_date", id="the prices of August"),
    pytest.param({"quota": 2486}, {}, "group_ratio", id="the ratio of another group"),
    pytest.param(
        {"quota": 0, "prompt_tokens": 0, "completion_tokens": 0}, {"cache_tokens": 0}, "usage_missing", id="no usage"
    ),
    pytest.param({"prompt_tokens": 9000}, {}, "usage_contradiction", id="more cached than input"),
    pytest.param({"model_name": "gpt-9"}, {}, "unknown_model", id="a model that is not sold"),
    pytest.param({"quota": 2**31 - 1}, {}, "saturated", id="the limit of an integer"),
    pytest.param(
        {}, {"billing_source": "subscription", "subscription_consumed": 1}, "subscription", id="other payment"
    ),
    pytest.param(
        {"quota": 2925 + 2 * 12_500},
        {"tool_surcharges": [{"name": "web_search", "count": 2, "price": 10}]},
        "tool_fee",
        id="searches at another plain price than stated",
    ),
]


@pytest.mark.parametrize(("changes", "other", "cause"), OTHERS)
def test_a_changed_row_has_its_cause(
    tmp_path: Path, changes: dict[str, Any], other: dict[str, Any], cause: str
) -> None:
    """One change of a right row is found with its cause."""
    _, (row,) = run_new_api(tmp_path, [plain_row(other=other, **changes)])
    assert (row["state"] != "matched", row["cause"]) == (True, cause)


def test_a_fixed_price_needs_no_tokens(tmp_path: Path) -> None:
    """A row whose expression is a fixed price per request matches without a cause, although it has no tokens."""
    stated = {"billing_mode": "tiered_expr", "expr_b64": base64.b64encode(b"fixed(0.04)").decode(), "group_ratio": 1}
    row = plain_row(quota=20_000, model_name="draw", prompt_tokens=0, completion_tokens=0)
    _, (found,) = run_new_api(tmp_path, [row | {"other": json.dumps(stated)}])
    assert (found["state"], found["cause"]) == ("matched", "")


def test_a_price_at_the_start_says_nothing_about_later_rows(tmp_path: Path) -> None:
    """A request that ran while the price changed may have the old one. The same ratios in later rows are wrong."""
    change = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp())
    row = plain_row(quota=2960, other={"model_ratio": 0.4, "completion_ratio": 5.5})
    rows = [row | {"id": after, "created_at": change + after, "request_id": f"r-{after}"} for after in (1, 500, 900)]
    _, found = run_new_api(tmp_path, rows)
    assert [row["cause"] for row in found] == ["", "price_date", "price_date"]


def test_all_forms_of_a_log_have_the_same_rows(tmp_path: Path) -> None:
    """Logs of litellm as JSON Lines, as one list and as CSV give the same file of rows."""
    rows = list(litellm_month.Month(3).rows(40, 2))
    for row in rows:
        row["metadata"] = json.dumps(row["metadata"]) if isinstance(row["metadata"], dict) else row["metadata"]
    write_log(tmp_path / "log.jsonl", rows)
    (tmp_path / "log.json").write_text(json.dumps(rows), encoding="utf-8")
    with (tmp_path / "log.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, sorted({name for row in rows for name in row}))
        writer.writeheader()
        writer.writerows(rows)
    for form in ("jsonl", "json", "csv"):
        reconcile_litellm(file_source(str(tmp_path / f"log.{form}")), BOOK, tmp_path / form)
    texts = {(tmp_path / form / "rows.csv").read_text(encoding="utf-8") for form in ("jsonl", "json", "csv")}
    assert len(texts) == 1


def test_what_a_subscription_paid_is_named(tmp_path: Path) -> None:
    """Right rows that a subscription paid match, and their cause tells them from what the wallet paid."""
    rows = [plain_row(number, other={"billing_source": "subscription"}) for number in range(3)]
    result, found = run_new_api(tmp_path, [*rows, plain_row(3)])
    assert [row["cause"] for row in found] == ["subscription"] * 3 + [""]
    assert (result.agrees, {row["state"] for row in found}) == (True, {"matched"})


@pytest.mark.parametrize("other", ["", "{", "{}"])
def test_a_row_without_ratios_is_compared_with_the_price_file(tmp_path: Path, other: str) -> None:
    """If ``other`` is missing or broken, the quota of the price file matches, and no other."""
    rows = [{**plain_row(number, quota), "other": other} for number, quota in enumerate((6300, 4000))]
    _, found = run_new_api(tmp_path, rows)
    assert [(row["state"], row["cause"], row["expected"]) for row in found] == [
        ("matched", "", "6300"),
        ("differs", "arithmetic", "6300"),
    ]


def test_a_ratio_that_is_stated_wrong_is_found_without_a_difference(tmp_path: Path) -> None:
    """A row whose quota is right but whose stated ratio is not ours differs, by 0."""
    _, (row,) = run_new_api(tmp_path, [plain_row(other={"completion_ratio": 5})])
    assert (row["state"], row["cause"], row["difference"]) == ("differs", "output_price", "0")


def test_a_gateway_that_rounds_otherwise_is_not_accused(tmp_path: Path) -> None:
    """If the ties of a log go to the even number, they are right, and the rule of the result says so."""
    rows = [
        plain_row(number, round(0.375 * (tokens + 6)), {"cache_tokens": 0}, prompt_tokens=tokens, completion_tokens=1)
        for number, tokens in enumerate(range(1000, 1300))
    ]
    result, _ = run_new_api(tmp_path, rows)
    assert (result.agrees, result.rule.settings["rounding"]) == (True, "half_even")


def as_floats(prompt: int, output: int) -> float:
    return prompt * 0.375 * 0.7 + output * 6 * 0.375 * 0.7


@pytest.mark.parametrize("rounding", [lambda value: math.floor(value + 0.5), round, int])
def test_a_gateway_that_computes_with_floats_is_not_accused(tmp_path: Path, rounding: Callable[[float], int]) -> None:
    """Values at a boundary of rounding may go either way if the gateway computes with floats."""
    stated = {"group_ratio": 0.7, "cache_tokens": 0}
    rows = [
        plain_row(n, rounding(as_floats(n, 50)), stated, group="partner", prompt_tokens=n) | {"completion_tokens": 50}
        for n in range(1000, 4000)
    ]
    result, found = run_new_api(tmp_path, rows)
    assert [row for row in found if row["state"] != "matched"] == []
    assert result.agrees


def test_a_ratio_that_most_rows_of_a_user_have_is_agreed(tmp_path: Path) -> None:
    """A ratio of a user group is no difference if the user always has it, and named; a single one is."""
    rows = [plain_row(n, 2340, {"user_group_ratio": 0.8}, username="vip") for n in range(1, 7)]
    rows += [plain_row(n) for n in range(10, 200)] + [plain_row(300, 1463, {"user_group_ratio": 0.5})]
    result, found = run_new_api(tmp_path, rows)
    assert [row["cause"] for row in found if row["state"] != "matched"] == ["user_group_ratio"]
    assert "default 0.8" in result.notes[0]


def test_stated_ratios_of_user_groups_replace_learned_ones(tmp_path: Path) -> None:
    """With the option of the gateway, only its ratios are right."""
    rows = [plain_row(n, 2340, {"user_group_ratio": 0.8}, username="vip") for n in range(1, 7)]
    result, _ = run_new_api(tmp_path, rows, user_ratios={"gold": {"default": Fraction(8, 10)}})
    assert result.agrees
    result, found = run_new_api(tmp_path, rows, user_ratios={"gold": {"default": Fraction(7, 10)}})
    assert {row["cause"] for row in found} == {"user_group_ratio"}


def test_the_price_changes_while_a_request_runs(tmp_path: Path) -> None:
    """The price at the start of a request is right, although its row was written after the price changed."""
    changed = 1788220800  # 2026-09-01
    row = plain_row(quota=2960, other={"model_ratio": 0.4, "completion_ratio": 5.5}, created_at=changed + 1, use_time=5)
    result, _ = run_new_api(tmp_path, [row])
    assert result.agrees


def test_a_refund_returns_what_was_charged(tmp_path: Path) -> None:
    """A refund of a charge matches and is a negative amount; one without a charge is only in the log."""
    refund = plain_row(2, other={}) | {"type": 6, "other": "{}", "request_id": "r-1"}
    orphan = plain_row(3) | {"type": 6, "other": "{}"}
    result, found = run_new_api(tmp_path, [plain_row(1), refund, orphan])
    assert [(row["state"], row["cause"], row["logged"]) for row in found] == [
        ("matched", "refunded", "2925"),
        ("matched", "refunded", "-2925"),
        ("only_theirs", "refunded", "-2925"),
    ]
    assert result.totals["quota"].theirs == -2925


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"completion_tokens": 800.0001}, {}),
        ({"prompt_tokens": 12_000.0}, {}),
        ({"username": ""}, {}),
        ({"id": True}, {}),
        ({"id": -0.0}, {}),
        ({"created_at": 10**17}, {}),
        ({}, {"group_ratio": True}),
        ({}, {"cache_tokens": 10_000.0}),
        ({"quota": 7925}, {"tool_surcharges": [{"name": "web_search", "price": 10, "count": True}]}),
    ],
)
def test_known_prices_decide_no_unusual_row(tmp_path: Path, changes: Raw, other: Raw) -> None:
    """An unusual row after a usual one with the same prices has the result that it has alone."""
    tools = [{"name": "web_search", "price": 10, "count": 1}]
    usual = [plain_row(1), plain_row(2, 7925, {"tool_surcharges": tools})]
    (tmp_path / "alone").mkdir()
    unusual = plain_row(3, other=other) | changes
    _, alone = run_new_api(tmp_path / "alone", [unusual])
    _, found = run_new_api(tmp_path, [*usual, unusual])
    assert [row["state"] for row in found[:2]] == ["matched"] * 2
    assert found[2] == alone[0]


@pytest.mark.parametrize("written", ['"type":6', '"type" :\t6', '"type": 6.0', '"type": "6"', '"\\u0074ype": 6'])
def test_a_refund_is_found_however_json_writes_its_type(tmp_path: Path, written: str) -> None:
    """The search for refunds in the bytes of a log misses none that its rows have."""
    refund = json.dumps(plain_row(2) | {"other": "{}", "request_id": "r-1", "type": 6}).replace('"type": 6', written)
    (tmp_path / "log.jsonl").write_text(json.dumps(plain_row(1)) + "\r\n" + refund)
    reconcile_new_api(file_source(str(tmp_path / "log.jsonl")), BOOK, tmp_path / "out")
    assert [(row["state"], row["cause"]) for row in read_rows(tmp_path / "out")] == [("matched", "refunded")] * 2


def test_a_refund_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    """The search for refunds reports text that cannot be decoded as the reading of rows does."""
    rows = b"".join(json.dumps(plain_row(number)).encode() + b"\n" for number in (1, 2))
    (tmp_path / "log.jsonl").write_bytes(rows + b'{"type": 6, "other": "\xff"}\n')
    with pytest.raises(BillingError, match="cannot read the log"):
        find_refunded(file_source(str(tmp_path / "log.jsonl")))


numbers = st.one_of(st.integers(), st.floats(allow_nan=False), st.decimals(allow_nan=False, allow_infinity=False)).map(
    str
)
cells = st.one_of(
    st.sampled_from(["true", "false", "null", "NaN", "-Infinity", "01", "1.", '"\\ud800"', "1e400", "-0", "9" * 400]),
    numbers,
    st.builds(json.dumps, st.text(max_size=8), ensure_ascii=st.booleans()),
)
texts = st.recursive(
    cells,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{' , '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(['"a"', '"\\u0061"', '"b"']), inner), max_size=4).map(
            lambda members: "{" + ",\t".join(f"{key} :{value}" for key, value in members) + "}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=examples(200))
@given(st.sampled_from(["", " ", "\ufeff"]), texts, st.sampled_from(["", "\r\n", " x", "\x00", "}"]))
def test_fast_parsers_read_json_as_json_does(start: str, text: str, end: str) -> None:
    """msgspec and the scanner of json give the values and types of ``json.loads``, or leave the text to it."""
    msgspec_json = pytest.importorskip("msgspec.json")
    try:
        expected = repr(json.loads(start + text + end))
    except ValueError:
        expected = None
    for parse_text in (msgspec_json.Decoder().decode, comparing.scan_json):
        try:
            found = repr(parse_text(start + text + end))
        except comparing.UNUSUAL:
            continue
        assert found == expected


class ComparingPool(InlinePool):
    """Compares each range by itself."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        comparing._gateway = None

    def submit(self, run: Callable[..., Any], *values: Any) -> Future[Any]:
        comparing._gateway = None
        return super().submit(run, *values)


MONTHS = {
    "new-api": [*Month(21).rows(150, 6)],
    "litellm": [*litellm_month.Month(22).rows(100, 6)],
}


@pytest.mark.parametrize("source", MONTHS)
@settings(max_examples=examples(5))
@given(
    picks=st.lists(st.integers(0, 10_000), min_size=1, max_size=60),
    size=st.sampled_from([1, 2_000, 9_000]),
    end=st.sampled_from(["\n", "\r\n", "\n\n \n"]),
)
def test_processes_give_the_result_of_one(source: str, picks: list[int], size: int, end: str) -> None:
    """A log in parts of any size has the bytes of one read as a whole: also with rows that repeat and refund others."""
    month = MONTHS[source]
    rows = [month[pick % len(month)] for pick in picks]
    run = reconcile_new_api if source == "new-api" else reconcile_litellm
    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        log = folder / "log.jsonl"
        log.write_text("".join(json.dumps(row) + end for row in rows), encoding="utf-8", newline="")
        run(file_source(str(log)), BOOK, folder / "whole")
        patch.setattr(comparing, "_BYTES", size)
        patch.setattr(processes, "create_pool", ComparingPool)
        run(file_source(str(log)), BOOK, folder / "parts", workers=2)
        for file in ("rows.csv", "summary.json"):
            assert (folder / "parts" / file).read_bytes() == (folder / "whole" / file).read_bytes()


def test_a_database_gives_the_same_rows(tmp_path: Path) -> None:
    """The table of a database is read like a file of its rows."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    rows = [plain_row(1), plain_row(2, 4000)]
    engine = sqlalchemy.create_engine(url := f"sqlite:///{tmp_path}/gateway.db")
    with engine.begin() as connection:
        columns = ", ".join(f'"{name}"' for name in rows[0])
        connection.execute(sqlalchemy.text(f"CREATE TABLE logs ({columns})"))
        marks = ", ".join(f":{name}" for name in rows[0])
        connection.execute(sqlalchemy.text(f"INSERT INTO logs VALUES ({marks})"), rows)
    engine.dispose()
    reconcile_new_api(database_source(url, "logs", "id"), BOOK, tmp_path / "db")
    _, found = run_new_api(tmp_path, rows)
    assert read_rows(tmp_path / "db") == found


def test_a_page_of_the_api_and_csv_give_the_same_rows(tmp_path: Path) -> None:
    """JSON Lines, the answer of the API and CSV are read alike."""
    rows = [plain_row(1), plain_row(2, 4000)]
    _, found = run_new_api(tmp_path, rows)
    page, table = tmp_path / "page.json", tmp_path / "log.csv"
    page.write_text(json.dumps({"success": True, "data": {"items": rows, "total": 2}}, indent=1))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for path in (page, table):
        reconcile_new_api(file_source(str(path)), BOOK, tmp_path / "other")
        assert read_rows(tmp_path / "other") == found


def test_a_broken_row_is_an_error(tmp_path: Path) -> None:
    """A line that is not JSON ends the run, the message shows it, and no result is written."""
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(plain_row()) + "\n{broken\n")
    with pytest.raises(BillingError, match=r"not valid JSON \(.* at character 1\): '{broken'"):
        reconcile_new_api(file_source(str(log)), BOOK, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ['{"a": 1}\n', "a,b\n1,2\n", "type,quota\n2,1,3\n", "[1]", '{"data": 1}'])
def test_a_file_that_is_no_log_is_an_error(tmp_path: Path, text: str) -> None:
    """A file without the columns of a log never agrees with the price file."""
    log = tmp_path / "log"
    log.write_text(text)
    with pytest.raises(BillingError) as caught:
        reconcile_new_api(file_source(str(log)), BOOK, tmp_path / "out")
    assert caught.value.code == "file_unreadable"
    with pytest.raises(BillingError):
        reconcile_litellm(file_source(str(log)), BOOK, tmp_path / "out")


@pytest.mark.parametrize("text", ["", "\n \n", "[]", '{"data": {"items": []}}', "request_id,type,quota,spend\n"])
def test_a_log_without_rows_is_an_error(tmp_path: Path, text: str) -> None:
    """An empty export never counts as books that agree, and no result is written."""
    log = tmp_path / "log"
    log.write_text(text)
    for reconcile in (reconcile_new_api, reconcile_litellm):
        with pytest.raises(BillingError, match=r"the log .* has no rows, so nothing can be compared"):
            reconcile(file_source(str(log)), BOOK, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_a_table_without_rows_is_an_error(tmp_path: Path) -> None:
    """An empty table never counts as books that agree."""
    with closing(sqlite3.connect(tmp_path / "gateway.db")) as connection:
        connection.execute("CREATE TABLE logs (id INTEGER, type INTEGER, quota INTEGER)")
    with pytest.raises(BillingError, match="the log in table logs has no rows"):
        database_source(f"sqlite:///{tmp_path / 'gateway.db'}", "logs", "id")


def test_a_period_without_rows_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The period of another month is named with the days of the log."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    log = write_log(tmp_path / "log.jsonl", [plain_row(1)])
    command = ["reconcile", "gateway", str(log), "--source", "new-api", "--prices", str(prices)]
    assert main([*command, "--period", "2026-11", "--out", str(tmp_path / "out")]) == 2
    assert "its days in UTC are from 2026-10-01 to 2026-10-01: name another --period" in capsys.readouterr().err


def test_the_exit_status_says_whether_the_books_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 0 if all rows match, with 1 if one does not, and with 2 without a log."""
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    command = ["reconcile", "gateway", "--prices", str(prices), "--source", "new-api", "--out", str(tmp_path / "out")]
    log = write_log(tmp_path / "log.jsonl", [plain_row(1)])
    assert main([*command, str(log)]) == 0
    write_log(log, [plain_row(1), plain_row(2, 4000)])
    assert main([*command, str(log)]) == 1
    assert "arithmetic" in capsys.readouterr().out
    assert main(command) == 2


NOON = datetime(2026, 10, 4, 12, tzinfo=UTC)  # a Sunday


def evaluate(text: str, **values: int) -> Fraction:
    known = dict.fromkeys(VARIABLES, Fraction(0)) | {name: Fraction(value) for name, value in values.items()}
    return parse(text).evaluate(known, NOON).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("p * 2.5 + c * 15", Fraction("32.5")),
        ('tier("a", p - -c / 4 * 2)', Fraction("7.5")),
        ('len > 272000 ? tier("long", 1) : len <= 10 && !(p == 8) ? tier("short", 2) : tier("mid", 3)', Fraction(2)),
        ("max(p, 3) + min(1, c) + abs(-2) + ceil(0.1) + floor(1.9)", Fraction(12)),
        ("fixed(0.04)", Fraction(40_000)),
        ('hour("Asia/Shanghai") * 100 + weekday() * 10 + month() + day() + minute()', Fraction(2014)),
        ('v1:tier("a", p) ||| when(param("service_tier") == "flex") * 0.5', Fraction(7)),
    ],
)
def test_an_expression_has_its_value(text: str, value: Fraction) -> None:
    """Arithmetic, comparison, tiers, fixed prices and times are evaluated exactly, with the usual priorities."""
    assert evaluate(text, p=7, c=1, len=10) == value


@pytest.mark.parametrize(
    ("text", "named"),
    [('param("x") ? p : c', "param"), ("p ** 2", "'*'"), ("__import__('os')", "__import__"), ("1 +", "the end")],
)
def test_what_cannot_be_evaluated_is_named(text: str, named: str) -> None:
    """What depends on the request, and what is not in the language, is an error that names it."""
    with pytest.raises(ExpressionError, match=named.replace("*", r"\*")):
        parse(text)


def test_a_long_chain_of_operators_is_an_error() -> None:
    """The evaluation of an expression never exceeds the recursion limit."""
    with pytest.raises(ExpressionError, match="500 operators"):
        parse("+".join(["p"] * 4000))


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": "2026-10-01"},
        {"created_at": float("nan")},
        {"upstream_request_id": ["x"]},
        {"other": "[" * 100_000},
        {"quota": "1e999999999"},
    ],
)
def test_a_broken_row_of_new_api_keeps_its_row(tmp_path: Path, changes: Mapping[str, Any]) -> None:
    """A cell of a wrong type, a deep nesting or a number that takes all memory neither stops nor loses a row."""
    _, rows = run_new_api(tmp_path, [{**plain_row(1), **changes}, plain_row(2)])
    assert [(row["log_id"]) for row in rows] == ["1", "2"]
    assert rows[1]["state"] == "matched"


@pytest.mark.parametrize("name", ["model_ratio", "group_ratio", "completion_ratio", "model_price", "expr_b64"])
@pytest.mark.parametrize("value", ["9" * 399, "1e999999999", "\ud800"])
def test_a_ratio_beyond_floats_differs(tmp_path: Path, name: str, value: str) -> None:
    """A ratio beyond the range of floats, and a text that is no base64, are findings and no crash."""
    other = {name: value} | ({"billing_mode": "tiered_expr"} if name == "expr_b64" else {})
    _, rows = run_new_api(tmp_path, [plain_row(1, 2925, other)])
    assert len(rows) == 1


@pytest.mark.parametrize("spend", ["1e999999999", "1e-999999999", 10**300, 1e308, "free", [1], True])
def test_a_spend_of_litellm_that_is_no_number_is_a_finding(tmp_path: Path, spend: object) -> None:
    """A spend that is no number, or beyond all amounts, counts as 0 and is named; the other rows are compared."""
    good, bad = litellm_month.Month(5).rows(2, 0)
    log = write_log(tmp_path / "log.jsonl", [bad | {"spend": spend}, good])
    reconcile_litellm(file_source(str(log)), BOOK, tmp_path)
    found = read_rows(tmp_path)
    assert [(row["state"], row["cause"], row["logged"]) for row in found[:1]] == [("differs", "no_amount", "")]
    assert Decimal(found[0]["difference"]) == -Decimal(found[0]["expected"]) < 0
    assert found[1]["state"] == "matched"


@pytest.mark.parametrize("parse_text", [json.loads, comparing.scan_json, comparing.parse_fast])
def test_a_spend_that_is_nan_is_a_finding_with_every_parser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parse_text: Callable[[Any], Any]
) -> None:
    """A spend of NaN after a usual row with the same prices is named. With ``json`` alone it is parsed as a number."""
    monkeypatch.setattr(comparing, "parse_fast", parse_text)
    usual = list(litellm_month.Month(5).rows(8, 0))
    unusual = [row | {"request_id": f"nan-{number}", "spend": math.nan} for number, row in enumerate(usual)]
    reconcile_litellm(file_source(str(write_log(tmp_path / "log.jsonl", usual + unusual))), BOOK, tmp_path / "out")
    assert {row["cause"] for row in read_rows(tmp_path / "out")[8:]} == {"no_amount"}


@pytest.mark.parametrize("quota", ["free", None, True, 2925.5, [1]])
def test_a_quota_that_is_no_number_is_a_finding(tmp_path: Path, quota: object) -> None:
    """A quota that is no whole number counts as 0 and is named, whatever the prices are."""
    _, rows = run_new_api(tmp_path, [plain_row(1, quota=quota), plain_row(2)])  # type: ignore[arg-type]
    assert [(row["cause"], row["logged"], row["expected"]) for row in rows] == [
        ("no_amount", "", "2925"),
        ("", "2925", "2925"),
    ]
    assert str(quota)[:4] in rows[0]["explanation"]


@pytest.mark.parametrize("value", [10**300, float("nan"), float("inf"), -1e308])
def test_a_time_of_litellm_that_is_no_time_keeps_its_row(tmp_path: Path, value: float) -> None:
    """A row with a number that is no time is reported, and not lost."""
    row = next(iter(litellm_month.Month(5).rows(1, 0))) | {"startTime": value}
    log = write_log(tmp_path / "log.jsonl", [row])
    reconcile_litellm(file_source(str(log)), BOOK, tmp_path / "out")
    assert len(read_rows(tmp_path / "out")) == 1


def test_an_expression_with_other_prices_is_found(tmp_path: Path) -> None:
    """A row whose expression has another price than the price file has the cause expression."""
    code = base64.b64encode(b'tier("base", p * 0.75 + cr * 0.075 + c * 5)').decode()
    other = {"billing_mode": "tiered_expr", "expr_b64": code, "matched_tier": "base"}
    quota = round((2000 * 0.75 + 10_000 * 0.075 + 800 * 5) / 2)
    _, (row,) = run_new_api(tmp_path, [plain_row(1, quota, other)])
    assert (row["cause"], row["difference"]) == ("expression", "200")


@pytest.mark.parametrize(
    ("factor", "matched", "charged"),
    [
        pytest.param("2", True, "1", id="matched, and not applied"),
        pytest.param("2", False, "2", id="applied, and not matched"),
        pytest.param("1.5", True, "1.5", id="another factor than the tier has"),
    ],
)
def test_a_wrong_rule_of_a_service_tier_has_the_cause_of_tiers(
    tmp_path: Path, factor: str, matched: bool, charged: str
) -> None:
    """A request rule that names a service tier is a question of this tier, not of the expression."""
    condition = 'param("service_tier") == "priority"'
    code = f'tier("base", p * 0.75 + cr * 0.075 + c * 4.5) ||| when({condition}) * {factor}'
    rule = {"cond": condition, "multiplier": float(factor), "matched": matched}
    other = {"billing_mode": "tiered_expr", "expr_b64": base64.b64encode(code.encode()).decode()}
    quota = int(2925 * Fraction(charged) + Fraction(1, 2))
    _, (row,) = run_new_api(tmp_path, [plain_row(1, quota, other | {"request_rules": [rule]})])
    assert (row["state"], row["cause"]) == ("differs", "service_tier")


def test_a_database_that_does_not_exist_is_not_created(tmp_path: Path) -> None:
    """SQLite would create the file, and find no table in it."""
    with pytest.raises(BillingError, match="there is no file at the path of --db"):
        database_source(f"sqlite:///{tmp_path / 'no.db'}", "logs", "id")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", ["new-api", "litellm"])
def test_rows_of_another_month_are_counted_and_not_compared(tmp_path: Path, source: str) -> None:
    """With a period, only its rows are compared, in its zone. A note counts the others. Repeating gives the same."""
    log = tmp_path / "log.jsonl"
    texts = ("2026-09-30 15:59:59", "2026-09-30 16:00:00", "2026-10-31 15:59:59", "2026-10-31 16:00:00", "2027-01-01")
    starts = [datetime.fromisoformat(f"{text}+00:00") for text in texts]
    rows: list[dict[str, Any]] = [
        {
            "id": 1,
            "request_id": f"r{number}",
            "type": 2,
            "quota": 0,
            "created_at": int(at.timestamp()),
        }
        if source == "new-api"
        else {"request_id": f"r{number}", "spend": 0, "startTime": f"{at:%Y-%m-%d %H:%M:%S}", "status": "failure"}
        for number, at in enumerate(starts)
    ]
    rows.append({name: value for name, value in rows[0].items() if name not in ("created_at", "startTime")})
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prices = tmp_path / "prices.yaml"
    prices.write_text(PRICES)
    arguments = ["reconcile", "gateway", str(log), "--source", source, "--prices", str(prices)]
    arguments += ["--period", "2026-10", "--zone", "Asia/Shanghai", "--out", str(tmp_path / "out")]
    main(arguments)
    found = csv.DictReader((tmp_path / "out" / "rows.csv").read_text(encoding="utf-8").splitlines())
    assert [row["request_id"] for row in found] == ["r1", "r2", "r0"]  # the last one has no time
    text = (tmp_path / "out" / "summary.json").read_bytes()
    summary = json.loads(text)
    assert summary["rule"]["settings"]["period"] == "2026-09-30T16:00:00Z/2026-10-31T16:00:00Z"
    assert any("3 rows are not in" in note and "from 2026-09-30 to 2027-01-01" in note for note in summary["notes"])
    main(arguments)
    assert (tmp_path / "out" / "summary.json").read_bytes() == text


@pytest.mark.parametrize("run", [reconcile_new_api, reconcile_litellm])
def test_own_usage_is_no_log(tmp_path: Path, run: Callable[..., Result]) -> None:
    """The usage file of this library is named as what it is, with the commands that read it."""
    log = write_log(tmp_path / "log.jsonl", [{"request_id": "r", "account": "acme", "model": "mini", "usage": {}}])
    with pytest.raises(BillingError, match=r"is usage of this library, .*'invoice', .*'reconcile provider --usage'"):
        run(file_source(str(log)), BOOK, tmp_path / "out")
