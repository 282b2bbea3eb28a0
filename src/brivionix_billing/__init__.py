"""Exact pricing and auditable billing for LLM gateways that resell tokens for prepaid Credits.

>>> from datetime import datetime, timezone
>>> from brivionix_billing import PriceBook, Usage
>>> book = PriceBook.load("pricing.yaml")
>>> usage = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)
>>> now = datetime(2026, 10, 1, tzinfo=timezone.utc)
>>> charge = book.rate(usage, model="gpt-5.4-mini", group="default", at=now)
>>> charge.credits, charge.cost("rmb")
(Decimal('0.00585'), Money('0.0049725', 'CNY'))
"""

from typing import TYPE_CHECKING, Any

from brivionix_billing.lazy_names import import_name

if TYPE_CHECKING:
    from brivionix_billing.errors import BillingError, PriceFileError
    from brivionix_billing.money import Money, Payable, Rounding
    from brivionix_billing.pricebook import PriceBook
    from brivionix_billing.rating import Charge
    from brivionix_billing.usage import Usage

__all__ = [
    "BillingError",
    "Charge",
    "Money",
    "Payable",
    "PriceBook",
    "PriceFileError",
    "Rounding",
    "Usage",
    "__version__",
]

__version__ = "0.1.0"

_MODULES = {
    "BillingError": "errors",
    "Charge": "rating",
    "Money": "money",
    "Payable": "money",
    "PriceBook": "pricebook",
    "PriceFileError": "errors",
    "Rounding": "money",
    "Usage": "usage",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that importing one module does not import them all."""
    return import_name(__name__, _MODULES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
