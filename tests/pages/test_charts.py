"""Charts of usage, and bills as PDF: both agree with the document."""

from __future__ import annotations

import io
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from bill_kit import billed, loaded, record, text, written
from bill_page_kit import full
from brivionix_billing import BillingError
from brivionix_billing.pages import printed_bill, render_pdf
from brivionix_billing.pages.bill_charts import usage_charts
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.pages.charts import ChartColumn, column_chart
from brivionix_billing.pages.formatting import LocaleFormatter
from profiles import examples
from samples import code_of


def charted(kind: str, days: list[Any], lines: list[Any] | None = None, total: str = "0.000000") -> dict[str, Any]:
    """Return the part of a document that charts show."""
    rounded = {"rounded": {"credits": total}}
    return {"kind": kind, "days": days, "lines": lines or [], "totals": rounded, "rounding": {"credit_digits": 6}}


@pytest.mark.usefixtures("pango")
@pytest.mark.parametrize("locale", ["en", "zh_CN"])
def test_a_pdf_holds_the_same(locale: str) -> None:
    """The PDF has the totals, the hash, Chinese characters and page numbers."""
    bill = full()
    made = PdfReader(io.BytesIO(render_pdf(printed_bill(bill, locale=locale))))
    shown = "".join("".join(page.extract_text() for page in made.pages).split())
    for part in (
        BILL_MESSAGES[locale]["proof"],
        "客户",
        "北京网关",
        bill["hash"],
        *bill["totals"]["rounded"]["channels"].values(),
    ):
        assert "".join(part.split()) in shown
    assert f"1/{len(made.pages)}" in shown


@pytest.mark.usefixtures("pango")
def test_a_small_bill_is_one_page_and_a_long_summary_is_split() -> None:
    """A bill of one model is one page. A summary of more models than a page holds begins at once, and goes on."""
    small = billed(written([record(1)]), channel="rmb")
    assert len(PdfReader(io.BytesIO(render_pdf(printed_bill(small)))).pages) == 1
    prices = "".join(
        f"  m{n}: {{prices: [{{from: 2026-01-01, standard: {{input: 1, output: 1}}}}]}}\n" for n in range(80)
    )
    rows = [record(n, model=f"m{n}", usage={"input_tokens": n + 1, "output_tokens": 1}) for n in range(80)]
    many = billed(written(rows), loaded(text().replace("\ngroups:\n", f"\n{prices}groups:\n", 1)))
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(render_pdf(printed_bill(many)))).pages]
    assert [page for page in pages if "Summary by model" in page] == pages[:1]
    assert "m0 1 " in pages[0]
    assert "Lines" not in pages[0] + pages[1]
    assert "m79" in pages[2]


@pytest.mark.usefixtures("pango")
def test_letters_that_no_font_has_are_an_error() -> None:
    """A character without a glyph is an error that names its code point, and a PDF loads nothing."""
    with pytest.raises(BillingError, match=r"U\+E123") as caught:
        render_pdf("<main>\ue123</main>")
    assert code_of(caught) == "missing_font"
    assert render_pdf('<main>x<img src="http://127.0.0.1:9/x.png" alt=""></main>')[:5] == b"%PDF-"


RECT = re.compile(r'<rect class="s(\d)" x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"')
_parts = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 10**24)), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(_parts, min_size=1, max_size=12))
def test_bars_are_as_high_as_their_amounts(stacks: list[list[int]]) -> None:
    """The height of each part is its scaled amount, within a fifth of a unit, and parts stack without gaps."""
    size = max(map(len, stacks))
    columns = [ChartColumn(str(n), str(n), stack + [0] * (size - len(stack)), "") for n, stack in enumerate(stacks)]
    svg = str(column_chart(columns, 0, "title", LocaleFormatter("en")))
    top = max(int(label.replace(",", "")) for label in re.findall(r'text-anchor="end"[^>]*>([\d,]+)<', svg))
    highest = max(map(sum, stacks))
    assert highest <= top <= max(highest * 2, 1)
    for n, group in enumerate(re.findall(r"<g><title>.*?</g>", svg)):
        low = 180.0
        rects = {int(rect[0]): rect for rect in RECT.findall(group)}
        for series, part in enumerate(columns[n].parts):
            if series in rects:
                _, _, y, _, height = map(float, rects[series])
                assert abs(y + float(height) - low) < 0.15
                assert abs(float(height) - part / top * 170) < 0.2
                low = y
            else:
                assert part / top * 170 < 0.2


@pytest.mark.parametrize("days", [28, 29, 30, 31])
def test_no_label_leaves_the_picture(days: int) -> None:
    """The last axis label ends within the 720 units of the chart."""
    columns = [ChartColumn(f"10-{n + 1:02}", str(n), [1], "1") for n in range(days)]
    svg = str(column_chart(columns, 0, "title", LocaleFormatter("en")))
    last = float(re.findall(r'x="([\d.]+)" y="195" text-anchor="middle"', svg)[-1])
    assert last + 13.5 <= 720  # "10-31" at 10 units: 4 digits of 5.6, a hyphen of 3.4, and a little more


def number(shown: str) -> Decimal:
    return Decimal(shown.replace(",", ""))


@settings(max_examples=examples(60), deadline=None)
@given(
    st.dictionaries(
        st.tuples(st.dates(), st.sampled_from([f"m{n}" for n in range(12)])),
        st.integers(1, 10**12),
        min_size=1,
        max_size=30,
    )
)
def test_the_figures_below_a_picture_are_the_documents(used: dict[tuple[Any, str], int]) -> None:
    """The figures by day, month or year, with small models grouped, add up to the rounded Credits of the lines."""
    days = [
        {
            "day": day.isoformat(),
            "model": name,
            "requests": 1,
            "credits": format(Decimal(amount).scaleb(-9).normalize(), "f"),
        }
        for (day, name), amount in used.items()
    ]
    by_model: dict[str, Decimal] = {}
    for day in days:
        by_model[day["model"]] = by_model.get(day["model"], Decimal(0)) + Decimal(day["credits"])
    by_model = {name: amount.quantize(Decimal("0.000001"), ROUND_HALF_UP) for name, amount in by_model.items()}
    lines = [{"model": name, "rounded": {"credits": format(amount, "f")}} for name, amount in by_model.items()]
    charts = usage_charts(charted("invoice", days, lines), LocaleFormatter("en"))
    assert charts is not None
    total = sum(by_model.values(), Decimal(0))
    assert sum((Decimal(row["total"].replace(",", "")) for row in charts["figures"]), Decimal(0)) == total
    assert {len(row["total"].partition(".")[2]) for row in charts["figures"]} == {6}
    for index, name in enumerate(charts["names"][:7]):  # these models have separate colours
        amounts = [number(row["amounts"][index]) for row in charts["figures"]]
        assert sum(amounts, Decimal(0)) == by_model[name]
    for row in charts["figures"]:
        assert sum(Decimal(amount.replace(",", "")) for amount in row["amounts"]) == Decimal(
            row["total"].replace(",", "")
        )
    assert len(charts["names"]) == min(len({name for _, name in used}), 8)


def test_a_note_with_amounts_of_both_signs_has_no_chart() -> None:
    """A note with both positive and negative amounts has no chart."""
    days = [
        {"day": "2026-10-01", "model": name, "requests": 0, "credits": text} for name, text in (("a", "1"), ("b", "-1"))
    ]
    assert usage_charts(charted("debit_note", days), LocaleFormatter("en")) is None
    assert usage_charts(charted("credit_note", days[1:], total="-1.000000"), LocaleFormatter("en")) is not None
    assert usage_charts(charted("invoice", []), LocaleFormatter("en")) is None
