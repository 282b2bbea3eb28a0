"""Plans in the price list and on the pricing page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from brivionix_billing import PriceBook
from brivionix_billing.pages import price_list, pricing_page
from paths import ROOT
from samples import utc

NOW = utc("2026-11-25")
TEXT = "\n".join(Path(ROOT / name).read_text(encoding="utf-8") for name in ("pricing.yaml", "examples/plans.yaml"))
LATER = """      - from: 2026-12-01
        credits: 120
        period: week
        prices: {rmb: 30.5}
        rollover: true
"""


def list_plans(text: str, at: str = "2026-11-25", groups: list[str] | None = None) -> dict[str, Any]:
    """Return the plans of a price list by name."""
    return {plan["name"]: plan for plan in price_list(PriceBook.loads(text), at=utc(at), groups=groups)["plans"]}


def restrict_plan(terms: str) -> str:
    """Return the price file with another term of the plan ``pro``."""
    return TEXT.replace("        credits: 400\n", f"        credits: 400\n        {terms}\n", 1)


def section(text: str, locale: str, at: str = "2026-11-25") -> str:
    """Return the texts of the plans on a page in its initial language, without markup."""
    html = pricing_page(PriceBook.loads(text), at=utc(at), locale=locale)
    heading = {"en": "Plans", "zh_CN": "套餐"}[locale]
    found = re.search(rf"<h2>{heading}</h2>(.*?)</details>", html, re.DOTALL)
    assert found is not None
    return re.sub(r"(\s*<[^>]+>\s*)+", "|", found[1])


def test_a_price_list_has_the_terms_of_each_plan() -> None:
    """Terms are exact texts, and a price is that of a channel."""
    plans = list_plans(TEXT)
    assert list(plans) == ["free", "basic", "pro"]
    assert plans["basic"]["terms"] == {
        "credits": "100", "period": "month", "time_zone": "Asia/Shanghai", "prices": {"rmb": "68", "stripe": "9.6"},
        "models": None, "groups": None, "tags": [], "rollover": False, "overflow": True,
    }  # fmt: skip
    assert (plans["free"]["terms"]["prices"], plans["free"]["terms"]["overflow"]) == ({}, False)
    assert plans["pro"]["changes"] == []


def test_later_terms_are_announced() -> None:
    """Terms that start later are a change; before the first terms there are none, and after the last neither."""
    text = TEXT.replace("  pro:\n", f"{LATER}        until: 2026-12-24\n  pro:\n")
    begins, changes, ends = ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "2026-12-24T00:00:00Z")
    before = list_plans(text, "2026-10-31")["basic"]
    assert (before["terms"], [change["at"] for change in before["changes"]]) == (None, [begins, changes, ends])
    now = list_plans(text)["basic"]
    assert [(change["at"], change["terms"] and change["terms"]["credits"]) for change in now["changes"]] == [
        (changes, "120"), (ends, None),
    ]  # fmt: skip
    assert "basic" not in list_plans(text, "2026-12-24")


def test_a_gap_between_terms_is_announced() -> None:
    """A plan that is not sold for some days ends, and begins again with the same terms."""
    first, second = TEXT.rindex("      - from:"), "2026-12-10"
    terms = TEXT[first:].replace("2026-11-01", second)
    text = f"{TEXT.rstrip()}\n        until: 2026-12-01\n{terms}"
    found = [(change["at"][:10], change["terms"] is None) for change in list_plans(text)["pro"]["changes"]]
    assert found == [("2026-12-01", True), (second, False)]


def test_names_of_other_groups_and_models_are_not_disclosed() -> None:
    """A plan lists the shown groups and models that may use it, and is left out if there are none."""
    text = restrict_plan("models: [gpt-5.4*, gpt-5.5]")
    assert list_plans(text)["pro"]["terms"]["models"] == ["gpt-5.5", "gpt-5.4", "gpt-5.4-mini"]
    assert list_plans(text, groups=["mini-only"])["pro"]["terms"]["models"] == ["gpt-5.4-mini"]
    text = restrict_plan("groups: [partner, default]")
    assert list_plans(text, groups=["default"])["pro"]["terms"]["groups"] == ["default"]
    assert "pro" not in list_plans(text, groups=["coding"])
    assert "partner" not in pricing_page(PriceBook.loads(text), at=NOW, groups=["default"])


def test_the_page_shows_plans_in_both_languages() -> None:
    """A plan shows its allowance, each price, restrictions, and what happens to unused Credits."""
    text = restrict_plan("tags: [team=a]").replace("  pro:\n", f"{LATER}  pro:\n")
    english, chinese = section(text, "en"), section(text, "zh_CN")
    for words in (
        "|free|1 Credit per day|To try the API|Free|Requests use no other Credits|Unused Credits expire",
        "|basic|100 Credits per month|For one developer|rmb: CN¥68.00 per month|stripe: $9.60 per month|",
        "From Dec 1, 2026: 120 Credits per week; rmb: CN¥30.50 per week; Unused Credits stay",
        "|Only for requests tagged team=a|",
    ):
        assert words in english, english
    for words in ("|free|每天 1 Credit|试用|免费|", "|rmb：每月 ¥68.00|", "|仅限带标签 team=a 的请求|"):
        assert words in chinese, chinese


def test_a_page_without_plans_has_no_section() -> None:
    """A price file without plans has no heading for them."""
    html = pricing_page(PriceBook.load(ROOT / "pricing.yaml"), at=NOW)
    assert "<h2>Plans</h2>" not in html
