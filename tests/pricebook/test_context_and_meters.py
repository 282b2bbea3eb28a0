"""Prices by context tier and by meter: one claim for each rule."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import PriceBook, Usage
from brivionix_billing.meters import CONTAINERS, DESCENDANTS
from model_kit import AT, MILLION, PEAK, PLAIN, book_of, findings, price, refusal, tier_book
from samples import D, utc

# --- context tiers ---


@pytest.mark.parametrize(
    ("tokens", "expected", "name"),
    [
        (32_000, 1, "short"),
        (32_001, 2, ">32000"),
        (127_999, 2, ">32000"),
        (128_000, 3, ">=128000"),
        (256_000, 3, ">=128000"),
        (256_001, 4, ">256000"),
    ],
)
def test_each_context_tier_applies_to_the_whole_request(tokens: int, expected: int, name: str) -> None:
    """Of several boundaries, the last one that is exceeded, or reached, decides the price of all tokens."""
    book = tier_book(
        "input: 1, output: 1, long_context: [{above: 32000, input: 2, output: 2}, "
        "{at_least: 128000, input: 3, output: 3}, {above: 256000, input: 4, output: 4}]"
    )
    charge = book.rate(Usage(input_tokens=tokens, output_tokens=7), model="m", group="g", at=AT)
    assert charge.credits == D(expected * (tokens + 7)) / 10**6
    assert charge.context_tier == name
    assert str(tokens) in charge.explain()


@pytest.mark.parametrize(
    ("contexts", "path", "message"),
    [
        ("[{above: 9, input: 1}, {above: 9, input: 1}]", "long_context[1]", "not above the one before"),
        ("{above: 9, at_least: 9, input: 1}", "long_context", "either above or at_least"),
        ("{input: 1}", "long_context", "either above or at_least"),
        ("{above: 9}", "long_context", "has no price for input"),
        ("{above: 9, input: 1, output: 1}", "long_context.output", "no price in the tier itself"),
        ("[]", "long_context", "is empty"),
    ],
)
def test_a_mistake_in_context_tiers_is_found(contexts: str, path: str, message: str) -> None:
    """Boundaries rise, each has one kind, and each prices the token meters of the tier."""
    found = findings(tier_book, f"input: 1, long_context: {contexts}")
    assert any(f.path == f"models.m.prices[0].standard.{path}" and message in f.message for f in found)


# --- tiers, meters, minimum ---


def test_a_file_names_and_defines_tiers() -> None:
    """Further names mean a tier in any case, a tier of the file has its own price, and other names are refused."""
    top = "service_tiers: {standard: [scale], reserved: [provisioned]}"
    book = book_of("m: {prices: [{from: 2026-01-01, standard: {input: 1}, reserved: {input: 0.5}}]}", top)
    assert price(book, Usage(input_tokens=1_000_000, service_tier="Scale")) == 1
    assert price(book, Usage(input_tokens=1_000_000, service_tier="on_demand")) == 1
    assert price(book, service_tier="provisioned") == D("0.5")
    assert refusal(book, MILLION, service_tier="wibble") == "unknown_service_tier"
    assert book.service_tiers("m", AT) == ["standard", "reserved"]


def test_an_undeclared_tier_is_a_finding() -> None:
    """A misspelt tier of an entry is not taken for a tier of its own."""
    (found,) = findings(book_of, "m: {prices: [{from: 2026-01-01, standrad: {input: 1}}]}")
    assert (found.message, found.hint) == ("the key 'standrad' is not known", "did you mean 'standard'?")


def test_meters_without_a_price_fall_back_or_are_refused() -> None:
    """Reasoning, citations and explicit cache reads have their own price, or that of what contains them."""
    usage = Usage(input_tokens=10, cache_read_tokens=10, explicit_cache_read_tokens=10, output_tokens=30,
                  reasoning_tokens=10, citation_tokens=10)  # fmt: skip
    tokens = "input: 1, cache_read: 0.1, output: 2"
    assert price(tier_book(tokens), usage) == D("0.000061")
    own = "explicit_cache_read: 0.2, reasoning: 3, citation: 5"
    assert price(tier_book(f"{tokens}, {own}"), usage) == D("0.000102")
    assert refusal(tier_book("input: 1"), Usage(audio_input_seconds=1)) == "meter_unpriced"


CONTAINED = "unpriced_tokens: as_container"


@pytest.mark.parametrize(
    ("prices", "meter", "billed"),
    [
        ("input: 1, output: 2", "cache_read", "input"),
        ("input: 1, output: 2", "cache_write", "input"),
        ("input: 1, output: 2", "audio_input", "input"),
        ("input: 1, output: 2", "audio_output", "output"),
        ("input: 1, output: 2", "image_output", "output"),
        ("input: 1, output: 2", "video_output", "output"),
        ("input: 1, output: 2", "cache_write_1h", "input"),
        ("input: 1, output: 2, cache_write: 3", "cache_write_1h", "cache_write"),
        ("input: 1, output: 2, cache_write: 3", "cache_write_12h", "cache_write"),
        ("input: 1, output: 2, cache_read: 3", "audio_cache_read", "cache_read"),
        ("input: 1, output: 2, cache_read: 3, audio_input: 4", "audio_cache_read", "audio_input"),
        ("input: 1, output: 2, cache_write: 3", "audio_cache_write", "cache_write"),
        ("input: 1, output: 2, image_input: 3, cache_read: 4", "image_cache_read", "image_input"),
        ("input: 1, output: 2, cache_read: 3", "image_cache_read", "cache_read"),
    ],
)
def test_tokens_without_a_price_cost_what_contains_them(prices: str, meter: str, billed: str) -> None:
    """With ``as_container``, such tokens are on the line of the closest meter that has a price, at its price."""
    (line,) = tier_book(prices, CONTAINED).rate(usage_of(meter), model="m", group="g", at=AT).lines
    assert (line.meter, line.quantity) == (billed, 1_000_000)


def usage_of(meter: str) -> Usage:
    """Return a usage of a million tokens on one meter."""
    around: dict[str, Any] = {f"{name}_tokens": 1_000_000 for name in CONTAINERS[meter] if meter in DESCENDANTS[name]}
    return Usage(**{**around, f"{meter}_tokens": 1_000_000})


def test_tokens_without_a_price_are_refused_unless_the_file_says_what_they_cost() -> None:
    """The default refuses them, a model may refuse them, and no container is not a price. Nothing else has one."""
    write, audio = usage_of("cache_write"), usage_of("audio_output")
    assert refusal(tier_book("input: 1"), write) == "meter_unpriced"
    own = book_of("m: {unpriced_tokens: refuse, prices: [{from: 2026-01-01, standard: {input: 1}}]}", CONTAINED)
    assert refusal(own, write) == "meter_unpriced"
    assert refusal(tier_book("input: 1", CONTAINED), audio) == "meter_unpriced"
    assert refusal(tier_book("input: 1", CONTAINED), Usage(audio_input_seconds=1)) == "meter_unpriced"
    assert refusal(tier_book("input: 1", CONTAINED), Usage(web_search_calls=1)) == "meter_unpriced"
    only = book_of("m: {unpriced_tokens: as_container, prices: [{from: 2026-01-01, standard: {input: 1}}]}")
    assert price(only, write) == 1


def test_a_meter_of_the_file_is_billed_under_its_label() -> None:
    """A file declares a meter, a usage states its quantity, and charge and explanation name it in both languages."""
    top = "meters: {robot_minutes: {unit: minute, label: {en: Robot time, zh_CN: 机器人}}}"
    book = tier_book("robot_minutes: 0.2, request: 0.01, minimum: 1", top)
    charge = book.rate(Usage(quantities={"robot_minutes": D("2.5")}), model="m", group="g", at=AT)
    assert [(line.meter, line.quantity, line.credits) for line in charge.lines] == [
        ("robot_minutes", D("2.5"), D("0.5")),
        ("request", 1, D("0.01")),
        ("minimum_charge", D("0.49"), D("0.49")),
    ]
    assert "Robot time (minutes): 2.5 x 0.2 USD" in charge.explain()
    assert "机器人" in charge.explain("zh_CN")
    assert refusal(book, Usage(quantities={"robot_hours": 1})) == "meter_unpriced"


HALF = "{g: {terms: [{from: 2026-01-01, ratio: 0.5, models: ['*']}]}}"


def minimum_book(prices: str, groups: str) -> PriceBook:
    """Return a book of a model in CNY, of which 8 are worth 1 USD."""
    models = f"m: {{currency: CNY, prices: [{{from: 2026-01-01, standard: {{{prices}}}}}]}}"
    return book_of(models, "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.125}]}", groups)


@pytest.mark.parametrize(
    ("cached", "read", "expected"),
    [
        # In CNY at list price: cached, uncached; the list minimum is 8 CNY = 1 USD, the charge at least half of it.
        (0, 0, (1, 0, "0.5")),  # nothing: max(0, 8) without a cache and with one
        (2_000_000, 1_000_000, ("2.5", "1.125", "0.6875")),  # 20 without a cache, 11 with it; 5.5 charged
        (1_000_000, 1_000_000, ("1.25", "0.25", "0.5")),  # 10 without a cache, max(1, 8) with it; max(0.5, 4) charged
    ],
)
def test_savings_of_a_minimum_charge_are_those_of_the_list(cached: int, read: int, expected: tuple[Any, ...]) -> None:
    """The list price is at least the list minimum, with and without a cache, and the group saves the rest."""
    book = minimum_book("input: 10, cache_read: 1, minimum: 8", HALF)
    charge = book.rate(Usage(input_tokens=cached, cache_read_tokens=read), model="m", group="g", at=AT)
    assert charge.savings == tuple(map(D, expected))


@pytest.mark.parametrize(("list_minimum", "expected"), [(", minimum: 8", (1, 0, "-1")), ("", ("0.125", 0, "-1.875"))])
def test_a_minimum_of_a_group_is_no_list_price(list_minimum: str, expected: tuple[Any, ...]) -> None:
    """A group with a higher minimum is more expensive than the list, which has its own minimum or none."""
    override = "{m: {prices: {standard: {input: 0.1, minimum: 2}}}}"
    groups = f"{{g: {{terms: [{{from: 2026-01-01, ratio: 1, models: ['*'], overrides: {override}}}]}}}}"
    charge = minimum_book(f"input: 1{list_minimum}", groups).rate(MILLION, model="m", group="g", at=AT)
    assert charge.savings == tuple(map(D, expected))
    listed = "8" if list_minimum else "-"
    assert f"minimum charge of 2 USD (group-specific price; list price {listed}) = 2 USD" in charge.explain()


def test_a_free_group_saves_the_list_minimum() -> None:
    """A group with a ratio of 0 pays nothing, which saves the minimum charge of the list."""
    charge = minimum_book("input: 1, minimum: 8", HALF.replace("0.5", "0")).rate(Usage(), model="m", group="g", at=AT)
    assert charge.credits == 0
    assert charge.savings == tuple(map(D, (1, 0, 1)))


def test_an_explanation_derives_the_minimum_charge() -> None:
    """The minimum is its list price x exchange rate x ratio, and the supplement what the lines are short of it."""
    charge = minimum_book("input: 2, minimum: 8", HALF).rate(MILLION, model="m", group="g", at=AT)
    figures = "x ratio 0.5 = 0.5 USD per request: 0.5 - 0.125 = 0.375 USD\n"
    assert f"  supplement to the minimum charge of 8 CNY x exchange rate 0.125 {figures}" in charge.explain()
    figures = "x 倍率 0.5 = 0.5 USD；0.5 - 0.125 = 0.375 USD\n"
    assert f"  最低消费补差：每次请求最低 8 CNY x 汇率 0.125 {figures}" in charge.explain("zh_CN")


@pytest.mark.parametrize(
    ("top", "message"),
    [
        ("meters: {input: {unit: token}}", "the meter input is built in"),
        ("meters: {input_tokens: {unit: token}}", "the meter input_tokens is built in"),
        ("meters: {Robot: {unit: minute}}", "is not a word"),
        ("meters: {robot: {unit: credit}}", "is reserved"),
        ('meters: {robot: {unit: minute, label: "\\a"}}', "control characters"),
    ],
)
def test_a_mistake_in_a_declared_meter_is_found(top: str, message: str) -> None:
    """The meters of a file have names and units of their own."""
    assert any(message in f.message for f in findings(tier_book, "input: 1", top))


# --- defaults by model ---


def test_defaults_reach_only_the_models_that_they_name() -> None:
    """Fees and cache discounts apply to models by pattern, and a model can switch them off."""
    top = (
        "cache_discount: [{from: 2026-01-01, discount: 0.9}]\n"
        "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10, models: ['gpt-*']}, "
        "{from: 2026-01-01, per_1000_calls: 14, models: ['gemini-*']}]}"
    )
    entry = "prices: [{from: 2026-01-01, standard: {input: 1, output: 2}}]"
    models = "\n  ".join(
        [f"{name}: {{{entry}}}" for name in ("gpt-1", "gemini-1", "deepseek")]
        + [f"gpt-embed: {{cache_discount: false, tools: [], {entry}}}"]
    )
    book = book_of(models, top)

    def priced(model: str) -> dict[str, Decimal]:
        return dict(book.rate_cards(model, group="g", at=AT)[0].unit_prices)

    assert priced("gpt-1") == {"input": 1, "output": 2, "cache_read": D("0.1"), "web_search": 10}
    assert priced("gemini-1")["web_search"] == 14
    assert "web_search" not in priced("deepseek")
    assert priced("gpt-embed") == {"input": 1, "output": 2}


def test_two_defaults_for_one_model_at_one_time_are_a_finding() -> None:
    """Entries of a default may start together only if they apply to different models."""
    fees = "{from: 2026-01-01, per_1000_calls: 1, models: ['m']}, {from: 2026-01-01, per_1000_calls: 2, models: ['*']}"
    (found,) = findings(tier_book, "input: 1", f"tools: {{web_search: [{fees}]}}")
    assert found.path == "tools.web_search[1].from"


# --- currencies ---


def test_a_list_price_in_another_currency_is_converted_at_the_dated_rate() -> None:
    """The rate of the start of the request applies to the prices of the model, and not to default fees in USD."""
    top = (
        "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}, {from: 2026-10-01, rate: 0.125}]}\n"
        "tools: {web_search: [{from: 2026-01-01, per_1000_calls: 10}]}"
    )
    book = book_of("m: {currency: CNY, prices: [{from: 2026-01-01, standard: {input: 8, output: 16}}]}", top)
    assert price(book, at=utc("2026-09-30T23:59:59")) == D("1.12")
    assert price(book) == 1
    charge = book.rate(Usage(input_tokens=1_000_000, web_search_calls=100), model="m", group="g", at=AT)
    assert charge.credits == 2
    assert "1000000 x 8 CNY / 1000000 x exchange rate 0.125 x ratio 1 = 1 USD" in charge.explain()
    assert "100 x 10 USD / 1000 x ratio 1 = 1 USD" in charge.explain()
    assert charge.as_dict()["exchange_rate"] == "0.125"


def test_a_currency_without_a_rate_is_a_finding_or_an_error() -> None:
    """A currency needs a rate in the file, and a request a rate that has started."""
    model = "m: {currency: CNY, prices: [{from: 2026-01-01, standard: {input: 8}}]}"
    assert [f.message for f in findings(book_of, model)] == ["no exchange rate of CNY"]
    assert refusal(book_of(model, "exchange_rates: {CNY: [{from: 2027-01-01, rate: 1}]}"), MILLION) == "no_price"


def test_savings_compare_in_one_currency() -> None:
    """What a group saves is the list price in the nominal currency less its own price."""
    groups = (
        "{g: {terms: [{from: 2026-01-01, ratio: 1, models: ['*'], "
        "overrides: {m: {prices: {standard: {input: 0.5}}}}}]}}"
    )
    book = book_of(
        "m: {currency: CNY, prices: [{from: 2026-01-01, standard: {input: 10}}]}",
        "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.1}]}",
        groups,
    )
    savings = book.rate(MILLION, model="m", group="g", at=AT).savings
    assert (savings.list, savings.group) == (D(1), D("0.5"))


# --- group prices ---


def test_group_prices_have_the_structure_of_the_list_price() -> None:
    """Boundaries, regions, modes and windows of a group's own prices are those of the list price."""
    tier = "input: 1, long_context: {above: 9, input: 2}, regions: {us: {input: 3}}"
    listed = f"m: {{prices: [{{from: 2026-01-01, standard: {{{tier}}}}}]}}"
    override = "{g: {terms: [{from: 2026-01-01, ratio: 1, models: ['*'], overrides: {m: {prices: {standard: {%s}}}}}]}}"
    for own, message in (
        ("input: 1", "its long context is not that of the list price"),
        ("input: 1, long_context: {above: 9, input: 2}", "its regions are not those of the list price"),
        ("input: 1, long_context: {above: 9, input: 2}, regions: {us: {factor: 2}}", "its long context in region us"),
    ):
        found = findings(book_of, listed, "", override % own)
        assert any(message in f.message for f in found), own
    groups = override % "input: 0.5, long_context: {above: 9, input: 1}, regions: {us: {input: 1.5}}"
    assert price(book_of(listed, "", groups), region="us") == D("1.5")


def test_check_notes_what_has_no_effect(tmp_path: Any) -> None:
    """Unused declarations, models that no group may use and missing translations are notes, not findings."""
    path = tmp_path / "pricing.yaml"
    path.write_text(
        f"version: 1\ncredit: {{currency: USD, nominal_per_credit: 1}}\n{PEAK}\n"
        "exchange_rates: {CNY: [{from: 2026-01-01, rate: 0.14}]}\nmeters: {robot: {unit: minute}}\n"
        f"models:\n  {PLAIN}\n  n: {{vendor: {{en: Acme}}, prices: [{{from: 2026-01-01, standard: {{input: 1}}}}]}}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: [m]}]}}\n"
    )
    book, notes = PriceBook.load_with_notes(path)
    assert price(book) == 1
    assert {(note.path, note.message) for note in notes} == {
        ("calendars.peak", "no price uses it"),
        ("exchange_rates.CNY", "no price uses it"),
        ("meters.robot", "no price uses it"),
        ("meters.robot", "has no label, so pages and bills show its name"),
        ("models.n", "no group may use this model"),
        ("models.n.vendor", "has no text in 'zh_CN'"),
    }
