"""Reads trade bills of WeChat Pay: types ALL, SUCCESS and REFUND, of one day or several, in yuan and Beijing time.

Every value has a backtick before it. A bill is a heading and its rows, then a heading and a row of totals, which are
checked. A payment of 85.00 with a coupon of 5.00 that WeChat Pay does not settle pays 80.00: 应结订单金额.
Source: pay.weixin.qq.com, 下载对账单 and 申请交易账单.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import negate, sum_exact
from brivionix_billing.reconcile.exported_files import ExportedFile, Row, Section, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import NumberFormat, parse_count, parse_currency, parse_local_time
from brivionix_billing.reconcile.payments.statement import LineKind, Statement, StatementLine
from brivionix_billing.times import CalendarDays, Period, load_zone

__all__ = ["read_wechat"]

_ZONE: Final = "Asia/Shanghai"
_FIRST_COLUMN: Final = "交易时间"
_TOTALS_COLUMN: Final = "总交易单数"
_SETTLED: Final = ("应结订单金额", "总金额")
_REFUNDED: Final = ("退款金额",)
_ORDERED: Final = ("订单金额",)
_REQUESTED: Final = ("申请退款金额",)
_FEE: Final = ("手续费",)
_REQUIRED: Final = ("交易时间", "微信订单号", "商户订单号", "交易状态", "手续费")
_TOTALS: Final = (
    (("应结订单总金额", "总交易额"), _SETTLED),
    (("退款总金额", "总退款金额"), _REFUNDED),
    (("手续费总金额",), _FEE),
    (("订单总金额",), _ORDERED),
    (("申请退款总金额",), _REQUESTED),
)
_FUND_COLUMN: Final = "记账时间"
_NO_REFUND: Final = frozenset({"FAIL", "CHANGE", "退款失败", "退款异常"})
"""Status of a refund that was not paid. ``CHANGE``: the payer's account could not be credited, see the merchant's."""
_EMPTY: Final = frozenset({"", "0"})


def read_wechat(files: Sequence[ExportedFile], zone: str = _ZONE) -> Statement:
    """Return the rows of the bills. Raises ``invalid_statement``, also if the totals do not add up."""
    lines: list[StatementLine] = []
    notes: list[str] = []
    for file in files:
        lines += _read_bill(file, zone, notes)
    return Statement("wechat", zone, tuple(lines), tuple(notes), _covered(lines, zone))


def _read_bill(file: ExportedFile, zone: str, notes: list[str]) -> Iterable[StatementLine]:
    sections = read_sections(file, (_FIRST_COLUMN, _TOTALS_COLUMN, _FUND_COLUMN), prefix="`")
    rows: list[Row] = []
    for section in sections:
        if section.columns[0] == _FUND_COLUMN:
            raise statement_error(
                file.name, "the file is a bill of funds (资金账单)", "download the trade bill, type ALL"
            )
        if section.columns[0] == _TOTALS_COLUMN:
            _check_totals(section, rows, file.name)
            rows = []
            continue
        if rows:
            notes.append(
                f"{file.name}: the bill before {section.rows[0].place if section.rows else 'its end'} has no totals"
            )
        rows = section.rows
        missing = [name for name in _REQUIRED if name not in section.columns]
        if missing:
            raise statement_error(
                file.name, f"the bill has no column {', '.join(missing)}", "download the bill of type ALL"
            )
        number = NumberFormat(row.get(*names) for row in rows for names in (_SETTLED, _REFUNDED, _FEE))
        for row in rows:
            yield _line(row, number, zone)
    if rows:
        notes.append(f"{file.name}: the bill has no totals at its end, so nothing shows whether it is complete")


def _line(row: Row, number: NumberFormat, zone: str) -> StatementLine:
    place = row.place

    def amount(names: tuple[str, ...]) -> Decimal:
        text = row.get(*names)
        return number.parse(text, place, names[0]) if text else Decimal(0)

    transaction, order = row.get("微信订单号"), row.get("商户订单号")
    for name, text in (("微信订单号", transaction), ("商户订单号", order), ("微信退款单号", row.get("微信退款单号"))):
        _require_id(text, place, name)
    status, refund_status = row.get("交易状态").upper(), row.get("退款状态").upper()
    refund_id = row.get("微信退款单号")
    is_refund = status in ("REFUND", "REVOKED") or refund_id not in _EMPTY
    if not is_refund and status not in ("SUCCESS", ""):
        raise statement_error(place, f"交易状态 is {status}, which is unknown", "download the bill again")
    fee = amount(_FEE)
    if is_refund:
        gross, ordered = negate(amount(_REFUNDED)), negate(amount(_REQUESTED))
        if status == "REVOKED" and not gross:
            gross, ordered = negate(amount(_SETTLED)), negate(amount(_ORDERED))
        if refund_status in _NO_REFUND:
            gross = ordered = fee = Decimal(0)
    else:
        gross, ordered = amount(_SETTLED), amount(_ORDERED)
    at = _refund_time(row) if is_refund else row.get("交易时间")
    return StatementLine(
        place,
        refund_id if is_refund and refund_id not in _EMPTY else transaction,
        LineKind.REFUND if is_refund else LineKind.PAYMENT,
        parse_local_time(at, load_zone(zone), place, "交易时间"),
        parse_currency(row.get("货币种类") or "CNY", place),
        gross,
        fee,
        sum_exact((gross, negate(fee))),
        references={name: text for name, text in (("商户订单号", order), ("微信订单号", transaction)) if text},
        operation_ids={
            name: row.get(name)
            for name in ("商户退款单号", "微信退款单号")
            if is_refund and row.get(name) not in _EMPTY
        },
        hints={name: row.get(name) for name in ("商户数据包", "用户标识") if row.get(name)},
        order_amount=ordered if ordered and ordered != gross else None,
        category=" ".join(filter(None, (row.get("交易状态"), row.get("退款状态") if is_refund else ""))),
        text=row.get("商品名称"),
    )


def _refund_time(row: Row) -> str:
    """Return the time of a refund: of its success or request in a bill of refunds, else that of the row."""
    return row.get("退款成功时间") or row.get("退款申请时间") or row.get("交易时间")


def _require_id(text: str, place: str, name: str) -> None:
    """Raise if a spreadsheet has turned a long number into ``4.2E+27``."""
    if "E+" in text.upper():
        raise statement_error(
            place, f"{name} is {text}: a spreadsheet has rounded the id", "download the bill again, and do not save it"
        )


def _check_totals(section: Section, rows: list[Row], name: str) -> None:
    if len(section.rows) != 1:
        raise statement_error(name, "the bill has no row of totals after their heading", "download it again")
    totals = section.rows[0]
    count = parse_count(totals.get(_TOTALS_COLUMN).replace(",", ""), totals.place, _TOTALS_COLUMN)
    if count != len(rows):
        raise statement_error(
            totals.place,
            f"{_TOTALS_COLUMN} is {count}, but the bill has {len(rows)} rows",
            "download it again, because rows are missing or were added",
        )
    number = NumberFormat(totals.cells.values())
    row_number = NumberFormat(text for row in rows for text in row.cells.values() if text[:1].isdigit())
    for total_names, names in _TOTALS:
        text = totals.get(*total_names)
        if not text or not any(row.get(*names) for row in rows):
            continue
        stated = number.parse(text, totals.place, total_names[0])
        found = sum_exact(row_number.parse(row.get(*names), row.place, names[0]) for row in rows if row.get(*names))
        if abs(stated) != abs(found):
            raise statement_error(
                totals.place,
                f"{total_names[0]} is {stated}, but the rows add up to {found}",
                "download the bill again, because it was changed or cut off",
            )


def _covered(lines: Sequence[StatementLine], zone: str) -> Period | None:
    """Return the days of the bills: a bill is of whole days in Beijing."""
    if not lines:
        return None
    days = CalendarDays(zone)
    first: datetime = days.at(min(line.at for line in lines)).start
    last: datetime = days.at(max(line.at for line in lines)).end
    return Period(first, max(last, first + timedelta(hours=1)), zone)
