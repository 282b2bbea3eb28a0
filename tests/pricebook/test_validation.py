"""Strict parsing of a price file: every kind of mistake is reported at its position."""

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

BASE = """\
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
    """Return the findings for an invalid price file."""
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(text)
    assert caught.value.code == "invalid_price_file"
    findings = caught.value.findings
    assert str(caught.value).split("\n")[1:] == list(map(str, findings))
    return findings


def edit_base_file(old: str, new: str) -> tuple[str, int, int]:
    """Return the valid file with one edit, and line and column of the mark ``@@`` in ``new``, from 1."""
    assert BASE.count(old) == 1, old
    text = BASE.replace(old, new)
    before, mark, after = text.partition("@@")
    assert mark
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def test_the_base_file_is_valid() -> None:
    """The base file of the edits below is valid, so each finding comes from its edit."""
    assert len(PriceBook.loads(BASE).digest) == 71


# Name -> text to replace, replacement with @@ at the position of the finding, path and part of the message.
EDITS: dict[str, dict[str, str]] = yaml.safe_load((DATA / "mistakes.yaml").read_text("utf-8"))


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_mistake_is_reported_at_its_position(edit: dict[str, str]) -> None:
    """A mistake gives a finding with its line, column, path, problem and fix."""
    text, line, column = edit_base_file(edit["replace"], edit["by"])
    findings = findings_of(text)
    [expected] = [finding for finding in findings if edit["says"] in f"{finding.message}; {finding.hint}"]
    assert (expected.line, expected.column, expected.path) == (line, column, edit["path"])
    assert str(expected).startswith(f"<text>:{line}:{column}: ")


def test_one_error_has_all_findings_in_file_order() -> None:
    """Syntax, schema and consistency findings are in one error, in the order of the file, each once."""
    text = BASE
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
    findings = findings_of(text)
    positions = [(finding.line, finding.column) for finding in findings]
    assert positions == sorted(positions)
    assert len(set(findings)) == len(findings)
    assert {finding.line for finding in findings} >= {2, 9, 23, 25, 42, 48, 54}
    assert [finding.file for finding in findings] == ["<text>"] * len(findings)


def test_an_empty_or_unrelated_document_is_rejected() -> None:
    """An empty document, a list, and an empty mapping are not price files."""
    for text, message in (
        ("", "empty"),
        ("# only a comment", "empty"),
        ("[1]", "not a mapping"),
        ("---\n", "not a mapping"),
    ):
        assert message in findings_of(text)[0].message
    assert findings_of("{}")[0].message == "'version' is missing"


def test_exponential_anchors_are_rejected() -> None:
    """Anchors that expand to billions of values are rejected before they are expanded."""
    laughs = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    [finding] = findings_of("l0: &l0 [ha, ha]\n" + laughs)
    assert "more than 2000000 values" in finding.message


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_nesting_depth_is_bounded(text: str) -> None:
    """A hundred thousand nested brackets give one finding."""
    [finding] = findings_of(text)
    assert finding.message in ("nested deeper than 32", "a key that is a mapping or a list")


def test_anchors_with_shared_values_are_allowed() -> None:
    """A file with an anchor has the digest of the same file without it."""
    text = BASE.replace("context: {window: 400,", "context: &sizes {window: 400,")
    text = text.replace("context: {window: 500, max_input: 300, max_output: 100}", "context: *sizes")
    assert PriceBook.loads(text).digest == PriceBook.loads(BASE).digest


def test_a_file_above_the_size_limit_is_rejected() -> None:
    """A file of more than 16 MiB is rejected before it is parsed."""
    [finding] = findings_of(b"#" * (MAX_BYTES + 1))
    assert f"more than {MAX_BYTES}" in finding.message
    [finding] = findings_of("#" * MAX_BYTES)
    assert "empty" in finding.message


def test_an_error_has_at_most_1000_findings() -> None:
    """Of 3000 findings an error has 1000 and the number of omitted ones."""
    fees = "".join(f"\n    - {{from: 2026-01-01, per_1000_calls: no{n}}}" for n in range(3000))
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(BASE.replace("  web_search:\n", f"  file_search:{fees}\n  web_search:\n"))
    assert len(caught.value.findings) == 1000
    assert caught.value.omitted_count == 2000
    assert str(caught.value).startswith("3000 findings")
    assert str(caught.value).endswith("... and 2000 more")


def test_bytes_that_are_not_utf_8_are_reported() -> None:
    """Latin-1 is reported with its line, and a byte order mark is allowed."""
    [finding] = findings_of(BASE.replace("some", "caf\u00e9").encode("latin-1"))
    assert (finding.line, finding.message) == (50, "not UTF-8")
    assert PriceBook.loads(b"\xef\xbb\xbf" + BASE.encode()).digest == PriceBook.loads(BASE).digest
    [finding] = findings_of("version: '\ud800'")
    assert "surrogate" in finding.message


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file, a folder and a path with NUL are ``file_unreadable``, and findings have the file name."""
    for path in (tmp_path / "none.yaml", tmp_path, "a\0b"):
        with pytest.raises(BillingError, match="cannot read the price file") as caught:
            PriceBook.load(path)
        assert code_of(caught) == "file_unreadable"
    file = tmp_path / "prices.yaml"
    file.write_text(BASE.replace("ratio: 0.8", "ratio: no"))
    with pytest.raises(PriceFileError, match=re.escape(f"{file}:54:16: groups.vip.terms[0].ratio: 'no' is not")):
        PriceBook.load(file)


def test_a_fee_or_cached_price_that_is_not_exact_is_rejected() -> None:
    """A fee times a ratio, and an input price after the cache discount, must be whole units."""
    fee = BASE.replace("per_1000_calls: 10", "per_1000_calls: 0.0001").replace("ratio: 0.8", "ratio: 0.123456789012")
    assert "tools.web_search[0].per_1000_calls" in [finding.path for finding in findings_of(fee)]
    findings = findings_of(BASE.replace("nominal_per_credit: 1", "nominal_per_credit: 3"))
    assert "tools.web_search[0].per_1000_calls" in [finding.path for finding in findings]
    # The decimal places add up: 6 of the unit, 1 of the price 0.5, 7 of the share 0.0000001, 1 of the ratio 0.8: <= 18.
    PriceBook.loads(BASE.replace("discount: 0.9\n", "discount: 0.9999999\n"))
    findings = findings_of(BASE.replace("discount: 0.9\n", "discount: 0.99999999999\n"))
    assert "models.alpha.prices[1].flex.input" in [finding.path for finding in findings]
    assert not any(finding.path.endswith("output") for finding in findings)


def test_price_overrides_must_match_the_list_prices_of_their_time() -> None:
    """A price override must have the meters and the context of the list price while its terms apply."""
    override = "{prices: {standard: {input: 1, output: 5}}}"
    priced = BASE.replace("{ratio: 0.5}", override)
    PriceBook.loads(priced)
    changed = "{from: 2026-06-01, standard: {input: 3, output: 9, cache_read: 1, long_context: {above: 9, input: 1}}}"
    later = changed.replace("input: 1}", "input: 1, output: 1, cache_read: 1}")
    appended = priced.replace("  beta:\n", f"      - {later}\n  beta:\n")
    PriceBook.loads(appended)  # the terms end on that day
    findings = findings_of(appended.replace("until: 2026-06-01", "until: 2026-06-02"))
    assert {finding.path for finding in findings} == {"groups.vip.terms[0].overrides.alpha.prices.standard"}
    assert sorted(finding.message for finding in findings) == [
        "has no price for cache_read",
        "its long context is not that of the list price",
    ]
    flex = "{prices: {flex: {input: 1, output: 1, long_context: {above: 200, input: 1, output: 1}}}}"
    early = BASE.replace("{ratio: 0.5}", flex).replace("until: 2026-06-01", "until: 2026-02-01")
    # Flex is not sold during these terms, so there is no list price to compare.
    PriceBook.loads(early.replace("above: 200", "above: 9", 1))


@settings(max_examples=examples(150), deadline=None)
@given(st.data())
def test_a_damaged_file_loads_or_raises_a_price_file_error(data: st.DataObject) -> None:
    """A file with a part removed, duplicated or replaced loads, or raises ``PriceFileError`` with valid positions."""
    start = data.draw(st.integers(0, len(BASE)))
    end = data.draw(st.integers(start, min(len(BASE), start + 40)))
    doubled = BASE[start:end] * 2
    piece = data.draw(st.one_of(st.text(max_size=6), st.sampled_from([doubled, "*x", "&x ", "{", "\t", "? "])))
    text = BASE[:start] + piece + BASE[end:]
    try:
        PriceBook.loads(text)
    except PriceFileError:
        lines = len(text.splitlines()) + 1  # YAML also breaks lines at \r and other characters
        assert all(1 <= finding.line <= lines for finding in findings_of(text))
