"""HTML pages: the pricing page, and bills, account statements and top-up receipts as pages and PDF.

PDF requires the extra ``brivionix-billing[pdf]``.
"""

from brivionix_billing.pages.account_pages import Party, receipt_page, statement_page
from brivionix_billing.pages.bill_page import bill_page, printed_bill
from brivionix_billing.pages.branding import Branding, load_image
from brivionix_billing.pages.pdf import render_pdf
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.pricing_component import pricing_component
from brivionix_billing.pages.pricing_page import pricing_page
from brivionix_billing.pages.render import HtmlPage
from brivionix_billing.pages.stylesheet import load_stylesheet

__all__ = [
    "Branding",
    "HtmlPage",
    "Party",
    "bill_page",
    "load_image",
    "load_stylesheet",
    "render_pdf",
    "price_list",
    "printed_bill",
    "pricing_component",
    "pricing_page",
    "receipt_page",
    "statement_page",
]
