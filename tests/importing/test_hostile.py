"""Files that are not what they should be, and rows that would do harm."""

from __future__ import annotations

import json
import random
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.importing.build import build_price_file
from brivionix_billing.importing.catalog import Catalog, DatedPrices, ImportedGroup, ImportedModel
from brivionix_billing.importing.merge import merge_catalog
from brivionix_billing.importing.reading import MAX_SOURCE_BYTES
from brivionix_billing.importing.sources import SOURCES, read_catalog
from brivionix_billing.pricebook import yaml_reader
from import_kit import FILES, PRICES, read_data
from paths import ROOT
from profiles import examples


def litellm(**rows: Any) -> dict[str, Any]:
    """Return a map with rows that have a provider."""
    return {name.replace("__", "/"): {"litellm_provider": "x", **row} for name, row in rows.items()}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'[{"id": 5, "models": 7}]',
        b'{"data": [1, null, "x"]}',
        b'{"data": {"data": []}}',
    ],
)
def test_a_file_that_is_not_of_the_source_is_refused(source: str, content: bytes) -> None:
    """Each source says what it expects."""
    with pytest.raises(BillingError) as caught:
        build_price_file(read_catalog(source, content))
    assert caught.value.code in ("source_unreadable", "invalid_argument")
    assert source in caught.value.message


def test_a_file_that_is_too_large_is_refused() -> None:
    """The limit is checked before parsing."""
    with pytest.raises(BillingError) as caught:
        read_catalog("litellm", b" " * (MAX_SOURCE_BYTES + 1))
    assert caught.value.code == "source_unreadable"


def test_an_unknown_source_is_refused() -> None:
    """The message lists the sources."""
    with pytest.raises(BillingError, match="litellm") as caught:
        read_catalog("wibble", b"{}")
    assert caught.value.code == "invalid_argument"


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "1e999",
        "1e-999",
        "1e99999999999999999999",
        "9" * 5000,
        "0." + "1" * 5000,
        "true",
        "null",
        '"abc"',
        '"0x10"',
        '"1_000"',
        '"NaN"',
        '" 1"',
        "[]",
        "{}",
        "1.2345678901234567e-06",
        "2000000",
    ],
)
def test_a_price_that_is_none_rejects_the_row(value: str) -> None:
    """Only the row is rejected, and the others are imported."""
    text = f'{{"a": {{"litellm_provider": "x", "input_cost_per_token": {value}, "output_cost_per_token": 1e-6}},'
    text += ' "b": {"litellm_provider": "x", "input_cost_per_token": "2.5e-6"}}'
    catalog = read_catalog("litellm", text.encode())
    rejected = {rejection.model for rejection in catalog.rejections}
    if value in ("null", "{}"):  # no price is stated, or a table of prices that is not known
        assert "b" in catalog.models
    else:
        assert rejected == {"a"}
        assert list(catalog.models) == ["b"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " a",
        "a\nb",
        "a\x1b[31m",
        "<script>alert(1)</script>",
        "a'b",
        'a"b',
        "a`b",
        "a{b}",
        "a\\b",
        "\ud800",
        "x" * 129,
        "a\u202eb",
    ],
)
def test_a_name_that_a_price_file_refuses_is_rejected(name: str) -> None:
    """The row is listed, and the file has the others."""
    rows = {name: {"litellm_provider": "x", "input_cost_per_token": 1e-6}, **litellm(b={"input_cost_per_token": 1e-6})}
    catalog = read_data("litellm", rows)
    assert list(catalog.models) == ["b"]
    assert catalog.rejections[0].model == name
    assert PriceBook.loads(build_price_file(catalog)).model_names == ["b"]


@pytest.mark.parametrize(
    "name",
    ["null", "true", "1.5", "1e6", "010", "1:30", "no", "~", "2026-01-01", "a: b", "- a", "#a", "*", "a,b", "模型"],
)
def test_a_name_that_yaml_would_misread_stays_a_name(name: str) -> None:
    """Such names are quoted."""
    rows = {name: {"litellm_provider": "x", "input_cost_per_token": 1e-6}}
    assert PriceBook.loads(build_price_file(read_data("litellm", rows))).model_names == [name]


def test_float_noise_is_only_what_a_double_explains() -> None:
    """2.0000000000000002e-07 is 2e-07; seven digits of something else are not noise."""
    rows = litellm(
        noise={"input_cost_per_token": 2.0000000000000002e-07},
        third={"input_cost_per_token": 1 / 3 * 1e-6},
    )
    catalog = read_data("litellm", rows)
    assert str(catalog.models["noise"].prices[0].tiers["standard"]["input"]) == "0.2"
    assert [(note.code, note.model) for note in catalog.notes] == [("float_noise", "noise")]
    assert [rejection.model for rejection in catalog.rejections] == ["third"]


def test_a_model_that_the_price_book_refuses_is_left_out() -> None:
    """The finding is the reason."""
    rows = {"model_ratio": {"a": 1, "b": "0.000000000001"}, "completion_ratio": {"a": 1, "b": 1}}
    catalog = read_data("new-api", {"data": rows})
    catalog.groups["odd"] = ImportedGroup("odd", Decimal("0.25"), ["*"])
    book = PriceBook.loads(build_price_file(catalog))
    assert book.model_names == ["a"]
    assert "10^-18" in catalog.rejections[-1].reason


def test_unknown_prices_are_listed_as_single_fields() -> None:
    """A row is imported without a price in an unknown unit, and the field is listed."""
    catalog = read_data("litellm", litellm(a={"input_cost_per_token": 1e-6, "input_cost_per_wibble": 1}))
    assert list(catalog.models) == ["a"]
    assert [(r.model, r.field) for r in catalog.rejections] == [("a", "input_cost_per_wibble")]


def test_regular_expressions_of_the_source_cannot_hang() -> None:
    """A slow expression never matches."""
    rows = [
        {
            "id": "p",
            "model_match": {"regex": "^(a+)+$"},
            "models": [{"id": "a" * 60 + "!", "match": {"regex": "(a*)*b"}, "prices": {"input_mtok": 1}}],
        }
    ]
    assert json.dumps(sorted(read_data("genai-prices", rows).models)) == json.dumps(["a" * 60 + "!"])


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**40,
    "x",
    "",
    [],
    {},
    [1],
    {"a": 1},
    [[]],
    "\ud800",
    "1e5",
    0,
    [None],
    {"": {}},
)


def _mutate(node: Any, chance: random.Random) -> Any:
    """Return a copy in which a few values are something else."""
    if chance.random() < 0.02:
        return chance.choice(JUNK)
    if isinstance(node, dict):
        return {key: _mutate(value, chance) for key, value in node.items()}
    if isinstance(node, list):
        return [_mutate(value, chance) for value in node]
    return node


@pytest.mark.parametrize("source", FILES)
def test_mutated_files_never_fail_otherwise(source: str) -> None:
    """Files with values of wrong kinds anywhere are imported as far as possible, or refused."""
    data = json.loads((PRICES / FILES[source]).read_text(encoding="utf-8"))
    for seed in range(examples(80)):
        content = json.dumps(_mutate(data, random.Random(seed))).encode()
        code = ""
        try:
            PriceBook.loads(build_price_file(read_catalog(source, content)))
        except BillingError as error:
            code = error.code
        assert code in ("", "source_unreadable", "invalid_argument"), seed


@pytest.mark.parametrize("number", ["1e999999999999", "0e999999999999"])
@pytest.mark.parametrize("source", SOURCES)
def test_huge_exponents_cost_neither_memory_nor_time(source: str, number: str) -> None:
    """Whatever number of a source has a huge exponent, its row is rejected, or the number is not used."""
    text = (PRICES / FILES[source]).read_text("utf-8")
    member = re.compile(r'(\\?"[^"\\]*\\?": ?)-?[0-9][0-9.eE+-]*')
    keys = sorted({match[1] for match in member.finditer(text)})
    for key in random.Random(7).sample(keys, min(len(keys), examples(16))):
        changed = re.sub(re.escape(key) + r"-?[0-9][0-9.eE+-]*", lambda match, key=key: key + number, text)  # type: ignore[misc]
        with suppress(BillingError):
            build_price_file(read_catalog(source, changed.encode()))


def test_a_boundary_with_a_huge_exponent_rejects_the_row() -> None:
    """OpenRouter's number of prompt tokens is checked before it is converted."""
    override = {"min_prompt_tokens": 1, "prompt": "0.000002"}
    row = {"id": "a/b", "pricing": {"prompt": "0.000001", "overrides": [override]}}
    text = json.dumps({"data": [row, {**row, "id": "a/c"}]}).replace('tokens": 1,', 'tokens": 1e999999999999,', 1)
    catalog = read_catalog("openrouter", text.encode())
    assert list(catalog.models) == ["a/c"]
    assert "is not a whole number of tokens" in catalog.rejections[0].reason


def test_a_file_that_would_be_too_large_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the price file would exceed a limit, no model is dropped for it, and the message says to choose models."""
    monkeypatch.setattr(yaml_reader, "MAX_NODES", 100)
    catalog = read_data("litellm", litellm(**{f"m{number}": {"input_cost_per_token": 1e-6} for number in range(40)}))
    with pytest.raises(BillingError, match="choose fewer models by --model") as caught:
        build_price_file(catalog)
    assert caught.value.code == "invalid_argument"
    assert len(catalog.models) == 40


@pytest.mark.parametrize(
    ("source", "data"),
    [
        ("litellm", litellm(m={"mode": "chat", "input_cost_per_second": 0.001, "output_cost_per_second": 0.002})),
        ("genai-prices", [{"id": "x", "name": "X", "models": [
            {"id": "m", "match": {"equals": "m"}, "prices": {"input_mtok": 1, "input_text_mtok": 2}}]}]),
    ],
)  # fmt: skip
def test_two_prices_of_one_meter_reject_the_row(source: str, data: Any) -> None:
    """If two fields state different prices of one meter, none of them is chosen."""
    catalog = read_data(source, data)
    assert catalog.models == {}
    assert "which another field states, too" in catalog.rejections[0].reason


def _with_invalid_models(count: int) -> Catalog:
    """Return a catalog of which every model but one has a price of a meter that nobody declares."""
    catalog = Catalog("litellm")
    for number in range(count):
        prices = {"input": Decimal(1), ("output" if number == 7 else "unknown"): Decimal(1)}
        catalog.models[f"m{number}"] = ImportedModel(f"m{number}", [DatedPrices(None, {"standard": prices})])
    return catalog


def test_thousands_of_invalid_models_are_loaded_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of models that are loaded is linear in their number, though a file reports 1000 findings at most."""
    loads, loaded = PriceBook.loads, []

    def watched(text: str) -> PriceBook:
        loaded.append(text.count("prices:"))
        return loads(text)

    monkeypatch.setattr(PriceBook, "loads", watched)
    catalog = _with_invalid_models(6_000)
    assert loads(build_price_file(catalog)).model_names == ["m7"]
    assert len(catalog.rejections) == 5_999
    assert sum(loaded) < 3 * 6_000


def test_thousands_of_invalid_models_are_not_merged() -> None:
    """The models that a price file can have are appended to a file, and all others are rejected."""
    catalog = _with_invalid_models(3_000)
    merged = merge_catalog(catalog, (ROOT / "pricing.yaml").read_bytes(), "p", "2027-01-01")
    assert (merged.added, len(catalog.rejections)) == (["m7"], 2_999)


@pytest.mark.parametrize("limit", ["MAX_BYTES", "MAX_NODES"])
def test_a_catalog_that_is_too_large_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price file with too many bytes or values is one error, and no model is dropped for it."""
    monkeypatch.setattr(yaml_reader, limit, 200)
    catalog = _with_invalid_models(60)
    with pytest.raises(BillingError, match=r"would be too large.*choose fewer models"):
        build_price_file(catalog)
    assert len(catalog.models) == 60
