"""Defines :class:`BillingError`, the exception of every failure, and its stable codes.

:data:`CODES` maps each code to its HTTP status and meaning. ``docs/errors.md`` is generated from it and from
``tests/errors``, which has an example of every code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple

__all__ = [
    "CODES",
    "CODE_GROUPS",
    "BillingError",
    "ErrorCode",
    "Finding",
    "PriceFileError",
    "closest_name",
    "missing_extra",
    "safe_repr",
]


class ErrorCode(NamedTuple):
    """The meaning of an error code and the HTTP status that a gateway should return.

    ``http_status`` is ``None`` for failures that no request of a client causes.
    """

    http_status: int | None
    meaning: str


CODE_GROUPS: Final[dict[str, dict[str, ErrorCode]]] = {
    "Prices": {
        "invalid_price_file": ErrorCode(None, "the price file is invalid; `.findings` lists every location"),
        "price_not_exact": ErrorCode(
            None, "the price of one token or call has more than 18 decimal places, in Credits"
        ),
    },
    "Requests": {
        "unknown_model": ErrorCode(404, "the price file has no such model, alias or dated snapshot"),
        "unknown_group": ErrorCode(403, "the price file has no such group, or no terms of it at that time"),
        "model_not_allowed": ErrorCode(403, "the group may not use this model at that time"),
        "unknown_service_tier": ErrorCode(
            400, "the service tier is not standard, batch, flex or priority, and the price file declares no other name"
        ),
        "service_tier_unavailable": ErrorCode(400, "the model is not sold in this service tier at that time"),
        "region_unavailable": ErrorCode(400, "the model has prices by region, and none for this one"),
        "mode_unavailable": ErrorCode(400, "the model has no price for this mode in this service tier"),
        "unknown_upstream": ErrorCode(None, "the price file has no upstream of this name"),
        "no_price": ErrorCode(400, "the model has no price at that time"),
        "meter_unpriced": ErrorCode(500, "the usage has a kind of token or call for which the model has no price"),
        "unknown_plan": ErrorCode(400, "the price file has no such plan, or no terms of it at that time"),
        "unknown_channel": ErrorCode(400, "the price file has no such payment channel, or no price of it at that time"),
        "invalid_time": ErrorCode(400, "a time is malformed, out of range, or has no UTC offset"),
    },
    "Usage": {
        "invalid_usage": ErrorCode(502, "a count is not a whole number from 0 to 10^12"),
        "usage_contradiction": ErrorCode(502, "two counts contradict each other"),
        "unknown_usage_key": ErrorCode(502, "a count has an unknown meaning that decides its price"),
        "unaccounted_usage": ErrorCode(502, "a number is on no meter, and the price file rejects its path"),
        "unknown_usage_format": ErrorCode(502, "the usage object has no known format"),
    },
    "Counting tokens": {
        "invalid_request": ErrorCode(400, "the body is not a request to a counted API"),
        "request_too_large": ErrorCode(413, "the request has more text than the limit of the token counter"),
        "cost_unbounded": ErrorCode(400, "the maximum cost of the request cannot be computed"),
        "unknown_encoding": ErrorCode(None, "tiktoken has no encoding of this name"),
        "encoding_unavailable": ErrorCode(None, "the vocabulary of an encoding is not available without a network"),
        "unknown_token_family": ErrorCode(None, "there is no token family of this name"),
    },
    "Money": {
        "invalid_money": ErrorCode(400, "an amount is not an exact decimal, or has too many decimal places"),
        "unknown_currency": ErrorCode(400, "the currency is not an ISO 4217 code"),
        "currency_mismatch": ErrorCode(400, "two amounts have different currencies"),
        "amount_out_of_range": ErrorCode(400, "a top-up is below the minimum or above the maximum of its channel"),
    },
    "The ledger": {
        "unknown_account": ErrorCode(404, "there is no such account"),
        "account_exists": ErrorCode(409, "another operation opened this account"),
        "account_frozen": ErrorCode(403, "the account is frozen: it gets no new holds and charges"),
        "unknown_member": ErrorCode(404, "the account has no such member"),
        "member_exists": ErrorCode(409, "the account has a member with this id, or had one"),
        "member_frozen": ErrorCode(403, "the member is frozen: it gets no new holds and charges"),
        "member_removed": ErrorCode(403, "the member was removed from the account"),
        "malformed_authorization": ErrorCode(401, "the `Authorization` header is missing or malformed"),
        "unknown_token": ErrorCode(401, "there is no such API token"),
        "token_disabled": ErrorCode(401, "the API token is disabled"),
        "token_expired": ErrorCode(401, "the API token has expired"),
        "token_exhausted": ErrorCode(401, "the API token has spent its limit"),
        "token_changed": ErrorCode(409, "the API token was moved to another group after it was authenticated"),
        "token_limit": ErrorCode(402, "the request may cost more than the remaining limit of the token"),
        "insufficient_credits": ErrorCode(402, "the request may cost more than the account has available"),
        "limit_reached": ErrorCode(429, "a limit by window does not cover the request until it resets"),
        "unknown_hold": ErrorCode(404, "there is no such hold"),
        "hold_resolved": ErrorCode(409, "the hold is already settled, released or expired"),
        "unknown_lot": ErrorCode(404, "the account has no such lot"),
        "lot_closed": ErrorCode(409, "the lot has expired, or no Credits are left in it"),
        "unknown_payment": ErrorCode(404, "the payment is not credited, or not yet"),
        "payment_already_credited": ErrorCode(409, "another operation credited this payment"),
        "invalid_notice": ErrorCode(400, "a payment notice has an invalid signature or an unknown format"),
        "unknown_order": ErrorCode(404, "the account has no such order, or not yet"),
        "order_closed": ErrorCode(409, "the order is already paid or cancelled"),
        "unknown_subscription": ErrorCode(404, "the account has no such subscription"),
        "subscription_active": ErrorCode(409, "the account has a subscription that has not ended"),
        "subscription_closed": ErrorCode(409, "the subscription was cancelled"),
        "not_refundable": ErrorCode(409, "the refund is more than the unused part of the lot, or the lot was a grant"),
        "not_reversible": ErrorCode(409, "the entry cannot be reversed, or is already reversed"),
        "operation_conflict": ErrorCode(409, "the operation id was used before with different content"),
        "entry_archived": ErrorCode(409, "the content of an entry is in an archive file"),
        "clock_skew": ErrorCode(503, "a time differs too much from the clock of the database"),
        "ledger_unavailable": ErrorCode(503, "the database of the ledger failed, or was busy for too long"),
        "ledger_version": ErrorCode(None, "the tables of the ledger are missing or have another version"),
        "journal_broken": ErrorCode(
            None, "an entry of the journal was altered, or does not follow from the previous ones"
        ),
        "archive_broken": ErrorCode(None, "an archive file was altered, or is not that of the ledger"),
    },
    "Documents and files": {
        "file_unreadable": ErrorCode(None, "a file cannot be read or written"),
        "source_unreadable": ErrorCode(None, "a file of public price data is not one of the named source"),
        "invalid_statement": ErrorCode(
            None, "a provider's report or a payment statement is not of the named source, or contradicts itself"
        ),
        "invalid_record": ErrorCode(None, "a line of a usage file is not a usage record"),
        "duplicate_conflict": ErrorCode(None, "several records have one request id and different contents"),
        "invalid_period": ErrorCode(
            None, "the period is not a month or a pair of instants, or its time zone is unknown"
        ),
        "no_usage": ErrorCode(None, "the account has no billable record in the period"),
        "invalid_document": ErrorCode(
            None, "the document is not a valid invoice document of this version, or was altered"
        ),
        "document_exists": ErrorCode(None, "the folder already contains a bill"),
        "series_broken": ErrorCode(None, "the previous document does not match the series"),
        "not_in_bill": ErrorCode(None, "the bill does not contain this request"),
        "receipt_too_large": ErrorCode(None, "the receipt of a request has more than 1999 bytes"),
        "invalid_key": ErrorCode(None, "the key is not an Ed25519 key, or does not match the signature"),
        "missing_extra": ErrorCode(None, "an optional dependency is not installed"),
        "missing_font": ErrorCode(None, "no installed font has a character that the PDF contains"),
        "invalid_argument": ErrorCode(None, "an argument is missing, malformed or out of range"),
    },
}
"""Error codes by topic, in the order of ``docs/errors.md``."""

CODES: Final[dict[str, ErrorCode]] = {code: entry for group in CODE_GROUPS.values() for code, entry in group.items()}
"""HTTP status and meaning of every error code."""


_CUTOFF: Final = 0.7
_WORD_END: Final = re.compile(r"[-_./: ]+")
_MAX_COMPARED_CHARACTERS: Final = 128
MAX_COMPARED_NAMES: Final = 2000
"""A wrong name is compared with this many names at most."""


class BillingError(Exception):
    """A failure with a stable ``code`` for programs and a human-readable ``message``: location, problem, fix.

    A message has printable characters only, in one line; that of a price file has one line per finding.

    ``http_status`` is the status that a gateway should return, or ``None`` if no request caused the failure.

    ``str(error)`` is the message with :attr:`suggestion`, for the person who wrote a wrong name. ``message`` has no
    suggestion: a gateway may pass it on, and must not disclose to a customer which other names exist.

    >>> error = BillingError("unknown_model", "no model 'gpt-8' in the price file", near=("gpt-8", ["gpt-9"]))
    >>> error.code, error.http_status
    ('unknown_model', 404)
    >>> print(error)
    no model 'gpt-8' in the price file; did you mean 'gpt-9'?
    """

    def __init__(self, code: str, message: str, *, near: tuple[object, Iterable[str]] | None = None) -> None:
        """``near`` is a wrong name and the names that exist."""
        self.code = code
        self.http_status = CODES[code].http_status
        # A message may quote a name that another person chose, and end in a terminal or a log.
        self.message = escape_unprintable(message)
        self._near = near
        super().__init__(self.message)

    @property
    def suggestion(self) -> str | None:
        """The existing name that was probably meant. It is searched for only here: that takes a while."""
        if self._near is None or not isinstance(self._near[0], str):
            return None
        name, known = self._near
        return closest_name(name, tuple(known))

    def __str__(self) -> str:
        suggestion = self.suggestion
        return self.message if suggestion is None else f"{self.message}; did you mean {safe_repr(suggestion)}?"

    def __reduce__(self) -> tuple[Any, ...]:
        near = None if self._near is None else (self._near[0], tuple(self._near[1]))
        return type(self), (self.code, self.message), {"_near": near}


class Finding(NamedTuple):
    """A finding in a price file: its location (1-based line and column), the problem and the fix."""

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
    """An invalid price file. ``findings`` has its findings in the order of the file."""

    def __init__(self, findings: list[Finding], *, more: int = 0) -> None:
        self.findings = findings
        self.omitted_count = more
        count = len(findings) + more
        head = "1 finding" if count == 1 else f"{count} findings"
        tail = [f"... and {more} more"] if more else []
        lines = [f"{head} in the price file:", *map(str, findings), *tail]
        super().__init__("invalid_price_file", lines[0])
        self.message = "\n".join(map(escape_unprintable, lines))
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), more=self.omitted_count), (self.findings,)


def missing_extra(what: str, extra: str, otherwise: str = "") -> BillingError:
    """Return the error for an optional dependency that is not installed, with the command that installs it."""
    advice = f"; or {otherwise}" if otherwise else ""
    return BillingError(
        "missing_extra",
        f"{what} needs an extra: pip install 'brivionix-billing[{extra}]', or in a clone: pip install -e '.[{extra}]'"
        f"{advice}",
    )


@lru_cache(1024)
def closest_name(name: str, known: tuple[str, ...], cutoff: float = _CUTOFF) -> str | None:
    """Return the known name that was probably meant by a wrong one, or ``None``.

    ``cutoff`` is the least similarity, from 0 to 1.

    >>> closest_name("Default", ("default", "vip")), closest_name("gpt-5.4-minni", ("gpt-5.4", "gpt-5.4-mini"))
    ('default', 'gpt-5.4-mini')
    >>> closest_name("output_image", ("output", "image_input", "image_output"))  # the same words in another order
    'image_output'
    """
    if name in known or len(name) > _MAX_COMPARED_CHARACTERS or len(known) > MAX_COMPARED_NAMES:
        return None
    by_folded = {each.casefold(): each for each in reversed(known)}
    close = get_close_matches(name.casefold(), by_folded, 1, cutoff)
    by_words = {_sorted_words(each): each for each in reversed(known)}
    return by_words.get(_sorted_words(name)) or (by_folded[close[0]] if close else None)


def _sorted_words(name: str) -> tuple[str, ...]:
    return tuple(sorted(filter(None, _WORD_END.split(name.casefold()))))


def safe_repr(value: object, limit: int = 80) -> str:
    r"""Return ``repr(value)``, truncated to ``limit`` characters and with unprintable characters escaped.

    >>> print(safe_repr("a\x1b[31m"))
    'a\x1b[31m'
    """
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, str) and len(value) > limit:
        return escape_unprintable(repr(value[:limit])) + "..."
    try:
        text = repr(value)
    except Exception:  # a failing __repr__ must not replace the error that is being reported
        return f"a {type(value).__name__}"
    return escape_unprintable(text if len(text) <= limit + 2 else text[:limit] + "...")


def escape_unprintable(text: str) -> str:
    """Escape unprintable characters and lone surrogates: a terminal may obey them, a log may reject them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
