"""Mistakes in the sections of the price model: every finding has its position, its path, the problem and the fix."""

from __future__ import annotations

import pytest
import yaml

from brivionix_billing import PriceBook, PriceFileError
from brivionix_billing.errors import Finding
from paths import DATA

BASE = (DATA / "price_model.yaml").read_text("utf-8")
EDITS: dict[str, dict[str, str]] = yaml.safe_load((DATA / "price_model_mistakes.yaml").read_text("utf-8"))
MARK = "@@"


def edited(edit: dict[str, str]) -> tuple[str, int, int]:
    """Return the base file with one edit, and line and column of the mark, from 1."""
    assert BASE.count(edit["replace"]) == 1, edit["replace"]
    text = BASE.replace(edit["replace"], edit["by"])
    if "at" in edit:
        place = edit["at"].replace(MARK, "")
        assert text.count(place) == 1, place
        text = text.replace(place, edit["at"])
    before, mark, after = text.partition(MARK)
    assert mark
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def findings_of(text: str) -> list[Finding]:
    """Return the findings for an invalid price file."""
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(text)
    return list(caught.value.findings)


def test_the_base_file_has_every_section_and_is_valid() -> None:
    """The base file has all optional sections and is valid, so each finding comes from its edit."""
    PriceBook.loads(BASE)
    assert set(yaml.safe_load(BASE)) == {
        *("version", "credit", "meters", "calendars", "service_tiers", "regions", "exchange_rates", "aliases"),
        *("priced_model", "unpriced_tokens", "upstreams", "cache_discount", "tools", "models", "groups"),
    }


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_mistake_is_found_at_its_position(edit: dict[str, str]) -> None:
    """A mistake in a section of the price model gives a finding at its line and column, with its path and fix."""
    text, line, column = edited(edit)
    found = findings_of(text)
    matching = [finding for finding in found if edit["says"] in f"{finding.message}; {finding.hint}"]
    assert [(f.line, f.column, f.path) for f in matching] == [(line, column, edit["path"])], found


def test_mistakes_in_all_sections_are_found_in_one_run() -> None:
    """One run reports a mistake in every section, even if the schema refuses some of them."""
    text = BASE
    for name in (
        *("reserved unit", "weekday", "tier that is a tier", "rate of zero", "alias of an unknown model"),
        *("fee of no tool", "boundary of no kind", "router to nothing", "group price without a region"),
    ):
        text = text.replace(EDITS[name]["replace"], EDITS[name]["by"].replace(MARK, ""))
    found = findings_of(text)
    sections = {finding.path.partition(".")[0].partition("[")[0] for finding in found}
    assert sections >= {"meters", "calendars", "service_tiers", "exchange_rates", "aliases", "tools", "models"}
    assert [finding.line for finding in found] == sorted(finding.line for finding in found)
