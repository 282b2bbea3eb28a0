"""Prints per provider what is read, unaccounted and rejected of recorded answers, and why.

Run: ``python benchmarks/recorded_answers.py [FILE]``. The file is JSON Lines with ``provider`` and ``body``.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from brivionix_billing import BillingError, Usage

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data" / "provider_bodies.jsonl"
SAMPLE = ROOT / "tests" / "data" / "provider_responses.jsonl"


def main() -> None:
    """Print the tables."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SHARED if SHARED.exists() else SAMPLE
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[tuple[str, str, str]] = Counter()
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        provider = entry.get("provider", "all")
        counts = totals[provider]
        counts["answers"] += 1
        try:
            usage = Usage.from_response(entry["body"])
        except BillingError as error:
            counts["rejected"] += 1
            reasons[provider, "rejected", re.sub(r"\d+", "#", error.message)[:110]] += 1
            continue
        counts["read"] += 1
        counts["estimated"] += usage.estimated
        counts["unaccounted"] += bool(usage.unaccounted)
        reasons.update((provider, "unaccounted", re.sub(r"\d+", "#", place)) for place, _ in usage.unaccounted)
    columns = ("answers", "read", "estimated", "unaccounted", "rejected")
    print(f"{'provider':14}" + "".join(f"{name:>13}" for name in columns))
    for provider, counts in sorted(totals.items()):
        print(f"{provider:14}" + "".join(f"{counts[name]:13}" for name in columns))
    for (provider, kind, reason), count in sorted(reasons.items()):
        print(f"{count:6} {provider}: {kind}: {reason}")


if __name__ == "__main__":
    main()
