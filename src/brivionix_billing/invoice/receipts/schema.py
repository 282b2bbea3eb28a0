"""The schema of a receipt. docs/receipts.md describes the format for other implementations.

A receipt has no JSON numbers: quantities and amounts are strings. An optional field is absent, never null, so that
equal charges have equal bytes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from brivionix_billing.times import format_instant, parse_instant

__all__ = ["MAX_RECEIPT_BYTES", "SCHEMA", "Receipt", "json_schema", "schema_error"]

SCHEMA: Final = "brivionix-billing/receipt/1"
MAX_RECEIPT_BYTES: Final = 1_999
"""Maximum size of a receipt, in bytes."""
_MAX_DIGITS: Final = 200
"""Maximum length of an amount or a count, in characters."""


def _require_canonical_time(text: str) -> str:
    if format_instant(parse_instant(text)) != text:
        raise ValueError("not in canonical form")
    return text


def _require_rising(names: list[str]) -> list[str]:
    if any(first >= second for first, second in pairwise(names)):
        raise ValueError("meters must be in rising order, each once")
    return names


def _require_rising_lines(lines: list[Line]) -> list[Line]:
    _require_rising([line[0] for line in lines])
    return lines


Amount = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)(\.[0-9]*[1-9])?$", max_length=_MAX_DIGITS)]
PositiveAmount = Annotated[
    str, Field(pattern=r"^([1-9][0-9]*(\.[0-9]*[1-9])?|0\.[0-9]*[1-9])$", max_length=_MAX_DIGITS)
]
SignedAmount = Annotated[str, Field(pattern=r"^(0|-?([1-9][0-9]*(\.[0-9]*[1-9])?|0\.[0-9]*[1-9]))$")]
Count = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]*)$", max_length=_MAX_DIGITS)]
PositiveCount = Annotated[str, Field(pattern=r"^[1-9][0-9]*$", max_length=_MAX_DIGITS)]
Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$"),
    AfterValidator(_require_canonical_time),
]
Hash = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Name = Annotated[str, Field(min_length=1)]
MeterName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Line = tuple[MeterName, PositiveAmount, PositiveCount, Amount, Amount | None, Amount | None]
"""Meter, quantity, ``per``, unit price, list price, ratio: see ``ChargeLine``."""
_ABSENT: Final[Any] = None
"""The default of an optional field. Null itself is not allowed."""


class _StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Context(_StrictModel):
    """The input tokens, cached ones included, and the bounds of the context tier that they selected."""

    input_tokens: Count
    over: Count = _ABSENT
    since: Count = Field(default=_ABSENT, alias="from")
    up_to: Count = _ABSENT
    under: Count = _ABSENT


class ReceiptCharge(_StrictModel):
    """What one model cost: the charge, or one of its parts."""

    model: Name
    service_tier: Name
    router: Name = _ABSENT
    region: Name = _ABSENT
    mode: Name = _ABSENT
    window: Name = _ABSENT
    context: Context = _ABSENT
    list_currency: Currency = _ABSENT
    exchange_rate: Amount = _ABSENT
    nominal_meters: Annotated[list[MeterName], AfterValidator(_require_rising)] = _ABSENT
    minimum: Amount = _ABSENT
    price_since: Time
    group_since: Time
    lines: Annotated[list[Line], AfterValidator(_require_rising_lines)]


class UnaccountedReference(_StrictModel):
    """Stands for a list of unaccounted numbers that would make the receipt too large."""

    numbers: PositiveCount
    hash: Hash


class Receipt(_StrictModel):
    """A signed document for one charge."""

    schema_: Literal["brivionix-billing/receipt/1"] = Field(alias="schema")
    request_id: Name
    account: Name = _ABSENT
    at: Time
    group: Name
    currency: Currency
    nominal_per_credit: Amount
    charges: Annotated[list[ReceiptCharge], Field(min_length=1)]
    credits: Amount
    estimated: bool
    unaccounted: Annotated[list[tuple[Name, SignedAmount]], Field(min_length=1)] | UnaccountedReference = _ABSENT
    price_book: Hash
    signing_key: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    hash: Hash
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{85}[AQgw]==$")]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a receipt. It cannot express every rule: docs/receipts.md has the others."""
    schema = Receipt.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        for field in definition["properties"].values():
            field.pop("default", None)  # a field that is absent has no value
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "brivionix-billing receipt"}


def schema_error(content: bytes) -> tuple[str, str] | None:
    """Check the bytes of a receipt against the schema. Returns the (path, message) of a violation, or ``None``."""
    try:
        Receipt.model_validate_json(content)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in detail["loc"]).lstrip(".")
        return place or "receipt", f"violates the schema: {detail['msg']}"
    return None
