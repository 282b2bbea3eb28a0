"""The subcommand ``ledger receipt``, and the pages of statements and receipts for customers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from typing import Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, add_locale, require_distinct_paths
from brivionix_billing.cli.ledger.common import open_ledger, subcommand
from brivionix_billing.cli.output import as_json, print_rows, print_stderr, print_stdout
from brivionix_billing.errors import BillingError
from brivionix_billing.files import atomic_write_bytes
from brivionix_billing.tabular import format_table

__all__ = ["add_commands", "add_page_options", "require_pages", "write_pages"]


def add_commands(commands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = subcommand(
        commands,
        "receipt",
        _receipt,
        "show the receipt of a top-up: price, tax, amount paid, refunds",
        formats=("table", "json"),
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("lot", metavar="LOT", help="id of the lot, which is that of the top-up")
    parser.add_argument("--zone", default="UTC", metavar="Z", help="time zone of the page's days (default: UTC)")
    add_page_options(parser)


def add_page_options(parser: ArgumentParser) -> None:
    """Add the options of the page for the customer."""
    parser.add_argument("--html", metavar="FILE", help="also write the page for the customer to this file")
    parser.add_argument("--pdf", metavar="FILE", help="also write it as PDF; requires the extra 'pdf'")
    add_locale(parser, "the language of the page (en)")
    parser.add_argument("--logo", metavar="FILE", help="a logo for the page: PNG, JPEG or SVG")
    parser.add_argument("--tax-name", metavar="NAME", help="name of the tax, such as 'VAT 19 %%' (Tax)")
    for party in ("issuer", "customer"):
        parser.add_argument(f"--{party}", metavar="NAME", help=f"the {party}'s name; requires --html or --pdf")
        parser.add_argument(f"--{party}-tax-number", metavar="T", help=f"the {party}'s tax number")
        parser.add_argument(
            f"--{party}-detail", action="append", default=[], metavar="LINE", help="a line below the name; repeatable"
        )


def require_pages(args: Namespace) -> None:
    """Report a missing extra, missing options and repeated files before anything is read."""
    require_distinct_paths(args.logo, args.html, args.pdf)
    if args.pdf:
        from brivionix_billing.pages.pdf import require_pdf_extra

        require_pdf_extra()
    if (args.html or args.pdf) and not args.issuer:
        raise BillingError("invalid_argument", "the page names who issued it; add --issuer NAME")


def write_pages(args: Namespace, kind: str, values: Mapping[str, Any], **options: Any) -> None:
    """Write the requested pages of a ``statement`` or ``receipt``."""
    if not (args.html or args.pdf):
        return
    from brivionix_billing.pages import HtmlPage, Party, load_image, receipt_page, render_pdf, statement_page

    render: Callable[..., HtmlPage] = statement_page if kind == "statement" else receipt_page
    page = render(
        values,
        issuer=Party(args.issuer, args.issuer_tax_number, args.issuer_detail),
        customer=Party(args.customer, args.customer_tax_number, args.customer_detail),
        locale=args.locale,
        logo=load_image(args.logo) if args.logo else None,
        tax_name=args.tax_name,
        **options,
    )
    files = {args.html: page.encode()} if args.html else {}
    if args.pdf:
        files[args.pdf] = render_pdf(page)
    for path, content in files.items():
        atomic_write_bytes(path, content)
        print_stderr(f"{path}: {len(content)} bytes")


_AMOUNTS: Final = ("price", "coupon", "net", "tax", "gross")


def _receipt(args: Namespace) -> int:
    require_pages(args)
    with open_ledger(args) as ledger:
        values = ledger.top_up_receipt(args.account, args.lot).as_dict()
    write_pages(args, "receipt", values, zone=args.zone)
    if args.format == "json":
        print_stdout(as_json(values))
    else:
        print_rows([], "table", lambda: _format_receipt(values))
    return EXIT_OK


def _format_receipt(values: Mapping[str, Any]) -> str:
    rows = [["", "amount"], *([name, values[name]] for name in _AMOUNTS)]
    rows += [[f"{row['kind']} {row['id']}, {row['at']}", row["gross"]] for row in values["paid_back"]]
    rows += [["kept", values["kept"]]] if values["paid_back"] else []
    head = (
        f"{values['lot']} of {values['account']}, {values['at']}: {values['credits']} Credits by "
        f"{values['channel']}, payment {values['reference']}"
    )
    return f"{head}\n\n{format_table(rows, left=1)}"
