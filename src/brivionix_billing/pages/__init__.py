"""Pages for people: the pricing page, and bills as one would send them.

They need the extra ``brivionix-billing[pages]``, a bill as PDF ``brivionix-billing[pdf]``.
"""

from brivionix_billing.pages.bill_page import bill_page
from brivionix_billing.pages.pdf import pdf
from brivionix_billing.pages.price_list import price_list
from brivionix_billing.pages.pricing_page import pricing_page
from brivionix_billing.pages.render import Page, own_style

__all__ = ["Page", "bill_page", "own_style", "pdf", "price_list", "pricing_page"]
