"""Limits of what customers may have in progress, so that none of them can stall the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from brivionix_billing.gateway.client_errors import GatewayError
from brivionix_billing.ledger import ApiToken

__all__ = [
    "DEFAULT_LIMITS",
    "GatewayLimits",
    "InProgress",
    "Slot",
    "gateway_stopping",
    "overloaded",
    "too_many_requests",
]

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GatewayLimits:
    """Limits per process of a gateway. Sizes are in bytes.

    A request is in progress until it is settled or released, also while its provider is read on for a client that left.
    """

    max_requests_per_token: int = 500
    max_requests_per_account: int = 1000
    max_body_bytes: int = 10 * _MIB
    max_form_bytes: int = 26 * _MIB
    """Maximum size of a form with a file; OpenAI accepts audio files of 25 MB."""
    max_bytes_per_account: int = 64 * _MIB
    """Maximum of all bodies of an account that are in progress."""
    max_bytes: int = 512 * _MIB
    """Maximum of all bodies that are in progress. The memory in use may be a few times as much."""
    body_seconds: float = 60
    """How long a client may take to send its body."""
    long_body_bytes_per_second: int = 8 * _MIB
    """Rate at which all bodies together are read beyond their first 64 KiB; accounts take turns. The reading of bodies
    at the speed of a local network would delay short requests of others."""
    stream_bytes_per_second: int = 8 * _MIB
    """Rate at which all streams together are read beyond their first 64 KiB; accounts take turns. Models write far more
    slowly: this is for long streams that arrive at once."""
    max_json_values: int = 200_000
    """Maximum number of values in a JSON body. While they are parsed, Python does nothing else."""
    max_counted_per_account: int = 16
    """How many bodies of an account may be counted or wait for it, if that takes longer than a millisecond."""


DEFAULT_LIMITS: Final = GatewayLimits()


class InProgress:
    """Counts the requests of each token and account that are in progress, and the bytes of their bodies."""

    def __init__(self, limits: GatewayLimits) -> None:
        self.limits = limits
        self.bytes = 0
        self.requests_of_token: Counter[str] = Counter()
        self.requests_of_account: Counter[str] = Counter()
        self.bytes_of_account: Counter[str] = Counter()
        self.counted_of_account: Counter[str] = Counter()

    def enter(self, token: ApiToken) -> Slot:
        """Count a request. Raises ``too_many_requests`` if the token or the account has too many in progress."""
        limits = self.limits
        if (
            self.requests_of_token[token.id] >= limits.max_requests_per_token
            or self.requests_of_account[token.account] >= limits.max_requests_per_account
        ):
            raise too_many_requests("You have too many requests in progress.")
        self.requests_of_token[token.id] += 1
        self.requests_of_account[token.account] += 1
        return Slot(self, token)

    @contextmanager
    def counting(self, account: str) -> Iterator[None]:
        """Note a body that is counted within the block. Raises ``too_many_requests``."""
        if self.counted_of_account[account] >= self.limits.max_counted_per_account:
            raise too_many_requests("You have too many long requests in progress.")
        self.counted_of_account[account] += 1
        try:
            yield
        finally:
            _subtract(self.counted_of_account, account, 1)


class Slot:
    """The place of one request among those in progress. Call :meth:`leave` when the request is resolved."""

    def __init__(self, in_progress: InProgress, token: ApiToken) -> None:
        self._in_progress, self._token = in_progress, token
        self._bytes = 0
        self._is_left = False

    def add_bytes(self, count: int) -> None:
        """Count bytes of the body. Raises ``too_many_requests`` and ``overloaded``."""
        found, account = self._in_progress, self._token.account
        if found.bytes_of_account[account] + count > found.limits.max_bytes_per_account:
            raise too_many_requests("Your requests in progress are too large together.")
        if found.bytes + count > found.limits.max_bytes:
            raise overloaded()
        found.bytes_of_account[account] += count
        found.bytes += count
        self._bytes += count

    def leave(self) -> None:
        """Count the request no more. Idempotent."""
        if self._is_left:
            return
        self._is_left = True
        found, token = self._in_progress, self._token
        found.bytes -= self._bytes
        _subtract(found.requests_of_token, token.id, 1)
        _subtract(found.requests_of_account, token.account, 1)
        _subtract(found.bytes_of_account, token.account, self._bytes)


def _subtract(counter: Counter[str], key: str, count: int) -> None:
    """Subtract, and forget a key at 0: customers come and go."""
    counter[key] -= count
    if not counter[key]:
        del counter[key]


def too_many_requests(reason: str) -> GatewayError:
    """Return the error for a customer who has too much in progress. Clients retry it after a second."""
    error = GatewayError(429, "too_many_requests", f"{reason} Wait until some of them have ended.")
    error.headers["retry-after"] = "1"
    return error


def overloaded() -> GatewayError:
    """Return the error for a request that the gateway has no room for. Clients retry it after two seconds."""
    error = GatewayError(503, "overloaded", "The gateway is overloaded. Try again soon.")
    error.headers["retry-after"] = "2"
    return error


def gateway_stopping() -> GatewayError:
    """Return the error for a request that comes while the service stops."""
    return GatewayError(503, "gateway_stopping", "The gateway is being restarted. Try again soon.")
