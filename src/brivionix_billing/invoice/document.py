"""What a bill says: the schema of the document, and reading it strictly.

Amounts and quantities are strings (exact decimals), times are RFC 3339 in UTC. The document is one canonical JSON text
(RFC 8785); ``hash`` is over that text without ``hash`` and ``signature``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError
from brivionix_billing.files import read_bounded

__all__ = ["MAX_MOVEMENTS", "SCHEMA", "Document", "schema_errors", "json_schema", "read_document"]

SCHEMA: Final = "brivionix-billing/invoice/1"
MAX_MOVEMENTS: Final = 1_000
"""So many movements a balance may have."""
_MAX_BYTES: Final = 256 * 1024 * 1024

ExactDecimal = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$", max_length=200)]
RoundedDecimal = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$", max_length=200)]
IntegerText = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)$", max_length=200)]
Time = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$")]
Date = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=0, lt=2**53)]
SignedCount = Annotated[int, Field(gt=-(2**53), lt=2**53)]


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Party(_StrictModel):
    """Who issues the bill: a name, a tax number and any further lines (address)."""

    name: Name
    tax_number: Name | None
    details: list[str]


class Customer(_StrictModel):
    """Who is billed."""

    account: Name
    name: str | None
    tax_number: Name | None
    details: list[str]


class Period(_StrictModel):
    """``from`` inclusive, ``to`` exclusive; ``zone`` is where their midnights were taken."""

    name: Name
    since: Time = Field(alias="from")
    to: Time
    zone: Name


class Link(_StrictModel):
    """Another document of ours."""

    id: Name
    hash: Hash


class Correction(Link):
    """The bill that a note corrects, and why."""

    reason: Annotated[str, Field(max_length=2_000)]


class Payment(_StrictModel):
    """The channel by which the customer pays for Credits."""

    channel: Name
    currency: Currency


class Movement(_StrictModel):
    """A change of the balance that is no usage: a top-up, a refund, a correction."""

    label: Name
    credits: ExactDecimal


class Balance(_StrictModel):
    """Credits: ``opening``, and all ``movements``, less the Credits of the totals is ``closing``."""

    opening: ExactDecimal
    movements: Annotated[list[Movement], Field(max_length=MAX_MOVEMENTS)]
    closing: ExactDecimal


class RoundedAmounts(_StrictModel):
    """Rounded amounts. Those of the lines add up to those of the totals, in each column."""

    credits: RoundedDecimal
    nominal: RoundedDecimal
    channels: dict[Name, RoundedDecimal]


class Line(_StrictModel):
    """One meter of one model, group, service tier and context tier at one price."""

    model: Name
    group: Name
    service_tier: Name
    context_tier: Literal["short", "long"]
    price_since: Time
    meter: Name
    quantity: IntegerText
    list_price: ExactDecimal | None
    per: Count
    ratio: ExactDecimal | None
    unit_price: ExactDecimal
    credits: ExactDecimal
    rounded: RoundedAmounts


class ChannelPricePeriod(_StrictModel):
    """Credits at one price of a channel."""

    price_per_credit: ExactDecimal
    since: Time
    credits: ExactDecimal


class ChannelTotal(_StrictModel):
    """What the Credits cost on a channel; ``price_periods`` are its prices over the period."""

    currency: Currency
    amount: ExactDecimal
    price_periods: list[ChannelPricePeriod]
    credits_without_price: ExactDecimal


class Nominal(_StrictModel):
    """Nominal quota used up."""

    currency: Currency
    amount: ExactDecimal
    per_credit: ExactDecimal


class Estimated(_StrictModel):
    """The part of the totals that stands on counts which no provider reported."""

    requests: SignedCount
    credits: ExactDecimal


class Totals(_StrictModel):
    """Exact totals, and what is shown of them."""

    requests: SignedCount
    credits: ExactDecimal
    nominal: Nominal
    channels: dict[Name, ChannelTotal]
    estimated: Estimated
    rounded: RoundedAmounts


class Day(_StrictModel):
    """What one model was used on one calendar day of the period's zone."""

    day: Date
    model: Name
    requests: SignedCount
    credits: ExactDecimal


class Savings(_StrictModel):
    """Credits: ``list`` (no cache, list price) less ``cache`` less ``group`` is what was charged."""

    list: ExactDecimal
    cache: ExactDecimal
    group: ExactDecimal


class Rounding(_StrictModel):
    """How shown amounts were made from exact ones."""

    mode: Literal["half_up"]
    parts: Literal["largest_remainder"]
    credit_digits: Count


class Request(_StrictModel):
    """A request by its id and time."""

    request_id: Name
    at: Time


class Evidence(_StrictModel):
    """What lets a stranger check the bill."""

    price_book: Hash
    price_book_before_end: Hash
    records: Count
    first: Request | None
    last: Request | None
    tree: str
    merkle_root: Hash
    duplicates: Count
    rejected: Count


class Document(_StrictModel):
    """A bill, or a note that corrects one."""

    schema_: Literal["brivionix-billing/invoice/1"] = Field(alias="schema")
    kind: Literal["invoice", "credit_note", "debit_note"]
    id: Name
    series: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    number: Annotated[int, Field(ge=1, lt=2**53)]
    issued: Time
    due: Time | None
    issuer: Party
    customer: Customer
    period: Period
    previous: Link | None
    corrects: Correction | None
    payment: Payment | None
    balance: Balance | None
    lines: list[Line]
    totals: Totals
    savings: Savings
    days: list[Day]
    rounding: Rounding
    evidence: Evidence | None
    signing_key: str | None
    hash: Hash
    signature: str | None = None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the document."""
    schema = Document.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "brivionix-billing invoice"}


def schema_errors(data: Any) -> list[tuple[str, str]]:
    """(path, what is wrong) for every place where ``data`` is not such a document."""
    try:
        Document.model_validate(data)
    except ValidationError as error:
        return [
            ("".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in detail["loc"]).lstrip("."), detail["msg"])
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    return []


def read_document(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ``file_unreadable``, or ``invalid_document`` for what is no JSON object.

    It is not checked against the schema here: ``verify`` tells every fault at once.
    """
    data = loads_strict(read_bounded(path, _MAX_BYTES), str(path))
    if not isinstance(data, dict) or data.get("schema") is None:
        raise BillingError("invalid_document", f"{path}: not an invoice document; it has no 'schema'")
    return data
