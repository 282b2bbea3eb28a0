"""Writes the example month: a gateway's log, two statements, a provider's report, and the ledger that they belong to.

    python examples/month/make_month.py FOLDER

The files are always the same, and all but the ledger are stored in examples/month. docs/reconcile.md closes the books
of this month. Four things are wrong in it: the gateway charged one row without the discount on cached tokens, the log
has a row of September, the ledger misses a payment by WeChat Pay, and the provider charged cached tokens of one day in
full.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from brivionix_billing import PriceBook, Usage
from brivionix_billing.ledger import Ledger
from brivionix_billing.money import Payable

MODELS: Final = {
    "gpt-5.4-mini": ("0.75", "4.5", "gpt-5.4-mini-2026-03-17"),
    "gpt-5.5": ("5", "30", "gpt-5.5-2026-04-23"),
}
"""Model -> price of input and output in USD per 1 M tokens, and the name in the provider's report."""
SOLD_CACHE, COST_CACHE = Decimal("0.1"), Decimal("0.25")
"""Price of cached tokens as a part of that of input: what customers pay, and what the provider charges."""
DAYS: Final = (2, 9, 14, 20, 28)
WRONG_ROW, WRONG_DAY = 7, 20
SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
OPENED: Final = datetime(2026, 10, 1, 1, tzinfo=UTC)
TOP_UPS: Final = (("acct_1", "topup_1", "85.00"), ("acct_2", "topup_2", "42.50"), ("acct_2", "topup_3", "17.00"))
"""Payments by WeChat Pay. The ledger misses the last one, because its notice was lost."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request, and the tokens that were counted."""

    number: int
    at: datetime
    account: str
    model: str
    input: int
    cached: int
    output: int


def requests() -> list[Request]:
    """Return the requests of October."""
    found = []
    for number in range(1, 31):
        at = datetime(2026, 10, DAYS[(number - 1) // 6], 3 + number % 6, number, tzinfo=UTC)
        model = "gpt-5.5" if number % 3 == 0 else "gpt-5.4-mini"
        tokens = 40_000 + 3_217 * number
        found.append(Request(number, at, f"acct_{number % 3 + 1}", model, tokens, tokens // 4, 2_000 + 131 * number))
    return found


def log_row(request: Request, at: datetime, *, without_discount: bool = False) -> dict[str, Any]:
    """Return the row of new-api's log. Quota is 500 000 for 1 USD, rounded once, halves up."""
    price, output, _ = (Decimal(text) if text[0].isdigit() else text for text in MODELS[request.model])
    assert isinstance(price, Decimal) and isinstance(output, Decimal)  # noqa: PT018
    cached = request.cached * (1 if without_discount else SOLD_CACHE)
    quota = (request.input - request.cached + cached) * price / 2 + request.output * output / 2
    other = {
        "model_ratio": float(price / 2),
        "group_ratio": 1,
        "completion_ratio": float(output / price),
        "cache_tokens": request.cached,
        "cache_ratio": 1 if without_discount else float(SOLD_CACHE),
        "model_price": -1,
        "user_group_ratio": -1,
        "billing_source": "wallet",
    }
    return {
        "id": 100 + request.number,
        "user_id": int(request.account[-1]),
        "created_at": int(at.timestamp()),
        "type": 2,
        "username": request.account,
        "token_name": "key",
        "model_name": request.model,
        "quota": int(quota.quantize(Decimal(1), ROUND_HALF_UP)),
        "prompt_tokens": request.input,
        "completion_tokens": request.output,
        "use_time": 3,
        "channel": 1,
        "group": "default",
        "request_id": f"req_{request.number}",
        "upstream_request_id": f"up_{request.number}",
        "other": json.dumps(other),
    }


def write_log(path: Path) -> None:
    """Write the log of the gateway."""
    rows = [log_row(each, each.at, without_discount=each.number == WRONG_ROW) for each in requests()]
    september = Request(0, datetime(2026, 9, 30, 15, 59, 59, tzinfo=UTC), "acct_1", "gpt-5.5", 9_000, 0, 700)
    rows.insert(0, log_row(september, september.at))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_costs(path: Path) -> None:
    """Write the answer of OpenAI's costs: USD by day of UTC and line item."""
    sums: dict[tuple[datetime, str], Decimal] = defaultdict(Decimal)
    for each in requests():
        input_price, output_price, snapshot = MODELS[each.model]
        price, output = Decimal(input_price), Decimal(output_price)
        cached = price if each.at.day == WRONG_DAY else price * COST_CACHE
        day = each.at.replace(hour=0, minute=0)
        for word, tokens, unit in (
            ("input", each.input - each.cached, price),
            ("cached input", each.cached, cached),
            ("output", each.output, output),
        ):
            sums[day, f"{snapshot}, {word}"] += tokens * unit / 1_000_000
    buckets = []
    for number in range(1, 32):
        day = datetime(2026, 10, number, tzinfo=UTC)
        results = [
            {
                "object": "organization.costs.result",
                "amount": {"value": float(amount), "currency": "usd"},
                "line_item": item,
                "project_id": None,
            }
            for (own, item), amount in sums.items()
            if own == day
        ]
        start, end = int(day.timestamp()), int((day + timedelta(days=1)).timestamp())
        buckets.append({"object": "bucket", "start_time": start, "end_time": end, "results": results})
    page = {"object": "page", "data": buckets, "has_more": False, "next_page": None}
    path.write_text(json.dumps(page, indent=1) + "\n", encoding="utf-8")


def write_wechat(path: Path) -> None:
    """Write the trade bill of WeChat Pay."""
    heading = (
        "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,货币种类,"
        "应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,"
        "订单金额,申请退款金额,费率备注"
    )
    lines, total, fees = [heading], Decimal(0), Decimal(0)
    for number, (account, order, pay) in enumerate(TOP_UPS, 1):
        time = f"{(OPENED + timedelta(days=number)).astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"
        fee = (Decimal(pay) * Decimal("0.006")).quantize(Decimal("0.01"), ROUND_HALF_UP)
        total, fees = total + Decimal(pay), fees + fee
        cells = (
            *(time, "wx00", "1900000000", "0", "", f"42000000002026100{number}", order, "oUSER", "NATIVE", "SUCCESS"),
            *("OTHERS", "CNY", pay, "0.00", "0", "0", "0.00", "0.00", "", "", "Credits", account, f"{fee:.5f}"),
            *("0.60%", pay, "0.00", ""),
        )
        lines.append(",".join(f"`{cell}" for cell in cells))
    lines.append("总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额")
    lines.append(f"`{len(TOP_UPS)},`{total},`0.00,`0.00,`{fees:.5f},`{total},`0.00")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_stripe(path: Path) -> None:
    """Write Stripe's itemised balance report: a payment, its refund in part, a fee and the payout."""
    path.write_text(
        "balance_transaction_id,created_utc,currency,gross,fee,net,reporting_category,source_id,description,charge_id,"
        "payment_intent_id,automatic_payout_id,payment_metadata[account],refund_metadata[operation]\n"
        "txn_1,2026-10-03 01:00:00,usd,12.00,0.65,11.35,charge,ch_1,100 Credits,ch_1,pi_1,po_1,acct_3,\n"
        "txn_2,2026-10-10 02:00:00,usd,-6.00,0.00,-6.00,refund,re_1,REFUND FOR CHARGE,ch_1,pi_1,po_1,acct_3,refund_1\n"
        "txn_3,2026-10-31 00:00:00,usd,-0.20,0.00,-0.20,fee,fee_1,Radar (2026-10),,,po_1,,\n"
        "txn_4,2026-10-31 01:00:00,usd,-5.15,0.00,-5.15,payout,po_1,STRIPE PAYOUT,,,,,\n",
        encoding="utf-8",
    )


def write_ledger(path: Path, book: PriceBook) -> None:
    """Write the ledger of the gateway at the end of October."""
    events: list[tuple[datetime, Any]] = []
    with Ledger.open(f"sqlite:///{path}", book) as ledger:
        for number in (1, 2, 3):
            ledger.open_account(f"acct_{number}", at=OPENED)
        for number, (account, order, pay) in enumerate(TOP_UPS[:-1], 1):
            at = OPENED + timedelta(days=number, seconds=20)
            quote = book.quote("rmb", at=at, pay=Payable(pay, "CNY"))
            events.append((at, lambda a=account, q=quote, o=order, t=at: ledger.top_up(a, q, reference=o, id=o, at=t)))
        at = OPENED + timedelta(days=2, seconds=20)
        quote = book.quote("stripe", at=at, pay="12")
        events.append((at, lambda q=quote, t=at: ledger.top_up("acct_3", q, reference="pi_1", id="evt_1", at=t)))
        back = datetime(2026, 10, 10, 1, tzinfo=UTC)
        events.append((back, lambda: ledger.refund("acct_3", "evt_1", id="refund_1", pay="6.00", at=back)))
        for each in requests():
            usage = Usage(input_tokens=each.input, cache_read_tokens=each.cached, output_tokens=each.output)
            charge = book.rate(usage, model=each.model, group="default", at=each.at)
            events.append(
                (each.at, lambda e=each, c=charge: ledger.charge(e.account, c, id=f"req_{e.number}", at=e.at))
            )
        for _, post in sorted(events, key=lambda event: event[0]):
            post()


def main(folder: Path) -> None:
    """Write all files to a folder."""
    book = PriceBook.load("pricing.yaml")
    folder.mkdir(parents=True, exist_ok=True)
    write_log(folder / "log.jsonl")
    write_wechat(folder / "wechat.csv")
    write_stripe(folder / "stripe.csv")
    write_costs(folder / "costs.json")
    (folder / "ledger.db").unlink(missing_ok=True)
    write_ledger(folder / "ledger.db", book)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
