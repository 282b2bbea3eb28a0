"""Reads details of trades (业务明细) of Alipay: CSV in GBK or UTF-8, also in a ZIP archive, in yuan and Beijing time.

Lines that start with ``#`` state the period before the rows, and the totals after them, which are checked. Refunds are
rows of 业务类型 退款 with negative amounts. 商家实收 is what the merchant gets. Source: opendocs.alipay.com, 对账单.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import negate, sum_exact
from brivionix_billing.reconcile.exported_files import ExportedFile, Row, Section, read_sections, statement_error
from brivionix_billing.reconcile.exported_values import NumberFormat, parse_local_time
from brivionix_billing.reconcile.payments.statement import LineKind, Statement, StatementLine
from brivionix_billing.times import Period, load_zone

__all__ = ["read_alipay"]

_ZONE: Final = "Asia/Shanghai"
_TRADE: Final = "支付宝交易号"
_OTHER_HEADINGS: Final = {
    "账务流水号": "a bill of the account (账务明细)",
    "门店编号": "a summary (业务汇总)",
    "交易时间": "a list of a private account",
    "交易号": "a list of a private account",
}
_KINDS: Final = {"交易": LineKind.PAYMENT, "退款": LineKind.REFUND}
_RECEIVED: Final = ("商家实收（元）", "商家实收(元)", "商家实收")
_ORDERED: Final = ("订单金额（元）", "订单金额(元)", "订单金额")
_FEE: Final = ("服务费（元）", "服务费(元)", "服务费")
_SHARED: Final = ("分润（元）", "分润(元)", "分润")
_REFUND_ID: Final = ("退款批次号/请求号", "退款批次号／请求号", "退款批次号")
_REQUIRED: Final = ((_TRADE,), ("商户订单号",), ("业务类型",), ("创建时间", "完成时间"), _RECEIVED)
_MIN_UNIQUE: Final = 8
"""Shorter numbers of refunds are taken to be unique only within their trade."""
_COVERED: Final = re.compile(r"起始日期[：:]\s*\[([^\]]+)\].*终止日期[：:]\s*\[([^\]]+)\]")
_CHINESE_TIME: Final = re.compile(r"(\d{4})年(\d{1,2})月(\d{1,2})日\s*(\d{1,2}:\d{2}:\d{2})?")
_TOTALS: Final = (
    (re.compile(r"#交易合计[：:]\s*([0-9,]+)\s*笔[，,]\s*商家实收共\s*(-?[0-9.,]*[0-9])\s*元"), LineKind.PAYMENT),
    (re.compile(r"#退款合计[：:]\s*([0-9,]+)\s*笔[，,]\s*商家实收退款共\s*(-?[0-9.,]*[0-9])\s*元"), LineKind.REFUND),
)


def read_alipay(files: Sequence[ExportedFile], zone: str = _ZONE) -> Statement:
    """Return the rows of the files. Summaries in an archive are skipped. Raises ``invalid_statement``."""
    lines: list[StatementLine] = []
    notes: list[str] = []
    covered: list[Period] = []
    found = False
    for file in files:
        # An archive has the details and a summary of the same trades.
        if ":" in file.name and _is_summary(file):
            continue
        found = True
        lines += _read_details(file, zone, notes, covered)
    if not found:
        raise statement_error(files[0].name, "the archive has no details (业务明细)", "download them")
    period = Period(min(p.start for p in covered), max(p.end for p in covered), zone) if covered else None
    return Statement("alipay", zone, tuple(lines), tuple(notes), period)


def _is_summary(file: ExportedFile) -> bool:
    return "汇总" in file.name.rpartition("/")[2].rpartition(":")[2] or "汇总查询" in file.text()[:200]


def _read_details(file: ExportedFile, zone: str, notes: list[str], covered: list[Period]) -> Iterable[StatementLine]:
    sections = read_sections(file, (_TRADE, *_OTHER_HEADINGS), comment="#", free_text="商品名称")
    for section in sections:
        other = _OTHER_HEADINGS.get(section.columns[0])
        missing = [names[0] for names in _REQUIRED if not set(names) & set(section.columns)]
        if other or missing:
            problem = f"the file is {other}" if other else f"the file has no column {', '.join(missing)}"
            raise statement_error(file.name, problem, "download the details of trades (业务明细)")
        period = _period(section, zone, file.name)
        if period is not None:
            covered.append(period)
        amounts = (row.get(*names) for row in section.rows for names in (_RECEIVED, _ORDERED, _FEE, _SHARED))
        number = NumberFormat(amounts)
        lines = [_line(row, number, zone) for row in section.rows]
        if not _check_totals(section, lines, file.name):
            notes.append(f"{file.name}: the file has no totals at its end, so nothing shows whether it is complete")
        yield from lines


def _period(section: Section, zone: str, name: str) -> Period | None:
    for comment in section.comments:
        match = _COVERED.search(comment)
        if match:
            ends = []
            for text in match.groups():
                parts = _CHINESE_TIME.search(text)
                plain = f"{parts[1]}-{parts[2]}-{parts[3]} {parts[4] or '00:00:00'}" if parts else text
                ends.append(parse_local_time(plain, load_zone(zone), name, "起始日期/终止日期"))
            if ends[0] < ends[1]:
                return Period(ends[0], ends[1], zone)
    return None


def _line(row: Row, number: NumberFormat, zone: str) -> StatementLine:
    place = row.place

    def amount(names: tuple[str, ...]) -> Decimal:
        text = row.get(*names)
        return number.parse(text, place, names[0]) if text else Decimal(0)

    trade, order, refund = row.get(_TRADE), row.get("商户订单号"), row.get(*_REFUND_ID)
    if "E+" in trade.upper():
        raise statement_error(
            place,
            f"{_TRADE} is {trade}: a spreadsheet has rounded the id",
            "download the file again, and do not save it",
        )
    category = row.get("业务类型")
    gross, ordered = amount(_RECEIVED), amount(_ORDERED)
    kind = _KINDS.get(category, LineKind.OTHER)
    if (kind is LineKind.PAYMENT and gross < 0) or (kind is LineKind.REFUND and gross > 0):
        raise statement_error(place, f"商家实收 of a row of {category} is {gross}", "download the file again")
    # Services and shares are negative if the merchant pays them.
    fee = negate(sum_exact((amount(_FEE), amount(_SHARED))))
    time = row.get("完成时间") or row.get("创建时间")
    return StatementLine(
        place,
        _refund_id(trade, refund or time) if kind is LineKind.REFUND else trade,
        kind,
        parse_local_time(time, load_zone(zone), place, "完成时间"),
        "CNY",
        gross,
        fee,
        sum_exact((gross, negate(fee))),
        references={name: text for name, text in (("商户订单号", order), (_TRADE, trade)) if text},
        operation_ids={_REFUND_ID[0]: refund} if refund and kind is LineKind.REFUND else {},
        hints={"备注": row.get("备注")} if row.get("备注") else {},
        order_amount=ordered if ordered and ordered != gross else None,
        category=category,
        text=row.get("商品名称"),
    )


def _refund_id(trade: str, refund: str) -> str:
    """Return the id of a refund. Some merchants number the refunds of each trade from 1: such ids need the trade."""
    return refund if len(refund) >= _MIN_UNIQUE and " " not in refund else f"{trade}/{refund}"


def _check_totals(section: Section, lines: Sequence[StatementLine], name: str) -> bool:
    """Check the totals in the comments. Returns whether there were any."""
    found = False
    for comment in section.comments:
        for pattern, kind in _TOTALS:
            match = pattern.search(comment.replace(" ", "").replace("\t", ""))
            if match is None:
                continue
            found = True
            own = [line for line in lines if line.kind is kind]
            count, stated = int(match[1].replace(",", "")), Decimal(match[2].replace(",", ""))
            received = sum_exact(line.gross for line in own)
            if count != len(own) or abs(stated) != abs(received):
                raise statement_error(
                    name,
                    f"{comment.split('，')[0]} and {stated}, but the file has {len(own)} such rows of {received}",
                    "download the file again, because it was changed or cut off",
                )
    return found
