"""The page of a bill in a browser: it shows the document, verifies itself, and reports any alteration."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser

from bill_kit import BOOK, OCTOBER, billed, header, loaded, record, text, written
from bill_page_kit import KEY, MARKUP, ROWS, Json, full
from brivionix_billing import BillingError
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.invoice import (
    add_late_usage,
    aggregate_usage,
    build_invoice,
    build_late_usage,
    build_note,
    build_voiding_note,
    document_hash,
    key_id,
    order_changes,
    seal,
)
from brivionix_billing.pages import bill_page
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.times import Period
from pages_kit import Tab, opened, violations
from samples import code_of

OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def notes() -> Iterator[Json]:
    """Yield a credit note, a debit note, and a credit note that cancels a bill."""
    bill = billed(written(ROWS))
    for rows in (ROWS[:20], [*ROWS, record(99)], None):
        head = header(number=2, previous=bill)
        right = None
        if rows is not None:
            right = build_invoice(
                aggregate_usage(written(rows).splitlines(), BOOK, head.period).accounts["acct_1"], head, BOOK
            )
        yield seal(build_note(bill, right, head, f"a reason\n{MARKUP}\u202e\x07"))


def verdict(tab: Tab) -> str:
    """Return the verdict of the page after its check."""
    tab.page.locator("#checks li").first.wait_for(state="attached")  # without eval, which the page forbids
    return tab.text("#verdict")


@pytest.fixture(scope="module")
def bill() -> Json:
    """A bill with every section."""
    return full()


@pytest.mark.parametrize("locale", ["en", "zh_CN"])
def test_a_valid_bill_is_consistent(browser: Browser, tmp_path: Path, bill: Json, locale: str) -> None:
    """The page of a valid bill confirms hash, sums and signature, and names what only ``verify`` can check."""
    words = BILL_MESSAGES[locale]
    with opened(browser, tmp_path / "b.html", bill_page(bill, locale=locale, public_key=KEY.public_key())) as tab:
        assert verdict(tab) == words["check_good"]
        done = [words[name] for name in ("check_hash", "check_sums", "check_shown", "check_text")]
        assert tab.texts("#checks li") == [*done, words["check_signature"].format(key=bill["signing_key"])]
        assert tab.texts("#checks li.good") == tab.texts("#checks li")
        assert words["check_more"] in tab.text("#check")
        assert tab.page.locator("#banner").count() == 0


def test_unchecked_signatures_are_reported(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """If a bill is unsigned, or its key is missing, the page reports that its check is incomplete."""
    for document, message in ((full(key=None), "not signed"), (bill, "does not contain the public key")):
        with opened(browser, tmp_path / "b.html", bill_page(document)) as tab:
            assert verdict(tab) == BILL_MESSAGES["en"]["check_part"]
            assert message in tab.text("#checks li.open")


@pytest.mark.parametrize("number", range(3), ids=["credit", "debit", "cancelled"])
def test_notes_are_consistent(browser: Browser, tmp_path: Path, number: int) -> None:
    """The page of a note shows the corrected bill and the reason, and confirms its own check."""
    note = list(notes())[number]
    with opened(browser, tmp_path / "n.html", bill_page(note)) as tab:
        assert verdict(tab) == BILL_MESSAGES["en"]["check_part"], tab.texts("#checks li")
        assert tab.text("h1") == ("Debit note" if number == 1 else "Credit note")
        assert "INV-000001" in tab.text("header .note")
        assert "a reason" in tab.text("header .note")
        assert tab.page.locator("img").count() == 0


def test_a_voiding_note_and_late_usage_are_consistent(browser: Browser, tmp_path: Path) -> None:
    """The pages of a voiding note and of a bill with late usage show both, and confirm their own checks."""
    bill, note = billed(written(ROWS)), next(notes())
    changes = order_changes(bill, [note])
    void = seal(build_voiding_note(bill, note["id"], header(number=3, previous=note), "void", changes))
    period = Period.parse("2026-11")
    usage = written([*ROWS, record(99), record(1, request_id="nov", at="2026-11-03T00:00:00Z")])
    october, november = (
        aggregate_usage(usage.splitlines(), BOOK, each).accounts["acct_1"] for each in (OCTOBER, period)
    )
    late = build_late_usage(bill, build_invoice(october, header(), BOOK), changes)
    assert late is not None
    head = header(period=period, period_name="2026-11", issued=period.end)
    later = seal(add_late_usage(build_invoice(november, head, BOOK), [late], None, BOOK))
    for document, shown in ((void, "Voids"), (later, "late usage of 2026-10")):
        with opened(browser, tmp_path / f"{document['id']}.html", bill_page(document)) as tab:
            assert verdict(tab) == BILL_MESSAGES["en"]["check_part"], tab.texts("#checks li")
            assert shown in tab.text("header .note")


def swap(pattern: str, new: str, count: int = 1) -> Any:
    """Return a function that replaces text of the page and fails if the pattern does not match."""

    def change(html: str) -> str:
        changed, times = re.subn(pattern, new, html, count=count, flags=re.S)
        assert times > 0
        return changed

    return change


def inside(change: Any, *, rehash: bool = False) -> Any:
    """Return a function that changes the embedded document; with ``rehash``, it updates the hash in all places."""

    def altered(html: str) -> str:
        head, middle, tail = re.split(r'(?<=id="data">)(.*?)(?=</script>)', html, maxsplit=1, flags=re.S)
        data = json.loads(middle)
        old = data["document"]["hash"]
        change(data["document"])
        if rehash:
            data["document"]["hash"] = document_hash(data["document"])
            head = head.replace(old, data["document"]["hash"])
        return head + json.dumps(data).replace("<", "\\u003c") + tail

    return altered


def put(*path: Any) -> Any:
    """Return a function that sets a member of the document; the last item of ``path`` is the value."""

    def change(document: Json) -> None:
        *steps, last, value = path
        for step in steps:
            document = document[step]
        assert document[last] != value
        document[last] = value

    return change


def raw_of(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def seal_of(html: str) -> str:
    """Sign the embedded document, which names the key of the issuer, with another key."""
    document = json.loads(re.search(r'(?<=id="data">)(.*?)(?=</script>)', html, re.S)[0])["document"]  # type: ignore[index]
    signed = {name: value for name, value in document.items() if name not in ("hash", "signature")}
    return base64.b64encode(OTHER.sign(canonical_json(signed))).decode()


ALTERATIONS: dict[str, tuple[Any, str]] = {
    "a figure shown": (swap(r'(data-path="lines.0.rounded.credits">)[\d.,]+', r"\g<1>9.99"), "The page shows 9.99"),
    "the total shown": (
        swap(r'(data-path="totals.rounded.channels.rmb">)[\d.,]+', r"\g<1>0.01"),
        "The page shows 0.01",
    ),
    "a subtotal": (
        swap(r'(class="sub">.*?<td [^>]*>)[^<]+', r"\g<1>1"),
        "The page was changed",
    ),
    "a date": (swap(r'(data-path="issued">)[^<]+', r"\g<1>2020-01-01"), "The page was changed"),
    "the machine's date": (
        swap(r'datetime="[^"]+" data-path="issued"', 'datetime="2020" data-path="issued"'),
        "The page shows 2020",
    ),
    "a name": (swap(r'(data-path="issuer.name" data-as="text">)[^<]+', r"\g<1>Mallory"), "The page shows Mallory"),
    "a tax number": (
        swap(r'(data-path="customer.tax_number" data-as="text">)[^<]+', r"\g<1>DE 9"),
        "The page shows DE 9",
    ),
    "a bar of a picture": (swap(r'height="\d[\d.]*" fill', 'height="99" fill'), "The page was changed"),
    "the title": (swap(r"<title>[^<]+", "<title>Invoice INV-000002"), "The page was changed"),
    "text beside the bill": (swap("<main", "<p>Payable to IBAN 666</p><main"), "Payable to IBAN 666"),
    "text after the bill": (swap("</main>", "</main>Payable to IBAN 666"), "Payable to IBAN 666"),
    "a second bill": (swap("<main", "<main hidden></main><main"), "hidden: main"),
    "a hidden line": (
        swap(r"(<tr role=.row.)(><th role=.rowheader. scope=.row.>Input)", r"\g<1> hidden\g<2>"),
        "or hidden",
    ),
    "a field in place of a figure": (swap("</h1>", '<input value="9.99"></h1>'), "The page was changed"),
    "a struck figure": (
        swap(r'(<span data-path="totals.rounded.nominal">[^<]+</span>)', r"<s>\g<1></s>"),
        "page was changed",
    ),
    "no word of where a figure is from": (swap(' data-path="totals.rounded.credits"', ""), "The page was changed"),
    "a bar of another model": (swap('<rect class="s0"', '<rect class="s1"'), "The page was changed"),
    "an added line": (swap("</header>", "<p>Pay to account 666</p></header>"), "The page was changed"),
    "an amount inside": (inside(put("lines", 0, "credits", "9")), "The hash does not match"),
    "a name inside": (inside(put("customer", "account", "acct_2")), "The hash does not match"),
    "the hash inside": (inside(put("hash", "sha256:" + "0" * 64)), "The hash does not match"),
    "the signature": (inside(put("signature", "A" * 86 + "==")), "The signature does not match"),
    "no base64": (inside(put("signature", "&&&")), "The signature does not match"),
    "a quantity, hash made anew": (inside(put("lines", 0, "quantity", "1"), rehash=True), "lines[0]"),
    "a price, hash made anew": (inside(put("lines", 1, "unit_price", "1"), rehash=True), "lines[1]"),
    "a ratio, hash made anew": (inside(put("lines", 0, "ratio", "3"), rehash=True), "lines[0]: price"),
    "the total, hash made anew": (inside(put("totals", "credits", "1"), rehash=True), "lines: credits"),
    "a shown total, hash anew": (inside(put("totals", "rounded", "credits", "1"), rehash=True), "rounded credits"),
    "nominal, hash made anew": (inside(put("totals", "nominal", "amount", "1"), rehash=True), "nominal"),
    "shown nominal, hash anew": (inside(put("totals", "rounded", "nominal", "0.00"), rehash=True), "rounded nominal"),
    "a channel, hash anew": (inside(put("totals", "channels", "rmb", "amount", "1"), rehash=True), "rmb: amount"),
    "a channel's Credits": (
        inside(put("totals", "channels", "rmb", "credits_without_price", "1"), rehash=True),
        "rmb: credits",
    ),
    "a shown channel": (inside(put("totals", "rounded", "channels", "rmb", "0.00"), rehash=True), "rounded rmb"),
    "a day, hash made anew": (inside(put("days", 0, "credits", "7"), rehash=True), "days: credits"),
    "requests, hash made anew": (inside(put("days", 0, "requests", 77), rehash=True), "days: requests"),
    "savings, hash made anew": (inside(put("savings", "list", "7"), rehash=True), "savings"),
    "the balance, hash anew": (inside(put("balance", "closing", "7"), rehash=True), "balance"),
    "a movement, hash anew": (inside(put("balance", "movements", 0, "credits", "51"), rehash=True), "balance"),
    "another's key": (
        inside(put("signing_key", key_id(OTHER.public_key())), rehash=True),
        "The signature does not match",
    ),
    "another's key and signature": (
        lambda html: inside(put("signature", seal_of(html)))(
            swap(r'"raw":"[^"]+"', f'"raw":"{raw_of(OTHER)}"')(swap(r'"id":"[0-9a-f]{16}"', '"id":"0"')(html))
        ),
        "The signature does not match",
    ),
    "a part taken away": (inside(lambda document: document["totals"].pop("nominal")), "cannot be read"),
    "no number": (inside(put("totals", "credits", "1e5")), "cannot be read"),
}


@pytest.mark.parametrize("what", ALTERATIONS)
def test_an_altered_bill_is_reported(browser: Browser, tmp_path: Path, bill: Json, what: str) -> None:
    """Any alteration of the page or its document is reported in the banner and named in the list of checks."""
    change, message = ALTERATIONS[what]
    html = bill_page(bill, public_key=KEY.public_key())
    with opened(browser, tmp_path / "b.html", change(html)) as tab:
        assert verdict(tab) == BILL_MESSAGES["en"]["check_bad"]
        assert message in " ".join(tab.texts("#checks li.bad"))
        assert tab.text("#banner").startswith(BILL_MESSAGES["en"]["check_bad"])
        if "The hash does not match" in message:  # an altered document cannot be saved
            assert tab.page.locator("#save").is_hidden()


def test_the_page_saves_its_document(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """The page saves the canonical JSON of its document as invoice.json, byte for byte."""
    with opened(browser, tmp_path / "b.html", bill_page(bill)) as tab:
        with tab.page.expect_download() as download:
            tab.page.get_by_role("button", name="Save invoice.json").click()
        assert Path(download.value.path()).read_bytes() == canonical_json(bill)
        assert download.value.suggested_filename == "invoice.json"
        tab.requests.clear()  # the saved file has a blob URL


@pytest.mark.parametrize("names", [("credits.0", "__proto__", "constructor"), ("credits.0", "10", "9")])
def test_channels_may_have_any_name(browser: Browser, tmp_path: Path, names: tuple[str, ...]) -> None:
    """A bill is shown and checked correctly if names of channels look like paths, properties or numbers.

    JavaScript orders the key 9 before 10, canonical JSON orders 10 before 9.
    """
    strange = text()
    for name, other in zip(("rmb", "stripe", "konbini"), names, strict=True):
        strange = strange.replace(f"  {name}:", f'  "{other}":')
    document = billed(written(ROWS), loaded(strange))
    assert list(document["totals"]["channels"]) == list(names)
    with opened(browser, tmp_path / "b.html", bill_page(document)) as tab:
        assert verdict(tab) == BILL_MESSAGES["en"]["check_part"], tab.texts("#checks li")
    changed = swap(r'(data-path="totals.rounded.channels.credits.0">)[\d.,]+', r"\g<1>0.01")(bill_page(document))
    with opened(browser, tmp_path / "b.html", changed) as tab:
        assert verdict(tab) == BILL_MESSAGES["en"]["check_bad"]


def test_a_note_on_a_corrected_price_of_a_credit_is_consistent(browser: Browser, tmp_path: Path) -> None:
    """The page of a note is consistent if its two bills have different prices of a Credit."""
    bill = billed(written(ROWS))
    corrected = loaded(text(nominal="2"))
    head = header(number=2, previous=bill)
    right = build_invoice(
        aggregate_usage(written(ROWS).splitlines(), corrected, head.period).accounts["acct_1"], head, corrected
    )
    note = seal(build_note(bill, right, head, "the price of a Credit was wrong"))
    with opened(browser, tmp_path / "n.html", bill_page(note)) as tab:
        assert verdict(tab) == BILL_MESSAGES["en"]["check_part"], tab.texts("#checks li")


def test_an_insecure_page_reports_unchecked_hashes(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """A browser without hash functions compares the figures and reports the hashes as not checked."""
    html = bill_page(bill, public_key=KEY.public_key())
    changed = swap(r'(class="sub">.*?<td [^>]*>)[^<]+', r"\g<1>77")(html)
    path = tmp_path / "b.html"
    path.write_text(changed, encoding="utf-8")
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(globalThis, 'crypto', {value: {}})")
    tab = Tab(context.new_page(), path).go()
    assert verdict(tab) == BILL_MESSAGES["en"]["check_part"]
    assert "neither the hash of the document nor the whole page was compared" in " ".join(tab.texts("#checks li.open"))
    context.close()


def test_a_browser_without_ed25519_leaves_the_signature_unchecked(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """A browser that does not support Ed25519 reports the signature as not checked, and no alteration."""
    path = tmp_path / "b.html"
    path.write_text(bill_page(bill, public_key=KEY.public_key()), encoding="utf-8")
    context = browser.new_context()
    context.add_init_script("crypto.subtle.importKey = () => Promise.reject(new DOMException('', 'NotSupportedError'))")
    tab = Tab(context.new_page(), path).go()
    assert verdict(tab) == BILL_MESSAGES["en"]["check_part"]
    assert "cannot verify Ed25519 signatures" in tab.text("#checks li.open")
    context.close()


@pytest.mark.parametrize(
    ("period", "zone", "days"),
    [
        ("2026-10", "Asia/Shanghai", "2026-10-01 to 2026-10-31"),
        ("2026-04-20/2026-04-24", "Africa/Cairo", "2026-04-20 to 2026-04-23"),  # 24 April starts at 01:00
        ("2026-10-01/2026-10-02T12:00:00Z", "UTC", "2026-10-01 to 2026-10-02T12:00:00Z"),
    ],
)
def test_a_period_ends_with_its_last_day(period: str, zone: str, days: str) -> None:
    """The page shows the last day of the period in the bill's time zone, even if a clock change skips midnight."""
    span = Period.parse(period, zone)
    at = span.start.isoformat().replace("+00:00", "Z")
    document = billed(written([record(1, at=at)]), period=span, period_name=period)
    assert days in bill_page(document)


def test_days_at_the_ends_of_the_calendar_are_shown(bill: Json) -> None:
    """The start of a day is shown as a date, and an instant that the zone cannot represent is shown in full."""
    document = copy.deepcopy(bill)
    again(document, due="9999-12-31T23:59:59Z", issued="2026-11-01T12:00:00Z")
    html = bill_page(document)
    assert 'data-path="due">9999-12-31T23:59:59Z<' in html
    assert 'data-path="issued">2026-11-01T12:00:00Z<' in html
    again(document, due="2026-11-01T16:00:00Z")  # midnight in Shanghai
    assert 'data-path="due">2026-11-02<' in bill_page(document)


def test_a_note_tells_a_command_that_can_be_run() -> None:
    """The verify command on a note names the corrected bill, and the usage file only if the note has usage."""
    credit, _, cancelled = (bill_page(note) for note in notes())
    assert "--usage usage.jsonl --prices pricing.yaml --corrects INV-000001/invoice.json" in credit
    assert "verify invoice.json --prices pricing.yaml --corrects INV-000001/invoice.json" in cancelled


def test_names_in_a_bill_are_text(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """Markup in names, details, tax numbers and movements is displayed as text and never runs."""
    with opened(browser, tmp_path / "b.html", bill_page(bill)) as tab:
        verdict(tab)
        assert tab.page.locator("img, main b").count() == 0
        assert tab.page.locator("script").count() == 2
        assert tab.text("body").count("<img src=x onerror=alert(2)>&amp; {{7*7}} $& $1") == 3
        assert "Tax number <b>9</b>" in tab.text("header")


def test_a_bill_reads_without_scripts(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """Without JavaScript, the page has all figures and states that it could not check itself."""
    with opened(browser, tmp_path / "b.html", bill_page(bill), java_script_enabled=False) as tab:
        assert tab.page.locator("#verdict").inner_text() == BILL_MESSAGES["en"]["check_off"]
        shown = tab.page.locator("main").inner_text()
        for part in (
            bill["totals"]["rounded"]["credits"],
            bill["hash"],
            "62.184219",
            "Usage statement",
            "INV-000001",
        ):
            assert part in shown
        assert tab.page.locator("button:visible").count() == 0


def test_a_bill_has_all_its_parts(browser: Browser, tmp_path: Path, bill: Json) -> None:
    """A page has tax numbers, dates in the bill's zone, payment currency, estimates, savings and short form."""
    with opened(browser, tmp_path / "b.html", bill_page(bill)) as tab:
        shown = tab.text("main")
        for part in (
            "Tax number DE 123",
            "2026-10-01 to 2026-10-31",
            "days in Asia/Shanghai",
            "CNY, through rmb",
            "the provider reported no usage for 1 request",
            "Saved by caching",
            "brivionix-billing verify invoice.json --usage usage.jsonl",
            " ".join(re.findall("....", bill["hash"][7:23])),
        ):
            assert part in shown
        assert tab.page.locator("header time").first.inner_text() == "2026-11-01"
        assert tab.page.locator(".total.paid strong").inner_text() == bill["totals"]["rounded"]["channels"]["rmb"]
        assert tab.page.locator("svg").count() == 2
        assert tab.texts(".lines thead th .small") == ["rmb", "rmb"]  # the channel of payment only
    page = bill_page(full(channel="stripe"), all_channels=True)
    with opened(browser, tmp_path / "b.html", page) as tab:  # the payment channel comes first
        assert tab.texts(".lines thead th .small")[-3:] == ["stripe", "konbini", "rmb"]
        assert tab.page.locator(".total.paid .small").first.inner_text() == "Cost through stripe"
    with opened(browser, tmp_path / "b.html", bill_page(bill)) as tab:
        # The total of a column is the sum of its displayed lines.
        details = ".card:not(.proof):has(tr.block) .lines"
        column = [Decimal(value) for value in tab.texts(f"{details} tr:not(.sub):not(.sum) td:nth-of-type(5)")]
        assert sum(column) == Decimal(bill["totals"]["rounded"]["credits"])
        assert len(column) == len(bill["lines"])
        # So are those of the summary by model, which comes first.
        models = [Decimal(value) for value in tab.texts(".card:has(.lines):not(:has(tr.block)) td:nth-of-type(2)")]
        assert (sum(models), len(models)) == (Decimal(bill["totals"]["rounded"]["credits"]), 2)


# Elements beyond the edges of the page, except in boxes that scroll; and cells and texts that overlap.
MISPLACED = """() => {
  const width = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > width) found.push(`the page: ${document.documentElement.scrollWidth}`);
  for (const element of document.querySelectorAll("body *:not(.unseen, script)")) {
    if (element.closest("svg, .scroll:not(:has(> .lines)), .lines thead")) continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.right > width + 0.5 || box.left < -0.5)) found.push(element.outerHTML.slice(0, 80));
  }
  for (const row of document.querySelectorAll("tr, .totals, .parties, .head, .facts > div, dl.note > div")) {
    const boxes = [...row.children].map((element) => {
      const range = document.createRange();
      range.selectNodeContents(element);
      return [element, range.getBoundingClientRect()];
    }).filter(([, box]) => box.width > 1);
    for (const [index, [one, a]] of boxes.entries()) for (const [other, b] of boxes.slice(index + 1)) {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 1 && down > 1) found.push(`${one.textContent} / ${other.textContent}`);
    }
  }
  return found;
}"""
WIDTHS = (320, 390, 768, 1024, 1280)


def test_a_bill_fits_every_width(browser: Browser, tmp_path: Path) -> None:
    """Bills with all channels, and notes, fit from 320 to 1280 pixels; axe finds nothing wrong."""
    wide = full(title="A heading of a bill with very many words, as some customers want it")
    altered = ALTERATIONS["a figure shown"][0](bill_page(full()))
    pages = (bill_page(wide, all_channels=True), bill_page(wide, locale="zh_CN"), altered, bill_page(next(notes())))
    for number, html in enumerate(pages):
        with opened(browser, tmp_path / f"{number}.html", html) as tab:
            verdict(tab)
            for width in WIDTHS:
                tab.page.set_viewport_size({"width": width, "height": 800})
                assert tab.page.evaluate(MISPLACED) == [], (number, width)
            # Light at the last width, dark on a phone.
            assert violations(tab.page) == []
            tab.page.emulate_media(color_scheme="dark")
            tab.page.set_viewport_size({"width": 390, "height": 800})
            assert violations(tab.page) == []


def again(document: Json, **changes: Any) -> None:
    """Change a document and update its hash."""
    document.update(changes)
    document["hash"] = document_hash(document)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda d: d.pop("days"), "days"),
        (lambda d: d.update(hash="sha256:" + "0" * 64), "its hash does not match"),
        (lambda d: d["totals"].update(credits="1"), "its hash does not match"),
        (lambda d: again(d, id='x"}}body{display:none}'), "does not match series and number"),
        (lambda d: again(d, period={**d["period"], "to": "0001-01-01T00:00:00Z"}), "cannot be rendered"),
        (lambda d: again(d, period={**d["period"], "zone": "Mars/Olympus"}), "is not a time zone"),
        (lambda d: again(d, days=[{**d["days"][0], "day": "2026-02-31"}]), "cannot be rendered"),
        (
            lambda d: again(d, lines=[{**d["lines"][0], "rounded": {**d["lines"][0]["rounded"], "channels": {}}}]),
            "channel",
        ),
    ],
)
def test_only_valid_documents_have_a_page(bill: Json, alter: Any, message: str) -> None:
    """An invalid document, or one that was changed after it was issued, is an error."""
    document = copy.deepcopy(bill)
    alter(document)
    with pytest.raises(BillingError, match=message) as caught:
        bill_page(document)
    assert code_of(caught) == "invalid_document"
