"""The header of a bill: the parties, the number in the series, the payment channel and the balance."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import decimal_places, format_plain, parse_decimal, sum_exact, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.dimensions import require_section_dimension
from brivionix_billing.invoice.document import MAX_MOVEMENTS, SCHEMA
from brivionix_billing.invoice.taxes import TaxTerms
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import Period, as_utc, format_instant

__all__ = [
    "CREDIT_DIGITS",
    "Amount",
    "Balance",
    "Header",
    "Movement",
    "document_id",
    "document_header",
    "payment_section",
]

Amount = Decimal | int | str
CREDIT_DIGITS: Final = 6
"""Default decimal places of rounded Credits."""
_SERIES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_CREDITS: Final = 10**30
_MAX_CREDIT_PLACES: Final = 18
"""Maximum decimal places of Credits, as in charges."""


class Movement(NamedTuple):
    """A change of a balance other than usage: a top-up, a refund or a correction."""

    label: str
    credits: Decimal
    """Negative if the balance decreases."""


@dataclass(frozen=True, slots=True, init=False)
class Balance:
    """The Credits of an account at the start and at the end of a period, and the movements other than usage.

    Amounts are text, whole numbers or ``Decimal``, below 10^30 and with at most 18 decimal places. Raises
    ``invalid_money`` for other amounts. Raises ``invalid_argument`` for more than 1000 movements, and for a label that
    is not 1 to 256 printable characters.

    >>> balance = Balance("100", [("Top-up 2026-10-03", 50)], "129.8")
    >>> balance.closing_after(Decimal("20.2"))
    Decimal('129.8')
    """

    opening: Decimal
    movements: tuple[Movement, ...]
    closing: Decimal

    def __init__(self, opening: Amount, movements: Iterable[tuple[str, Amount]], closing: Amount) -> None:
        given = list(islice(movements, MAX_MOVEMENTS + 1))
        if len(given) > MAX_MOVEMENTS:
            raise BillingError(
                "invalid_argument", f"a balance has at most {MAX_MOVEMENTS} movements; combine some of them"
            )
        checked = []
        for index, movement in enumerate(given):
            if not isinstance(movement, tuple) or len(movement) != 2:
                raise BillingError(
                    "invalid_argument",
                    f"movements[{index}] {safe_repr(movement)} is not a movement; use (label, Credits)",
                )
            label, credits = movement
            require_text(f"the label of movements[{index}]", label)
            checked.append(Movement(label, _amount(credits, f"movements[{index}].credits")))
        put = object.__setattr__
        put(self, "opening", _amount(opening, "opening"))
        put(self, "movements", tuple(checked))
        put(self, "closing", _amount(closing, "closing"))

    def closing_after(self, used: Decimal) -> Decimal:
        """Return the closing balance after this usage: opening plus all movements minus ``used``."""
        return sum_exact([self.opening, *(movement.credits for movement in self.movements), used.copy_negate()])

    def reconcile(self, account: str, used: Decimal) -> dict[str, Any]:
        """Return the section of a bill over ``used`` Credits.

        Raises ``invalid_argument`` if the closing balance does not match.
        """
        closing = self.closing_after(used)
        difference = sum_exact([self.closing, closing.copy_negate()])
        if difference:
            moved = sum_exact(movement.credits for movement in self.movements)
            raise BillingError(
                "invalid_argument",
                f"the balance of account {safe_repr(account)} does not reconcile: opening "
                f"{format_plain(self.opening)} + movements {format_plain(moved)} - used {format_plain(used)} = "
                f"{format_plain(closing)} Credits, but closing is {format_plain(self.closing)}, a difference of "
                f"{format_plain(difference)}; add the missing top-ups, refunds or corrections as movements",
            )
        return self.as_dict()

    def reconcile_late(self, account: str, used: str, late: str) -> dict[str, Any]:
        """Return the section of a bill over ``used`` Credits, of which ``late`` are late usage of earlier periods.

        If the late usage is in the opening balance already, the section states the opening balance before it.
        Raises ``invalid_argument`` if the closing balance does not match.
        """
        opening = sum_exact([self.opening, Decimal(late)])
        before = Balance(opening, self.movements, self.closing)
        fits = before.closing_after(Decimal(used)) == self.closing
        return (before if fits else self).reconcile(account, Decimal(used))

    def as_dict(self) -> dict[str, Any]:
        """Return the section of a bill."""
        return {
            "opening": format_plain(self.opening),
            "movements": [{"label": label, "credits": format_plain(credits)} for label, credits in self.movements],
            "closing": format_plain(self.closing),
        }


def _amount(value: object, what: str) -> Decimal:
    if isinstance(value, str):
        try:
            amount = parse_decimal(value)
        except BillingError as error:
            raise BillingError(error.code, f"{what} of a balance: {error.message}") from None
    elif type(value) is int and abs(value) < _MAX_CREDITS:
        amount = Decimal(value)
    elif isinstance(value, Decimal) and value.is_finite():
        amount = value
    else:
        raise BillingError(
            "invalid_money",
            f"{what} of a balance: {safe_repr(value)} is not an exact amount; write Credits as text, such as '129.8'",
        )
    try:
        unscaled, places = to_scaled(amount)
        valid = abs(unscaled) < _MAX_CREDITS * 10**places and decimal_places(amount) <= _MAX_CREDIT_PLACES
    except BillingError:
        valid = False  # the exponent is out of range
    if not valid:
        raise BillingError(
            "invalid_money",
            f"{what} of a balance: {safe_repr(value)} is out of range; use Credits below 10^30 with at most "
            f"{_MAX_CREDIT_PLACES} decimal places",
        )
    return amount


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a bill. The caller gives all dates, because this module reads no clock."""

    account: str
    period: Period
    period_name: str
    issued: datetime
    series: str = "INV"
    number: int = 1
    previous: Mapping[str, Any] | None = None
    """The previous document in the series; its number is one less."""
    issuer: str = "Example issuer"
    issuer_details: Sequence[str] = ()
    customer: str | None = None
    customer_details: Sequence[str] = ()
    due: datetime | None = None
    signing_key: str | None = None
    issuer_tax_number: str | None = None
    customer_tax_number: str | None = None
    channel: str | None = None
    """The channel through which this customer pays for Credits."""
    balance: Balance | None = None
    split: str | None = None
    """The dimension by which the bill is split into sections, such as ``project``."""
    title: str | None = None
    """The heading of the bill, such as ``Invoice``. By default the pages choose one by its content."""
    terms: Sequence[str] = ()
    """Paragraphs with the terms of payment."""
    taxes: TaxTerms | None = None
    """Taxes on the cost through ``channel``."""
    credit_digits: int = CREDIT_DIGITS
    """Decimal places of rounded Credits, 0 to 18."""

    def __post_init__(self) -> None:
        if not isinstance(self.series, str) or not _SERIES.fullmatch(self.series):
            # The series becomes the name of a folder.
            raise BillingError(
                "invalid_argument", f"the series {safe_repr(self.series)} is invalid; use 1 to 64 of A-Z a-z 0-9 . _ -"
            )
        texts = [("issuer", self.issuer), ("account", self.account)]
        texts += [("payment term", term) for term in self.terms]
        texts += [("detail", detail) for detail in (*self.issuer_details, *self.customer_details)]
        optional = [("customer", self.customer), ("channel", self.channel), ("title", self.title)]
        optional += [("tax number", number) for number in (self.issuer_tax_number, self.customer_tax_number)]
        for what, text in [*texts, *(pair for pair in optional if pair[1] is not None)]:
            require_text(f"the {what}", text)
        if self.balance is not None and not isinstance(self.balance, Balance):
            raise BillingError(
                "invalid_argument", f"the balance {safe_repr(self.balance)} has the wrong type; use a Balance"
            )
        if type(self.credit_digits) is not int or not 0 <= self.credit_digits <= _MAX_CREDIT_PLACES:
            raise BillingError(
                "invalid_argument",
                f"credit_digits is {safe_repr(self.credit_digits)}; use 0 to {_MAX_CREDIT_PLACES} decimal places",
            )
        if self.split is not None:
            require_section_dimension(self.split)
        for instant in (self.issued, self.due):
            if instant is not None:
                as_utc(instant)
        if type(self.number) is not int or self.number < 1:
            raise BillingError(
                "invalid_argument", f"the number {safe_repr(self.number)} is invalid; documents are numbered from 1"
            )
        if self.previous is None:
            if self.number != 1:
                raise BillingError(
                    "series_broken", f"number {self.number} requires the previous document of its series"
                )
        elif (self.previous.get("series"), self.previous.get("number")) != (self.series, self.number - 1):
            raise BillingError(
                "series_broken",
                f"{safe_repr(self.previous.get('id'))} is not the previous document of "
                f"{document_id(self.series, self.number)}",
            )


def document_id(series: str, number: int) -> str:
    """Return the id of a document from its series and its number in it."""
    return f"{series}-{number:06d}"


def document_header(header: Header, kind: str, corrects: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the part of a document that is not computed."""
    previous = header.previous
    return {
        "schema": SCHEMA,
        "kind": kind,
        "id": document_id(header.series, header.number),
        "series": header.series,
        "number": header.number,
        **({} if header.title is None else {"title": header.title}),
        "issued": format_instant(header.issued),
        "due": None if header.due is None else format_instant(header.due),
        **({"terms": list(header.terms)} if header.terms else {}),
        "issuer": {
            "name": header.issuer,
            "tax_number": header.issuer_tax_number,
            "details": list(header.issuer_details),
        },
        "customer": {
            "account": header.account,
            "name": header.customer,
            "tax_number": header.customer_tax_number,
            "details": list(header.customer_details),
        },
        "period": {
            "name": header.period_name,
            "from": format_instant(header.period.start),
            "to": format_instant(header.period.end),
            "zone": header.period.zone,
        },
        "previous": None if previous is None else {"id": previous["id"], "hash": previous["hash"]},
        "corrects": None if corrects is None else dict(corrects),
    }


def payment_section(channel: str, book: PriceBook) -> dict[str, str]:
    """Return the section of a bill about the channel of payment. Raises ``unknown_channel``."""
    known = book.channel(channel)
    return {"channel": known.name, "currency": known.currency}
