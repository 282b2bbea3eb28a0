"""API tokens that the ledger was asked for a moment ago."""

from __future__ import annotations

from typing import Final

from brivionix_billing.ledger import ApiToken

__all__ = ["RecentTokens"]

_MAX_AGE_SECONDS: Final = 1.0


class RecentTokens:
    """Keeps authenticated tokens for a second, by their secrets. ``now`` is the time of the event loop, in seconds."""

    def __init__(self) -> None:
        self._tokens: dict[str, tuple[ApiToken, float]] = {}
        """Secret -> token, and time of its look-up; the oldest first."""

    def get(self, secret: str, now: float) -> ApiToken | None:
        """Return the token of a secret that was looked up within the last second."""
        token, found_at = self._tokens.get(secret, (None, now))
        return token if now - found_at < _MAX_AGE_SECONDS else None

    def add(self, secret: str, token: ApiToken, found_at: float) -> None:
        """Keep a token that was looked up at ``found_at``, and drop what is older than a second."""
        self._tokens.pop(secret, None)
        self._tokens[secret] = token, found_at
        while (oldest := next(iter(self._tokens))) != secret and self.get(oldest, found_at) is None:
            del self._tokens[oldest]

    def clear(self) -> None:
        """Drop all tokens."""
        self._tokens.clear()
