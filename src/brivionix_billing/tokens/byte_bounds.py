"""Bounds of requests to vendors whose vocabularies are not public.

**Texts.** Every vocabulary in use splits the UTF-8 bytes of a text, and no token is shorter than a byte. So a text has
at most as many tokens as bytes. English has about four bytes per token, so such a bound is about four times the count.

**Structures.** Tools, calls and schemas are shown to the model in a form that is not public. The bound takes their JSON
with spaces and with escapes of all but ASCII, which is longer than any other usual form, and an allowance for each.

**Everything else** has a documented number of tokens, or no bound. An unknown key has no bound either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.tokens.request_counter import iter_texts
from brivionix_billing.tokens.token_count import CountBuilder

__all__ = ["ByteBounds"]

_STRUCTURE_ALLOWANCE: Final = 32
"""Additional tokens of a tool, a call or a schema, for the names that surround it."""


class ByteBounds:
    """Adds parts with their bounds to a count. Every part is an estimate with the same reason."""

    def __init__(self, builder: CountBuilder, vendor: str) -> None:
        self._builder = builder
        self._reason = f"the vocabulary of {vendor} is not public; the bound is one token per byte of text"

    def add_text(self, kind: str, text: object, place: str) -> None:
        """Add a text. Raises ``invalid_request`` if it is none."""
        if not isinstance(text, str):
            raise BillingError("invalid_request", f"{place} is {safe_repr(text)}; use a text")
        tokens = self._builder.count_text(text)
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        self._builder.add_estimate(kind, tokens, max(tokens, size), self._reason)

    def add_structure(self, kind: str, value: object) -> None:
        """Add a value that the model is shown in an unknown form."""
        try:
            size = len(json.dumps(value, default=dict))
            tokens = sum(map(self._builder.count_text, iter_texts(value)))
        except (RecursionError, TypeError, ValueError) as error:
            raise BillingError("invalid_request", f"a part of the request is not JSON: {error}") from None
        self._builder.charge_characters(size)
        self._builder.add_estimate(kind, tokens, max(tokens, size) + _STRUCTURE_ALLOWANCE, self._reason)

    def add_opaque(self, kind: str, data: object) -> None:
        """Add an encrypted text, such as hidden reasoning: at most one token per character of its base64."""
        if isinstance(data, str):
            self._builder.add_estimate(kind, len(data) // 8, len(data), "an encrypted content is unreadable")
        elif data is not None:
            self.add_unbounded(kind, "an encrypted content")

    def add_tokens(self, kind: str, tokens: int, upper: int, reason: str = "") -> None:
        """Add tokens with a bound that the vendor documents."""
        self._builder.add_estimate(kind, tokens, upper, reason or self._reason)

    def add_unbounded(self, kind: str, what: str) -> None:
        """Add content that nothing bounds."""
        self._builder.add_estimate(kind, 0, None, f"what {what} adds to the input is unknown")

    def check_keys(self, kind: str, value: Mapping[str, Any], known_keys: frozenset[str], place: str) -> None:
        """Add content without a bound for every unknown key that is not ``null``."""
        if value.keys() <= known_keys:
            return
        for key in value.keys() - known_keys:
            if value[key] is not None:
                self.add_unbounded(kind, f"{safe_repr(key, 40)} of {place}")
