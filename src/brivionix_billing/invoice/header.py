"""What stands on a bill beside its figures: the parties, the place in the series, how Credits are paid, the balance."""

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
from brivionix_billing.invoice.document import MAX_MOVEMENTS, SCHEMA
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import Period, as_utc, format_instant

__all__ = [
    "Amount",
    "Balance",
    "Header",
    "Movement",
    "document_id",
    "document_header",
    "payment_section",
]

Amount = Decimal | int | str
_SERIES: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_MAX_CREDITS: Final = 10**30
_PLACES: Final = 18
"""As fine as Credits are charged."""


class Movement(NamedTuple):
    """A change of a balance that is no usage: a top-up, a refund, a correction. Credits; negative where they go."""

    label: str
    credits: Decimal


@dataclass(frozen=True, slots=True, init=False)
class Balance:
    """The Credits of an account at the begin and at the end of a period, and what moved them beside the usage.

    Amounts are exact: text, whole numbers or ``Decimal``, below 10^30 and with 18 digits behind the point at the most.
    Raises ``invalid_money`` for other amounts, ``invalid_argument`` for more than 1000 movements or a label that is not
    1 to 256 printable characters.

    >>> balance = Balance("100", [("Top-up 2026-10-03", 50)], "129.8")
    >>> balance.closing_after(Decimal("20.2"))
    Decimal('129.8')
    """

    opening: Decimal
    movements: tuple[Movement, ...]
    closing: Decimal

    def __init__(self, opening: Amount, movements: Iterable[tuple[str, Amount]], closing: Amount) -> None:
        taken = list(islice(movements, MAX_MOVEMENTS + 1))
        if len(taken) > MAX_MOVEMENTS:
            raise BillingError(
                "invalid_argument",
                f"a balance of more than {MAX_MOVEMENTS} movements is no overview; sum some of them up",
            )
        found = []
        for index, movement in enumerate(taken):
            if not isinstance(movement, tuple) or len(movement) != 2:
                raise BillingError(
                    "invalid_argument", f"movements[{index}] {safe_repr(movement)} is not (label, Credits)"
                )
            label, credits = movement
            require_text(f"the label of movements[{index}]", label)
            found.append(Movement(label, _amount(credits, f"movements[{index}].credits")))
        put = object.__setattr__
        put(self, "opening", _amount(opening, "opening"))
        put(self, "movements", tuple(found))
        put(self, "closing", _amount(closing, "closing"))

    def closing_after(self, used: Decimal) -> Decimal:
        """What is left when so many Credits were used: opening, and all movements, less ``used``."""
        return sum_exact([self.opening, *(movement.credits for movement in self.movements), used.copy_negate()])

    def reconcile(self, account: str, used: Decimal) -> dict[str, Any]:
        """As it stands in a bill over ``used`` Credits. Raises ``invalid_argument`` where that is not what is left."""
        left = self.closing_after(used)
        difference = sum_exact([self.closing, left.copy_negate()])
        if difference:
            moved = sum_exact(movement.credits for movement in self.movements)
            raise BillingError(
                "invalid_argument",
                f"the balance of account {safe_repr(account)} does not come out: opening {format_plain(self.opening)} "
                f"+ movements {format_plain(moved)} - used {format_plain(used)} = {format_plain(left)} Credits, "
                "but closing is given as "
                f"{format_plain(self.closing)}, a difference of {format_plain(difference)}; give the missing "
                "top-ups, refunds or "
                "corrections as movements",
            )
        return self.as_dict()

    def as_dict(self) -> dict[str, Any]:
        """As it stands in a bill."""
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
            f"{what} of a balance: {safe_repr(value)} is not exact Credits such as 129.8; give it as text",
        )
    try:
        sound = (
            abs(to_scaled(amount)[0]) < _MAX_CREDITS * 10 ** to_scaled(amount)[1] and decimal_places(amount) <= _PLACES
        )
    except BillingError:
        sound = False  # beyond anything that is an amount
    if not sound:
        raise BillingError(
            "invalid_money",
            f"{what} of a balance: {safe_repr(value)} is beyond any balance; write Credits below 10^30, with {_PLACES} "
            "digits behind the point at the most",
        )
    return amount


@dataclass(frozen=True, slots=True)
class Header:
    """What stands on a bill beside its figures. All dates are given; nothing here reads a clock."""

    account: str
    period: Period
    period_name: str
    issued: datetime
    series: str = "INV"
    number: int = 1
    previous: Mapping[str, Any] | None = None
    """The document before this one in its series; its number is one less."""
    issuer: str = "Example issuer"
    issuer_details: Sequence[str] = ()
    customer: str | None = None
    customer_details: Sequence[str] = ()
    due: datetime | None = None
    signing_key: str | None = None
    issuer_tax_number: str | None = None
    customer_tax_number: str | None = None
    channel: str | None = None
    """The channel by which this customer pays for Credits."""
    balance: Balance | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.series, str) or not _SERIES.fullmatch(self.series):
            # It becomes the name of a folder.
            raise BillingError(
                "invalid_argument", f"the series {safe_repr(self.series)} is not 1 to 64 of A-Z a-z 0-9 . _ -"
            )
        texts = [("issuer", self.issuer), ("account", self.account)]
        texts += [("detail", detail) for detail in (*self.issuer_details, *self.customer_details)]
        maybe = [("customer", self.customer), ("channel", self.channel)]
        maybe += [("tax number", number) for number in (self.issuer_tax_number, self.customer_tax_number)]
        for what, text in [*texts, *(pair for pair in maybe if pair[1] is not None)]:
            require_text(f"the {what}", text)
        if self.balance is not None and not isinstance(self.balance, Balance):
            raise BillingError("invalid_argument", f"the balance {safe_repr(self.balance)} is not a Balance")
        for when in (self.issued, self.due):
            if when is not None:
                as_utc(when)
        if type(self.number) is not int or self.number < 1:
            raise BillingError("invalid_argument", f"number {safe_repr(self.number)}: documents are numbered from 1")
        if self.previous is None:
            if self.number != 1:
                raise BillingError("series_broken", f"number {self.number} needs the document before it in its series")
        elif (self.previous.get("series"), self.previous.get("number")) != (self.series, self.number - 1):
            raise BillingError(
                "series_broken",
                f"{safe_repr(self.previous.get('id'))} does not come right before "
                f"{document_id(self.series, self.number)}",
            )


def document_id(series: str, number: int) -> str:
    """The id of a document: its series and its number in it."""
    return f"{series}-{number:06d}"


def document_header(header: Header, kind: str, corrects: Mapping[str, Any] | None) -> dict[str, Any]:
    """The part of a document that is not computed."""
    previous = header.previous
    return {
        "schema": SCHEMA,
        "kind": kind,
        "id": document_id(header.series, header.number),
        "series": header.series,
        "number": header.number,
        "issued": format_instant(header.issued),
        "due": None if header.due is None else format_instant(header.due),
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
    """The channel by which a customer pays, as a bill tells it. Raises ``unknown_channel``."""
    found = book.channel(channel)
    return {"channel": found.name, "currency": found.currency}
