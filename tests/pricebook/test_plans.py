"""The section ``plans`` of a price file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from brivionix_billing import Payable, PriceBook
from brivionix_billing.errors import PriceFileError
from ledger_kit import got, refused
from paths import ROOT

NOW = datetime(2026, 11, 25, tzinfo=UTC)
TEXT = "\n".join(Path(ROOT / name).read_text(encoding="utf-8") for name in ("pricing.yaml", "examples/plans.yaml"))
BASIC = "        credits: 100\n"


def findings(old: str, new: str) -> str:
    """Return the findings after a change of the price file."""
    assert old in TEXT
    with pytest.raises(PriceFileError) as caught:
        PriceBook.loads(TEXT.replace(old, new, 1))
    return str(caught.value)


def test_a_plan_has_its_terms() -> None:
    """A plan of the file has its prices in the currencies of its channels."""
    plan = PriceBook.loads(TEXT).plan("basic", at=NOW)
    assert got(plan.name, plan.credits, plan.period, plan.zone) == ("basic", 100, "month", "Asia/Shanghai")
    assert plan.prices == {"rmb": Payable("68", "CNY"), "stripe": Payable("9.60", "USD")}
    assert (plan.priority, plan.rollover, plan.overflow, plan.is_free) == (40, False, True, False)


def test_later_terms_replace_earlier_ones() -> None:
    """Terms are those of a time; before the first ones, the plan is not sold."""
    later = BASIC + "        period: week\n      - from: 2026-12-01\n        credits: 120\n"
    book = PriceBook.loads(TEXT.replace(BASIC, later, 1))
    assert got(book.plan("basic", at=NOW).period, book.plan("basic", at=NOW.replace(month=12)).credits) == ("week", 120)
    assert list(book.plans(at=NOW)) == ["free", "basic", "pro"]
    with refused("unknown_plan"):
        book.plan("basic", at=NOW.replace(month=10))


def test_plans_are_no_part_of_the_digest() -> None:
    """No charge depends on a plan, so a bill verifies after its change."""
    assert PriceBook.loads(TEXT.replace(BASIC, "        credits: 101\n")).digest == PriceBook.loads(TEXT).digest


@pytest.mark.parametrize(
    ("old", "new", "place", "problem"),
    [
        (BASIC, "        credits: 0\n", "plans.basic.terms[0].credits", "out of range"),
        (BASIC, "        credits: 0.0000001\n", "plans.basic.terms[0].credits", "more than 6 decimal places"),
        (BASIC, "        credit: 100\n", "plans.basic.terms[0].credit", "did you mean 'credits'?"),
        ("period: month", "period: year", "plans.basic.terms[0].period", "'day', 'week' or 'month'"),
        ("stripe: 9.60", "strip: 9.60", "plans.basic.terms[0].prices.strip", "did you mean 'stripe'?"),
        ("rmb: 68,", "rmb: 68.005,", "plans.basic.terms[0].prices.rmb", "more decimal places than CNY"),
        (BASIC, BASIC + "        models: [gpt-9]\n", "plans.basic.terms[0].models[0]", "no model 'gpt-9'"),
        (BASIC, BASIC + "        groups: [defaul]\n", "plans.basic.terms[0].groups[0]", "did you mean 'default'?"),
        (BASIC, BASIC + "        tags: [team]\n", "plans.basic.terms[0].tags[0]", "name=value"),
        (BASIC, BASIC + "        priority: 101\n", "plans.basic.terms[0].priority", "from 0 (used first) to 100"),
        ("overflow: false", "rollover: true", "plans.free.terms[0].rollover", "add prices"),
        ("time_zone: Asia/Shanghai", "time_zone: Asia/Shangai", "plans.free.terms[0].time_zone", "time zone"),
    ],
)
def test_a_mistake_is_found_with_its_place(old: str, new: str, place: str, problem: str) -> None:
    """Each mistake in a plan is a finding that names its place and says how to fix it."""
    found = findings(old, new)
    assert place in found
    assert problem in found


def test_terms_must_be_in_order() -> None:
    """Terms that do not start after those before them are a finding."""
    assert "plans.basic.terms[1].from" in findings(
        BASIC, BASIC + "        period: month\n      - from: 2026-10-01\n        credits: 100\n"
    )
