"""The command render, and the pages that invoice and credit-note write next to a document."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_locale, require_distinct_paths
from brivionix_billing.cli.output import print_stderr
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write_bytes
from brivionix_billing.invoice.csv_export import lines_csv
from brivionix_billing.invoice.files import read_intact_document
from brivionix_billing.invoice.signing import check_signature, load_public_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["PageWriter", "add_commands", "add_options"]

HTML: Final = "invoice.html"
PDF: Final = "invoice.pdf"


def add_options(parser: ArgumentParser) -> None:
    """Add the page options of the commands that write documents."""
    _add_display(parser)
    parser.add_argument("--pdf", action="store_true", help=f"also write {PDF}; requires the extra 'pdf'")
    parser.add_argument("--no-html", action="store_true", help=f"do not write {HTML}")


def _add_display(parser: ArgumentParser) -> None:
    """Add the options that change what pages show, but no document."""
    add_locale(parser, "the language of the pages (en)")
    parser.add_argument(
        "--all-channels", action="store_true", help="show the cost through all channels, not only that of payment"
    )
    parser.add_argument("--logo", metavar="FILE", help="a logo for the pages: PNG, JPEG or SVG")


def _display(args: Namespace) -> dict[str, Any]:
    """Return the arguments of both pages."""
    logo = None
    if args.logo:
        from brivionix_billing.pages import load_image

        logo = load_image(args.logo)
    return {"locale": args.locale, "all_channels": args.all_channels, "logo": logo}


class PageWriter:
    """Renders the requested pages of documents. Reports a missing extra before the command writes any file.

    ``pickle`` passes it to another process, with the public key.
    """

    def __init__(self, args: Namespace, key: Ed25519PublicKey | None) -> None:
        self.display, self.key = _display(args), key
        self.text = {name: self.display[name] for name in ("locale", "all_channels")}
        """The arguments of the text page."""
        self.html, self.pdf = not args.no_html, args.pdf
        if self.pdf:
            from brivionix_billing.pages.pdf import require_pdf_extra

            require_pdf_extra()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "key": None if self.key is None else self.key.public_bytes_raw()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.key is not None:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

            self.key = Ed25519PublicKey.from_public_bytes(state["key"])

    def render(self, document: Mapping[str, Any]) -> dict[str, bytes]:
        """Return the pages of a document by file name."""
        if not self.html and not self.pdf:
            return {}
        from brivionix_billing.pages import bill_page, printed_bill, render_pdf

        out = {}
        try:
            if self.html:
                out[HTML] = bill_page(document, public_key=self.key, **self.display).encode()
            if self.pdf:
                out[PDF] = render_pdf(printed_bill(document, **self.display))
            return out
        except BillingError as error:
            account = safe_repr(document["customer"]["account"])
            message = f"page of {document['id']}, account {account}: {error}"
            advice = "; fix this and run the command again; nothing was written"
            raise BillingError(error.code, message + advice) from None


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "render",
        help="render the pages of a bill from its document",
        description="Renders pages of an existing invoice.json: in another language, as PDF, or with the public key "
        "of its signature. Existing pages are replaced; the document is not changed.",
        allow_abbrev=False,
    )
    parser.add_argument("invoice", metavar="INVOICE.json")
    parser.add_argument("--html", metavar="FILE", help="the file for the HTML page")
    parser.add_argument("--pdf", metavar="FILE", help="the file for the page as PDF; requires the extra 'pdf'")
    parser.add_argument("--csv", metavar="FILE", help="the file for the lines as CSV")
    _add_display(parser)
    parser.add_argument("--key", metavar="FILE", help="the public key (PEM) with which the page checks its signature")
    parser.set_defaults(run=_render)


def _render(args: Namespace) -> int:
    if not (args.html or args.pdf or args.csv):
        raise BillingError("invalid_argument", "no output file is given; add --html FILE, --pdf FILE or --csv FILE")
    require_distinct_paths(args.invoice, args.key, args.logo, args.html, args.pdf, args.csv)
    document = read_intact_document(Path(args.invoice))
    key = None
    if args.key:
        key = load_public_key(args.key)
        _, finding = check_signature(document, key)
        if finding is not None:
            raise BillingError("invalid_key", f"{args.invoice}: {finding}")
    files: dict[str, bytes] = {}
    if args.html or args.pdf:
        from brivionix_billing.pages import bill_page, printed_bill, render_pdf

        display = _display(args)
        if args.html:
            files[args.html] = bill_page(document, public_key=key, **display).encode()
        if args.pdf:
            files[args.pdf] = render_pdf(printed_bill(document, **display))
    if args.csv:
        files[args.csv] = lines_csv(document).encode()
    for path, content in files.items():
        atomic_write_bytes(path, content)
        print_stderr(f"{path}: {len(content)} bytes")
    return EXIT_OK
