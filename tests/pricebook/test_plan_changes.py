"""What a change of the section ``plans`` changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.pricebook.changes import is_edit, price_changes
from paths import ROOT
from samples import D, utc

WITHOUT = Path(ROOT / "pricing.yaml").read_text(encoding="utf-8")
TEXT = f"{WITHOUT}\n{Path(ROOT / 'examples/plans.yaml').read_text(encoding='utf-8')}"
START = utc("2026-11-01")
LATER = "      - from: 2026-12-01\n        credits: 120\n        period: month\n        prices: {rmb: 68}\n  pro:"


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("rmb: 238", "rmb: 248", {("pro", "price", "rmb", "CNY"): (D(238), D(248))}),
        (", stripe: 33.60", "", {("pro", "price", "stripe", "USD"): (D("33.60"), None)}),
        ("credits: 400", "credits: 390", {("pro", "credits"): (D(400), D(390))}),
        ("period: day", "period: week", {("free", "period"): ("day", "week")}),
        ("overflow: false ", "overflow: true ", {("free", "overflow"): ("false", "true")}),
        ("credits: 400", "credits: 400\n        models: [gpt-5.2]", {("pro", "models"): ("all", "gpt-5.2")}),
        ("credits: 400", "credits: 400\n        rollover: true", {("pro", "rollover"): ("false", "true")}),
        ("credits: 400", "credits: 400\n        priority: 30", {("pro", "priority"): ("40", "30")}),
    ],
)
def test_every_term_of_a_plan_is_compared(old: str, new: str, changes: dict[tuple[str, ...], object]) -> None:
    """A term that differs is a change with both values, from the start of the terms on."""
    assert TEXT.count(old) == 1
    before = PriceBook.loads(TEXT)
    found = price_changes(before, PriceBook.loads(TEXT.replace(old, new)))
    assert {change.subject: (change.old, change.new) for change in found} == changes
    for change in found:
        assert (change.kind, change.start) == ("plan", START)
        assert is_edit(change, before, utc("2026-11-02"))
        assert not is_edit(change, before, START)


def test_later_terms_are_a_change_from_their_start() -> None:
    """Terms that are added for a later time change what is sold from then on, and edit nothing before."""
    before, after = PriceBook.loads(TEXT), PriceBook.loads(TEXT.replace("  pro:", LATER))
    found = price_changes(before, after)
    assert {change.start for change in found} == {utc("2026-12-01")}
    assert [change.new for change in found if change.subject == ("basic", "credits")] == [D(120)]
    assert not any(is_edit(change, before, utc("2026-12-01")) for change in found)


def test_a_plan_that_only_one_file_has_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new plan is one line and no edit; a plan that is gone is an edit of what was sold."""
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(WITHOUT, encoding="utf-8")
    new.write_text(TEXT, encoding="utf-8")
    assert main(["diff", str(old), str(new), "--published", "2026-11-30T00:00:00Z"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].endswith(": new plan pro: Credits per month 400; rmb 238 CNY; stripe 33.6 USD")
    assert (len(out.splitlines()), err) == (3, "")
    assert main(["diff", str(new), str(old), "--published", "2026-11-30T00:00:00Z"]) == 1
    assert "removed plan free: Credits per day 1; free" in capsys.readouterr().err
