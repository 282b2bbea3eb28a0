"""Pages of bills on the command line: what invoice and credit-note write beside a document, and the command render."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, require_distinct_paths
from brivionix_billing.cli.files import atomic_write_bytes
from brivionix_billing.cli.output import print_stderr
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.csv_export import lines_csv
from brivionix_billing.invoice.files import read_intact_document
from brivionix_billing.invoice.signing import load_public_key, signature_error
from brivionix_billing.pages.formatting import LANGUAGES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["PageWriter", "add_commands", "add_options"]

HTML: Final = "invoice.html"
PDF: Final = "invoice.pdf"


def add_options(parser: ArgumentParser) -> None:
    """The options about pages of the commands that write documents."""
    parser.add_argument("--locale", choices=LANGUAGES, default="en", help="the language of the page (en)")
    parser.add_argument("--pdf", action="store_true", help=f"write {PDF} too; needs the extra 'pdf'")
    parser.add_argument("--no-html", action="store_true", help=f"write no {HTML}")


class PageWriter:
    """Makes the pages that a command was asked for. An extra that is lacking is told before anything is written."""

    def __init__(self, args: Namespace, key: Ed25519PublicKey | None) -> None:
        self.locale, self.key = args.locale, key
        self.html, self.pdf = not args.no_html, args.pdf
        if self.pdf:
            from brivionix_billing.pages.pdf import require_pdf_extra

            require_pdf_extra()
        if self.html or self.pdf:
            from brivionix_billing.pages.render import require_pages_extra as pages_ready

            try:
                pages_ready()
            except BillingError as error:
                if self.pdf:
                    raise
                # The document is the bill, and a page of it can be made at any time.
                print_stderr(f"no {HTML} is written: {error.message}")
                self.html = False

    def render(self, document: Mapping[str, Any]) -> dict[str, bytes]:
        """The pages of a document, by the names of their files."""
        if not self.html and not self.pdf:
            return {}
        from brivionix_billing.pages import bill_page, render_pdf

        try:
            made = bill_page(document, locale=self.locale, public_key=self.key)
            out = {HTML: made.encode()} if self.html else {}
            return out | ({PDF: render_pdf(made)} if self.pdf else {})
        except BillingError as error:
            whose = safe_repr(document["customer"]["account"])
            message = f"the page of {document['id']}, account {whose}: {error.message}"
            after = "; what this run wrote before it stands: mend this, remove that, and run again"
            raise BillingError(error.code, message + after) from None


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "render",
        help="make the pages of a bill from its document",
        description="Makes pages of an invoice.json that was written before: in another language, as PDF, with the "
        "public key that its signature fits. Files that stand there are replaced; the document is not touched.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json")
    parser.add_argument("--html", metavar="FILE", help="the page")
    parser.add_argument("--pdf", metavar="FILE", help="the page as PDF; needs the extra 'pdf'")
    parser.add_argument("--csv", metavar="FILE", help="the lines")
    parser.add_argument("--locale", choices=LANGUAGES, default="en", help="the language of the page (en)")
    parser.add_argument("--key", metavar="FILE", help="the public key (PEM), for the page's own check of the signature")
    parser.set_defaults(run=_render)


def _render(args: Namespace) -> int:
    if not (args.html or args.pdf or args.csv):
        raise BillingError("invalid_argument", "say what to make: --html FILE, --pdf FILE or --csv FILE")
    require_distinct_paths(args.invoice, args.key, args.html, args.pdf, args.csv)
    document = read_intact_document(Path(args.invoice))
    key = None
    if args.key:
        key = load_public_key(args.key)
        fault = signature_error(document, key)
        if fault is not None:
            raise BillingError("invalid_key", f"{args.invoice}: {fault}")
    made: dict[str, bytes] = {}
    if args.html or args.pdf:
        from brivionix_billing.pages import bill_page, render_pdf

        page = bill_page(document, locale=args.locale, public_key=key)
        if args.html:
            made[args.html] = page.encode()
        if args.pdf:
            made[args.pdf] = render_pdf(page)
    if args.csv:
        try:
            made[args.csv] = lines_csv(document).encode()
        except KeyError as error:
            raise BillingError("invalid_document", f"{args.invoice}: a line does not show channel {error}") from None
    for path, content in made.items():
        atomic_write_bytes(path, content)
        print_stderr(f"{path}: {len(content)} bytes")
    return EXIT_OK
