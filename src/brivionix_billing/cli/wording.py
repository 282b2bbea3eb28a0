"""Options for what a bill says beside its figures: title, terms of payment, taxes and decimal places."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from brivionix_billing.errors import BillingError
from brivionix_billing.invoice.customers import UNKNOWN_CUSTOMER, Customer
from brivionix_billing.invoice.header import CREDIT_DIGITS
from brivionix_billing.invoice.taxes import Tax, TaxTerms

__all__ = ["add_wording", "wording_of"]


def add_wording(parser: ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--title", metavar="TEXT", help="the heading (Usage statement; Invoice with --due or --tax)")
    parser.add_argument(
        "--terms", action="append", default=[], metavar="TEXT", help="a paragraph with terms of payment; repeatable"
    )
    parser.add_argument(
        "--tax",
        action="append",
        default=[],
        metavar="NAME=PERCENT",
        help="a tax on the cost through the channel of payment, such as VAT=19; repeatable",
    )
    parser.add_argument("--tax-included", action="store_true", help="the price of a Credit includes the taxes")
    parser.add_argument(
        "--credit-digits",
        type=int,
        default=CREDIT_DIGITS,
        metavar="N",
        help=f"decimal places of rounded Credits, 0 to 18 ({CREDIT_DIGITS})",
    )


def wording_of(args: Namespace, customer: Customer = UNKNOWN_CUSTOMER) -> dict[str, Any]:
    """Return the arguments of ``Header``. Options take precedence over the customer of the customers file.

    Raises ``invalid_argument`` or ``invalid_money`` for an invalid tax.
    """
    taxes = [Tax.parse(text) for text in args.tax]
    if args.tax_included and not taxes:
        raise BillingError("invalid_argument", "--tax-included requires a tax; add --tax NAME=PERCENT")
    return {
        "title": customer.title if args.title is None else args.title,
        "terms": args.terms or customer.terms,
        "taxes": TaxTerms(taxes, args.tax_included) if taxes else customer.taxes,
        "credit_digits": args.credit_digits,
    }
