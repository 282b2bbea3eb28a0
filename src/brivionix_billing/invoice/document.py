"""The schema of the bill document, and a strict reader.

Amounts and quantities are strings with exact decimals. Times are RFC 3339 in UTC. The document is one canonical JSON
text (RFC 8785). ``hash`` is computed over that text without ``hash`` and ``signature``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.file_kinds import DOCUMENT, describe_kind
from brivionix_billing.files import read_bounded

__all__ = ["MAX_MOVEMENTS", "SCHEMA", "Document", "schema_errors", "json_schema", "read_document", "rounded_costs"]

SCHEMA: Final = "brivionix-billing/invoice/1"
MAX_MOVEMENTS: Final = 1_000
"""Maximum number of movements of a balance."""
_MAX_BYTES: Final = 256 * 1024 * 1024

ExactDecimal = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$", max_length=200)]
RoundedDecimal = Annotated[str, Field(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$", max_length=200)]
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
    """The issuer of the bill: a name, a tax number and further lines such as the address."""

    name: Name
    tax_number: Name | None
    details: list[str]


class Customer(_StrictModel):
    """The customer who is billed."""

    account: Name
    name: str | None
    tax_number: Name | None
    details: list[str]


class Period(_StrictModel):
    """The billed period: ``from`` inclusive, ``to`` exclusive. Both are midnights in ``zone``."""

    name: Name
    since: Time = Field(alias="from")
    to: Time
    zone: Name


class Link(_StrictModel):
    """A reference to another document."""

    id: Name
    hash: Hash


class Correction(Link):
    """The bill that a note corrects, and the reason.

    ``after`` is the document of the change before it, absent for the first change of a bill. ``voids`` is the note
    whose changes this note reverses.
    """

    reason: Annotated[str, Field(max_length=2_000)]
    after: Link | None = None
    voids: Link | None = None


class Payment(_StrictModel):
    """The channel through which the customer pays for Credits."""

    channel: Name
    currency: Currency


class Movement(_StrictModel):
    """A change of the balance other than usage: a top-up, a refund or a correction."""

    label: Name
    credits: ExactDecimal


class Balance(_StrictModel):
    """The balance in Credits: ``closing`` is ``opening`` plus all ``movements`` minus the Credits of the totals."""

    opening: ExactDecimal
    movements: Annotated[list[Movement], Field(max_length=MAX_MOVEMENTS)]
    closing: ExactDecimal


class RoundedAmounts(_StrictModel):
    """Rounded amounts. Those of the lines add up to those of the totals, column by column."""

    credits: RoundedDecimal
    nominal: RoundedDecimal
    channels: dict[Name, RoundedDecimal]


class Line(_StrictModel):
    """The usage of one meter of one model, group, service tier and context tier at one price.

    ``router``, ``region``, ``mode`` and ``window`` name why a price differs from the usual one. ``list_price`` is in
    ``list_currency``, which was worth ``exchange_rate`` of the nominal currency; without them it is in that currency.
    """

    model: Name
    group: Name
    service_tier: Name
    context_tier: Annotated[str, Field(pattern=r"^(short|long|>=?[0-9]+)$")]
    router: Name | None = None
    region: Name | None = None
    mode: Name | None = None
    window: Name | None = None
    list_currency: Currency | None = None
    exchange_rate: ExactDecimal | None = None
    price_since: Time
    meter: Name
    quantity: ExactDecimal
    list_price: ExactDecimal | None
    per: Count
    ratio: ExactDecimal | None
    unit_price: ExactDecimal
    credits: ExactDecimal
    rounded: RoundedAmounts


class ChannelPricePeriod(_StrictModel):
    """The Credits used at one price of a channel."""

    price_per_credit: ExactDecimal
    since: Time
    credits: ExactDecimal


class ChannelTotal(_StrictModel):
    """The cost of the Credits on a channel. ``price_periods`` are its prices over the period."""

    currency: Currency
    amount: ExactDecimal
    price_periods: list[ChannelPricePeriod]
    credits_without_price: ExactDecimal


class Nominal(_StrictModel):
    """The nominal quota that was used."""

    currency: Currency
    amount: ExactDecimal
    per_credit: ExactDecimal


class Estimated(_StrictModel):
    """The part of the totals whose counts are estimates, because no provider reported them."""

    requests: SignedCount
    credits: ExactDecimal


class Totals(_StrictModel):
    """The totals, exact and rounded."""

    requests: SignedCount
    credits: ExactDecimal
    nominal: Nominal
    channels: dict[Name, ChannelTotal]
    estimated: Estimated
    rounded: RoundedAmounts


class Day(_StrictModel):
    """The usage of one model on one calendar day in the zone of the period."""

    day: Date
    model: Name
    requests: SignedCount
    credits: ExactDecimal


class Savings(_StrictModel):
    """Savings in Credits: ``list`` (list price, no cache) minus ``cache`` minus ``group`` is the charge."""

    list: ExactDecimal
    cache: ExactDecimal
    group: ExactDecimal


class Rounding(_StrictModel):
    """The rules by which rounded amounts follow from exact ones."""

    mode: Literal["half_up"]
    parts: Literal["largest_remainder"]
    credit_digits: Count


class Section(_StrictModel):
    """The usage with one value of the property by which the bill is split. An empty name: requests without one."""

    name: Annotated[str, Field(max_length=256)]
    requests: SignedCount
    credits: ExactDecimal
    rounded: RoundedAmounts


class Sections(_StrictModel):
    """The usage split by a property of the records. The sections add up to the totals, both exact and rounded."""

    by: Name
    parts: list[Section]


class TaxLine(_StrictModel):
    """One tax on the bill: ``rate`` percent of ``base``, rounded half up to the minor unit."""

    name: Name
    rate: ExactDecimal
    base: RoundedDecimal
    amount: RoundedDecimal


class Taxes(_StrictModel):
    """The taxes in the currency of payment. ``net`` plus all amounts is ``gross``.

    With ``included``, the cost of the bill is ``gross``, otherwise it is ``net``.
    """

    currency: Currency
    included: bool
    net: RoundedDecimal
    lines: list[TaxLine]
    gross: RoundedDecimal


class Request(_StrictModel):
    """A request, named by its id and time."""

    request_id: Name
    at: Time


class UnaccountedNumbers(_StrictModel):
    """Numbers of usage objects that are on no meter, and that nothing was charged for."""

    path: str
    numbers: Count
    total: ExactDecimal


class Evidence(_StrictModel):
    """The evidence that allows anyone with the usage file and the price file to verify the bill."""

    price_book: Hash
    prices: Hash
    records: Count
    first: Request | None
    last: Request | None
    tree: str
    merkle_root: Hash
    duplicates: Count
    rejected: Count
    unaccounted: list[UnaccountedNumbers] | None = None


class TotalsInEffect(_StrictModel):
    """The totals of a bill after all its notes, the present one included."""

    requests: SignedCount
    credits: ExactDecimal
    rounded: RoundedAmounts
    taxes: Taxes | None = None


class LateUsage(_StrictModel):
    """Usage of an earlier period that arrived after its bill: the change of that bill, and its evidence."""

    corrects: Correction
    period: Period
    lines: list[Line]
    totals: Totals
    savings: Savings
    days: list[Day]
    evidence: Evidence


LabelKind = Literal["models", "groups", "channels", "service_tiers", "regions", "modes", "windows", "meters"]
Language = Literal["en", "zh_CN", ""]
LabelText = Annotated[str, Field(max_length=4_100)]
"""A vendor and a display name, of 2000 characters each."""


class Document(_StrictModel):
    """A bill, or a note that corrects a bill."""

    schema_: Literal["brivionix-billing/invoice/1"] = Field(alias="schema")
    kind: Literal["invoice", "credit_note", "debit_note"]
    id: Name
    series: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    number: Annotated[int, Field(ge=1, lt=2**53)]
    title: Name | None = None
    issued: Time
    due: Time | None
    terms: list[Name] | None = None
    issuer: Party
    customer: Customer
    period: Period
    previous: Link | None
    corrects: Correction | None
    payment: Payment | None
    balance: Balance | None
    lines: list[Line]
    totals: Totals
    taxes: Taxes | None = None
    savings: Savings
    days: list[Day]
    sections: Sections | None = None
    late: Annotated[list[LateUsage], Field(min_length=1)] | None = None
    in_effect: TotalsInEffect | None = None
    labels: dict[LabelKind, dict[Name, dict[Language, LabelText]]] | None = None
    rounding: Rounding
    evidence: Evidence | None
    signing_key: str | None
    hash: Hash
    signature: str | None = None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the document."""
    schema = Document.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "brivionix-billing invoice"}


def schema_errors(data: Any) -> list[tuple[str, str]]:
    """Return (path, message) for every place where ``data`` violates the schema."""
    try:
        Document.model_validate(data)
    except ValidationError as error:
        return [
            ("".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in detail["loc"]).lstrip("."), detail["msg"])
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    return []


def rounded_costs(document: Mapping[str, Any], rounded: Mapping[str, Any]) -> dict[str, str]:
    """Return the rounded cost through each channel of the document, of a line or of the whole.

    Raises ``invalid_document`` if there is none of a channel, which the schema cannot express.
    """
    try:
        return {name: rounded["channels"][name] for name in document["totals"]["channels"]}
    except KeyError as error:
        raise BillingError(
            "invalid_document",
            f"{safe_repr(document['id'])}: an amount has no cost through channel {safe_repr(error.args[0])}; use the "
            "document as it was issued",
        ) from None


def read_document(path: str | Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    It is not checked against the schema, because ``verify`` reports all violations at once. Raises ``file_unreadable``,
    and ``invalid_document`` if the file does not contain a JSON object with a ``schema``.
    """
    content = read_bounded(path, _MAX_BYTES)
    kind = describe_kind(content)
    if kind not in (None, DOCUMENT):
        raise BillingError("invalid_document", f"{path}: not a bill, but {kind}; use an invoice.json")
    data = loads_strict(content, str(path))
    if not isinstance(data, dict) or data.get("schema") is None:
        raise BillingError("invalid_document", f"{path}: not a bill, because it has no 'schema'; use an invoice.json")
    return data
