"""The pricing page of 5 and of 500 models: its size, and how long a reader waits for it in a real browser.

``python benchmarks/pages.py`` needs Chromium (Debian: ``apt install chromium``) and ``pip install playwright``. Both
pages are measured in one run, in turns; a wait is what the reader sees: from the call until the next frame is painted.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import perf_counter

from playwright.sync_api import Page, sync_playwright

from brivionix_billing import PriceBook
from brivionix_billing.pages import pricing_page
from pricefile import price_file

AT = datetime(2026, 10, 20, tzinfo=UTC)
ROOT = Path(__file__).resolve().parent.parent
FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(() => done(performance.now()), 0)))"
ACTIONS = {
    "sort by output": "document.querySelector('[data-sort=output]').click()",
    "sort it the other way": "document.querySelector('[data-sort=output]').click()",
    "switch to Top Up price": "document.querySelector('#topup').click()",
    "type a letter into the search": "(() => { const at = document.querySelector('#search'); at.value = '1';"
    " at.dispatchEvent(new Event('input', {bubbles: true})); })()",
    "take it back": "(() => { const at = document.querySelector('#search'); at.value = '';"
    " at.dispatchEvent(new Event('input', {bubbles: true})); })()",
    "switch the language": "document.querySelector('[data-language]:not([aria-pressed=true])').click()",
}


def opening(page: Page, path: Path) -> float:
    """Milliseconds from the navigation until the table of the page is painted."""
    page.goto("about:blank")
    page.goto(path.as_uri())
    found: float = page.evaluate(FRAME)
    return found


def acting(page: Page, code: str) -> float:
    """Milliseconds from an action until its result is painted."""
    found: float = page.evaluate(
        f"(async () => {{ const from = performance.now(); {code}; return await {FRAME} - from; }})()"
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--models", type=int, default=500)
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no Chromium on this machine (Debian: apt install chromium)")
    books = {
        "5": PriceBook.load(ROOT / "pricing.yaml"),
        str(args.models): PriceBook.loads(price_file(args.models, groups=4)),
    }
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        paths, rows = {}, []
        for name, book in books.items():
            begin = perf_counter()
            html = pricing_page(book, at=AT)
            took = perf_counter() - begin
            paths[name] = Path(folder, f"{name}.html")
            paths[name].write_text(html, encoding="utf-8")
            print(
                f"{name} models, {len(book.groups(at=AT))} groups: {len(html.encode()):,} bytes, made in {took:.2f} s"
            )
        flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        waits: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.rounds):
            for name, path in paths.items():
                waits.setdefault(("open", name), []).append(opening(page, path))
                for action, code in ACTIONS.items():
                    waits.setdefault((action, name), []).append(acting(page, code))
        count = page.locator("#table tbody tr").count()
        browser.close()
    print(f"{count} rows in the larger table; milliseconds until painted, median of {args.rounds} rounds:")
    for action in ("open", *ACTIONS):
        small, large = (median(waits[action, name]) for name in paths)
        rows.append(f"  {action:<30} {small:8.0f} {large:8.0f}   {large / small:5.1f} times")
    print("  " + " " * 30 + "".join(f"{name:>9}" for name in paths))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
