"""Taxes on a bill: computed from its rounded cost through the channel of payment, and rounded once per tax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import (
    Rounding,
    format_plain,
    format_scaled,
    parse_plain_decimal,
    round_quotient,
    to_scaled,
)
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.money import minor_digits
from brivionix_billing.text_checks import require_text

__all__ = ["Tax", "TaxTerms", "stated_terms", "taxes_on_payment", "taxes_section"]

_MAX_TAXES: Final = 20
_MAX_RATE: Final = 100
_MAX_RATE_PLACES: Final = 6


class Tax(NamedTuple):
    """A tax: its name, and its rate in percent."""

    name: str
    rate: Decimal

    @classmethod
    def parse(cls, text: str) -> Tax:
        """Return the tax that ``NAME=PERCENT`` states, such as ``VAT=19``.

        Raises ``invalid_argument``, and ``invalid_money`` if the rate is not a decimal.
        """
        name, separator, rate = text.rpartition("=")
        if not separator:
            raise BillingError("invalid_argument", f"the tax {safe_repr(text)} has no rate; write it as VAT=19")
        return cls(name, parse_plain_decimal(rate))


@dataclass(frozen=True, slots=True)
class TaxTerms:
    """The taxes of a bill, and whether its prices include them.

    Raises ``invalid_argument`` for a name that is not printable, for a rate that is not from 0 to 100 with at most 6
    decimal places, and for more than 20 taxes.
    """

    taxes: Sequence[Tax]
    included: bool = False

    def __post_init__(self) -> None:
        if not 0 < len(self.taxes) <= _MAX_TAXES:
            raise BillingError("invalid_argument", f"{len(self.taxes)} taxes; give 1 to {_MAX_TAXES}")
        for name, rate in self.taxes:
            require_text("the name of the tax", name)
            valid = isinstance(rate, Decimal) and rate.is_finite() and 0 <= rate <= _MAX_RATE
            if not valid or to_scaled(rate)[1] > _MAX_RATE_PLACES:
                shown = format_plain(rate) if isinstance(rate, Decimal) and rate.is_finite() else safe_repr(rate)
                raise BillingError(
                    "invalid_argument",
                    f"tax {safe_repr(name)}: the rate {shown} is invalid; use 0 to {_MAX_RATE} percent with "
                    f"at most {_MAX_RATE_PLACES} decimal places",
                )


def taxes_on_payment(
    terms: TaxTerms, bill: Mapping[str, Any], totals: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the taxes on the rounded cost of a bill, or of other totals, through the bill's channel of payment.

    Raises ``invalid_argument`` if there is no channel of payment, or it has no price for the usage.
    """
    payment, totals = bill["payment"], bill["totals"] if totals is None else totals
    costs = totals["rounded"]["channels"]
    if payment is None or (payment["channel"] not in costs and totals["credits"] != "0"):
        raise BillingError(
            "invalid_argument",
            f"taxes of account {safe_repr(bill['customer']['account'])} require a channel of payment with a price in "
            "this period; add --channel, or the channel of the customer",
        )
    return taxes_section(terms, costs.get(payment["channel"], "0"), payment["currency"])


def taxes_section(terms: TaxTerms, cost: str, currency: str) -> dict[str, Any]:
    """Return the taxes on a rounded cost in a currency.

    Each tax is computed from the cost and rounded once, half up, to the minor unit. If the prices include the taxes,
    a tax of r percent is cost x r / (100 + all rates); otherwise it is cost x r / 100.

    Raises ``invalid_money`` if the cost has more decimal places than the currency.
    """
    digits = minor_digits(currency)
    units = _scaled(Decimal(cost), digits)
    rates = [_scaled(tax.rate, _MAX_RATE_PLACES) for tax in terms.taxes]  # millionths of a percent
    whole = 100 * 10**_MAX_RATE_PLACES + (sum(rates) if terms.included else 0)
    amounts = [round_quotient(units * rate, whole, Rounding.HALF_UP) for rate in rates]
    net, gross = (units - sum(amounts), units) if terms.included else (units, units + sum(amounts))
    return {
        "currency": currency,
        "included": terms.included,
        "net": format_scaled(net, digits),
        "lines": [
            {
                "name": tax.name,
                "rate": format_plain(tax.rate),
                "base": format_scaled(net, digits),
                "amount": format_scaled(amount, digits),
            }
            for tax, amount in zip(terms.taxes, amounts, strict=True)
        ],
        "gross": format_scaled(gross, digits),
    }


def _scaled(value: Decimal, places: int) -> int:
    coefficient, own_places = to_scaled(value)
    if own_places > places:
        raise BillingError(
            "invalid_money", f"{safe_repr(value)} has too many decimal places for taxes; use at most {places}"
        )
    factor: int = 10 ** (places - own_places)
    return coefficient * factor


def stated_terms(document: Mapping[str, Any]) -> TaxTerms | None:
    """Return the terms from which the taxes of a document follow, or ``None`` if it has none."""
    taxes = document.get("taxes")
    if taxes is None:
        return None
    return TaxTerms([Tax(line["name"], Decimal(line["rate"])) for line in taxes["lines"]], taxes["included"])
