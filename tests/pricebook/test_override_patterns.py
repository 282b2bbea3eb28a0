"""Overrides of a group by patterns: the full name wins, then the most specific pattern, and there is one winner."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from brivionix_billing import PriceBook, Usage
from brivionix_billing.errors import PriceFileError
from brivionix_billing.importing.merge import merge_catalog
from import_kit import read_data
from samples import utc

AT = utc("2026-10-01")
FILE = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
models:
  gpt-5: {prices: [{from: 2026-01-01, standard: {input: 1}}]}
  gpt-5-mini: {prices: [{from: 2026-01-01, standard: {input: 1}}]}
  gpt-4: {prices: [{from: 2026-01-01, standard: {input: 1, output: 2}}]}
  other:
    prices:
      - {from: 2026-01-01, standard: {input: 1}}
groups:
  g:
    terms:
      - from: 2026-01-01
        ratio: 1
        models: ["gpt-*"]
        overrides: OVERRIDES
"""


def loads(overrides: str) -> PriceBook:
    """Return the book with the overrides of its group."""
    return PriceBook.loads(FILE.replace("OVERRIDES", overrides))


def price(book: PriceBook, model: str) -> Decimal:
    """Return the Credits of 1 M input tokens."""
    return book.rate(Usage(input_tokens=1_000_000), model=model, group="g", at=AT).credits


def test_the_most_specific_override_wins() -> None:
    """A full name wins over patterns, and a pattern over one with fewer characters, in any order."""
    book = loads('{"*": {ratio: 2}, "gpt-5*": {prices: {standard: {input: 3}}}, gpt-5: {ratio: 4}}')
    assert [price(book, model) for model in ("gpt-5", "gpt-5-mini", "gpt-4")] == [4, 3, 2]


@pytest.mark.parametrize(
    ("overrides", "path", "message"),
    [
        ('{"gpt-5*": {ratio: 2}, "*-mini?": {ratio: 3}}', "*-mini?", "no model '*-mini?' in this file"),
        ('{"gpt-*": {ratio: 2}, "*mini": {ratio: 3}}', "*mini", "this pattern and 'gpt-*' match 'gpt-5-mini'"),
        ('{"oth*": {ratio: 2}}', "oth*", "matches none of the models of these terms"),
        ("{other: {ratio: 2}}", "other", "is not among the models of these terms"),
        ('{"gpt*": {prices: {standard: {input: 1}}}}', "gpt*.prices.standard", "gpt-4: has no price for output"),
        ('{"gpt-5*": {}}', "gpt-5*", "must have either ratio or prices"),
    ],
)
def test_an_override_that_cannot_apply_is_a_finding(overrides: str, path: str, message: str) -> None:
    """Conflicts, patterns without a model, and prices that do not fit one of the models are found."""
    with pytest.raises(PriceFileError) as caught:
        loads(overrides)
    (finding,) = caught.value.findings
    assert finding.path == f"groups.g.terms[0].overrides.{path}"
    assert message in finding.message


def test_a_pattern_may_wait_for_models() -> None:
    """A pattern whose models all have a full name of their own is valid, because others may come."""
    text = '{"gpt-4*": {ratio: 2}, gpt-4: {ratio: 3}}'
    assert price(loads(text), "gpt-4") == 3


def test_an_imported_model_that_does_not_fit_a_pattern_is_rejected() -> None:
    """A new model whose prices the group's own prices do not cover is left out with the reason."""
    content = FILE.replace("OVERRIDES", '{"gpt-5*": {prices: {standard: {input: 3}}}}').encode()
    rows: dict[str, Any] = {
        name: {"litellm_provider": "x", "input_cost_per_token": 1e-6, **more}
        for name, more in (("gpt-5-pro", {}), ("gpt-5-max", {"output_cost_per_token": 1e-6}))
    }
    catalog = read_data("litellm", rows)
    result = merge_catalog(catalog, content, "p", "2027-01-01")
    assert result.added == ["gpt-5-pro"]
    assert "gpt-5-max: has no price for output" in catalog.rejections[0].reason
