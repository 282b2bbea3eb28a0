"""The page of a report: one HTML file with charts and the tables behind them. It loads nothing and runs no script."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from brivionix_billing.decimals import Rounding, decimal_from_scaled, format_plain, format_scaled, round_quotient
from brivionix_billing.invoice.build import CREDIT_DIGITS
from brivionix_billing.money import minor_digits
from brivionix_billing.pages.bill_charts import usage_charts
from brivionix_billing.pages.charts import COLOURS, ChartBar, bar_chart
from brivionix_billing.pages.formatting import LocaleFormatter
from brivionix_billing.pages.render import HtmlPage, read_asset, render_template
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.report.build import Report
from brivionix_billing.report.columns import Column, dimension_title, report_columns, rounded_text
from brivionix_billing.report.costs import MONEY_DECIMALS
from brivionix_billing.report.messages import MESSAGES
from brivionix_billing.report.rejections import RejectedGroup
from brivionix_billing.report.sums import NOMINAL, Sums
from brivionix_billing.report.writers import account_changes
from brivionix_billing.times import CalendarDays, format_instant

__all__ = ["report_page"]

Json = dict[str, Any]
_MAX_ROWS: Final = 1_000
"""Maximum number of rows of a table. CSV has all of them."""
_MAX_BARS: Final = 12
_MAX_LOSSES: Final = 20
_SALES, _COSTS, _MORE, _LESS = 0, 2, 3, 0
"""Series (colours) of bars."""


def report_page(report: Report, *, locale: str = "en") -> HtmlPage:
    """Render the page of a report in ``en`` or ``zh_CN``. Raises ``invalid_argument`` for another language."""
    language = LocaleFormatter(locale)
    words = MESSAGES[language.name]
    view = _View(report, language)
    style = read_asset("base.css") + read_asset("bill.css") + read_asset("report.css")
    charts = usage_charts(view.chart_document(), language)
    values = {
        "language": language,
        "words": words,
        "title": f"{words['title']} {view.period()}",
        "period": view.period(),
        "zone": words["zone"].format(report.zone),
        "counts": view.counts(),
        "tiles": view.tiles(),
        "rejected": view.group_table(report.rejected),
        "figures": view.figures(charts),
        "days": charts
        and {
            "title": charts["time_title"],
            "step": charts["step"],
            "names": charts["names"],
            "rows": charts["figures"],
        },
        "sections": list(view.sections()),
        "colours": COLOURS,
        "digests": [
            (words[title], digest)
            for title, digest in (
                ("prices", report.digest),
                ("costs", report.costs_digest),
                ("other_prices", report.other_digest),
            )
            if digest
        ],
    }
    return render_template("report.html", values, style=style, script="")


class _View:
    """What the template shows of a report, in one language."""

    def __init__(self, report: Report, language: LocaleFormatter) -> None:
        self.report, self.language, self.words = report, language, MESSAGES[language.name]
        self.columns = report_columns(report, language.name)

    def period(self) -> str:
        """Return the first and the last day of the period, or its instants if it does not consist of days."""
        period = self.report.period
        if period is None:
            return self.words["all_time"]
        days = CalendarDays(period.zone)
        first, last = days.at(period.start), days.at(period.end - datetime.resolution)
        start = first.value if first.start == period.start else format_instant(period.start)
        end = last.value if last.end == period.end else format_instant(period.end)
        return self.words["period_days"].format(first=start, last=end)

    def counts(self) -> str:
        """Return what became of the records, without what there is none of."""
        counts = self.report.records
        parts = [("requests", counts.billed), ("duplicates", counts.duplicates), ("rejected", counts.rejected)]
        parts.append(("out_of_scope", counts.out_of_scope))
        return " · ".join(f"{self.words[name]}: {self.language.number(count)}" for name, count in parts if count)

    def tiles(self) -> list[Json]:
        """Return the totals."""
        total, words = self.report.total, self.words
        found = [
            {
                "title": words["credits"],
                "amount": self._scaled(total.rounded_credits, CREDIT_DIGITS),
                "unit": f"{words['requests']}: {self.language.number(total.requests)}",
            }
        ]
        currencies = {NOMINAL: self.report.currency, **self.report.channels}
        for name, currency in currencies.items():
            digits = minor_digits(currency)
            found.append(
                {
                    "title": words["nominal"].format("").strip() if name == NOMINAL else name,
                    "amount": self._scaled(total.rounded_money.get(name, 0), digits),
                    "unit": currency,
                }
            )
        return found

    def chart_document(self) -> Json:
        """Return the usage by day and model in the form of a bill, for the charts of bills."""
        days = [
            {"day": day, "model": model, "credits": format_plain(decimal_from_scaled(units, UNIT_DECIMALS))}
            for (day, model), units in self.report.days.items()
        ]
        total = {"credits": format_scaled(self.report.total.rounded_credits, CREDIT_DIGITS)}
        return {
            "kind": "invoice",
            "days": days,
            "totals": {"rounded": total},
            "rounding": {"credit_digits": CREDIT_DIGITS},
        }

    def figures(self, charts: Json | None) -> list[Json]:
        """Return the charts over time, by model and by account."""
        found = []
        if charts is not None:
            found.append({"title": charts["time_title"], "chart": charts["time"]})
            if charts["models"] is not None:
                found.append({"title": self.words["by_model"], "chart": charts["models"]})
        bars = self._largest({name: sums.units for name, sums in self.report.accounts.items()})
        found.append({"title": self.words["by_account"], "chart": bar_chart(bars, self.words["by_account"])})
        return found

    def sections(self) -> Iterable[Json]:
        """Yield the sections of the page: amounts, quantities, savings, margin, other prices."""
        words = self.words
        yield self._section(
            words["rows_money"], lambda name: name.startswith("rounded_") or name in ("requests", "estimated_requests")
        )
        yield self._section(words["rows_quantities"], lambda name: name.startswith("quantity_"))
        yield self._savings()
        if self.report.costs_digest is not None:
            yield self._margin()
        if self.report.other_digest is not None:
            yield self._comparison()

    def _section(self, title: str, wanted: Callable[[str], bool], **more: Any) -> Json:
        return {"title": title, "notes": [], "figures": [], "table": self._rows(wanted), "extras": [], **more}

    def _savings(self) -> Json:
        total, words = self.report.total, self.words
        steps = (
            (7, words["at_list"], total.uncached),
            (1, words["saved_by_cache"], total.uncached - total.listed),
            (2, words["saved_by_group"], total.listed - total.units),
            (0, words["charged"], total.units),
        )
        bars = [ChartBar(series, name, max(amount, 0), self._units(amount)) for series, name, amount in steps]
        names = ("at_list_price", "saved_by_cache", "saved_by_group", "rounded_credits")
        chart = {"title": words["savings"], "chart": bar_chart(bars, words["savings"])}
        return self._section(words["rows_savings"], lambda name: name in names, figures=[chart])

    def _margin(self) -> Json:
        report, words = self.report, self.words
        notes = [
            words["basis" if basis.channel else "basis_nominal"].format(
                channel=name, currency=basis.currency, basis=basis.channel
            )
            for name, basis in report.bases.items()
        ]
        notes += [
            words["no_basis"].format(channel=name, currency=currency) for name, currency in report.unknown_bases.items()
        ]
        figures = [
            self._margin_chart(name, basis.currency, report.models)
            for name, basis in report.bases.items()
            if name in report.channels
        ]
        extras = []
        if report.losses:
            extras.append({"title": words["losses"], "table": self._loss_table()})
        if report.problems.get("cost"):
            extras.append({"title": words["uncosted_requests"], "table": self.group_table(report.problems["cost"])})
        return self._section(
            words["rows_margin"],
            lambda name: name.startswith(("cost_", "margin_", "uncosted_")),
            notes=notes,
            figures=figures,
            extras=extras,
        )

    def _margin_chart(self, channel: str, currency: str, groups: Mapping[str, Sums]) -> Json:
        """Return a chart with two bars per model: what it brings, and what it costs."""
        ordered = sorted(groups.items(), key=lambda item: (-item[1].money.get(channel, 0), item[0]))[:_MAX_BARS]
        digits = minor_digits(currency)
        bars = []
        for name, sums in ordered:
            sales, cost = sums.money.get(channel, 0), sums.cost.get(channel, 0)
            margin = f"{self.words['margin_word']} {self._money(sums.margin(channel), digits)}"
            text = f"{self._money(cost, digits)} · {margin}"
            brought = self._scaled(sums.rounded_money.get(channel, 0), digits)
            bars += [ChartBar(_SALES, name, sales, brought), ChartBar(_COSTS, "", cost, text)]
        title = self.words["margin_title"].format(channel=channel, currency=currency)
        legend = [(_SALES, self.words["sales"]), (_COSTS, self.words["costs"])]
        return {"title": title, "chart": bar_chart(bars, title), "legend": legend}

    def _comparison(self) -> Json:
        report, words = self.report, self.words
        ordered = sorted(report.accounts.items(), key=lambda item: (-abs(item[1].units_difference), item[0]))
        bars = [
            ChartBar(
                _MORE if sums.units_difference > 0 else _LESS,
                name,
                abs(sums.units_difference),
                ("+" if sums.units_difference > 0 else "") + self._units(sums.units_difference),
            )
            for name, sums in ordered[:_MAX_BARS]
        ]
        chart = {
            "title": words["compared"],
            "chart": bar_chart(bars, words["compared"]),
            "legend": [(_MORE, words["more"]), (_LESS, words["less"])],
        }
        heads = [words[name] for name in ("account", "credits", "other_credits", "difference_credits")]
        digits = self.language.group_digits
        rows = [
            [row["account"], *(digits(row[name]) for name in ("credits", "other_credits", "difference"))]
            for row in account_changes(report)
        ]
        extras = [{"title": words["by_account"], "table": self._table(heads, rows)}]
        if report.problems.get("other"):
            extras.append({"title": words["unpriced_requests"], "table": self.group_table(report.problems["other"])})
        return self._section(
            words["rows_compared"],
            lambda name: name.startswith(("other_", "difference_", "unpriced_")) or name == "rounded_credits",
            figures=[chart],
            extras=extras,
        )

    def _rows(self, wanted: Callable[[str], bool]) -> Json:
        """Return the rows of the report with some of its columns, and the total."""
        report = self.report
        columns = [column for column in self.columns if not column.is_text and wanted(column.name)]
        rows = [
            [" · ".join(part or "–" for part in key), *self._cells(columns, key, sums)]
            for key, sums in list(report.rows.items())[:_MAX_ROWS]
        ]
        rows.append([self.words["total"], *self._cells(columns, (), report.total)])
        heads = [" · ".join(dimension_title(name, self.language.name) for name in report.by)]
        table = self._table([*heads, *(column.shown_title or column.title for column in columns)], rows, total=True)
        if len(report.rows) > _MAX_ROWS:
            table["more"] = self.words["rows_shown"].format(shown=_MAX_ROWS, count=len(report.rows))
        return table

    def _cells(self, columns: Sequence[Column], key: tuple[str, ...], sums: Sums) -> list[str]:
        texts = [rounded_text(column.value(key, sums), column.digits) for column in columns]
        return [self.language.group_digits(text) for text in texts]

    def _table(self, heads: Sequence[str], rows: list[list[str]], *, total: bool = False, texts: int = 1) -> Json:
        return {
            "heads": [{"title": head, "figure": index >= texts, "long": False} for index, head in enumerate(heads)],
            "rows": rows,
            "total": total,
            "wide": len(heads) > 7,
            "more": "",
        }

    def group_table(self, groups: Sequence[RejectedGroup]) -> Json:
        """Return a table of groups of records that have no price."""
        heads = [self.words[name] for name in ("code", "model", "tier", "count", "advice", "example")]
        rows = [
            [
                group.code,
                group.model,
                group.service_tier,
                str(group.records),
                group.advice(self.language.name),
                group.example,
            ]
            for group in groups[:_MAX_ROWS]
        ]
        table = self._table(heads, rows, texts=len(heads))
        table["heads"][3]["figure"] = True
        table["heads"][4]["long"] = table["heads"][5]["long"] = True
        return table

    def _loss_table(self) -> Json:
        report, words = self.report, self.words
        shown = report.losses[:_MAX_LOSSES]
        heads = [words["request_id"], words["terms"], words["reason"]]
        heads += [words["margin"].format(f"{name} {basis.currency}") for name, basis in report.bases.items()]
        rows = []
        for loss in shown:
            margins = {amount.channel: format_plain(amount.margin) for amount in loss.amounts}
            terms = " · ".join((loss.account, loss.model, loss.group, loss.service_tier, loss.upstream))
            reason = f"{words[loss.reason]}: {loss.detail}" if loss.detail else words[loss.reason]
            amounts = [self.language.group_digits(margins[name]) for name in report.bases]
            rows.append([f"{loss.request_id} {loss.at[:19]}Z", terms, reason, *amounts])
        table = self._table(heads, rows, texts=3)
        table["heads"][1]["long"] = table["heads"][2]["long"] = table["wide"] = True
        table["more"] = words["losses_shown"].format(shown=len(rows), count=report.loss_count)
        return table

    def _largest(self, amounts: Mapping[str, int]) -> list[ChartBar]:
        """Return the bars of the largest amounts, and one of all others."""
        ordered = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
        shown, rest = ordered[:_MAX_BARS], ordered[_MAX_BARS:]
        bars = [ChartBar(0, name, amount, self._units(amount)) for name, amount in shown]
        if rest:
            amount = sum(amount for _, amount in rest)
            bars.append(ChartBar(7, self.words["others"], amount, self._units(amount)))
        return bars

    def _units(self, units: int) -> str:
        return self._rounded(units, UNIT_DECIMALS, CREDIT_DIGITS)

    def _money(self, amount: int, digits: int) -> str:
        return self._rounded(amount, MONEY_DECIMALS, digits)

    def _rounded(self, amount: int, places: int, digits: int) -> str:
        return self._scaled(round_quotient(amount * 10**digits, 10**places, Rounding.HALF_UP), digits)

    def _scaled(self, scaled: int, digits: int) -> str:
        return self.language.group_digits(format_scaled(scaled, digits))
