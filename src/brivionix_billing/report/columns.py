"""The columns of a report: their names for programs, their headings for people, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.decimals import (
    Rounding,
    decimal_from_scaled,
    format_plain,
    format_scaled,
    round_quotient,
    to_scaled,
)
from brivionix_billing.invoice.build import CREDIT_DIGITS
from brivionix_billing.meters import METERS, REQUEST_METERS
from brivionix_billing.money import minor_digits
from brivionix_billing.rating.labels import pick_text
from brivionix_billing.rating.messages import METER_LABELS
from brivionix_billing.rating.rate_card import UNIT_DECIMALS
from brivionix_billing.report.costs import MONEY_DECIMALS
from brivionix_billing.report.messages import MESSAGES
from brivionix_billing.report.sums import NOMINAL, Amounts, RowKey, Sums

if TYPE_CHECKING:
    from brivionix_billing.report.build import Report

__all__ = ["Column", "Value", "cell_text", "dimension_title", "report_columns", "rounded_text"]

Value = str | int | Decimal
_METER_ORDER: Final = {name: position for position, name in enumerate((*METERS, *REQUEST_METERS))}


class Column(NamedTuple):
    """A column of a report."""

    name: str
    """Its name in CSV, JSON and Parquet. It does not depend on the language."""
    title: str
    value: Callable[[RowKey, Sums], Value]
    digits: int | None = None
    """Decimal places to which people see it; ``None``: all."""
    is_text: bool = False
    is_exact: bool = False
    """Whether the text table leaves it out, because a rounded column shows the same."""
    is_rounded: bool = False
    """Whether its values are rounded as on a bill, and so have exactly ``digits`` decimal places."""

    shown_title: str = ""
    """Its heading where only rounded amounts are shown, if that is another one."""

    def text(self, key: RowKey, sums: Sums) -> str:
        """Return the exact text of the value of a row."""
        value = self.value(key, sums)
        return rounded_text(value, self.digits) if self.is_rounded else cell_text(value)


def report_columns(report: Report, locale: str) -> list[Column]:
    """Return the columns of a report, with headings in ``en`` or ``zh_CN``."""
    return list(_columns(report, locale))


def _columns(report: Report, locale: str) -> Iterator[Column]:
    words, total = MESSAGES[locale], report.total
    money = _money_names(report, words)
    for index, name in enumerate(report.by):
        yield Column(name, dimension_title(name, locale), lambda key, _, i=index: key[i], is_text=True)  # type: ignore[misc]
    yield Column("requests", words["requests"], lambda _, sums: sums.requests)
    if total.estimated:
        yield Column("estimated_requests", words["estimated_requests"], lambda _, sums: sums.estimated)
    for name in sorted(total.quantities, key=lambda name: (_METER_ORDER.get(name, len(_METER_ORDER)), name)):
        yield Column(f"quantity_{name}", _meter_title(report, name, locale), _quantity(report, name))
    yield Column("credits", words["credits"], _units(lambda sums: sums.units), is_exact=True)
    for name, (column, title, digits) in money.items():
        yield Column(
            column, title.format(words["nominal"]), _amount(name, lambda sums: sums.money), digits, is_exact=True
        )
    yield Column("at_list_price", words["at_list_price"], _units(lambda sums: sums.uncached), CREDIT_DIGITS)
    yield Column(
        "saved_by_cache", words["saved_by_cache"], _units(lambda sums: sums.uncached - sums.listed), CREDIT_DIGITS
    )
    yield Column(
        "saved_by_group", words["saved_by_group"], _units(lambda sums: sums.listed - sums.units), CREDIT_DIGITS
    )
    yield Column(
        "rounded_credits",
        words["rounded"].format(words["credits"]),
        lambda _, sums: decimal_from_scaled(sums.rounded_credits, CREDIT_DIGITS),
        CREDIT_DIGITS,
        is_rounded=True,
        shown_title=words["credits"],
    )
    for name, (column, title, digits) in money.items():
        heading = words["rounded"].format(title)
        value = _rounded(name, digits)
        yield Column(f"rounded_{column}", heading, value, digits, is_rounded=True, shown_title=title)
    yield from _margin_columns(report, money, words)
    yield from _other_columns(report, money, words)


def _margin_columns(report: Report, money: _MoneyNames, words: dict[str, str]) -> Iterator[Column]:
    for name in report.bases:
        if name not in money:
            continue
        column, title, digits = money[name]
        yield Column(f"cost_{column}", words["cost"].format(title), _amount(name, lambda sums: sums.cost), digits)
        yield Column(f"margin_{column}", words["margin"].format(title), _of_channel(name, Sums.margin), digits)
        if report.total.uncosted_requests:
            yield Column(
                f"uncosted_{column}", words["uncosted"].format(title), _amount(name, lambda sums: sums.uncosted), digits
            )
    if report.total.uncosted_requests:
        yield Column("uncosted_requests", words["uncosted_requests"], lambda _, sums: sums.uncosted_requests)


def _other_columns(report: Report, money: _MoneyNames, words: dict[str, str]) -> Iterator[Column]:
    if report.other_digest is None:
        return
    yield Column("other_credits", words["other_credits"], _units(lambda sums: sums.other_units), CREDIT_DIGITS)
    yield Column(
        "difference_credits", words["difference_credits"], _units(lambda sums: sums.units_difference), CREDIT_DIGITS
    )
    for name, (column, title, digits) in money.items():
        if name != NOMINAL and name in report.total.other_money:
            yield Column(
                f"other_{column}", words["other"].format(title), _amount(name, lambda sums: sums.other_money), digits
            )
            yield Column(
                f"difference_{column}", words["difference"].format(title), _of_channel(name, Sums.difference), digits
            )
    if report.total.unpriced_requests:
        yield Column("unpriced_requests", words["unpriced_requests"], lambda _, sums: sums.unpriced_requests)
        yield Column(
            "unpriced_credits", words["unpriced_credits"], _units(lambda sums: sums.unpriced_units), CREDIT_DIGITS
        )


_MoneyNames = dict[str, tuple[str, str, int]]
"""Channel, or ``NOMINAL`` -> name of its column, heading, and minor digits of its currency."""


def _money_names(report: Report, words: dict[str, str]) -> _MoneyNames:
    nominal = words["nominal"].format(report.currency)
    names = {NOMINAL: (f"nominal_{report.currency}", nominal, minor_digits(report.currency))}
    for name, currency in report.channels.items():
        # A channel may be called "nominal".
        column = f"{name}_{currency}" if name != "nominal" else f"{name}_{currency}_channel"
        names[name] = column, f"{name} {currency}", minor_digits(currency)
    return names


def dimension_title(name: str, locale: str) -> str:
    """Return the heading of a dimension."""
    words = MESSAGES[locale]
    return words["tag"].format(name.removeprefix("tag:")) if name.startswith("tag:") else words[name]


def _meter_title(report: Report, name: str, locale: str) -> str:
    meter = report.meters.get(name)
    label = pick_text(meter.labels, locale) if meter is not None and meter.labels else ""
    return label or METER_LABELS[locale].get(name, name.replace("_", " "))


def _quantity(report: Report, name: str) -> Callable[[RowKey, Sums], Value]:
    meter = REQUEST_METERS.get(name) or report.meters[name]
    places = meter.places
    if not places:
        return lambda _, sums: sums.quantities.get(name, 0)
    return lambda _, sums: decimal_from_scaled(sums.quantities.get(name, 0), places)


def _units(value: Callable[[Sums], int]) -> Callable[[RowKey, Sums], Value]:
    return lambda _, sums: decimal_from_scaled(value(sums), UNIT_DECIMALS)


def _amount(name: str, amounts: Callable[[Sums], Amounts]) -> Callable[[RowKey, Sums], Value]:
    return lambda _, sums: decimal_from_scaled(amounts(sums).get(name, 0), MONEY_DECIMALS)


def _of_channel(name: str, amount: Callable[[Sums, str], int]) -> Callable[[RowKey, Sums], Value]:
    return lambda _, sums: decimal_from_scaled(amount(sums, name), MONEY_DECIMALS)


def _rounded(name: str, digits: int) -> Callable[[RowKey, Sums], Value]:
    return lambda _, sums: decimal_from_scaled(sums.rounded_money.get(name, 0), digits)


def cell_text(value: Value) -> str:
    """Return the exact text of a value."""
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else format_plain(value)


def rounded_text(value: Value, digits: int | None) -> str:
    """Return the displayed text of a value. A decimal is rounded half up to ``digits`` decimal places."""
    if digits is None or not isinstance(value, Decimal):
        return cell_text(value)
    coefficient, places = to_scaled(value)
    return format_scaled(round_quotient(coefficient * 10**digits, 10**places, Rounding.HALF_UP), digits)
