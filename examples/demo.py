"""Run the main job on real traffic: prices, charges, bills, verification, and the detection of an altered figure.

Every step is a command of the command line and is printed. Results are written to ``demo-out/``.
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


def run(*arguments: str, expected: int = 0, output: Path | None = None, max_lines: int | None = None) -> None:
    """Print a command, run it, and exit if its exit status is not the expected one."""
    redirection = f" > {output.relative_to(ROOT)}" if output else ""
    print(f"\n$ brivionix-billing {shlex.join(arguments)}{redirection}", flush=True)
    buffer = io.BytesIO()
    stdout = io.TextIOWrapper(buffer, encoding="utf-8")
    with contextlib.redirect_stdout(stdout):
        status = brivionix_billing(arguments)
        stdout.flush()
        text = buffer.getvalue().decode()
    if output:
        output.write_text(text, encoding="utf-8")
    else:
        lines = text.splitlines()
        print("\n".join(lines[:max_lines]))
        if max_lines is not None and len(lines) > max_lines:
            print(f"... {len(lines) - max_lines} more lines")
    if status != expected:
        sys.exit(f"exit status {status}, expected {expected}")


def alter(path: Path) -> str:
    """Change the last digit of one line of a bill, and recompute the hash as an attacker would.

    Returns a description of the change.
    """
    bill = json.loads(path.read_text(encoding="utf-8"))
    line = bill["lines"][0]
    original = line["credits"]
    line["credits"] = original[:-1] + ("1" if original[-1] != "1" else "2")
    bill["hash"] = document_hash(bill)
    path.write_text(json.dumps(bill), encoding="utf-8")
    return f"{line['model']}, {line['service_tier']}, {line['meter']}: {original} Credits -> {line['credits']}"


def main() -> None:
    if OUT.exists():
        shutil.rmtree(OUT)
    OUT.mkdir()

    print("1. Validate the price file, and print its prices")
    run("check", "pricing.yaml")
    run("prices", "--group", "default", "--at", "2026-10-20")
    run("prices", "--view", "topup", "--channel", "stripe", "--at", "2026-10-20", max_lines=8)

    print("\n   Write the pricing page")
    run("page", "--out", "demo-out/pricing.html", "--json", "demo-out/pricing.json", "--at", "2026-10-20")

    print("\n2. Rate every request of a month of real traffic (its source: examples/README.md)")
    run("rate", USAGE, output=OUT / "charges.jsonl")
    charges = (OUT / "charges.jsonl").read_text(encoding="utf-8").splitlines()
    print(f"{len(charges)} charges; explanation of the first one:")
    run("explain", USAGE, "--request", json.loads(charges[0])["request_id"])

    print("\n3. Write a bill for every account")
    run("invoice", USAGE, "--all", "--period", PERIOD, "--out", "demo-out/bills", "--issuer", "Example Gateway Ltd")

    print("\n4. Verify every bill with the usage file and the price file")
    run("verify", "demo-out/bills", "--usage", USAGE)

    print("\n5. Alter one figure in a copy, and verify again")
    shutil.copytree(OUT / "bills" / "INV-000003", OUT / "altered")
    print(alter(OUT / "altered" / "invoice.json"), "(the hash is recomputed to hide the change)")
    previous = "demo-out/bills/INV-000002/invoice.json"
    run("verify", "demo-out/altered", "--usage", USAGE, "--previous", previous, expected=1)

    print("\nThe change was detected. Results:")
    print(
        "  demo-out/pricing.html                   the pricing page; open it in a browser (pricing.json: the same data)"
    )
    print("  demo-out/charges.jsonl                  one charge per request")
    print("  demo-out/bills/bills.csv                one line per bill")
    print("  demo-out/bills/INV-000001/invoice.html  the page of a bill (invoice.json: the document)")
    print("  demo-out/altered/invoice.json           the altered copy")


if __name__ == "__main__":
    os.chdir(ROOT)
    main()
