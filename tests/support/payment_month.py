"""Makes a month of payments with seeded faults: a ledger, the statement of a processor, and the cause of each row.

The statement is written by the formats' documentation, without code of the library.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from brivionix_billing import PriceBook
from brivionix_billing.ledger import Ledger

__all__ = ["FAULTS", "Movement", "PaymentMonth", "make_month", "write_alipay", "write_stripe", "write_wechat"]

FAULTS: Final = {
    "not_booked": "only_theirs",
    "refund_not_booked": "only_theirs",
    "not_in_statement": "only_ours",
    "row_repeated": "duplicate",
    "paid_twice": "duplicate",
    "credited_twice": "duplicate",
    "late": "differs",
    "amount": "differs",
    "partial_refund": "differs",
    "coupon": "differs",
    "fee": "differs",
    "currency": "differs",
    "near_midnight": "matched",
}
"""Fault -> the state of its row."""
_CAUSES: Final = {"refund_not_booked": "not_booked", "partial_refund": "amount", "near_midnight": ""}
_BEIJING: Final = ZoneInfo("Asia/Shanghai")
_START: Final = datetime(2026, 10, 1, tzinfo=UTC)
_STRIPE_ONLY: Final = ("currency",)
_CHINA_ONLY: Final = ("coupon",)


@dataclass(slots=True)
class Movement:
    """One row of a statement."""

    id: str
    order: str
    kind: str
    """``payment``, ``refund``, ``dispute``, ``dispute_reversal``, ``payout`` or ``fee``."""
    at: datetime
    gross: Decimal
    fee: Decimal = Decimal(0)
    account: str = ""
    refund: str = ""
    coupon: Decimal = Decimal(0)
    currency: str = "USD"


@dataclass(slots=True)
class PaymentMonth:
    """A statement, and what a reconciliation with the ledger must find."""

    movements: list[Movement] = field(default_factory=list)
    expected: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Id of a row -> its state and cause. A repeated id has ``ID#2``."""
    faults: dict[str, str] = field(default_factory=dict)
    """Id of a row -> the fault that was seeded."""


def make_month(ledger: Ledger, book: PriceBook, source: str, count: int, each: int, seed: int = 1) -> PaymentMonth:
    """Book ``count`` payments, of which ``each`` per fault have it, and return the statement."""
    rng = random.Random(seed)
    month = PaymentMonth()
    faults = [f for f in FAULTS if f not in (_CHINA_ONLY if source == "stripe" else _STRIPE_ONLY)]
    plan = [fault for fault in faults for _ in range(each)]
    plan += [""] * (count - len(plan))
    rng.shuffle(plan)
    channel, currency = ("stripe", "USD") if source == "stripe" else ("rmb", "CNY")
    for number in range(20):
        ledger.open_account(f"acct_{number}", at=_START - timedelta(days=1))
    for number, fault in enumerate(plan):
        _make_payment(ledger, book, month, rng, number, fault, channel, currency)
    month.movements.sort(key=lambda movement: (movement.at, movement.id))
    return month


def _make_payment(
    ledger: Ledger,
    book: PriceBook,
    month: PaymentMonth,
    rng: random.Random,
    number: int,
    fault: str,
    channel: str,
    currency: str,
) -> None:
    account, order = f"acct_{rng.randrange(20)}", f"order_{number:06d}"
    at = _START + timedelta(seconds=rng.randrange(2 * 86_400, 28 * 86_400))
    booked = at + timedelta(seconds=rng.randrange(1, 300))
    if fault == "near_midnight":
        zone = UTC if channel == "stripe" else _BEIJING
        midnight = at.astimezone(zone).replace(hour=0, minute=0, second=0)
        at, booked = midnight - timedelta(seconds=2), midnight + timedelta(seconds=40)
        at, booked = at.astimezone(UTC), booked.astimezone(UTC)
    price = book.quote(channel, at=at, credits=1).price_per_credit
    credits = rng.randrange(10, 400) * 10
    paid = price * credits
    fee = (paid * Decimal("0.006")).quantize(Decimal("0.01"))
    settled, coupon = paid, Decimal(0)
    if fault == "amount":
        settled += Decimal(rng.choice(["-0.01", "0.01", "5.00", "-3.10"]))
    if fault == "coupon":
        coupon = Decimal("2.00")
        settled -= coupon
    credited = price * (credits + 10) if fault == "fee" else paid
    movement = Movement(
        f"tx_{number:06d}", order, "payment", at, settled, fee, account, coupon=coupon, currency=currency
    )
    if fault == "fee":  # the ledger credited what arrived after fees
        movement.gross = credited + fee
    if fault == "currency":
        movement.currency = "EUR"
    id = movement.id
    state, cause = ("matched", "") if not fault else (FAULTS[fault], _CAUSES.get(fault, fault))
    on_payment = fault not in ("refund_not_booked", "partial_refund", "row_repeated", "paid_twice", "credited_twice")
    month.expected[id] = (state, cause) if on_payment else ("matched", "")
    if fault == "late":
        booked = at + timedelta(days=rng.randrange(2, 5), hours=3)
    if fault != "not_booked":
        pay = str(credited.quantize(Decimal("0.01")))
        entry = ledger.top_up(
            account, book.quote(channel, at=at, pay=pay), reference=order, id=f"lot_{number}", at=booked
        )
        if fault == "credited_twice":
            ledger.top_up(account, book.quote(channel, at=at, pay=pay), reference=id, id=f"again_{number}", at=booked)
            month.expected[f"again_{number}"], month.faults[f"again_{number}"] = (state, cause), fault
        if fault == "not_in_statement":
            month.expected[entry.id], month.faults[entry.id] = month.expected.pop(id), fault
            return
    month.movements.append(movement)
    if fault == "row_repeated":
        month.movements.append(movement)
        month.expected[f"{id}#2"], month.faults[f"{id}#2"] = (state, cause), fault
    elif fault == "paid_twice":
        again = Movement(f"txb_{number:06d}", order, "payment", at + timedelta(minutes=5), settled, fee, account)
        again.currency = currency
        month.movements.append(again)
        month.expected[again.id], month.faults[again.id] = (state, cause), fault
    elif on_payment and fault:
        month.faults[id] = fault
    if fault in ("refund_not_booked", "partial_refund") or (not fault and number % 7 == 0):
        part = (paid / 2).quantize(Decimal("0.01"))
        refund = Movement(
            f"re_{number:06d}", order, "refund", at + timedelta(hours=5), -part, Decimal(0), account, f"refund_{number}"
        )
        refund.currency = currency
        if fault != "refund_not_booked":
            pay = str(part - Decimal("0.50") if fault == "partial_refund" else part)
            ledger.refund(account, f"lot_{number}", id=f"refund_{number}", at=booked + timedelta(hours=5), pay=pay)
        month.movements.append(refund)
        month.expected[refund.id] = (state, cause) if fault else ("matched", "")
        if fault:
            month.faults[refund.id] = fault


def write_stripe(movements: list[Movement]) -> bytes:
    """Return balance_change_from_activity.itemized.3 of movements."""
    out = io.StringIO()
    names = (
        "balance_transaction_id created_utc created currency gross fee net reporting_category source_id description "
        "charge_id payment_intent_id automatic_payout_id payment_metadata[account] payment_metadata[order] "
        "refund_metadata[refund]"
    )
    writer = csv.DictWriter(out, names.split(), lineterminator="\r\n")
    writer.writeheader()
    for each in movements:
        charge = "ch_" + each.order
        writer.writerow(
            {
                "balance_transaction_id": each.id,
                "created_utc": f"{each.at:%Y-%m-%d %H:%M:%S}",
                "created": f"{each.at.astimezone(_BEIJING):%Y-%m-%d %H:%M:%S}",
                "currency": each.currency.lower(),
                "gross": f"{each.gross:.2f}",
                "fee": f"{each.fee:.2f}",
                "net": f"{each.gross - each.fee:.2f}",
                "reporting_category": "charge" if each.kind == "payment" else each.kind,
                "source_id": (charge + each.id if each.id.startswith("txb") else charge)
                if each.kind == "payment"
                else each.refund or each.id,
                "description": "Credits, paid",
                "charge_id": charge,
                "payment_intent_id": "pi_" + each.order,
                "payment_metadata[account]": each.account,
                "payment_metadata[order]": each.order,
                "refund_metadata[refund]": each.refund,
            }
        )
    return out.getvalue().encode()


def write_wechat(movements: list[Movement]) -> bytes:
    """Return a trade bill of type ALL, with a byte order mark, as WeChat Pay writes it."""
    heading = (
        "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,"
        "微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,费率备注"
    )
    lines = [heading]
    paid = refunded = fees = ordered = Decimal(0)
    for each in movements:
        is_refund = each.kind == "refund"
        settled = Decimal(0) if is_refund else each.gross
        back = -each.gross if is_refund else Decimal(0)
        order_amount = settled + each.coupon
        paid, refunded, fees, ordered = paid + settled, refunded + back, fees + each.fee, ordered + order_amount
        transaction = each.id if not is_refund else "tx_" + each.order.removeprefix("order_")
        lines.append(
            ",".join(
                "`" + str(value)
                for value in (
                    f"{each.at.astimezone(_BEIJING):%Y-%m-%d %H:%M:%S}", "wx00", "1900000000", "0", "", transaction,
                    each.order, "oUSER", "NATIVE", "REFUND" if is_refund else "SUCCESS", "OTHERS", "CNY",
                    f"{settled:.2f}", f"{each.coupon:.2f}", each.id if is_refund else "0",
                    each.refund if is_refund else "0", f"{back:.2f}", "0.00", "ORIGINAL" if is_refund else "",
                    "SUCCESS" if is_refund else "", "Credits", each.account, f"{each.fee:.5f}", "0.60%",
                    f"{order_amount:.2f}", f"{back:.2f}", "",
                )
            )
        )  # fmt: skip
    lines.append("总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额")
    totals = (len(movements), f"{paid:.2f}", f"{refunded:.2f}", "0.00", f"{fees:.5f}", f"{ordered:.2f}")
    lines.append(",".join(f"`{value}" for value in (*totals, f"{refunded:.2f}")))
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n"


def write_alipay(movements: list[Movement]) -> bytes:
    """Return a ZIP archive with details in GBK and a summary, as Alipay writes it."""
    columns = (
        "支付宝交易号,商户订单号,业务类型,商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,"
        "支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,商家红包消费金额（元）,卡消费金额（元）,"
        "退款批次号/请求号,服务费（元）,分润（元）,备注"
    )
    lines = ["#支付宝业务明细查询", "#账号：[20880000000000000156]"]
    lines.append("#起始日期：[2026年10月01日 00:00:00]   终止日期：[2026年11月01日 00:00:00]")
    lines += ["#" + "-" * 41 + "业务明细列表" + "-" * 40, columns]
    for each in movements:
        is_refund = each.kind == "refund"
        time = f"{each.at.astimezone(_BEIJING):%Y-%m-%d %H:%M:%S}"
        trade = each.id if not is_refund else "tx_" + each.order.removeprefix("order_")
        cells = [
            f"{trade}\t", f"\t{each.order} ", "退款" if is_refund else "交易", "Credits", time, time, "", "", "", "",
            "*(e***@example.com)", f"{each.gross + each.coupon:.2f}", f"{each.gross:.2f}", "0.00", "0.00", "0.00",
            f"{each.coupon:.2f}", "0.00", "", "0.00", "0.00", each.id if is_refund else "", f"{-each.fee:.2f}", "0.00",
            each.account,
        ]  # fmt: skip
        lines.append(",".join(cells))
    lines.append("#" + "-" * 41 + "业务明细列表结束" + "-" * 36)
    for name, kind, word in (("交易", "payment", "商家实收"), ("退款", "refund", "商家实收退款")):
        own = [each for each in movements if each.kind == kind]
        total = sum((each.gross for each in own), Decimal(0))
        lines.append(f"#{name}合计：{len(own)}笔，{word}共{total:.2f}元，商家优惠共0.00元")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("20880000_20261001_业务明细.csv", "\r\n".join(lines).encode("gbk"))
        archive.writestr(
            "20880000_20261001_业务明细(汇总).csv", "#支付宝业务汇总查询\r\n门店编号,门店名称\r\n".encode("gbk")
        )
    return out.getvalue()
