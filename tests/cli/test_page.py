"""The commands page and render, and the pages that invoice and credit-note write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bill_kit import record
from brivionix_billing import BillingError, PriceBook
from brivionix_billing.pages import price_list, pricing_page
from cli_kit import Run
from samples import AUTUMN, SHIPPED, shipped

PRICES = ("--prices", str(SHIPPED), "--at", "2026-10-20")
OCTOBER = ("--period", "2026-10")


def invoice(run: Run, *more: str, out: str = "b") -> tuple[int, str, str]:
    """Run invoice for one account."""
    run.usage([record(n) for n in range(1, 6)])
    return run("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", out, *more)


def test_page_writes_the_output_of_the_library(run: Run) -> None:
    """``page`` writes the output of ``pricing_page`` and ``price_list``, and is deterministic."""
    for _ in range(2):
        status, out, err = run(
            "page", *PRICES, "--out", "p.html", "--json", "p.json", "--group", "coding", "--locale", "zh_CN"
        )
        assert (status, err) == (0, "")
        html = (run.folder / "p.html").read_text(encoding="utf-8")
        assert html == pricing_page(shipped(), at=AUTUMN, groups=["coding"], locale="zh_CN")
        prices = json.loads((run.folder / "p.json").read_text(encoding="utf-8"))
        assert prices == price_list(shipped(), at=AUTUMN, groups=["coding"])
    assert [path.name for path in run.folder.glob("*p.*")] != []
    assert list(run.folder.glob(".*")) == []  # no temporary file is left
    policy = out.partition("Content-Security-Policy: ")[2].strip()
    assert f'content="{policy.replace(chr(39), "&#39;")}"' in html


def test_page_takes_title_notes_and_style(run: Run) -> None:
    """The page has the given title, notes and style sheet."""
    (run.folder / "my.css").write_text(":root { --bb-accent: #123456; }", encoding="utf-8")
    options = ("--title", "Prices & <more>", "--note", "One", "--note", "Two", "--style", "my.css", "--format", "json")
    status, out, _ = run("page", *PRICES, "--out", "p.html", *options)
    html = (run.folder / "p.html").read_text(encoding="utf-8")
    assert (status, json.loads(out)[0]["bytes"]) == (0, len(html.encode()))
    assert "<title>Prices &amp; &lt;more&gt;</title>" in html
    assert "<p>One</p><p>Two</p>" in html
    assert "--bb-accent: #123456" in html


def test_line_ends_of_a_style_sheet_do_not_matter() -> None:
    """The policy has the hash of the style sheet with the line ends that a browser uses."""
    plain, windows = (pricing_page(shipped(), at=AUTUMN, style=f"b {{{end}color: red }}") for end in ("\n", "\r\n"))
    assert plain == windows
    with pytest.raises(BillingError, match="not allowed in a style sheet"):
        pricing_page(shipped(), at=AUTUMN, style="</style><script>")
    with pytest.raises(BillingError, match="list of paragraphs"):
        pricing_page(shipped(), at=AUTUMN, notes="Refund")


def test_a_page_is_replaced_as_a_whole(run: Run) -> None:
    """``page`` replaces a file and keeps its mode, and can write to a pipe."""
    real = run.folder / "real.html"
    real.write_text("old")
    real.chmod(0o640)
    with real.open("rb") as reader:  # an open file keeps the old page
        assert run("page", *PRICES, "--out", "real.html")[0] == 0
        assert reader.read() == b"old"
    assert real.read_text(encoding="utf-8").startswith("<!doctype")
    assert real.stat().st_mode & 0o777 == 0o640
    command = [sys.executable, "-m", "brivionix_billing.cli", "page", *PRICES, "--out", "/dev/fd/2"]
    with (run.folder / "two").open("wb") as out:
        subprocess.run(command, stderr=out, stdout=subprocess.DEVNULL, check=True, cwd=run.folder)
    assert (run.folder / "two").read_bytes().startswith(b"<!doctype")
    assert list(run.folder.glob(".brivionix*")) == []


@pytest.mark.parametrize(
    ("css", "message"),
    [
        ("</style><script>alert(1)</script>", "'<' is not allowed in a style sheet"),
        ("@IMPORT 'x.css';", "'@import' is not allowed in a style sheet"),
        ("body { background: URL(x.png) }", "'url(' is not allowed in a style sheet"),
        ("b { background: u\\72l(x.png) }", "in a style sheet; write the character itself"),
        ("b { background: image-set('x.png' 1x) }", "'image-set(' is not allowed in a style sheet"),
        ("a\0b", "in a style sheet; remove it"),
        ("x" * 300_000, "more than 262144 characters"),
    ],
)
def test_an_unsafe_style_sheet_is_an_error(run: Run, css: str, message: str) -> None:
    """A style sheet that could end its element or load something is an error, and no page is written."""
    (run.folder / "my.css").write_text(css, encoding="utf-8")
    status, _, err = run("page", *PRICES, "--out", "p.html", "--style", "my.css")
    assert (status, message in err) == (2, True)
    assert not (run.folder / "p.html").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "p.html", "--json", "p.html"), "named twice"),
        (("--out", "./p.html", "--json", "p.html"), "named twice"),
        (("--out", str(SHIPPED)), "named twice"),
        (("--out", "pricing.yaml/p.html"), "cannot write"),
        (("--out", "."), "cannot write"),
        (("--out", "p.html", "--group", "nobody"), "no group 'nobody'"),
        (("--out", "p.html", "--style", "none.css"), "cannot read"),
        (("--out", "p.html", "--at", "2020-01-01"), "no group to show"),
        (("--out", "p.html", "--at", "soon"), "is not a time"),
        (("--out", "p.html", "--title", "a\x07"), "printable"),
        (("--out", "p.html", "--note", "\udcff"), "printable"),
    ],
)
def test_page_rejects_invalid_options(run: Run, options: tuple[str, ...], message: str) -> None:
    """An invalid option is an error with exit status 2, and no file is written."""
    before = SHIPPED.read_bytes()
    status, out, err = run("page", "--prices", str(SHIPPED), *(() if "--at" in options else PRICES[2:]), *options)
    assert (status, out, message in err) == (2, "", True), err
    assert "bug in brivionix" not in err
    assert SHIPPED.read_bytes() == before
    assert list(run.folder.glob("p.*")) == []


def test_render_writes_pages_of_a_document(run: Run) -> None:
    """``render`` writes the page and the lines of a document in any language, and does not change the document."""
    invoice(run)
    document = (run.folder / "b/invoice.json").read_bytes()
    assert run("render", "b/invoice.json", "--html", "en.html", "--csv", "l.csv")[0] == 0
    assert (run.folder / "en.html").read_bytes() == (run.folder / "b/invoice.html").read_bytes()
    assert (run.folder / "l.csv").read_bytes() == (run.folder / "b/invoice.csv").read_bytes()
    assert run("render", "b/invoice.json", "--html", "zh.html", "--locale", "zh_CN")[0] == 0
    assert "账单" in (run.folder / "zh.html").read_text(encoding="utf-8")
    for options in ((), ("--html", "b/invoice.json"), ("--html", "x.html", "--csv", "x.html")):
        assert run("render", "b/invoice.json", *options)[0] == 2
    assert (run.folder / "b/invoice.json").read_bytes() == document
    (run.folder / "altered.json").write_bytes(document.replace(b'"requests":5', b'"requests":6'))
    status, _, err = run("render", "altered.json", "--html", "s.html")
    assert (status, "its hash does not" in err) == (2, True)
    assert not (run.folder / "s.html").exists()


def test_keys_go_into_the_page(run: Run) -> None:
    """The page contains the matching public key from --sign-key or --key; another key is an error."""
    keys = [Ed25519PrivateKey.from_private_bytes(bytes([n] * 32)) for n in (1, 2)]
    for name, key in zip("ab", keys, strict=True):
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (run.folder / f"{name}.pem").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (run.folder / f"{name}.pub").write_bytes(public)
    invoice(run, "--sign-key", "a.pem")
    signed = (run.folder / "b/invoice.html").read_bytes()
    assert b'"raw":' in signed
    assert run("render", "b/invoice.json", "--html", "x.html", "--key", "a.pub")[0] == 0
    assert (run.folder / "x.html").read_bytes() == signed
    assert run("render", "b/invoice.json", "--html", "y.html")[0] == 0
    assert b'"raw":' not in (run.folder / "y.html").read_bytes()
    status, _, err = run("render", "b/invoice.json", "--html", "z.html", "--key", "b.pub")
    assert (status, "signed by key" in err) == (2, True)


@pytest.mark.usefixtures("pango")
def test_pdf_is_written_on_request(run: Run) -> None:
    """--pdf also writes a PDF, for bills, notes and render; --no-html omits the HTML page."""
    invoice(run, "--pdf", "--no-html")
    assert (run.folder / "b/invoice.pdf").read_bytes()[:5] == b"%PDF-"
    assert not (run.folder / "b/invoice.html").exists()
    assert run("render", "b/invoice.json", "--pdf", "x.pdf", "--locale", "zh_CN")[0] == 0
    assert (run.folder / "x.pdf").read_bytes()[:5] == b"%PDF-"
    note = ("--reason", "x", "--after", "b", "--issued", "2026-11-05", "--out", "n", "--pdf")
    assert run("credit-note", "b/invoice.json", *note)[0] == 0
    assert (run.folder / "n/invoice.pdf").read_bytes()[:5] == b"%PDF-"


WITHOUT = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
from brivionix_billing.cli import main
sys.exit(main(sys.argv[2:]))
"""


def without(missing: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as if some packages were not installed."""
    command = [sys.executable, "-c", WITHOUT, missing, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8")


def test_without_weasyprint_no_bill_is_written(run: Run) -> None:
    """Without the extra pdf, --pdf is an error that names the install command, and no bill is written."""
    run.usage([record(n) for n in range(1, 6)])
    arguments = ("invoice", "usage.jsonl", "--account", "acct_1", *OCTOBER, "--out", "b", "--pdf")
    done = without("weasyprint", run.folder, *arguments)
    assert (done.returncode, "pip install 'brivionix-billing[pdf]'" in done.stderr) == (2, True)
    assert not (run.folder / "b").exists()


def test_page_libraries_are_imported_late() -> None:
    """Importing the library and the command line does not import Babel, Jinja2 or WeasyPrint."""
    code = (
        "import sys, brivionix_billing.cli; print([m for m in ('babel', 'jinja2', 'weasyprint') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_book_without_channels_has_a_page() -> None:
    """A price file without channels has a page with nominal prices."""
    text = SHIPPED.read_text(encoding="utf-8")
    start, end = text.index("channels:\n"), text.index("# List prices in USD")
    book = PriceBook.loads(text[:start] + text[end:])
    html: Any = pricing_page(book, at=AUTUMN)
    assert price_list(book, at=AUTUMN)["channels"] == []
    assert "$5.00" in html
