"""The main job on real traffic: prices, charges, bills, verification; then one figure is spoiled, and found.

Everything is done by the command line, and each command is shown. Results go to demo-out/ beside the price file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from brivionix_billing.cli import main as brivionix_billing
from brivionix_billing.invoice import document_hash

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-out"
USAGE = "examples/usage.jsonl"
PERIOD = "2026-10"


def run(*arguments: str, expected: int = 0, into: Path | None = None, lines: int | None = None) -> None:
    """Show a command, run it, and stop where its exit status is not the expected one."""
    tail = f" > {into.relative_to(ROOT)}" if into else ""
    print(f"\n$ brivionix-billing {shlex.join(arguments)}{tail}", flush=True)
    buffer = io.BytesIO()
    held = io.TextIOWrapper(buffer, encoding="utf-8")
    with contextlib.redirect_stdout(held):
        status = brivionix_billing(arguments)
        held.flush()
        text = buffer.getvalue().decode()
    if into:
        into.write_text(text, encoding="utf-8")
    else:
        shown = text.splitlines() if lines is None else text.splitlines()[:lines]
        print("\n".join(shown))
        if len(shown) < len(text.splitlines()):
            print(f"... {len(text.splitlines()) - len(shown)} more lines")
    if status != expected:
        sys.exit(f"exit status {status}, expected {expected}")


def spoil(path: Path) -> str:
    """Change the last digit of one line of a bill, and make the hash again as a clever forger would."""
    bill = json.loads(path.read_text(encoding="utf-8"))
    line = bill["lines"][0]
    was = line["credits"]
    line["credits"] = was[:-1] + ("1" if was[-1] != "1" else "2")
    bill["hash"] = document_hash(bill)
    path.write_text(json.dumps(bill), encoding="utf-8")
    return f"{line['model']}, {line['service_tier']}, {line['meter']}: {was} Credits -> {line['credits']}"


def main() -> None:
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir()

    print("1. The price file: is it sound, and what does it say?")
    run("check", "pricing.yaml")
    run("prices", "--group", "default", "--at", "2026-10-20")
    run("prices", "--view", "topup", "--channel", "stripe", "--at", "2026-10-20", lines=8)

    print("\n   The pricing page: open it in a browser")
    run("page", "--out", "demo-out/pricing.html", "--json", "demo-out/pricing.json", "--at", "2026-10-20")

    print("\n2. A charge for every request of a month, made from real traffic (how: examples/README.md)")
    run("rate", USAGE, into=OUT / "charges.jsonl")
    first = json.loads((OUT / "charges.jsonl").open(encoding="utf-8").readline())
    print(f"{sum(1 for _ in (OUT / 'charges.jsonl').open(encoding='utf-8'))} charges; the first of them, explained:")
    run("explain", USAGE, "--request", first["request_id"])

    print("\n3. A bill for every account")
    run("invoice", USAGE, "--all", "--period", PERIOD, "--out", "demo-out/bills", "--issuer", "Example Gateway Ltd")

    print("\n4. Redo every bill from the usage and the price file")
    run("verify", "demo-out/bills", "--usage", USAGE)

    print("\n5. Spoil one figure in a copy")
    shutil.copytree(OUT / "bills" / "INV-000003", OUT / "spoiled")
    print(spoil(OUT / "spoiled" / "invoice.json"), "(and the document's hash was made again, to hide it)")
    previous = "demo-out/bills/INV-000002/invoice.json"
    run("verify", "demo-out/spoiled", "--usage", USAGE, "--previous", previous, expected=1)

    print("\nFound. The results lie in demo-out/:")
    print("  demo-out/pricing.html                   the pricing page; pricing.json is the same as data")
    print("  demo-out/charges.jsonl                  a charge per request")
    print("  demo-out/bills/bills.csv                a line per bill")
    print("  demo-out/bills/INV-000001/invoice.html  a bill for people; invoice.json is the document itself")
    print("  demo-out/spoiled/invoice.json           the spoiled copy")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
