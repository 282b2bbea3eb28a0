"""The price list: exact prices against the oracle, rounding for display, and scheduled changes."""

from __future__ import annotations

import copy
import decimal
import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.money import _MINOR_DIGITS
from brivionix_billing.pages import price_list, pricing_page
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.pages.formatting import LANGUAGES, LocaleFormatter, discount_rate, round_for_display
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, TIER_LABELS
from brivionix_billing.rating.messages import LOCALES
from samples import AUTUMN, D, book_of, code_of, model, shipped, utc
from strategies import Data, books, instant, instants, render

MINOR_DIGITS = {"CNY": 2, "USD": 2, "JPY": 0, "KWD": 3}
MANY = 30
"""Number of random books. Each has hundreds of prices, so a few are enough."""
PER = dict.fromkeys(oracle.FEES, 1_000)


def listed(book: Data, at: datetime) -> dict[str, Any] | None:
    """Return the price list of a random book, if a group has terms at that time."""
    price_book = PriceBook.loads(render(book))
    return price_list(price_book, at=at) if price_book.groups(at=at) else None


def rows_of(prices: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(group["name"], row) for group in prices["groups"] for row in group["prices"]]


@settings(max_examples=MANY, deadline=None)
@given(books(), instants)
def test_every_price_is_the_oracles(book: Data, at: datetime) -> None:
    """Nominal and Top Up price of each meter, group, tier and context equal those of the oracle."""
    prices = listed(book, at)
    for group, row in [] if prices is None else rows_of(prices):
        for meter in METER_LABELS["en"]:
            long = row["context"] == "long"
            one = oracle.price(book, row["model"], group, row["service_tier"], meter, long, at)
            price = None if one is None else one * PER.get(meter, 1_000_000)
            nominal = row["nominal"].get(meter)
            assert (None if nominal is None else Fraction(nominal)) == price
            for name, topup in row["topup"].items():
                entry = oracle.entry_at(book["channels"][name]["prices"], at)
                assert entry is not None
                per_credit = Fraction(entry["price_per_credit"]) / Fraction(book["credit"]["nominal_per_credit"])
                paid = None if price is None else price * per_credit
                assert (Fraction(topup[meter]) if meter in topup else None) == paid


@settings(max_examples=MANY, deadline=None)
@given(books(), instants)
def test_each_group_lists_what_it_may_use(book: Data, at: datetime) -> None:
    """A group lists a model in exactly the tiers in which a request of that group has a price."""
    prices = listed(book, at)
    groups = [] if prices is None else prices["groups"]
    known = {part["model"] for group in groups for part in (*group["prices"], *group["changes"])}
    assert prices is None or {one["name"] for one in prices["models"]} == known
    for group in groups:
        listed_tiers = {(row["model"], row["service_tier"]) for row in group["prices"]}
        for name in book["models"]:
            for tier in ("standard", "batch", "flex", "priority"):
                try:
                    oracle.charge(book, {}, name, group["name"], tier, at)
                except oracle.RefusedError:
                    assert (name, tier) not in listed_tiers
                else:
                    assert (name, tier) in listed_tiers
            usable = any(model == name for model, _ in listed_tiers)
            assert (name in group["models"]) == usable
            assert (name in group["not_allowed"]) == (
                not usable and name in known and bool(oracle.sold_at(book["models"][name], at))
            )


@settings(max_examples=MANY, deadline=None)
@given(books(), instants)
def test_display_digits_are_rounded_once(book: Data, at: datetime) -> None:
    """The displayed price, per 1 M and per 1 K, is rounded as the oracle rounds, and is never zero for a price."""
    prices = listed(book, at)
    currencies = {} if prices is None else {channel["name"]: channel["currency"] for channel in prices["channels"]}
    shown = {} if prices is None else prices["shown"]
    shown_of = {code: {Fraction(a): Fraction(b) for a, b in shown.get(code, {}).items()} for code in MINOR_DIGITS}
    for _, row in [] if prices is None else rows_of(prices):
        for view, texts in {"": row["nominal"], **row["topup"]}.items():
            currency = currencies.get(view, "USD")
            for meter, text in texts.items():
                for scale in (1,) if meter in oracle.FEES else (1, 1_000):
                    exact = Fraction(text) / scale
                    digits = shown_of[currency].get(exact, exact)
                    assert digits == oracle.shown(exact, MINOR_DIGITS[currency])
                    assert (digits == 0) == (exact == 0)


amounts = st.builds(
    lambda coefficient, places: Decimal(coefficient).scaleb(-places),
    st.one_of(st.integers(0, 10**6), st.integers(0, 10**24)),
    st.integers(0, 24),
)


@given(amounts, st.sampled_from(sorted(MINOR_DIGITS)))
def test_a_price_is_rounded_once_by_significant_digits(price: Decimal, currency: str) -> None:
    """A price is rounded half up to four digits or the minor unit, never to zero, and rounding is idempotent."""
    got = round_for_display(price, currency)
    assert Fraction(got) == oracle.shown(Fraction(price), MINOR_DIGITS[currency])
    assert (got == 0) == (price == 0)
    assert round_for_display(got, currency) == got
    assert abs(Fraction(got) - Fraction(price)) * 2000 <= Fraction(price)


@given(amounts, st.sampled_from(sorted(MINOR_DIGITS)), st.sampled_from(LANGUAGES))
def test_a_language_changes_no_digit(price: Decimal, currency: str, name: str) -> None:
    """Formatting changes no digit, whatever the caller's decimal context is."""
    language = LocaleFormatter(name)

    def forms() -> tuple[str, ...]:
        return (
            language.money(price, currency),
            language.number(price),
            language.percent(price),
            language.group_digits("1234.10"),
        )

    usual = forms()
    with decimal.localcontext(decimal.Context(prec=2, rounding=decimal.ROUND_UP, traps=[decimal.Inexact])):
        again = forms()
    assert usual == again
    bare = [Fraction("".join(c for c in text if c in "0123456789.")) for text in usual[:3]]
    assert bare == [Fraction(price), Fraction(price), Fraction(price) * 100]
    assert len(usual[0].partition(".")[2]) >= MINOR_DIGITS[currency]


@pytest.mark.parametrize(
    ("price", "full", "saved"),
    [("0.5", "5", "0.9"), ("0.13", "1.25", "0.896"), ("0.0001", "1000", "0.999"), ("0", "1", "1"), ("1", "1", None)],
)
def test_a_discount_is_truncated(price: str, full: str, saved: str | None) -> None:
    """A cache discount is truncated to a tenth of a percent, and a discount of zero is omitted."""
    assert discount_rate(D(price), D(full)) == (None if saved is None else D(saved))
    assert discount_rate(D("2"), D("1")) is None
    assert discount_rate(D("99.99"), D("100")) is None  # less than a tenth of a percent is not "0% off"
    assert discount_rate(D("0"), D("0")) is None


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_currency_has_a_form(name: str) -> None:
    """Each ISO 4217 currency has its minor digits, and its browser format has one placeholder for digits."""
    language = LocaleFormatter(name)
    for code, digits in _MINOR_DIGITS.items():
        assert language.client_formats([code])["money"][code].count("#") == 1, code
        text = language.money(D("1234.5"), code)
        match = re.search(r"1,234\.50*", text)
        assert match is not None
        assert len(match[0]) == len("1,234.") + max(digits, 1), code


def test_a_group_is_named_and_never_another() -> None:
    """An unknown group is an error; no other group replaces it."""
    with pytest.raises(BillingError, match="no group 'nobody'") as caught:
        price_list(shipped(), at=AUTUMN, groups=["default", "nobody"])
    assert code_of(caught) == "unknown_group"
    names = [
        group["name"] for group in price_list(shipped(), at=AUTUMN, groups=["coding", "default", "coding"])["groups"]
    ]
    assert names == ["coding", "default"]
    bad: Any
    for bad in ("default", [], 5, [["x"]], [5]):
        with pytest.raises(BillingError) as caught:
            pricing_page(shipped(), at=AUTUMN, groups=bad)
        assert code_of(caught) == "invalid_argument"


def test_a_list_for_some_groups_discloses_nothing_about_others() -> None:
    """Models that none of the listed groups may use, now or later, are neither in the list nor on the page."""
    prices = price_list(shipped(), at=AUTUMN, groups=["mini-only"])
    assert [one["name"] for one in prices["models"]] == ["gpt-5.4-mini"]
    assert prices["groups"][0]["not_allowed"] == []
    html = pricing_page(shipped(), at=AUTUMN, groups=["mini-only"])
    assert "codex" not in html
    both = price_list(shipped(), at=AUTUMN, groups=["mini-only", "coding"])
    assert both["groups"][0]["not_allowed"] == ["gpt-5.4", "gpt-5.3-codex"]


def test_changes_of_a_channel_are_listed() -> None:
    """The list and the page have scheduled changes of a price of a Credit and of a volume discount."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}}",
        channel="{currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85},"
        " {from: 2026-04-01, until: 2026-05-01, price_per_credit: 0.9}], volume_discounts:"
        " [{from: 2026-03-01, applies_to: all, tiers: [{at_least: 50, discount: 0.2}]}]}",
    )
    discount = {"applies_to": "all", "steps": [{"at_least": "50", "discount": "0.2"}]}
    (channel,) = price_list(book, at=utc("2026-01-15"))["channels"]
    assert channel["changes"] == [
        {"at": "2026-03-01T00:00:00Z", "volume_discount": [None, discount]},
        {"at": "2026-04-01T00:00:00Z", "price_per_credit": ["0.85", "0.9"]},
        {"at": "2026-05-01T00:00:00Z", "price_per_credit": ["0.9", None]},
    ]
    (then,) = price_list(book, at=utc("2026-04-01"))["channels"]
    assert then["changes"] == channel["changes"][2:]  # a change that is effective from this instant is not scheduled
    html = pricing_page(book, at=utc("2026-01-15"))
    for text in (
        "From Mar 1, 2026: From 50 Credits: 20% off the whole purchase",
        "From Apr 1, 2026: 1 Credit costs CN¥0.90",
        "From May 1, 2026: 1 Credit costs –",
    ):
        assert text in html


def changes(book: PriceBook, at: str, group: str = "g") -> list[tuple[Any, ...]]:
    """Return scheduled changes in short: time, subject, and nominal prices before and after."""
    listed_changes = next(part for part in price_list(book, at=utc(at))["groups"] if part["name"] == group)["changes"]
    return [
        (one["at"][:10], one["model"], one["service_tier"], one["context"], one["kind"], one["nominal"])
        for one in listed_changes
    ]


def test_changes_list_what_begins_changes_and_ends() -> None:
    """New tiers, changed prices and discontinued models are listed at their times, and past changes are not."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1, output: 2}}, {from: 2026-05-01, standard: {input: 3, output: 2}},"
        "{from: 2026-06-01, batch: {input: 0.5}},"
        "{from: 2026-07-01, until: 2026-08-01, standard: {input: 4, output: 2}}"
    )
    expected = [
        ("2026-05-01", "m", "standard", "any", "changes", {"input": ["1", "3"]}),
        ("2026-06-01", "m", "batch", "any", "begins", {"input": [None, "0.5"]}),
        ("2026-07-01", "m", "standard", "any", "changes", {"input": ["3", "4"]}),
        ("2026-08-01", "m", "standard", "any", "ends", {"input": ["4", None], "output": ["2", None]}),
    ]
    assert changes(book, "2026-04-30") == expected
    assert changes(book, "2026-05-01") == expected[1:]  # it is effective from that instant
    assert changes(book, "2026-08-01") == []


def test_a_tier_that_begins_does_not_list_tool_fees() -> None:
    """A tier that starts or ends lists only token prices, because tool fees are the same in every tier."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}}, {from: 2026-02-01, until: 2026-03-01, flex: {input: 0.5}}",
        top="tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}\n",
    )
    assert [(kind, prices) for *_, kind, prices in changes(book, "2026-01-15")] == [
        ("begins", {"input": [None, "0.5"]}),
        ("ends", {"input": ["0.5", None]}),
    ]


def test_changes_of_long_context_name_it() -> None:
    """A new long-context price is a change of the long context, and a changed threshold has both values."""
    long = "long_context: {{above: {}, input: 2}}"
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}},"
        f"{{from: 2026-02-01, standard: {{input: 1, {long.format(1000)}}}}},"
        f"{{from: 2026-03-01, standard: {{input: 1, {long.format(2000)}}}}}"
    )
    group = price_list(book, at=utc("2026-01-15"))["groups"][0]
    assert [(one["at"][:10], one["context"], one["kind"], one["above"]) for one in group["changes"]] == [
        ("2026-02-01", "long", "changes", [None, 1000]),
        ("2026-03-01", "short", "changes", [1000, 2000]),
        ("2026-03-01", "long", "changes", [1000, 2000]),
    ]
    html = pricing_page(book, at=utc("2026-01-15"))
    assert "Long context: over 1,000 → over 2,000 input tokens" in html


def test_changes_of_groups_discounts_and_fees_count() -> None:
    """Changes of a ratio, a cache discount, a fee and a channel's price are listed, because they change prices."""
    book = PriceBook.loads(
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "cache_discount: [{from: 2026-01-01, discount: 0.9}, {from: 2026-02-01, discount: 0.5}]\n"
        "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}, {from: 2026-03-01, per_1000_calls: 20}]}\n"
        "channels: {c: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85},"
        " {from: 2026-04-01, price_per_credit: 0.9}]}}\n"
        "models:\n" + model("{from: 2026-01-01, standard: {input: 1, output: 2}}") + "groups:\n"
        "  g: {terms: [{from: 2026-01-01, ratio: 1, models: ['*']}, {from: 2026-05-01, ratio: 0.5, models: ['*']}]}\n"
    )
    assert [(when, prices) for when, *_, prices in changes(book, "2026-01-15")] == [
        ("2026-02-01", {"cache_read": ["0.1", "0.5"]}),
        ("2026-03-01", {"web_search": ["10", "20"]}),
        (
            "2026-05-01",
            {
                "input": ["1", "0.5"],
                "cache_read": ["0.5", "0.25"],
                "output": ["2", "1"],
                "web_search": ["20", "10"],
            },
        ),
    ]
    prices = price_list(book, at=utc("2026-01-15"))
    assert prices["channels"][0]["changes"] == [{"at": "2026-04-01T00:00:00Z", "price_per_credit": ["0.85", "0.9"]}]
    html = pricing_page(book, at=utc("2026-01-15"))
    assert "<li>Mar 1, 2026: m: Web search: $10.00 → $20.00 per 1,000 calls</li>" in html
    assert "<li>Feb 1, 2026: m · Standard: Cached input: $0.10 → $0.50</li>" in html
    # From 1 April a Credit costs 0.90, and both Top Up prices are those of their own time.
    assert prices["groups"][0]["changes"][-1]["topup"]["c"]["input"] == ["0.9", "0.45"]


def context(row: dict[str, Any]) -> str:
    return "long" if row["context"] == "long" else "short"


@settings(max_examples=MANY, deadline=None)
@given(books(), instants)
def test_scheduled_changes_lead_to_the_later_prices(book: Data, at: datetime) -> None:
    """A price list updated by its scheduled changes equals the price list of the later time."""
    price_book = PriceBook.loads(render(book))
    for group in price_list(price_book, at=at)["groups"]:
        later = at + timedelta(days=40)
        kept: Table = {
            (row["model"], row["service_tier"], context(row)): dict(row["nominal"]) for row in group["prices"]
        }
        moment, before = "", kept
        for change in group["changes"]:
            if instant(change["at"]) <= later:
                if change["at"] != moment:
                    moment, before = change["at"], copy.deepcopy(kept)
                key = change["model"], change["service_tier"], context(change)
                # Without a long-context price, the short price applied.
                table = kept.setdefault(key, dict(before.get((*key[:2], "short"), {})))
                for meter, (_, price) in change["nominal"].items():
                    table.pop(meter, None)
                    if price is not None:
                        table[meter] = price
                if change["kind"] == "ends" or (key[2] == "long" and change["above"][1] is None):
                    del kept[key]
        then = {one["name"]: one["prices"] for one in price_list(price_book, at=later)["groups"]}.get(group["name"], [])
        real = {(row["model"], row["service_tier"], context(row)): row["nominal"] for row in then}
        assert without_fees(kept) == without_fees(real)


Table = dict[tuple[str, str, str], dict[str, str]]


def without_fees(table: Table) -> Table:
    """Remove tool fees, which are not listed for each model that starts."""
    return {key: {m: p for m, p in prices.items() if m not in oracle.FEES} for key, prices in table.items()}


@pytest.mark.parametrize(
    "table", [PRICING_MESSAGES, BILL_MESSAGES, METER_LABELS, TIER_LABELS], ids=["pricing", "bill", "meters", "tiers"]
)
def test_both_languages_have_the_same_messages(table: dict[str, dict[str, str]]) -> None:
    """Both languages have the same messages with the same placeholders."""
    values: Callable[[str], set[str]] = lambda text: {part.partition("}")[0] for part in text.split("{")[1:]}  # noqa: E731
    english, chinese = table["en"], table["zh_CN"]
    assert list(english) == list(chinese)
    assert {key: values(text) for key, text in english.items()} == {key: values(text) for key, text in chinese.items()}
    assert set(LOCALES) == set(LANGUAGES)


def test_the_price_list_is_plain_json() -> None:
    """The list is unchanged by a JSON round trip, and has no floats."""
    prices = price_list(shipped(), at=AUTUMN)
    assert json.loads(json.dumps(prices)) == prices

    def floats(value: Any) -> bool:
        if isinstance(value, dict):
            return any(map(floats, value.values()))
        if isinstance(value, list):
            return any(map(floats, value))
        return isinstance(value, float | Decimal)

    assert not floats(prices)


def test_descriptions_come_in_languages() -> None:
    """A description is one text or one per language; unknown languages, numbers and control characters are errors."""
    text = "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\nmodels:\n" + model(
        "{from: 2026-01-01, standard: {input: 1}}"
    )
    text += "groups: {g: {description: %s, terms: [{from: 2026-01-01, ratio: 1, models: ['*']}]}}\n"
    for written, texts in (("one", {"": "one"}), ("{en: one, zh_CN: 一}", {"en": "one", "zh_CN": "一"})):
        book = PriceBook.loads(text % written)
        assert book.descriptions().groups == {"g": texts}
        book.descriptions().groups["g"]["en"] = "changed"
        assert book.descriptions().groups == {"g": texts}
    for bad in ("5", "{fr: un}", "{}", '"a\\u0007"', "[a]", "{en: 5}", "{en: " + "x" * 2001 + "}"):
        with pytest.raises(BillingError, match="description") as caught:
            PriceBook.loads(text % bad)
        assert code_of(caught) == "invalid_price_file"
