"""The price book: names, times, groups, immutability, copies and the digest."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import random
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, Charge, Money, Payable, PriceBook, PriceFileError, Usage
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.schema import json_schema
from profiles import examples
from request_strategies import usage_of
from samples import AUTUMN, NOW, SHIPPED, D, book_of, code_of, model, shipped, utc
from strategies import counts

MICROSECOND = timedelta(microseconds=1)
USAGE = Usage(input_tokens=1_000_000)


def credits(book: PriceBook, at: str, **more: Any) -> Any:
    """Return the Credits for a million input tokens of the model ``m``."""
    return book.rate(USAGE, model="m", group="g", at=utc(at), **more).credits


# --- names ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpt-5.4-mini", "gpt-5.4-mini"),
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("gpt-5.4-2027-12-31", "gpt-5.4"),
        ("gpt-5.4-2026-03-04", None),  # before the release of the model
        ("gpt-5.4-2026-02-30", None),
        ("gpt-5.4-20260305", "gpt-5.4"),
        ("gpt-5.4-20260304", None),
        ("gpt-5.4-2026305", None),
        ("gpt-5.4-2026-0305", None),
        ("gpt-5.4-mini-2026-03-17-2026-03-17", None),
        ("GPT-5.4", None),
        ("gpt-5.4 ", None),
        ("", None),
        (None, None),
        (["gpt-5.4"], None),
        (5.4, None),
        ("x" * 10_000_000, None),
    ],
)
def test_a_name_means_one_model_or_is_an_error(name: Any, expected: str | None) -> None:
    """The name of a model and its dated snapshots select it, and any other name is ``unknown_model``."""
    if expected is None:
        with pytest.raises(BillingError) as caught:
            shipped().rate(USAGE, model=name, group="default", at=NOW)
        assert code_of(caught) == "unknown_model"
        assert len(str(caught.value)) < 200
    else:
        assert shipped().rate(USAGE, model=name, group="default", at=NOW).model == expected


def test_an_alias_means_its_model_and_has_snapshots() -> None:
    """An alias, and an alias with a date since the release, select the model."""
    text = model("{from: 2026-01-01, standard: {input: 3}}").replace("released", "aliases: [other], released")
    book = book_of(text)
    for name in ("m", "other", "other-2026-01-01", "m-2026-01-01"):
        charge = book.rate(USAGE, model=name, group="g", at=NOW)
        assert (charge.model, charge.credits) == ("m", D(3))
    with pytest.raises(BillingError, match="no model 'other-2025-12-31'"):
        book.rate(USAGE, model="other-2025-12-31", group="g", at=NOW)


def test_the_served_model_is_used_if_none_is_given() -> None:
    """``model=`` takes precedence over the model of the usage, and without both rating is an error."""
    usage = Usage(input_tokens=1_000_000, model="gpt-5.2")
    assert shipped().rate(usage, group="default", at=NOW).model == "gpt-5.2"
    assert shipped().rate(usage, model="gpt-5.4", group="default", at=NOW).model == "gpt-5.4"
    with pytest.raises(BillingError, match="no model; pass model"):
        shipped().rate(USAGE, group="default", at=NOW)


@settings(max_examples=examples(300))
@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_patterns_are_shell_patterns(pattern: str, name: str) -> None:
    """A pattern matches as in a shell, where ``*`` is any run and ``?`` any single character."""
    assert matcher([pattern])(name) == fnmatchcase(name, pattern)
    assert matcher([pattern, "zz"])(name) == fnmatchcase(name, pattern)


def test_a_pattern_with_brackets_or_dots_is_literal_and_fast() -> None:
    """``[``, ``.`` and ``+`` match themselves, and a pattern of many stars is fast."""
    assert matcher(["a.b[c]+"])("a.b[c]+")
    assert not matcher(["a.b*"])("axb")
    assert not matcher(["[ab]*"])("ab")
    assert not matcher(["*a" * 60])("a" * 59 + "b" * 60)


# --- time ---


def test_a_price_applies_from_its_instant_to_the_next() -> None:
    """An entry applies from its exact instant until the next entry or its end, and a gap has no price."""
    book = book_of(
        "{from: 2026-02-01, standard: {input: 1}}, "
        "{from: 2026-03-01T12:00:00+08:00, standard: {input: 2}, until: 2026-04-01}, "
        "{from: 2026-05-01, standard: {input: 3}}"
    )
    assert credits(book, "2026-02-01") == credits(book, "2026-03-01T03:59:59.999999") == 1
    assert credits(book, "2026-03-01T04:00:00") == credits(book, "2026-03-31T23:59:59.999999") == 2
    assert credits(book, "2026-05-01") == credits(book, "9999-12-31T23:59:59.999999") == 3
    for gap in ("2026-01-31T23:59:59.999999", "2026-04-01", "2026-04-30T23:59:59.999999"):
        with pytest.raises(BillingError, match="has no price at") as caught:
            credits(book, gap)
        assert code_of(caught) == "no_price"
    assert book.models(group="g", at=utc("2026-04-15")) == []
    assert book.models(group="g", at=utc("2026-05-01")) == ["m"]


def test_the_order_of_requests_does_not_change_prices() -> None:
    """Each request gets the prices of its own time, whatever the order of requests."""
    book = book_of(
        ", ".join(f"{{from: 2026-{month:02}-01, standard: {{input: {month}}}}}" for month in range(1, 13)),
        top="tools: {web_search: [{from: 2026-06-15, per_1000_calls: 10}]}\n",
    )
    dates = [(f"2026-{month:02}-{day}", month) for month in range(1, 13) for day in ("01", "14", "15", "28")]
    random.Random(7).shuffle(dates)
    for at, month in dates * 2:
        assert credits(book, at) == month


def test_an_entry_changes_only_the_tiers_that_it_names() -> None:
    """An entry with a standard price does not change the priority price, and vice versa."""
    book = book_of(
        "{from: 2026-01-01, standard: {input: 1}, priority: {input: 2}}, {from: 2026-02-01, standard: {input: 3}}, "
        "{from: 2026-03-01, priority: {input: 4}}"
    )
    prices = {
        at: (credits(book, at), credits(book, at, service_tier="priority"))
        for at in ("2026-01-15", "2026-02-15", "2026-03-15")
    }
    assert prices == {"2026-01-15": (1, 2), "2026-02-15": (3, 2), "2026-03-15": (3, 4)}
    assert book.service_tiers("m", utc("2026-03-15")) == ["standard", "priority"]


def test_the_terms_of_a_group_change_at_their_instant() -> None:
    """The group ``partner`` has ratio 0.95 until August, and from September ratio 0.85 with one price override."""
    last, first = utc("2026-09-01") - MICROSECOND, utc("2026-09-01")
    before, after = (shipped().rate(USAGE, model="gpt-5.4", group="partner", at=at) for at in (last, first))
    assert (before.credits, after.credits) == (D("4.75"), D("4.25"))
    charge = shipped().rate(USAGE, model="gpt-5.2", group="partner", at=first)
    assert (charge.credits, charge.lines[0].ratio, charge.lines[0].list_price) == (D("1.5"), None, D("1.75"))
    assert shipped().rate(USAGE, model="gpt-5.2", group="partner", at=last).credits == D("1.6625")


@pytest.mark.parametrize("at", [NOW.replace(tzinfo=None), "2026-10-01", 1_790_000_000, None, NOW.date()])
def test_a_time_must_have_a_zone(at: Any) -> None:
    """A time without a zone, or no time at all, is ``invalid_time`` with a cold and a warm cache."""
    book = PriceBook.load(SHIPPED)
    for _ in range(2):
        with pytest.raises(BillingError) as caught:
            book.rate(USAGE, model="gpt-5.4", group="default", at=at)
        assert (code_of(caught), caught.value.http_status) == ("invalid_time", 400)
        book.rate(USAGE, model="gpt-5.4", group="default", at=NOW)


# --- groups ---


def test_a_group_may_use_only_its_models() -> None:
    """A group may use the models that its patterns match, each with its ratio, and others are ``model_not_allowed``."""
    book = shipped()
    assert book.models(group="coding", at=NOW) == ["gpt-5.4", "gpt-5.4-mini", "gpt-5.3-codex"]
    assert book.models(group="default", at=NOW) == ["gpt-5.5", "gpt-5.4", "gpt-5.4-mini", "gpt-5.3-codex", "gpt-5.2"]
    assert book.models(group="mini-only", at=NOW) == ["gpt-5.4-mini"]
    assert book.groups(at=NOW) == ["default", "mini-only", "coding", "partner", "free-trial"]
    assert book.groups(at=utc("2025-12-10")) == []
    with pytest.raises(BillingError, match=r"'coding' may not use gpt-5\.2 at 2026-10-01T00:00:00Z") as caught:
        book.rate(USAGE, model="gpt-5.2", group="coding", at=NOW)
    assert (code_of(caught), caught.value.http_status) == ("model_not_allowed", 403)
    ratios = {m: book.rate_cards(m, group="coding", at=NOW)[0].ratio for m in book.models(group="coding", at=NOW)}
    assert ratios == {"gpt-5.4": D("0.9"), "gpt-5.4-mini": D("0.9"), "gpt-5.3-codex": D("0.8")}
    with pytest.raises(BillingError, match="'default' has no terms at 2025-12-10") as caught:
        book.models(group="default", at=utc("2025-12-10"))
    assert code_of(caught) == "unknown_group"


@pytest.mark.parametrize("group", ["Default", "", None, 1, ["default"]])
def test_an_unknown_group_is_rejected(group: Any) -> None:
    """An unknown group is ``unknown_group``, and the message does not disclose the names of other groups."""
    with pytest.raises(BillingError, match=r"no group .* in the price file") as caught:
        shipped().rate(USAGE, model="gpt-5.4", group=group, at=NOW)
    assert code_of(caught) == "unknown_group"
    assert "partner" not in str(caught.value)


# --- copies and immutability ---


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_are_equal_and_usable(duplicate: Any) -> None:
    """Copies of usages, charges, amounts, books, channels and cards are equal and give the same results."""
    usage = Usage(input_tokens=9, audio_input_tokens=4, output_tokens=3, reasoning_tokens=1, service_tier="flex")
    plain_usage = Usage(input_tokens=9, cache_read_tokens=2)
    for value in (usage, plain_usage, Money("0.85", "CNY"), Payable("0.85", "CNY")):
        copied = duplicate(value)
        assert (copied, type(copied), hash(copied), repr(copied)) == (value, type(value), hash(value), repr(value))
    book = shipped()
    charge = book.rate(plain_usage, model="gpt-5.4", group="coding", at=NOW)
    charge_copy = duplicate(charge)
    assert isinstance(charge_copy, Charge)
    assert (charge_copy, hash(charge_copy), charge_copy.as_dict(), charge_copy.explain()) == (
        charge,
        hash(charge),
        charge.as_dict(),
        charge.explain(),
    )
    assert duplicate(book).digest == book.digest
    assert duplicate(book).rate(plain_usage, model="gpt-5.4", group="coding", at=NOW) == charge
    channel = duplicate(book.channel("rmb"))
    assert channel.quote(at=NOW, pay="17") == book.quote("rmb", at=NOW, pay="17")
    card = duplicate(charge.card)
    assert (card.unit_rates, card.channels, card.charge_quanta(plain_usage)) == (
        charge.card.unit_rates,
        charge.card.channels,
        charge[0],
    )
    with pytest.raises(TypeError):
        card.channels["rmb"] = None


def test_attributes_are_read_only() -> None:
    """No attribute of a usage, amount, charge, card, timeline or book can be set or deleted."""
    charge = shipped().rate(USAGE, model="gpt-5.4", group="default", at=NOW)
    prices = shipped().channel("rmb").prices
    for value, name in (
        (USAGE, "input_tokens"),
        (Money(1, "CNY"), "amount"),
        (Payable(1, "CNY"), "minor"),
        (charge, "credits"),
        (charge, "note"),
        (charge.card, "unit_rates"),
        (shipped(), "digest"),
        (shipped(), "note"),
        (prices, "entries"),
        (prices.entries[0], "value"),
        (charge.lines[0], "credits"),
    ):
        with pytest.raises(AttributeError):
            setattr(value, name, 0)
        with pytest.raises(AttributeError):
            delattr(value, name)


def test_charges_are_equal_only_for_equal_requests() -> None:
    """Equal requests give equal charges, and a different usage, model, group, time or tier gives a different charge."""

    def rate(**changes: Any) -> Charge:
        request: dict[str, Any] = {"usage": USAGE, "model": "gpt-5.4", "group": "default", "at": AUTUMN}
        return shipped().rate(**request | changes)

    assert rate() == rate()
    assert (rate() != rate()) is False
    for changes in (
        {"usage": Usage(input_tokens=999_999)},
        {"model": "gpt-5.4-mini"},
        {"group": "coding"},
        {"at": AUTUMN + MICROSECOND},
        {"service_tier": "flex"},
    ):
        assert rate(**changes) != rate()
    assert rate() != tuple(rate())


@given(counts())
def test_repr_evaluates_to_the_same_value(arguments: dict[str, int]) -> None:
    """``repr`` of a usage or an amount is a Python expression for the same value."""
    usage = usage_of(arguments)
    assert eval(repr(usage), {"Usage": Usage}) == usage
    for money in (Money(usage.input_tokens, "JPY"), Money("-0.000125", "KWD"), Payable(-usage.output_tokens, "CNY")):
        assert eval(repr(money), {"Money": Money, "Payable": Payable}) == money


# --- the file ---


def test_the_digest_ignores_fields_without_effect_on_prices() -> None:
    """Descriptions, encodings, context sizes, aliases and release dates do not change the digest."""
    text = SHIPPED.read_text()
    for old, new, same in (
        ('description: {en: "Top-up in RMB", zh_CN: "人民币充值"}', "description: Other", True),
        ("encoding: o200k_base", "encoding: cl100k_base", True),
        ("window: 1050000", "window: 2000000", True),
        ("released: 2026-03-17", "released: 2026-03-16", True),
        ("    encoding: o200k_base", "    aliases: [flagship]\n    encoding: o200k_base", True),
        ("credit:\n", "aliases: {'openai/*': '*'}\nregions: {us: [us-east-1]}\ncredit:\n", True),
        ('models: ["*-codex", "gpt-5.4*"]', 'models: ["gpt-5.4*", "*-codex"]', True),
        ("ratio: 0.95", "ratio: 0.96", False),
        ("credit:\n", "priced_model: served\ncredit:\n", False),
    ):
        assert old in text
        digest = PriceBook.loads(text.replace(old, new, 1)).digest
        assert (digest == shipped().digest) is same, new
    assert shipped().digest.startswith("sha256:")
    assert len(shipped().digest) == 71


def test_the_digest_covers_thresholds_and_volume_discounts() -> None:
    """A different bound, threshold, discount or ``applies_to`` changes the digest, a minimum payment does not."""

    def digest(**changes: str) -> str:
        values = {"above": "100", "applies": "all", "at": "10", "off": "0.1", "smallest": "1"} | changes
        volume = "{{from: 2026-01-01, applies_to: {applies}, tiers: [{{at_least: {at}, discount: {off}}}]}}"
        price = "{{from: 2026-01-01, price_per_credit: 1}}"
        channel = "{{currency: CNY, smallest: {smallest}, prices: [" + price + "], volume_discounts: [" + volume + "]}}"
        entry = "{{from: 2026-01-01, standard: {{input: 1, long_context: {{above: {above}, input: 2}}}}}}"
        return book_of(entry.format(**values), channel=channel.format(**values)).digest

    changed = [{"above": "101"}, {"applies": "above"}, {"at": "11"}, {"off": "0.2"}, {"smallest": "2"}]
    assert len({digest(), *(digest(**changes) for changes in changed)}) == 5
    assert digest() == digest(smallest="2")
    assert digest() == digest(at="10.0", off="1e-1", smallest="1.00")


def test_the_json_schema_accepts_the_shipped_file_and_rejects_mistakes() -> None:
    """The schema accepts ``pricing.yaml`` and rejects an unknown key, a missing key and a wrong type."""

    class Loader(yaml.SafeLoader):
        """Loads dates as strings, as an editor does."""

    Loader.yaml_implicit_resolvers = {
        key: [(tag, exp) for tag, exp in rules if tag != "tag:yaml.org,2002:timestamp"]
        for key, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = yaml.load(SHIPPED.read_text(), Loader)
    assert list(validator.iter_errors(data)) == []
    edits: list[tuple[str, Any]] = [("descripton", "x"), ("terms", []), ("description", 5)]
    for key, value in edits:
        edited = json.loads(json.dumps(data))
        edited["groups"]["default"][key] = value
        assert list(validator.iter_errors(edited)), key
    del data["credit"]
    assert list(validator.iter_errors(data))


def test_a_rate_card_rejects_a_price_that_is_not_exact() -> None:
    """A price that is not a whole number of units is rejected by the file check and by the rate card."""
    with pytest.raises(PriceFileError, match=r"models.m.prices\[0\].standard.input: 10 / 3 is not a whole number"):
        book_of("{from: 2026-01-01, standard: {input: 1e1}}", nominal="3")
    book = book_of("{from: 2026-01-01, standard: {input: 3}}", nominal="3", ratio="0.9")
    card = book.rate_cards("m", group="g", at=NOW)[0]
    fields = {name: getattr(card, name) for name in card.__dataclass_fields__ if card.__dataclass_fields__[name].init}
    with pytest.raises(
        BillingError, match=r"m, group g, standard: the price of input, 1 USD .*is not a whole number"
    ) as caught:
        type(card)(**fields | {"unit_prices": {"input": D(1)}})
    assert code_of(caught) == "price_not_exact"


def test_loading_restores_the_garbage_collector() -> None:
    """Loading restores the state of the garbage collector, after success and after failure."""
    with pytest.raises(PriceFileError):
        PriceBook.loads("[")
    PriceBook.load(SHIPPED)
    assert gc.isenabled()
    gc.disable()
    try:
        PriceBook.load(SHIPPED)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_book_has_names_and_a_short_repr() -> None:
    """A book has the names of its models, groups and channels, the definition of a Credit, and a short repr."""
    book = shipped()
    assert book.group_names == ["default", "mini-only", "coding", "partner", "free-trial"]
    assert (book.currency, book.nominal_per_credit, book.model_names[0]) == ("USD", D(1), "gpt-5.5")
    assert repr(book) == f"<PriceBook 5 models, 5 groups, {book.digest[:19]}>"
    assert list(book.channels()) == ["rmb", "stripe"]
