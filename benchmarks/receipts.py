"""Attacks receipts with random mutations, and offers each to the Python and the JavaScript verifier.

    python benchmarks/receipts.py [--count 10000] [--seed 1]

Not one may be accepted, or the exit code is 1. Both verifiers must name the same failed check. The script also prints
the time to make and to verify a receipt. The JavaScript verifier is left out if node is not installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from timing import ROOT, statements

sys.path.insert(0, str(ROOT / "tests" / "support"))

from brivionix_billing import Usage
from brivionix_billing.invoice.receipts import make_receipt, verify_receipt
from make_receipt_vectors import key_lines, price_lines, subject_of
from receipt_kit import KEY, book, samples
from receipt_mutations import Attack, attack, outcome

RUNNER = ROOT / "examples" / "receipts" / "check_vectors.mjs"


def attacks(count: int, seed: int) -> Iterator[Attack]:
    """Yield attacks on 200 receipts."""
    random = Random(seed)
    genuine = list(samples(random, 200))
    for _ in range(count):
        yield attack(random, genuine)


def vector(number: int, given: Attack, expected: str) -> dict[str, Any]:
    """Return an attack as a line for the JavaScript verifier."""
    return {
        "id": f"attack-{number}",
        "receipt_hex": given.content.hex(),
        "prices": f"{given.sample.book}{' altered' if given.other_book else ''}",
        "key": "other" if given.other_key else "issuer",
        **subject_of(given.sample),
        "expect": expected,
    }


def main() -> int:
    """Run all attacks, and print what rejected them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rejected: Counter[tuple[str, str]] = Counter()
    lines: list[dict[str, Any]] = [*key_lines(), *price_lines()]
    accepted = 0
    for number, given in enumerate(attacks(args.count, args.seed)):
        report = outcome(given)
        if report.failed is None:
            accepted += 1
            print(f"ACCEPTED: {given}")
        rejected[given.kind, str(report.failed)] += 1
        lines.append(vector(number, given, report.failed or "valid"))
    for (kind, check), found in sorted(rejected.items()):
        print(f"{kind:15} {check:12} {found:6}")
    print(f"{args.count} attacks, {accepted} accepted by the Python verifier")
    status = run_node(lines)
    usage = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)
    prices = book("shipped")
    charge = prices.rate(usage, model="gpt-5.4-mini", group="default", at=datetime(2026, 10, 20, tzinfo=UTC))
    names = {"charge": charge, "key": KEY, "public": KEY.public_key(), "prices": prices}
    names |= {"make": make_receipt, "verify": verify_receipt, "receipt": make_receipt(charge, request_id="r", key=KEY)}
    contestants = {
        "make": "make(charge, request_id='r', key=key)",
        "verify": "verify(receipt, key=public, book=prices)",
    }
    for name, times in statements(contestants, names, rounds=10).items():
        print(f"{name}: {times.best * 1e6:.0f} us")
    return 1 if accepted or status else 0


def run_node(lines: list[dict[str, Any]]) -> int:
    """Offer all attacks to the JavaScript verifier. Returns its exit status."""
    node = shutil.which("node")
    if node is None:
        print("node is not installed; the JavaScript verifier was left out")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "attacks.jsonl")
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        process = subprocess.run([node, str(RUNNER), str(path)], capture_output=True, text=True, check=False)
    print(f"JavaScript: {process.stdout}{process.stderr}".rstrip())
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
