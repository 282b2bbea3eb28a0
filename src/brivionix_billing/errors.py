"""Every failure of this library is a :class:`BillingError` with a stable code.

The codes, their HTTP status and their meaning stand in one table, :data:`CODES`; ``docs/errors.md`` lists the same
table and a test holds the two together.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final, NamedTuple

__all__ = ["CODES", "BillingError", "ErrorCode", "Finding", "PriceFileError", "safe_repr"]


class ErrorCode(NamedTuple):
    """What a code means and what a gateway answers with it (``None``: nothing that a gateway's client caused)."""

    http_status: int | None
    meaning: str


CODES: Final[dict[str, ErrorCode]] = {
    # Prices
    "invalid_price_file": ErrorCode(None, "the price file is not sound; `.findings` lists every place"),
    "price_not_exact": ErrorCode(None, "a price times a ratio is finer than the smallest unit, 10^-18 Credit"),
    # Requests
    "unknown_model": ErrorCode(404, "the price file has no such model, alias or dated snapshot"),
    "unknown_group": ErrorCode(403, "the price file has no such group at that time"),
    "model_not_allowed": ErrorCode(403, "the group may not use this model at that time"),
    "unknown_service_tier": ErrorCode(400, "not one of standard, batch, flex, priority (or default, auto, fast)"),
    "service_tier_unavailable": ErrorCode(400, "the model is not sold in this service tier at that time"),
    "no_price": ErrorCode(400, "the model has no price at that time"),
    "meter_unpriced": ErrorCode(500, "the usage has a kind of token or call that the model has no price for"),
    "unknown_channel": ErrorCode(400, "the price file has no such payment channel, or no price of it at that time"),
    "invalid_time": ErrorCode(400, "a time without a zone, or not a time"),
    # Usage
    "invalid_usage": ErrorCode(502, "a count is not a whole number from 0 to 10^12"),
    "usage_contradiction": ErrorCode(502, "counts that contradict each other"),
    "unknown_usage_key": ErrorCode(502, "a count that is not known and not zero: nobody can say what it costs"),
    "unknown_usage_format": ErrorCode(502, "not a usage object of a known shape"),
    # Token counting
    "invalid_request": ErrorCode(400, "not a request body of chat completions, Responses or embeddings"),
    "request_too_large": ErrorCode(413, "more text than the token counter was told to count at once"),
    "cost_unbounded": ErrorCode(400, "nothing says how much a request can cost at the most"),
    "unknown_encoding": ErrorCode(None, "tiktoken has no encoding of this name"),
    "encoding_unavailable": ErrorCode(None, "the vocabulary of an encoding cannot be read or fetched"),
    "unknown_token_family": ErrorCode(None, "there is no token family of this name"),
    # Money
    "invalid_money": ErrorCode(400, "not an exact decimal amount"),
    "unknown_currency": ErrorCode(400, "not an ISO 4217 currency code"),
    "currency_mismatch": ErrorCode(400, "amounts of different currencies"),
    "amount_out_of_range": ErrorCode(400, "a top-up below the smallest or above the largest amount of its channel"),
    # The ledger
    "unknown_account": ErrorCode(404, "there is no such account"),
    "account_exists": ErrorCode(409, "another operation opened this account"),
    "malformed_authorization": ErrorCode(401, "no `Authorization: Bearer TOKEN` header"),
    "unknown_token": ErrorCode(401, "there is no such API token"),
    "token_disabled": ErrorCode(401, "the API token is disabled"),
    "token_expired": ErrorCode(401, "the API token has expired"),
    "token_exhausted": ErrorCode(401, "the API token has spent its limit"),
    "token_limit": ErrorCode(402, "the request may cost more than is left of the token's limit"),
    "insufficient_credits": ErrorCode(402, "the request may cost more than the account has"),
    "unknown_hold": ErrorCode(404, "there is no such hold"),
    "hold_resolved": ErrorCode(409, "the hold was settled, released or has expired before"),
    "unknown_lot": ErrorCode(404, "the account has no such lot"),
    "unknown_payment": ErrorCode(404, "the payment was not credited, or not yet"),
    "payment_already_credited": ErrorCode(409, "another operation has credited this payment"),
    "not_refundable": ErrorCode(409, "more than is unused of a lot, or Credits that nobody paid for"),
    "not_reversible": ErrorCode(409, "no refund or dispute, or one that was undone before"),
    "operation_conflict": ErrorCode(409, "the same operation id with other content"),
    "ledger_unavailable": ErrorCode(503, "the ledger's database failed, or was busy for too long"),
    "ledger_version": ErrorCode(None, "the ledger's tables are of another version of this library"),
    "journal_broken": ErrorCode(None, "an entry of the journal was changed, or does not follow from those before"),
    # Documents and files
    "file_unreadable": ErrorCode(None, "a file that cannot be read or written"),
    "invalid_record": ErrorCode(None, "a line of a usage file that is not a usage record"),
    "duplicate_conflict": ErrorCode(None, "one request id with different contents"),
    "invalid_period": ErrorCode(None, "not a month or a pair of instants, or an unknown time zone"),
    "no_usage": ErrorCode(None, "no billable record of this account in this period"),
    "invalid_document": ErrorCode(None, "not an invoice document of this version"),
    "document_exists": ErrorCode(None, "a bill stands there already; a bill is never edited"),
    "series_broken": ErrorCode(None, "the document before this one in its series does not fit"),
    "not_in_bill": ErrorCode(None, "the bill does not hold this request"),
    "invalid_key": ErrorCode(None, "not an Ed25519 key"),
    "missing_extra": ErrorCode(None, "an optional part of this library is not installed"),
    "missing_font": ErrorCode(None, "no font of this machine has a letter that a PDF needs"),
    "invalid_argument": ErrorCode(None, "an argument that makes no sense"),
}


class BillingError(Exception):
    """A named failure: ``code`` for programs, the message for people (what, where, what to do).

    ``http_status`` is what a gateway answers with, or ``None`` where no request caused it.

    >>> error = BillingError("unknown_model", "no model 'gpt-9' in the price file")
    >>> error.code, error.http_status
    ('unknown_model', 404)
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.http_status = CODES[code].http_status
        self.message = message
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message)


class Finding(NamedTuple):
    """One thing wrong in a price file: where (1-based line and column), what, and what would be right."""

    file: str
    line: int
    column: int
    path: str
    message: str
    hint: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        at = f" {self.path}:" if self.path else ""
        return f"{where}:{at} {self.message}; {self.hint}"


class PriceFileError(BillingError):
    """A price file that is not sound. ``findings`` holds all of them, in the order of the file."""

    def __init__(self, findings: list[Finding], *, more: int = 0) -> None:
        self.findings = findings
        self.omitted_count = more
        count = len(findings) + more
        head = "1 finding" if count == 1 else f"{count} findings"
        tail = [f"... and {more} more"] if more else []
        super().__init__("invalid_price_file", "\n".join([f"{head} in the price file:", *map(str, findings), *tail]))

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), more=self.omitted_count), (self.findings,)


def safe_repr(value: object, limit: int = 80) -> str:
    r"""``repr`` cut to ``limit`` characters: control characters are escaped, a huge value does not flood a message.

    >>> print(safe_repr("a\x1b[31m"))
    'a\x1b[31m'
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > limit:
        return escape_unprintable(repr(value[:limit])) + "..."
    try:
        text = repr(value)
    except Exception:  # a hostile __repr__ must not replace the error that is being told
        return f"a {type(value).__name__}"
    return escape_unprintable(text if len(text) <= limit + 2 else text[:limit] + "...")


def escape_unprintable(text: str) -> str:
    """Escape what a terminal might obey or a log cannot store: unprintable characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
