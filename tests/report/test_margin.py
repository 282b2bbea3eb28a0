"""Claims about margins: bill minus cost is the margin, exactly; losses are listed with their reason."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given, settings

from bill_kit import BOOK, body, record, usages
from brivionix_billing import PriceBook, Usage
from brivionix_billing.errors import BillingError
from brivionix_billing.report import LossRequest
from brivionix_billing.times import parse_instant
from report_kit import COSTS, Json, cost_text, report, values

UPSTREAMS = PriceBook.loads("""\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
upstreams: {azure: {}, other: {}}
cache_discount: [{from: 2026-01-01, discount: 0.9}]
channels: {usd: {currency: USD, prices: [{from: 2026-01-01, price_per_credit: 1}]}}
models:
  alpha:
    prices:
      - from: 2026-01-01
        standard: {input: 2, output: 10, long_context: {above: 1000, input: 2.5, output: 11}}
        priority: {input: 3, output: 15}
groups: {default: {terms: [{from: 2026-01-01, ratio: 1, models: ["*"]}]}}
""")


def costs(**changes: str) -> PriceBook:
    """Return a cost book whose prices are 90 % of those of the sale, but for some of them."""
    prices = {
        "discount": "0.9",
        "standard": "input: 1.8, output: 9",
        "long": "input: 2, output: 10",
        "priority": "input: 2.5, output: 13",
        "minimum": "0",
    } | changes
    long = prices["long"]
    return PriceBook.loads(f"""\
version: 1
credit: {{currency: USD, nominal_per_credit: 1}}
cache_discount: [{{from: 2026-01-01, discount: {prices["discount"]}}}]
models:
  alpha:
    prices:
      - from: 2026-01-01
        standard: {{{prices["standard"]}, minimum: {prices["minimum"]}, long_context: {{above: 1000, {long}}}}}
        priority: {{{prices["priority"]}}}
groups: {{azure: {{terms: [{{from: 2026-01-01, ratio: 1, models: ["*"]}}]}}}}
""")


@given(usages())
@settings(max_examples=40)
def test_money_is_cost_and_margin_and_what_has_no_cost(records: list[Json]) -> None:
    """In every row and channel: money = cost + margin + money of requests without a cost, exactly."""
    found = report(records, "day,model", costs=COSTS)
    for channel, currency in (("rmb", "CNY"), ("stripe", "USD")):
        if channel not in found.channels:
            continue
        money, cost, margin = (values(found, f"{prefix}{channel}_{currency}") for prefix in ("", "cost_", "margin_"))
        uncosted = values(found, f"uncosted_{channel}_{currency}") if found.total.uncosted_requests else {}
        for key in money:
            assert money[key] == cost[key] + margin[key] + uncosted.get(key, 0)


def test_costs_are_those_of_each_request() -> None:
    """The cost of a row is the sum of the costs of its requests, through the channel in its currency."""
    records = [record(n, account=f"acct_{n % 2}", model=("alpha", "beta")[n % 2]) for n in range(1, 12)]
    found = report(records, "account", costs=COSTS)
    expected: dict[tuple[str, ...], Fraction] = {}
    for row in records:
        charge = COSTS.rate(
            Usage.from_response(row["usage"]), model=row["model"], group="default", at=parse_instant(row["at"])
        )
        key = (row["account"],)
        expected[key] = expected.get(key, Fraction(0)) + Fraction(charge.credits)
    assert values(found, "cost_stripe_USD") == expected  # the nominal price of the cost book is in USD
    assert values(found, "cost_rmb_CNY") == {key: cost * Fraction("7.1") for key, cost in expected.items()}
    assert found.basis_texts == {
        "rmb": "channel bank of the cost book",
        "stripe": "nominal price of the cost book, 1 USD per Credit",
    }


def test_a_channel_without_costs_in_its_currency_has_no_margin() -> None:
    """No exchange rate is made up: a channel in a currency that the cost book does not have is named."""
    found = report([record(1)], costs=COSTS)
    assert found.unknown_bases == {"konbini": "JPY"}
    assert "konbini" not in found.bases


def test_an_ambiguous_cost_book_is_an_error() -> None:
    """Two channels in the currency of a sale are an error, unless one has its name."""
    price = "prices: [{from: 2026-01-01, price_per_credit: 7}]"
    two = PriceBook.loads(cost_text(channels=f"{{a: {{currency: CNY, {price}}}, b: {{currency: CNY, {price}}}}}"))
    with pytest.raises(BillingError, match="several channels in CNY: a, b; name one of them rmb"):
        report([record(1)], costs=two)
    named = PriceBook.loads(cost_text(channels=f"{{a: {{currency: CNY, {price}}}, rmb: {{currency: CNY, {price}}}}}"))
    assert report([record(1)], costs=named).basis_texts["rmb"] == "channel rmb of the cost book"


def test_a_request_without_a_cost_is_named_and_not_free() -> None:
    """A request that the cost book has no price for is in no margin, and is grouped with its code."""
    records = [record(1), record(2, upstream="other")]
    found = report(records, "upstream", UPSTREAMS, costs=costs())
    (group,) = found.problems["cost"]
    assert (group.code, group.model, group.records) == ("unknown_group", "alpha", 1)
    assert values(found, "uncosted_requests") == {("",): 0, ("other",): 1}
    assert values(found, "margin_usd_USD")["other",] == 0
    assert values(found, "uncosted_usd_USD")["other",] == values(found, "usd_USD")["other",] > 0


def losses(record_: Json, book: PriceBook) -> list[LossRequest]:
    """Return the losses of one record."""
    return list(report([{**record_, "upstream": "azure"}], "model", UPSTREAMS, costs=book).losses)


CHAT = body("chat", 900, 0, 50)
CACHED = body("chat", 900, 890, 5)
CASES = {
    "price": (record(1, usage=CHAT), costs(standard="input: 2.1, output: 10"), "input: sold at 2, bought at 2.1 USD"),
    "cache": (record(1, usage=CACHED), costs(discount="0.1"), "cached tokens"),
    "tier": (record(1, usage=CHAT, service_tier="priority"), costs(priority="input: 4, output: 20"), "priority"),
    "context": (record(1, usage=body("chat", 2000, 0, 50)), costs(long="input: 4, output: 20"), "long"),
    "minimum": (record(1, usage=body("chat", 10, 0, 1)), costs(minimum="0.01"), "minimum charge of the upstream"),
    "retry": (
        record(1, usage=CHAT, attempts=[{"upstream": "azure", "usage": CHAT}]),
        costs(standard="input: 2, output: 10"),  # without the retry, the margin is exactly zero
        "1 further attempt",
    ),
}


@pytest.mark.parametrize("reason", CASES)
def test_a_loss_has_its_reason(reason: str) -> None:
    """The reason of a loss is the property without which there would be none."""
    row, book, detail = CASES[reason]
    (loss,) = losses(row, book)
    assert (loss.reason, loss.request_id, loss.upstream) == (reason, "req_1", "azure")
    assert loss.detail.startswith(detail)
    (amount,) = loss.amounts
    assert amount.revenue - amount.cost == amount.margin < 0


def test_a_request_with_a_margin_is_no_loss() -> None:
    """A request that brings at least what it costs is not listed."""
    assert losses(record(1, usage=CHAT), costs()) == []
    assert losses(record(1, usage=CHAT), costs(standard="input: 2, output: 10")) == []


def test_further_attempts_cost_and_are_not_billed() -> None:
    """The attempts of a record add to its cost, and change nothing on the bill."""
    plain, retried = record(1, usage=CHAT), record(1, usage=CHAT, attempts=[{"usage": CHAT}, {"usage": CHAT}])
    one = report([plain], "model", UPSTREAMS, costs=costs())
    three = report([retried], "model", UPSTREAMS, costs=costs())
    key = ("alpha",)
    assert values(three, "credits") == values(one, "credits")
    assert values(three, "cost_usd_USD")[key] == 3 * values(one, "cost_usd_USD")[key]


def test_costs_are_in_the_row_of_the_sale() -> None:
    """A cost is in the row of its sale, although its group is the upstream; parts of other models are in their rows."""
    advised = {
        "input_tokens": 100,
        "cache_read_input_tokens": 0,
        "output_tokens": 50,
        "iterations": [
            {"type": "message", "model": "alpha", "input_tokens": 100, "output_tokens": 50},
            {"type": "advisor_message", "model": "beta", "input_tokens": 1000, "output_tokens": 20},
        ],
    }
    found = report([record(1, group="own", usage=advised)], "group,model", costs=COSTS)
    assert list(found.rows) == [("own", "alpha"), ("own", "beta")]
    assert values(found, "cost_stripe_USD") == {
        ("own", "alpha"): Fraction(4, 10) * (100 * Fraction("2.5") + 50 * 15) / 10**6,
        ("own", "beta"): Fraction(4, 10) * (1000 * Fraction("0.75") + 20 * Fraction("4.5")) / 10**6,
    }


def test_a_channel_that_was_not_sold_yet_has_no_cost() -> None:
    """Before the first price of a sales channel, nothing is sold through it, so its margin has no cost and no loss."""
    yen = PriceBook.loads(
        cost_text(channels="{bank: {currency: JPY, prices: [{from: 2026-01-01, price_per_credit: 900}]}}")
    )
    early, late = record(1, at="2026-10-02T00:00:00Z"), record(2, at="2026-10-20T00:00:00Z")
    found = report([early, late], "day", costs=yen, channel="konbini")
    assert found.rows["2026-10-02",].margin("konbini") == 0
    assert found.rows["2026-10-20",].margin("konbini") < 0
    assert [loss.request_id for loss in found.losses] == ["req_2"]


def test_the_largest_loss_comes_first() -> None:
    """Losses are sorted by the margin through the first channel; all are counted."""
    records = [record(n, upstream="azure", usage=body("chat", 100 * n, 0, 1)) for n in (2, 5, 1, 4)]
    book = costs(standard="input: 9, output: 90")
    found = report(records, "model", UPSTREAMS, costs=book)
    assert [loss.request_id for loss in found.losses] == ["req_5", "req_4", "req_2", "req_1"]


def test_duplicates_make_one_loss() -> None:
    """A repeated record with a loss is listed once, and a rejected one never."""
    row = record(1, usage=CHAT, upstream="azure")
    conflict = [record(2, upstream="azure"), record(2, upstream="azure", usage=CHAT)]
    found: list[LossRequest] = []
    made = report(
        [row, row, *conflict], "model", UPSTREAMS, costs=costs(standard="input: 9, output: 90"), on_loss=found.append
    )
    assert [loss.request_id for loss in found] == ["req_1"]
    assert made.loss_count == 1
    assert made.loss_reasons == {"price": 1}


@given(usages())
@settings(max_examples=40)
def test_the_difference_is_that_of_two_reports(records: list[Json]) -> None:
    """By another price file: other Credits minus Credits is the difference, and both are those of their own reports."""
    found = report(records, "account,model", compare=BOOK)
    assert all(sums.units_difference == 0 for sums in found.rows.values())
    other = PriceBook.loads(cost_text(ratio="1.5"))
    changed: list[Fraction] = []
    compared = report(
        records, "account", compare=other, on_changed=lambda request: changed.append(Fraction(request.difference))
    )
    difference = values(compared, "difference_credits")
    assert sum(difference.values()) == sum(changed)
    unpriced = values(compared, "unpriced_credits") if compared.total.unpriced_requests else {}
    for key, credits in values(compared, "credits").items():
        assert values(compared, "other_credits")[key] == credits - unpriced.get(key, 0) + difference[key]


def test_who_pays_more_by_another_price_file() -> None:
    """A request whose charge differs is counted and noted; one without another price is named."""
    other = PriceBook.loads(cost_text(ratio="2").replace("models: ['*']", "models: [alpha]"))
    records = [record(1), record(2), record(3, account="acct_2", model="beta")]
    found = report(records, "account", compare=other)
    assert found.changed_count == 2
    assert [group.code for group in found.problems["other"]] == ["model_not_allowed"]
    difference = values(found, "difference_credits")
    assert difference["acct_1",] > 0
    assert difference["acct_2",] == 0
    assert values(found, "unpriced_requests") == {("acct_1",): 0, ("acct_2",): 1}
    assert list(itertools.islice(found.accounts, 2)) == ["acct_1", "acct_2"]
