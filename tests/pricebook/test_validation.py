"""Strict reading of a price file: every kind of mistake is found, where it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook, PriceFileError
from brivionix_billing.errors import Finding
from brivionix_billing.pricebook.yaml_reader import MAX_BYTES
from paths import DATA
from profiles import examples
from samples import code_of

GOOD = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
cache_discount:
  - from: 2026-01-01
    discount: 0.9
tools:
  web_search:
    - from: 2026-01-01
      per_1000_calls: 10
channels:
  rmb:
    currency: CNY
    min_payment: 1
    max_payment: 1000
    prices:
      - from: 2026-01-01
        price_per_credit: 0.85
    volume_discounts:
      - from: 2026-01-01
        applies_to: all
        tiers:
          - {at_least: 100, discount: 0.05}
          - {at_least: 500, discount: 0.1}
models:
  alpha:
    released: 2026-01-01
    encoding: o200k_base
    context: {window: 400, max_input: 300, max_output: 100}
    aliases: [first]
    prices:
      - from: 2026-01-01
        standard: {input: 1, output: 6}
      - from: 2026-02-01
        standard: {input: 2, output: 12}
        flex: {input: 0.5, output: 3, long_context: {above: 200, input: 1, output: 4}}
  beta:
    released: 2026-01-01
    encoding: o200k_base
    context: {window: 500, max_input: 300, max_output: 100}
    prices:
      - from: 2026-01-01
        standard: {input: 1.5, cache_read: 0.15, output: 9}
groups:
  default:
    terms:
      - from: 2026-01-01
        ratio: 1
        models: ["*"]
  vip:
    description: some
    terms:
      - from: 2026-01-01
        until: 2026-06-01
        ratio: 0.8
        models: [alpha, "b*"]
        overrides:
          alpha: {ratio: 0.5}
"""


def findings_of(text: str | bytes) -> list[Finding]:
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(text)
    assert caught.value.code == "invalid_price_file"
    found = caught.value.findings
    assert str(caught.value).split("\n")[1:] == list(map(str, found))
    return found


def edited(old: str, new: str) -> tuple[str, int, int]:
    """The good file with one edit, and where in it the mark ``@@`` of ``new`` stood: line and column from 1."""
    assert GOOD.count(old) == 1, old
    text = GOOD.replace(old, new)
    before, mark, after = text.partition("@@")
    assert mark
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def test_the_good_file_is_good() -> None:
    """The file that the edits below break is sound, so each finding comes from its edit."""
    assert len(PriceBook.loads(GOOD).digest) == 71


# What is edited, into what (with @@ where the finding must point), its path, what it says.
EDITS: dict[str, dict[str, str]] = yaml.safe_load((DATA / "mistakes.yaml").read_text("utf-8"))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_mistake_is_found_where_it_stands(edit: dict[str, str]) -> None:
    """A mistake gives a finding at its line and column, with its path, what it is and what would be right."""
    text, line, column = edited(edit["replace"], edit["by"])
    found = findings_of(text)
    [first] = [finding for finding in found if edit["says"] in f"{finding.message}; {finding.hint}"]
    assert (first.line, first.column, first.path) == (line, column, edit["path"])
    assert str(first).startswith(f"<text>:{line}:{column}: ")


def test_all_findings_come_in_one_error_in_the_order_of_the_file() -> None:
    """Mistakes of form, of schema and of sense are told together, from top to bottom, each once."""
    text = GOOD
    for old, new in (
        ("nominal_per_credit: 1", "nominal_per_credit: 1, nominal_per_credit: 2"),
        ("per_1000_calls: 10", "per_1000_calls: 010"),
        ("at_least: 500", "at_least: 50"),
        ("  alpha:\n", "  al<pha:\n"),
        ("input: 1.5,", "input: !!int 1,"),
        ("ratio: 0.8", "ratio: no"),
        ('["*"]', '["*", gamma]'),
    ):
        assert old in text
        text = text.replace(old, new)
    found = findings_of(text)
    places = [(finding.line, finding.column) for finding in found]
    assert places == sorted(places)
    assert len(set(found)) == len(found)
    assert {finding.line for finding in found} >= {2, 9, 23, 25, 42, 48, 54}
    assert [finding.file for finding in found] == ["<text>"] * len(found)


def test_an_empty_or_a_foreign_document_is_refused() -> None:
    """Nothing, a list, a word or an empty mapping is not a price file."""
    for text, what in (
        ("", "empty"),
        ("# only a remark", "empty"),
        ("[1]", "not a mapping"),
        ("---\n", "not a mapping"),
    ):
        assert what in findings_of(text)[0].message
    assert findings_of("{}")[0].message == "'version' is missing"


def test_laughs_are_counted() -> None:
    """A few anchors that stand for a billion values are refused before they are written out."""
    laughs = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    [finding] = findings_of("l0: &l0 [ha, ha]\n" + laughs)
    assert "more than 2000000 values" in finding.message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_depth_is_bounded(text: str) -> None:
    """A hundred thousand brackets end in a finding, not in the interpreter's stack."""
    [finding] = findings_of(text)
    assert finding.message in ("nested deeper than 32", "a key that is a mapping or a list")


def test_anchors_that_share_values_are_read() -> None:
    """An anchor is fine where each figure is sound: it saves typing and changes nothing."""
    text = GOOD.replace("context: {window: 400,", "context: &sizes {window: 400,")
    text = text.replace("context: {window: 500, max_input: 300, max_output: 100}", "context: *sizes")
    assert PriceBook.loads(text).digest == PriceBook.loads(GOOD).digest


def test_a_huge_file_is_refused_by_its_size() -> None:
    """A file over 16 MiB is refused before it is parsed."""
    [finding] = findings_of(b"#" * (MAX_BYTES + 1))
    assert f"more than {MAX_BYTES}" in finding.message
    [finding] = findings_of("#" * MAX_BYTES)
    assert "empty" in finding.message


def test_the_list_of_findings_is_bounded() -> None:
    """Ten thousand mistakes are told as a thousand and a count; the rest is not lost."""
    fees = "".join(f"\n    - {{from: 2026-01-01, per_1000_calls: no{n}}}" for n in range(3000))
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(GOOD.replace("  web_search:\n", f"  file_search:{fees}\n  web_search:\n"))
    assert len(caught.value.findings) == 1000
    assert caught.value.omitted_count == 2000
    assert str(caught.value).startswith("3000 findings")
    assert str(caught.value).endswith("... and 2000 more")


def test_bytes_that_are_not_utf_8_are_found() -> None:
    """Latin-1 is refused with its line; a byte order mark is fine."""
    [finding] = findings_of(GOOD.replace("some", "caf\u00e9").encode("latin-1"))
    assert (finding.line, finding.message) == (50, "not UTF-8")
    assert PriceBook.loads(b"\xef\xbb\xbf" + GOOD.encode()).digest == PriceBook.loads(GOOD).digest
    [finding] = findings_of("version: '\ud800'")
    assert "surrogate" in finding.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a path with a NUL are ``file_unreadable``; findings carry the file's name."""
    for path in (tmp_path / "none.yaml", tmp_path, "a\0b"):
        with pytest.raises(BillingError, match="cannot read the price file") as caught:
            PriceBook.load(path)
        assert code_of(caught) == "file_unreadable"
    file = tmp_path / "prices.yaml"
    file.write_text(GOOD.replace("ratio: 0.8", "ratio: no"))
    with pytest.raises(PriceFileError, match=re.escape(f"{file}:54:16: groups.vip.terms[0].ratio: 'no' is not")):
        PriceBook.load(file)


def test_a_fee_or_a_cached_price_too_fine_for_the_unit_is_refused() -> None:
    """A fee times a ratio, and an input price times what a cache discount leaves, must be whole units too."""
    fee = GOOD.replace("per_1000_calls: 10", "per_1000_calls: 0.0001").replace("ratio: 0.8", "ratio: 0.123456789012")
    paths = [finding.path for finding in findings_of(fee)]
    assert "tools.web_search[0].per_1000_calls" in paths
    thirds = findings_of(GOOD.replace("nominal_per_credit: 1", "nominal_per_credit: 3"))
    assert "tools.web_search[0].per_1000_calls" in [finding.path for finding in thirds]
    # 0.5 leaves 12 digits, its share of 0.0000001 and a ratio of 0.8 make 9 of them: 6 + 1 + 7 + 1 <= 18.
    PriceBook.loads(GOOD.replace("discount: 0.9\n", "discount: 0.9999999\n"))
    found = findings_of(GOOD.replace("discount: 0.9\n", "discount: 0.99999999999\n"))
    assert "models.alpha.prices[1].flex.input" in [finding.path for finding in found]
    assert not any(finding.path.endswith("output") for finding in found)


def test_own_prices_are_held_against_the_list_prices_of_their_time() -> None:
    """A group's own price must have the list's meters and context while its terms hold, and only then."""
    own = "{prices: {standard: {input: 1, output: 5}}}"
    priced = GOOD.replace("{ratio: 0.5}", own)
    PriceBook.loads(priced)
    changed = "{from: 2026-06-01, standard: {input: 3, output: 9, cache_read: 1, long_context: {above: 9, input: 1}}}"
    later = changed.replace("input: 1}", "input: 1, output: 1, cache_read: 1}")
    appended = priced.replace("  beta:\n", f"      - {later}\n  beta:\n")
    PriceBook.loads(appended)  # the terms end on that day
    found = findings_of(appended.replace("until: 2026-06-01", "until: 2026-06-02"))
    assert {finding.path for finding in found} == {"groups.vip.terms[0].overrides.alpha.prices.standard"}
    assert sorted(finding.message for finding in found) == [
        "has no price for cache_read",
        "its long context is not that of the list price",
    ]
    flex = "{prices: {flex: {input: 1, output: 1, long_context: {above: 200, input: 1, output: 1}}}}"
    early = GOOD.replace("{ratio: 0.5}", flex).replace("until: 2026-06-01", "until: 2026-02-01")
    PriceBook.loads(early.replace("above: 200", "above: 9", 1))  # flex was not sold yet: nothing to hold it against


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_damaged_file_never_raises_anything_else(data: st.DataObject) -> None:
    """A file with a piece cut out, doubled or replaced is read, or refused by a ``BillingError``."""
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 40)))
    doubled = GOOD[start:end] * 2
    piece = data.draw(st.one_of(st.text(max_size=6), st.sampled_from([doubled, "*x", "&x ", "{", "\t", "? "])))
    text = GOOD[:start] + piece + GOOD[end:]
    try:
        PriceBook.loads(text)
    except PriceFileError:
        lines = len(text.splitlines()) + 1  # YAML breaks lines at \r and others too
        assert all(1 <= finding.line <= lines for finding in findings_of(text))
