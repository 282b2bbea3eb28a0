"""Accuracy of the causes that reconciling payments and provider reports names, on generated months with seeded faults.

Run with ``python benchmarks/reconcile_books.py [--payments N] [--requests N] [--each N] [--seed N]``. A row is right if
it has the state and the cause of the fault that was seeded. Clean rows that are accused of a fault are counted apart.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from brivionix_billing import PriceBook
from brivionix_billing.ledger import Ledger
from brivionix_billing.reconcile.payments.run import PaymentOptions, reconcile_payments
from brivionix_billing.reconcile.provider.run import ProviderOptions, reconcile_provider

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "support"))

from payment_month import Movement, make_month, write_alipay, write_stripe, write_wechat  # noqa: E402
from provider_month import (  # noqa: E402
    COSTS,
    Key,
    Request,
    aggregate,
    anthropic_costs,
    anthropic_usage,
    make_requests,
    usage_file,
)

WRITERS: dict[str, Callable[[list[Movement]], bytes]] = {
    "stripe": write_stripe,
    "wechat": write_wechat,
    "alipay": write_alipay,
}
Scores = dict[str, list[int]]
"""Fault -> [rows with it, right ones]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payments", type=int, default=2000, help="payments per processor (2000)")
    parser.add_argument("--requests", type=int, default=20_000, help="requests of the provider's month (20000)")
    parser.add_argument("--each", type=int, default=50, help="rows with each fault (50)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    for source in WRITERS:
        payments(source, args.payments, args.each, args.seed)
    for with_usage in (False, True):
        provider(args.requests, args.each, args.seed, with_usage=with_usage)


def payments(source: str, count: int, each: int, seed: int) -> None:
    """Reconcile a month of payments, and print the accuracy."""
    book = PriceBook.load(ROOT / "pricing.yaml")
    scores: Scores = defaultdict(lambda: [0, 0])
    with tempfile.TemporaryDirectory() as name, Ledger.open("sqlite://", book) as ledger:
        folder = Path(name)
        month = make_month(ledger, book, source, count, each, seed)
        (folder / "statement").write_bytes(WRITERS[source](month.movements))
        options = PaymentOptions(["stripe" if source == "stripe" else "rmb"], period="2026-10")
        start = time.perf_counter()
        reconcile_payments([str(folder / "statement")], source, ledger, book, folder / "out", options)
        seconds = time.perf_counter() - start
        found: dict[str, tuple[str, str]] = {}
        for row in rows_of(folder):
            if row["cause"] != "currency" or row["id"] not in found:
                found[f"{row['id']}#2" if row["id"] in found else row["id"]] = (row["state"], row["cause"])
    for key, expected in month.expected.items():
        score(scores, month.faults.get(key, "clean"), found.pop(key, None) == expected)
    show(f"payments {source}: {len(month.movements)} rows", scores, len(found), seconds)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a result."""
    with (folder / "out" / "rows.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(scores: Scores, fault: str, is_right: bool) -> None:
    """Count a row."""
    scores[fault][0] += 1
    scores[fault][1] += is_right


def show(title: str, scores: Scores, extra: int, seconds: float) -> None:
    """Print the accuracy by fault."""
    total, right = (sum(each[index] for each in scores.values()) for index in (0, 1))
    print(f"{title}, {seconds:.2f} s: {right} of {total} right ({right / total:.2%}), {extra} rows too many")
    for fault, (rows, correct) in sorted(scores.items()):
        print(f"  {fault:20} {correct:6} of {rows:6}  {correct / rows:8.2%}")


PRICE_FAULTS = {"cache_price": ("cache_read", Decimal(10)), "service_tier": ("output", Decimal("0.5"))}
PRICE_FAULTS |= {"data_residency": ("input", Decimal("1.1")), "price": ("output", Decimal("1.2"))}


def provider(count: int, each: int, seed: int, *, with_usage: bool) -> None:
    """Reconcile a month of a provider's costs, and print the accuracy.

    Faults are seeded in cells: another price, requests that one side does not have, lines that are repeated or missing,
    and usage near midnight that is on the next day.
    """
    days = 28
    requests = make_requests("anthropic", days, count // days, seed)
    ours, sums = list(requests), dict(aggregate(requests))
    # Every third day has one fault in each line of the standard tier, of another kind in turn.
    plan = [*PRICE_FAULTS, "lost", "not_logged", "line_repeated", "line_missing", "delay"]
    expected: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    repeated: set[Key] = set()
    missing: set[Key] = set()
    late: list[tuple[Request, Request]] = []
    for number in range(1, days - 1, 2):
        fault = plan[(number // 2 + seed) % len(plan)]
        day = (datetime(2026, 10, 10, tzinfo=UTC) + timedelta(days=number)).date().isoformat()
        own = [request for request in requests if request.at.date().isoformat() == day and request.tier == "standard"]
        if fault in PRICE_FAULTS:
            meter, factor = PRICE_FAULTS[fault]
            key = day, "claude-opus-5", "standard", meter
            tokens, cost = sums[key]
            sums[key] = tokens, cost * factor
            expected[day, "standard", meter] = ("differs", fault, fault)
        elif fault == "lost":
            lost = own[: max(1, each // 50)]
            for key, (tokens, cost) in aggregate(lost).items():
                sums[key] = sums[key][0] - tokens, sums[key][1] - cost
                if tokens:
                    expected[day, "standard", key[3]] = ("differs", "quantity", fault)
        elif fault == "not_logged":
            gone = set(own[: max(1, each // 50)])
            ours = [request for request in ours if request not in gone]
            for key, (tokens, _) in aggregate(gone).items():
                if tokens:
                    expected[day, "standard", key[3]] = ("differs", "quantity", fault)
        elif fault == "line_repeated":
            repeated.add((day, "claude-opus-5", "standard", "output"))
            expected[day, "standard", "output#2"] = ("duplicate", "line_repeated", fault)
        elif fault == "line_missing":
            missing.add((day, "claude-opus-5", "standard", "input"))
            found = ("differs", "not_billed") if with_usage else ("only_ours", "not_in_report")
            expected[day, "standard", "input"] = (*found, fault)
        elif fault == "delay":
            midnight = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
            before = Request(f"late_{day}", midnight - timedelta(minutes=3), own[0].model, "standard", own[0].counts)
            late.append((before, Request(before.id, midnight, before.model, before.tier, before.counts)))
            for meter, tokens in before.counts.items():
                for which in (day, midnight.date().isoformat()):
                    if tokens:
                        expected[which, "standard", meter] = ("matched", "delay", fault)
    for before, after in late:
        ours.append(before)
        for key, (tokens, cost) in aggregate([after]).items():
            sums[key] = sums[key][0] + tokens, sums[key][1] + cost
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = {key: value for key, value in sums.items() if key in repeated}
        billed = {key: value for key, value in sums.items() if key not in missing}
        files = [anthropic_costs(billed), *([anthropic_costs(first)] if first else [])]
        if with_usage:
            files.append(anthropic_usage(sums))
        compare(folder, files, ours, expected, "with usage" if with_usage else "costs alone")


def compare(
    folder: Path,
    files: Iterable[bytes],
    ours: list[Request],
    expected: dict[tuple[str, str, str], tuple[str, str, str]],
    title: str,
) -> None:
    """Reconcile a report, and print the accuracy."""
    paths = []
    for number, content in enumerate(files):
        paths.append(str(folder / f"report{number}"))
        Path(paths[-1]).write_bytes(content)
    start = time.perf_counter()
    lines = usage_file(ours).splitlines(keepends=True)
    book = PriceBook.loads(COSTS)
    reconcile_provider(paths, "anthropic", lines, (), book, folder / "out", ProviderOptions())
    seconds = time.perf_counter() - start
    scores: Scores = defaultdict(lambda: [0, 0])
    seen: Counter[tuple[str, str, str]] = Counter()
    for row in rows_of(folder):
        key = row["day"], row["tier"], row["meter"] + ("#2" if row["state"] == "duplicate" else "")
        state, cause, fault = expected.get(key, ("matched", "", "clean"))
        seen[key] += 1
        score(scores, fault, (row["state"], row["cause"]) == (state, cause))
    for key, (_, _, fault) in expected.items():
        if not seen[key]:
            score(scores, fault, False)
    show(f"provider anthropic, {title}: {len(ours)} requests", scores, 0, seconds)


if __name__ == "__main__":
    main()
