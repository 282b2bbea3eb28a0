"""Reports of providers against usage at the prices of a cost book."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.cli import main
from brivionix_billing.reconcile.provider.run import ProviderOptions, reconcile_provider
from provider_month import (
    COSTS,
    Key,
    Request,
    aggregate,
    anthropic_analytics,
    anthropic_costs,
    anthropic_usage,
    changed,
    make_requests,
    new_api_data,
    openai_cost_export,
    openai_costs,
    openai_usage_export,
    openrouter_generations,
    usage_file,
)

BOOK = PriceBook.loads(COSTS)
OPENAI = make_requests("openai", days=7, per_day=20)
ANTHROPIC = make_requests("anthropic", days=5, per_day=20)
Sums = dict[Key, tuple[int, Decimal]]


def run(
    folder: Path, source: str, files: Iterable[bytes], requests: Iterable[Request], **options: Any
) -> list[dict[str, str]]:
    """Reconcile a report with requests, and return the rows, of which every sum is checked."""
    paths = []
    for number, content in enumerate(files):
        paths.append(str(folder / f"report{number}"))
        Path(paths[-1]).write_bytes(content)
    if source != "anthropic":
        options = {"upstream": "openai", **options}
    lines = usage_file(requests).splitlines(keepends=True)
    reconcile_provider(paths, source, lines, (), BOOK, folder / "out", ProviderOptions(**options))
    with (folder / "out" / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        parts = Decimal(row["quantity_part"] or 0) + Decimal(row["price_part"] or 0)
        assert parts == Decimal(row["difference"]) or row["state"] == "duplicate"
    totals = summary(folder)["totals"]["USD"]
    assert sum(Decimal(row["difference"]) for row in rows) == Decimal(totals["difference"])
    assert Decimal(totals["expected"]) == sum((request.total for request in requests), Decimal(0))
    return rows


def summary(folder: Path) -> Any:
    """Return the summary of a result."""
    return json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))


def causes(rows: Iterable[dict[str, str]]) -> Counter[tuple[str, str]]:
    """Return how often each state and cause occurs."""
    return Counter((row["state"], row["cause"]) for row in rows)


REPORTS = {
    "OpenAI costs, pages": ("openai", openai_costs(aggregate(OPENAI)), 42),
    "OpenAI costs, floats": ("openai", openai_costs(aggregate(OPENAI), 1, floats=True), 42),
    "OpenAI cost export": ("openai", [openai_cost_export(aggregate(OPENAI))], 7),
    "OpenAI usage export": ("openai", [openai_usage_export(aggregate(OPENAI))], 60),
    "OpenAI costs and usage": (
        "openai",
        [*openai_costs(aggregate(OPENAI)), openai_usage_export(aggregate(OPENAI), "\t")],
        42,
    ),
    "Anthropic costs": ("anthropic", [anthropic_costs(aggregate(ANTHROPIC))], 50),
    "Anthropic costs and usage": (
        "anthropic",
        [anthropic_costs(aggregate(ANTHROPIC)), anthropic_usage(aggregate(ANTHROPIC))],
        50,
    ),
    "Anthropic analytics": ("anthropic", [anthropic_analytics(aggregate(ANTHROPIC))], 50),
    "OpenRouter generations": ("openrouter", [openrouter_generations(OPENAI)], 140),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_without_faults_agrees(tmp_path: Path, name: str) -> None:
    """Every row of a report of our own usage is matched, without a cause."""
    source, files, count = REPORTS[name]
    rows = run(tmp_path, source, files, ANTHROPIC if source == "anthropic" else OPENAI)
    assert causes(rows) == {("matched", ""): count}


EMPTY = [
    ("openai", b'{"object": "page", "data": [], "has_more": false, "next_page": null}'),
    ("openai", b"start_time\tend_time\tamount_value\tamount_currency\tline_item\tproject_id\n"),
    ("anthropic", b'{"data": [], "has_more": false, "next_page": null}'),
    ("openrouter", b"[]"),
    ("new-api", b'{"success": true, "message": "", "data": []}'),
]


@pytest.mark.parametrize(("source", "content"), EMPTY)
def test_a_report_without_rows_is_an_error(tmp_path: Path, source: str, content: bytes) -> None:
    """An empty report is neither books that agree nor a claim that the provider charged nothing."""
    with pytest.raises(BillingError, match="it has no rows, so nothing can be compared"):
        run(tmp_path, source, [content], OPENAI)


@pytest.mark.parametrize("name", ["OpenAI costs, pages", "OpenRouter generations"])
def test_a_period_without_rows_is_an_error(tmp_path: Path, name: str) -> None:
    """The period of another month is named with the time of the report."""
    source, files, _ = REPORTS[name]
    with pytest.raises(BillingError, match=r"no row in 2026-12-01.*; it is from 2026-10-10T.* to 2026-10-1[67]T"):
        run(tmp_path, source, files, OPENAI, period="2026-12")


def test_the_rounding_of_a_new_api_is_no_difference(tmp_path: Path) -> None:
    """An upstream that rounds each request to a whole quota agrees, with the cause ``rounding``."""
    rows = run(tmp_path, "new-api", [new_api_data(OPENAI)], OPENAI)
    assert {row["state"] for row in rows} == {"matched"}
    assert {row["cause"] for row in rows} <= {"", "rounding"}


def edited(sums: Sums, key: Key, tokens: int | None = None, factor: str = "1") -> Sums:
    """Return sums in which a line has other tokens, or its amount is multiplied."""
    old_tokens, cost = sums[key]
    count = old_tokens if tokens is None else tokens
    return {**sums, key: (count, cost / old_tokens * count * Decimal(factor))}


COUNTS = ("input", "cache_read", "output", "cache_write", "cache_write_1h")
DAY = ("2026-10-12", "claude-opus-5", "standard")
PRICE_FAULTS = {
    "cache_price": ("cache_read", "10"),
    "service_tier": ("output", "0.5"),
    "data_residency": ("output", "1.1"),
    "price": ("input", "1.2"),
}


@pytest.mark.parametrize("cause", PRICE_FAULTS)
@pytest.mark.parametrize("with_usage", [False, True])
def test_another_price_is_recognised(tmp_path: Path, cause: str, with_usage: bool) -> None:
    """An amount at another price differs by its price part alone, with the cause that the recomputation finds."""
    meter, factor = PRICE_FAULTS[cause]
    sums = edited(aggregate(ANTHROPIC), (*DAY, meter), factor=factor)
    files = [anthropic_costs(sums), *([anthropic_usage(sums)] if with_usage else [])]
    (row,) = (row for row in run(tmp_path, "anthropic", files, ANTHROPIC) if row["state"] != "matched")
    assert (row["state"], row["cause"], row["meter"]) == ("differs", cause, meter)
    assert (row["quantity_part"], row["price_part"]) == ("0", row["difference"])
    prices = {"cache_read": "0.5", "output": "25", "input": "5"}
    assert Decimal(row["explaining_price"]) == Decimal(prices[meter]) * Decimal(factor)


def test_the_price_of_another_date_is_recognised(tmp_path: Path) -> None:
    """A provider that applies a new price too early differs by ``price_date`` on those days."""
    requests = [request for request in OPENAI if request.model == "gpt-5.4-mini" and request.tier == "standard"]
    sums = aggregate(requests)
    early = {
        (day, *key): (tokens, cost if day >= "2026-10-15" or key[2] != "output" else Decimal(4) * tokens / 1_000_000)
        for (day, *key), (tokens, cost) in sums.items()
    }
    rows = run(tmp_path, "openai", openai_costs(early), requests)  # type: ignore[arg-type]  # keys stay of four parts
    different = [row for row in rows if row["state"] != "matched"]
    assert {(row["cause"], row["meter"], row["text"][:27]) for row in different} == {
        ("price_date", "output", "the price of 2026-10-15; gp")
    }
    assert {row["day"] for row in different} == {day for day, *_ in sums if day < "2026-10-15"}


@pytest.mark.parametrize("with_usage", [False, True])
def test_missing_requests_are_a_quantity(tmp_path: Path, with_usage: bool) -> None:
    """Requests that the provider did not bill differ by their quantity alone, and the quantity is stated."""
    lost = next(request for request in ANTHROPIC if request.tier == "standard")
    sums = aggregate(request for request in ANTHROPIC if request is not lost)
    files = [anthropic_costs(sums), *([anthropic_usage(sums)] if with_usage else [])]
    different = [row for row in run(tmp_path, "anthropic", files, ANTHROPIC) if row["state"] != "matched"]
    assert causes(different) == {("differs", "quantity"): 5}
    for row in different:
        assert row["price_part"] == "0"
        assert Decimal(row["difference"]) == -lost.cost(row["meter"])
        missing = Decimal(row["expected_quantity"]) - Decimal(row["explaining_quantity"])
        assert missing == lost.counts[row["meter"]]


def test_one_token_kind_alone_is_a_price(tmp_path: Path) -> None:
    """An amount that fits a whole quantity and a round price is a price if no other kind of the model differs."""
    ours = [request for request in ANTHROPIC if request.at.date().isoformat() != DAY[0]]
    rest = Request("one", datetime(2026, 10, 12, 9, tzinfo=UTC), DAY[1], DAY[2], dict.fromkeys(COUNTS, 100000))
    sums = edited(aggregate([*ours, rest]), (*DAY, "input"), factor="1.2")
    rows = run(tmp_path, "anthropic", [anthropic_costs(sums)], [*ours, rest])
    (row,) = (row for row in rows if row["state"] != "matched")
    assert (row["cause"], row["explaining_price"], row["explaining_quantity"]) == ("price", "6", "120000")


def test_a_factor_on_tiers_that_a_report_sums_is_a_price(tmp_path: Path) -> None:
    """A line of two tiers has no price of few decimal places, but a factor of few."""
    key = ("2026-10-12", "gpt-5.4-mini", "standard", "output")
    batch = (*key[:2], "batch", "output")
    sums = edited(edited(aggregate(OPENAI), key, factor="1.2"), batch, factor="1.2")
    (row,) = (row for row in run(tmp_path, "openai", openai_costs(sums), OPENAI) if row["state"] != "matched")
    assert (row["cause"], row["quantity_part"], row["meter"]) == ("price", "0", "output")


def rounded(sums: Sums, places: int = 4) -> Sums:
    """Return sums whose amounts are rounded."""
    return {key: (tokens, round(cost, places)) for key, (tokens, cost) in sums.items()}


def test_one_ratio_of_all_token_kinds_is_a_price(tmp_path: Path) -> None:
    """In a rounded report, all kinds of a model that differ by one ratio on a day have another price."""
    sums = aggregate(ANTHROPIC)
    for meter in COUNTS:
        sums = edited(sums, (*DAY, meter), factor="1.37")
    rows = run(tmp_path, "anthropic", [anthropic_costs(rounded(sums))], ANTHROPIC)
    assert causes(row for row in rows if row["state"] != "matched") == {("differs", "price"): 5}


def test_requests_that_a_rounded_report_lacks_are_a_quantity(tmp_path: Path) -> None:
    """In a rounded report, kinds that differ by several ratios have other quantities, though some fit another price."""
    lost = next(request for request in ANTHROPIC if request.tier == "standard")
    sums = rounded(aggregate(request for request in ANTHROPIC if request is not lost))
    rows = run(tmp_path, "anthropic", [anthropic_costs(sums)], ANTHROPIC)
    assert causes(row for row in rows if row["state"] != "matched") == {("differs", "quantity"): 5}


@pytest.mark.parametrize("field", ["quota", "all"])
def test_tokens_of_all_kinds_distinguish_price_and_quantity(tmp_path: Path, field: str) -> None:
    """With the same tokens, another quota is another price. With more tokens, it is a quantity if they may cost it."""
    page = json.loads(new_api_data(OPENAI))
    row = page["data"][0]
    for name in ("quota", "token_used", "count") if field == "all" else ("quota",):
        row[name] = row[name] * 3
    rows = run(tmp_path, "new-api", [json.dumps(page).encode()], OPENAI)
    (found,) = (row for row in rows if row["state"] != "matched")
    assert found["cause"] == ("quantity" if field == "all" else "price")
    assert found["price_part"] == ("0" if field == "all" else found["difference"])


def test_quantity_and_price_are_split_exactly(tmp_path: Path) -> None:
    """If both differ, the quantity part is at our price, and the price part is at the quantity of the report."""
    sums = edited(aggregate(ANTHROPIC), (*DAY, "output"), tokens=1_000_000, factor="1.2")
    rows = run(tmp_path, "anthropic", [anthropic_costs(sums), anthropic_usage(sums)], ANTHROPIC)
    (row,) = (row for row in rows if row["state"] != "matched")
    ours = Decimal(row["expected_quantity"])
    assert Decimal(row["quantity_part"]) == (1_000_000 - ours) * 25 / 1_000_000
    assert Decimal(row["price_part"]) == 5
    assert (row["cause"], row["reported_price"], row["expected_price"]) == ("quantity", "30", "25")


def test_another_price_is_recognised_at_another_quantity(tmp_path: Path) -> None:
    """If the quantity differs as well, the price is compared at the quantity of the report."""
    tokens = aggregate(ANTHROPIC)[*DAY, "cache_read"][0]
    sums = edited(aggregate(ANTHROPIC), (*DAY, "cache_read"), tokens=tokens + 500, factor="10")
    rows = run(tmp_path, "anthropic", [anthropic_costs(sums), anthropic_usage(sums)], ANTHROPIC)
    (row,) = (row for row in rows if row["state"] != "matched")
    assert (row["cause"], Decimal(row["quantity_part"])) == ("cache_price", Decimal("0.00025"))


def test_a_request_that_was_logged_twice_counts_once(tmp_path: Path) -> None:
    """Records that repeat a request id are one request, and a note counts them."""
    (tmp_path / "report").write_bytes(anthropic_costs(aggregate(ANTHROPIC)))
    lines = usage_file([*ANTHROPIC, *ANTHROPIC[:3]]).splitlines(keepends=True)
    result = reconcile_provider([str(tmp_path / "report")], "anthropic", lines, (), BOOK, tmp_path / "out")
    assert result.agrees
    assert result.notes == ("3 records of the usage repeat a request id; each request counts once",)


def test_many_amounts_show_how_a_report_is_rounded(tmp_path: Path) -> None:
    """Amounts in cents are rounded if many have two decimal places; a single one may be exact, and differs."""
    requests = [request for request in OPENAI if request.tier == "standard"]
    rounded = {key: (tokens, round(cost, 2)) for key, (tokens, cost) in aggregate(requests).items()}
    assert {row["state"] for row in run(tmp_path, "openai", openai_costs(rounded), requests)} == {"matched"}
    one = Request("one", requests[0].at, "gpt-5.4-mini", "standard", {"input": 11_000, "cache_read": 0, "output": 0})
    key = (one.at.date().isoformat(), "gpt-5.4-mini", "standard", "input")
    (row,) = run(tmp_path, "openai", openai_costs({key: (11_000, Decimal("0.01"))}, 1), [one])
    assert (row["state"], row["difference"]) == ("differs", "0.00175")


def test_a_discount_is_recognised(tmp_path: Path) -> None:
    """An amount whose list amount is ours differs by the ``discount``."""
    files = [anthropic_analytics(aggregate(ANTHROPIC), Decimal("0.1"))]
    rows = run(tmp_path, "anthropic", files, ANTHROPIC)
    assert {cause for _, cause in causes(rows)} == {"discount"}
    assert rows[0]["quantity_part"] == "0"


@pytest.mark.parametrize("hours", [-7, 8])
def test_days_of_another_zone_are_recognised(tmp_path: Path, hours: int) -> None:
    """A report with the days of another time zone differs by ``time_zone``, and a note names the zone."""
    sums = aggregate(OPENAI, timedelta(hours=hours))
    rows = run(tmp_path, "openai", openai_costs(sums), OPENAI)
    assert {cause for _, cause in causes(rows)} <= {"time_zone", ""}
    assert f"UTC{hours:+d} h" in summary(tmp_path)["notes"][0]


def test_usage_near_midnight_may_be_booked_on_the_next_day(tmp_path: Path) -> None:
    """Usage of the last minutes that the next day has is matched as a ``delay``; without a delay it differs."""
    late = Request("late", datetime(2026, 10, 11, 23, 58, tzinfo=UTC), "gpt-5.5", "standard", dict(OPENAI[0].counts))
    moved = Request("late", late.at + timedelta(minutes=5), late.model, late.tier, late.counts)
    files = openai_costs(aggregate([*OPENAI, moved]))
    rows = run(tmp_path, "openai", files, [*OPENAI, late])
    assert causes(rows) == {("matched", ""): 36, ("matched", "delay"): 6}
    assert sum(Decimal(row["difference"]) for row in rows) == 0
    rows = run(tmp_path, "openai", files, [*OPENAI, late], delay=timedelta(0))
    assert causes(rows)["differs", "quantity"] == 6


@pytest.mark.parametrize("amount", ["1.2345678901234567e-05", "1e-60"])
def test_amounts_of_floats_are_exact(tmp_path: Path, amount: str) -> None:
    """An amount with more than 18 decimal places, as floats have, is in the rows and in the totals as it is."""
    result = f'{{"object": "organization.costs.result", "amount": {{"value": {amount}, "currency": "usd"}}}}'
    bucket = f'{{"start_time": 1791072000, "end_time": 1791158400, "results": [{result}]}}'
    (row,) = run(tmp_path, "openai", [f'{{"data": [{bucket}]}}'.encode()], [])
    assert Decimal(row["reported"]) == Decimal(summary(tmp_path)["totals"]["USD"]["reported"]) == Decimal(amount)


def test_pages_that_overlap_are_duplicates(tmp_path: Path) -> None:
    """A line that two pages have is a duplicate, and its amount is in the difference of the totals."""
    page, last = openai_costs(aggregate(OPENAI))
    rows = run(tmp_path, "openai", [page, page, last], OPENAI)
    assert causes(rows) == {("matched", ""): 42, ("duplicate", "line_repeated"): 24}
    assert {row["model"] for row in rows} == {"gpt-5.4-mini", "gpt-5.5"}


def test_a_missing_page_is_an_error(tmp_path: Path) -> None:
    """A report whose last page says that more follow is not compared."""
    with pytest.raises(BillingError, match="the pages that follow are missing") as error:
        run(tmp_path, "openai", openai_costs(aggregate(OPENAI))[:1], OPENAI)
    assert error.value.code == "invalid_statement"


def test_what_only_one_side_has(tmp_path: Path) -> None:
    """Costs without usage, usage without costs and unknown models are rows of their own, and nothing is dropped."""
    (page,) = openai_costs(aggregate(OPENAI), 1)
    data = json.loads(page)
    results = data["data"][0]["results"]
    lost = results.pop()
    for item, value in (
        ("gpt-9-2026-01-01, input", 1.5),
        ("file storage", 0.25),
        ("gpt-5.5-2026-04-23, audio input", 2),
    ):
        results.append({**lost, "amount": {"value": value, "currency": "usd"}, "line_item": item})
    rows = run(tmp_path, "openai", [json.dumps(data).encode()], OPENAI)
    found = {row["text"] or row["meter"]: (row["state"], row["cause"]) for row in rows if row["state"] != "matched"}
    assert found == {
        "gpt-9-2026-01-01, input": ("only_theirs", "unknown_model"),
        "file storage": ("only_theirs", "other_cost"),
        "gpt-5.5-2026-04-23, audio input": ("only_theirs", "not_in_usage"),
        "output": ("only_ours", "not_in_report"),
    }
    assert "gpt-9-2026-01-01" in summary(tmp_path)["notes"][0]


def test_faults_of_single_responses(tmp_path: Path) -> None:
    """By response, other counts, another price and missing responses are recognised one by one."""
    requests = OPENAI[:8]
    theirs = [changed(requests[0], output=requests[0].counts["output"] + 10), *requests[1:7]]
    lines = [json.loads(line) for line in openrouter_generations(theirs).splitlines()]
    lines[1]["data"]["total_cost"] *= 2
    lines[2]["data"]["is_byok"], lines[2]["data"]["total_cost"] = True, 0.00001
    lines[3]["data"]["id"] = "gen-1"  # matched by model, tokens and time
    lines.append(lines[4])
    rows = run(tmp_path, "openrouter", [json.dumps([line["data"] for line in lines]).encode()], requests)
    found = {row["response_id"] + row["place"][-2:]: (row["state"], row["cause"]) for row in rows}
    assert list(found.values()) == [
        ("differs", "quantity"),
        ("differs", "price"),
        ("differs", "byok"),
        ("matched", ""),
        ("matched", ""),
        ("matched", ""),
        ("matched", ""),
        ("duplicate", "repeated"),
        ("only_ours", "not_in_report"),
    ]
    assert rows[3]["matched_by"] == "model+tokens"
    assert Decimal(rows[0]["price_part"]) == 0


def test_projects_are_compared_with_their_upstreams(tmp_path: Path) -> None:
    """With ``projects``, each project is compared with the usage of its upstream, and unknown ones are named."""
    (page,) = openai_costs(aggregate(OPENAI), 1)
    data = json.loads(page.replace(b'"project_id": null', b'"project_id": "proj_1"'))
    data["data"][0]["results"].append({**data["data"][0]["results"][0], "project_id": "proj_2"})
    text = [json.dumps(data).encode()]
    requests = usage_file(OPENAI).replace(b'"account"', b'"upstream": "openai", "account"').splitlines(keepends=True)
    (tmp_path / "report").write_bytes(text[0])
    options = ProviderOptions(projects={"proj_1": "openai"})
    reconcile_provider([str(tmp_path / "report")], "openai", requests, (), BOOK, tmp_path / "out", options)
    with (tmp_path / "out" / "rows.csv").open(encoding="utf-8", newline="") as file:
        found = Counter((row["project"], row["state"], row["cause"]) for row in csv.DictReader(file))
    assert found == {("proj_1", "matched", ""): 42, ("proj_2", "only_theirs", "unknown_project"): 1}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command exits with 0 if the books agree, with 1 otherwise, and repeats its result to the byte."""
    (tmp_path / "costs.yaml").write_text(COSTS, encoding="utf-8")
    (tmp_path / "report.json").write_bytes(openai_costs(aggregate(OPENAI), 1)[0])
    (tmp_path / "usage.jsonl").write_bytes(usage_file(OPENAI))
    arguments = ["reconcile", "provider", str(tmp_path / "report.json"), "--source", "openai"]
    arguments += ["--prices", str(tmp_path / "costs.yaml"), "--out", str(tmp_path / "out"), "--usage"]
    assert main([*arguments, str(tmp_path / "usage.jsonl")]) == 0
    first = [(tmp_path / "out" / name).read_bytes() for name in ("rows.csv", "summary.json")]
    assert main([*arguments, str(tmp_path / "usage.jsonl")]) == 0
    assert [(tmp_path / "out" / name).read_bytes() for name in ("rows.csv", "summary.json")] == first
    (tmp_path / "usage.jsonl").write_bytes(usage_file(OPENAI[1:]))
    assert main([*arguments, str(tmp_path / "usage.jsonl")]) == 1
    assert "quantity" in capsys.readouterr().out
