"""``import --into``: new entries and models in an existing price file, and nothing else."""

from __future__ import annotations

import difflib
from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.importing.merge import MergedFile, merge_catalog
from import_kit import catalog_of, read_data
from paths import ROOT
from samples import utc

SHIPPED = (ROOT / "pricing.yaml").read_bytes()
START = "2026-12-01"
AFTER = utc("2026-12-02")
FILE = """\
# A comment at the top.
version: 1
credit: {currency: USD, nominal_per_credit: 1}
cache_discount:
  - {from: 2025-01-01, discount: 0.90}
tools:
  web_search:
    - {from: 2025-01-01, per_1000_calls: 10}
models:
    m:   # odd indentation, and a comment
        prices:
        - from: 2025-01-01
          standard: {input: 1.00, output:   4}   # spaces stay
        # a comment below the last entry

# A comment above the groups.
groups:
  default: {terms: [{from: 2025-01-01, ratio: 1, models: ["*"]}]}
"""


def merged(content: str | bytes, rows: dict[str, Any], start: str = START) -> MergedFile:
    """Merge rows of litellm into a price file."""
    data = {name: {"litellm_provider": "x", **row} for name, row in rows.items()}
    return merge_catalog(
        read_data("litellm", data), content if isinstance(content, bytes) else content.encode(), "p", start
    )


def added_lines(old: str, new: str) -> list[str]:
    """Return the lines that were added. Fails if any line was removed or changed."""
    diff = list(difflib.ndiff(old.splitlines(), new.splitlines()))
    assert not [line for line in diff if line.startswith("- ")]
    return [line[2:] for line in diff if line.startswith("+ ")]


def test_a_changed_price_is_appended() -> None:
    """The old entry, comments, indentation and spaces stay as they are."""
    result = merged(FILE, {"m": {"input_cost_per_token": 2e-6, "output_cost_per_token": 4e-6}})
    assert result.changed == ["m"]
    assert added_lines(FILE, result.text) == [f"        - from: {START}", "          standard: {input: 2, output: 4}"]
    book = PriceBook.loads(result.text)
    usage = Usage(input_tokens=1_000_000)
    assert book.rate(usage, model="m", group="default", at=utc("2026-11-30")).nominal.amount == 1
    assert book.rate(usage, model="m", group="default", at=AFTER).nominal.amount == 2


@pytest.mark.parametrize(
    "row",
    [
        {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6},
        {"input_cost_per_token": 1e-6},
        {"input_cost_per_token": 1e-6, "cache_read_input_token_cost": 1e-7},  # the default discount
        {"input_cost_per_token": 1e-6, "search_context_cost_per_query": {"search_context_size_medium": 0.01}},
    ],
)
def test_equal_prices_change_nothing(row: dict[str, Any]) -> None:
    """Prices that are in force already, also by the file's defaults, get no entry."""
    result = merged(FILE, {"m": row})
    assert result.unchanged == ["m"]
    assert result.text == FILE


def test_what_only_the_file_states_is_kept() -> None:
    """A new entry has the prices that the source does not state, at every length."""
    result = merged(FILE, {"m": {"input_cost_per_token": 2e-6, "input_cost_per_token_above_200k_tokens": 3e-6}})
    assert added_lines(FILE, result.text)[1:] == [
        "          standard:",
        "            input: 2",
        "            output: 4",
        "            long_context: {above: 200000, input: 3, output: 4}",
    ]


def test_new_models_are_added_below_the_others() -> None:
    """A model that the file does not have gets its own block."""
    result = merged(FILE, {"new": {"input_cost_per_token": 2e-6}})
    assert result.added == ["new"]
    assert added_lines(FILE, result.text)[:2] == ["", "    new:"]
    assert PriceBook.loads(result.text).model_names == ["m", "new"]


def test_merging_twice_changes_nothing_more() -> None:
    """The second run finds every price in force."""
    rows = {"m": {"input_cost_per_token": 2e-6}, "new": {"input_cost_per_token": 2e-6}}
    once = merged(FILE, rows)
    assert merged(once.text, rows, "2027-01-01").text == once.text


def test_declarations_are_added() -> None:
    """Meters and regions that new models need are declared."""
    rows = {"v": {"output_cost_per_second_1080p": 0.1, "mode": "video_generation"}}
    result = merged(FILE, rows)
    assert "  video_output_seconds_1080p: {unit: second, per: 1}" in result.text or (
        "meters: {video_output_seconds_1080p: {unit: second, per: 1}}" in result.text
    )


def test_a_start_before_the_last_entry_is_refused() -> None:
    """Nothing is inserted before a published entry: the model is rejected with its date."""
    catalog = read_data("litellm", {"m": {"litellm_provider": "x", "input_cost_per_token": 9e-6}})
    result = merge_catalog(catalog, FILE.encode(), "p", "2024-12-31")
    assert result.text == FILE
    assert "use a later --from" in catalog.rejections[-1].reason


def test_windows_line_ends_and_a_mark_stay() -> None:
    """A file from Windows keeps its line ends and its byte order mark."""
    content = b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode()
    text = merged(content, {"m": {"input_cost_per_token": 2e-6}}).text
    assert text.startswith("\ufeff# A comment")
    assert text.count("\n") == text.count("\r\n") == FILE.count("\n") + 2


def test_a_layout_that_allows_no_insertion_is_refused() -> None:
    """Entries cannot be appended to a list on one line; the message says where."""
    flow = FILE.replace(
        "        prices:\n        - from: 2025-01-01\n          standard: {input: 1.00, output:   4}   # spaces stay\n",
        "        prices: [{from: 2025-01-01, standard: {input: 1, output: 4}}]\n",
    )
    with pytest.raises(BillingError, match=r"models\.m\.prices") as caught:
        merged(flow, {"m": {"input_cost_per_token": 2e-6}})
    assert caught.value.code == "invalid_argument"


def test_an_anchor_that_would_change_another_model_is_refused() -> None:
    """Two models that share one list of prices cannot get different entries."""
    shared = FILE.replace("        prices:\n", "        prices: &p\n").replace(
        "\n# A comment above", "    n: {prices: *p}\n\n# A comment above"
    )
    with pytest.raises(BillingError) as caught:
        merged(shared, {"m": {"input_cost_per_token": 2e-6}})
    assert caught.value.code == "invalid_argument"


@pytest.mark.parametrize("source", ["litellm", "portkey", "genai-prices", "new-api"])
def test_only_lines_are_added_to_the_shipped_file(source: str) -> None:
    """Every line of pricing.yaml stays, and the old digest is that of the same prices before the start."""
    catalog = catalog_of(source)
    result = merge_catalog(catalog, SHIPPED, "pricing.yaml", START)
    added_lines(SHIPPED.decode(), result.text)
    before, after = PriceBook.loads(SHIPPED), PriceBook.loads(result.text)
    usage = Usage(input_tokens=300_000, cache_read_tokens=7, output_tokens=900)
    for model in before.model_names:
        for tier in before.service_tiers(model, utc("2026-11-25")):
            terms: dict[str, Any] = {"model": model, "group": "default", "service_tier": tier}
            old = before.rate(usage, **terms, at=utc("2026-11-25")).nominal
            assert after.rate(usage, **terms, at=utc("2026-11-25")).nominal == old
            if source in ("litellm", "portkey"):  # only regions are new
                assert after.rate(usage, **terms, at=AFTER).nominal == old
    assert not catalog.groups or source == "new-api"


def test_a_region_of_the_source_costs_its_factor() -> None:
    """Portkey's regional price is new in the shipped file."""
    result = merge_catalog(catalog_of("portkey"), SHIPPED, "pricing.yaml", START)
    book = PriceBook.loads(result.text)
    usage = Usage(input_tokens=1_000_000)
    charge = book.rate(usage, model="gpt-5.4-mini", group="default", at=AFTER, region="eu")
    assert charge.nominal.amount == Decimal("0.825")


NAMES = FILE.replace("    m:   #", '    m:\n        aliases: [em, "ft:m:*"]\n        # ').replace(
    "models:\n    m:", 'aliases: {"zz/*": "*"}\nmodels:\n    m:'
)
TWO = {"input_cost_per_token": 2e-6, "output_cost_per_token": 4e-6}


@pytest.mark.parametrize("name", ["m-2026-03-05", "m@20260305", "em", "ft:m:acme", "zz/m", "em-2026-03-05"])
def test_a_name_that_means_a_model_already_is_not_taken(name: str) -> None:
    """A dated snapshot, alias or pattern of a model of the file stays one, because bills used it."""
    catalog = read_data("litellm", {name: {"litellm_provider": "x", **TWO}, "new": {"litellm_provider": "x", **TWO}})
    result = merge_catalog(catalog, NAMES.encode(), "p", START)
    assert result.added == ["new"]
    (rejection,) = catalog.rejections
    assert (rejection.model, rejection.reason) == (
        name, "means m in the price file; a model of this name would change past bills"
    )  # fmt: skip


def test_a_taken_name_that_was_asked_for_is_an_error() -> None:
    """If the command names such a model exactly, nothing is imported, and the message says what the name means."""
    catalog = read_data("litellm", {"m-2026-03-05": {"litellm_provider": "x", **TWO}})
    with pytest.raises(BillingError, match="'m-2026-03-05' means 'm' in p") as caught:
        merge_catalog(catalog, NAMES.encode(), "p", START, ["m-2026-03-05"])
    assert caught.value.code == "invalid_argument"


def test_a_new_model_leaves_older_names_alone() -> None:
    """A new model that gives a name of a pattern another meaning is rejected; an alias that does so is left out."""
    content = NAMES.replace('"zz/*": "*"', '"zz/*": "*", "n-*": m')
    result = merged(content, {"n": TWO})
    assert result.added == []
    catalog = read_data("litellm", {"n": {"litellm_provider": "x", **TWO}})
    catalog.models["n"].aliases += ["ft:m:a*", "free"]
    result = merge_catalog(catalog, NAMES.encode(), "p", START)
    assert result.added == ["n"]
    assert PriceBook.loads(result.text).resolve_model("ft:m:acme") == "m"
    assert PriceBook.loads(result.text).resolve_model("free") == "n"


def test_prices_in_another_currency_are_not_mixed() -> None:
    """A model with prices in another currency gets no prices in USD, and a new one states that it is in USD."""
    priced_in_cny = FILE.replace("        prices:", "        currency: CNY\n        prices:").replace(
        "models:\n", "exchange_rates: {CNY: [{from: 2025-01-01, rate: 0.14}]}\nmodels:\n"
    )
    assert merged(priced_in_cny, {"m": TWO}).text == priced_in_cny
    in_eur = FILE.replace("currency: USD", "currency: EUR")
    assert merged(in_eur, {"new": TWO}).text == in_eur
    with_rate = in_eur.replace("models:\n", "exchange_rates: {USD: [{from: 2025-01-01, rate: 0.9}]}\nmodels:\n")
    book = PriceBook.loads(merged(with_rate, {"new": TWO}).text)
    charge = book.rate(Usage(input_tokens=1_000_000), model="new", group="default", at=AFTER)
    assert (str(charge.nominal.amount), charge.nominal.currency) == ("1.8", "EUR")


PREPARED = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
tools:
  web_search:
    - {from: 2025-01-01, per_1000_calls: 10, models: ["n*"]}
models: {}  # from the import
groups:
  default: {terms: [{from: 2025-01-01, ratio: 0.9, models: ["*"]}]}
"""


def test_a_file_without_models_can_be_extended() -> None:
    """A prepared file with groups and patterns gets its models by an import, and its comment stays."""
    assert PriceBook.loads(PREPARED).model_names == []
    text = merged(PREPARED, {"new": TWO}).text
    assert "models:  # from the import\n\n  new:\n" in text
    charge = PriceBook.loads(text).rate(Usage(input_tokens=1_000_000), model="new", group="default", at=AFTER)
    assert charge.credits == Decimal("1.8")


def test_a_name_in_a_file_without_models_is_a_finding() -> None:
    """Only patterns wait for models; a name that is not there stays an error, and so does a pattern beside models."""
    for text in (
        PREPARED.replace('["*"]', "[m]"),
        PREPARED.replace("{}", "{m: {prices: [{from: 2025-01-01, standard: {input: 1}}]}}"),
    ):
        with pytest.raises(BillingError, match="no model"):
            PriceBook.loads(text)


def test_prices_of_long_context_are_never_lost() -> None:
    """If only the file has a boundary, equal prices change nothing, and other prices are left to the operator."""
    content = FILE.replace("output:   4}", "output: 4, long_context: {above: 200000, input: 2, output: 8}}")
    same = {"input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6}
    assert merged(content, {"m": same}).unchanged == ["m"]
    catalog = read_data("litellm", {"m": {"litellm_provider": "x", **TWO}})
    assert merge_catalog(catalog, content.encode(), "p", START).text == content
    assert "no prices of long context in standard" in catalog.rejections[0].reason
