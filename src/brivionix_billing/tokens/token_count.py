"""A token count with its parts, and the builder that collects them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, final

from brivionix_billing.errors import BillingError
from brivionix_billing.token_families import Family, Rule
from brivionix_billing.tokens.cache import GenerationalCache

__all__ = ["KINDS", "CountSnapshot", "CountPart", "CountBuilder", "TokenCount"]

KINDS: Final = (
    "system",
    "messages",
    "tools",
    "tool calls",
    "tool results",
    "images",
    "audio",
    "files",
    "reasoning",
    "format",
    "unseen",
    "reply",
)
"""The kinds of parts, in display order."""


class CountPart(NamedTuple):
    """Tokens of one kind in a request."""

    kind: str
    """One of :data:`KINDS`."""
    tokens: int
    upper: int | None
    """Upper bound; ``None`` if only the maximum input of the model bounds the part."""
    exact: bool
    reason: str = ""
    """The unknown fact behind an estimate or behind a bound above the tokens; else empty."""


_MARGIN_PER: Final = 128
_TEXT_MARGIN: Final = "OpenAI may change a text before it counts it"
"""A recorded request was counted 0.6 % higher than its texts. So a bound has one token more per 128."""
_UNKNOWN_VOCABULARY: Final = "the vocabulary of this model is unknown; its texts are counted with another one"
_new = tuple.__new__


@final
class TokenCount(int):
    """A number of tokens and its parts. It is an ``int`` in every other way.

    >>> from brivionix_billing.tokens import TokenCounter
    >>> count = TokenCounter("gpt-5.4-mini").chat({"messages": [{"role": "user", "content": "Hello"}]})
    >>> count, count.exact, count.upper
    (7, True, 7)
    """

    parts: tuple[CountPart, ...]
    rules: frozenset[str]
    """Names of the rules that the count uses, see ``token_families.ChatTemplate``."""
    max_input_tokens: int | None
    """Maximum number of input tokens of the model, if it is known."""

    def __new__(
        cls, parts: tuple[CountPart, ...] = (), rules: frozenset[str] = frozenset(), max_input_tokens: int | None = None
    ) -> TokenCount:
        self = super().__new__(cls, sum([part.tokens for part in parts]))
        self.parts, self.rules, self.max_input_tokens = parts, rules, max_input_tokens
        return self

    @property
    def exact(self) -> bool:
        """Whether every part follows from a rule that recorded requests confirm. If not, this is an estimate."""
        return all(part.exact for part in self.parts)

    @property
    def upper(self) -> int | None:
        """The upper bound of the input tokens; ``None`` if nothing bounds them."""
        total = 0
        for part in self.parts:
            if part.upper is None:
                return self.max_input_tokens
            total += part.upper
        return total if self.max_input_tokens is None else max(int(self), min(total, self.max_input_tokens))

    @property
    def reasons(self) -> tuple[str, ...]:
        """The unknown facts behind an estimate, without repetition. Empty for an exact count."""
        return tuple(dict.fromkeys(part.reason for part in self.parts if not part.exact))

    def by_kind(self) -> dict[str, int]:
        """Return the tokens by kind, in the order of :data:`KINDS`, without absent kinds."""
        totals: dict[str, int] = {}
        for kind in KINDS:
            tokens = [part.tokens for part in self.parts if part.kind == kind]
            if tokens:
                totals[kind] = sum(tokens)
        return totals

    def as_dict(self) -> dict[str, Any]:
        """Return the count as JSON data."""
        return {
            "tokens": int(self),
            "exact": self.exact,
            "upper": self.upper,
            "parts": self.by_kind(),
            "reasons": list(self.reasons),
        }

    def __repr__(self) -> str:
        return int.__repr__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenCount, (self.parts, self.rules, self.max_input_tokens)


class CountSnapshot(NamedTuple):
    """The state of a builder, from which a later count continues."""

    exact: dict[str, int]
    estimates: dict[tuple[str, str], tuple[int, int | None]]
    margins: dict[tuple[str, str], int]
    rules: frozenset[str]
    characters: int


class CountBuilder:
    """Collects the parts of one count. Exact tokens are summed by kind, estimates by kind and reason."""

    def __init__(
        self, family: Family, count: Callable[[str], int], cache: GenerationalCache, max_characters: int
    ) -> None:
        self.family = family
        self.dialect = family.dialect
        self.cache = cache
        self._count = count
        self._max_characters = self._remaining = max_characters
        self._exact: dict[str, int] = {}
        self._estimates: dict[tuple[str, str], tuple[int, int | None]] = {}
        self._margins: dict[tuple[str, str], int] = {}
        self._rules: set[str] = set()

    def add_text(self, kind: str, text: str) -> int:
        """Add the tokens of a text. Raises ``request_too_large`` if the texts exceed the limit."""
        tokens = self.count_text(text)
        self.add_exact(kind, tokens, len(text))
        return tokens

    def count_text(self, text: str) -> int:
        """Count a text without adding it. Raises ``request_too_large`` if the texts exceed the limit."""
        self.charge_characters(len(text))
        return self._count(text)

    def charge_characters(self, characters: int) -> None:
        """Count characters against the limit. Raises ``request_too_large`` if the texts exceed it."""
        self._remaining -= characters
        if self._remaining < 0:
            raise BillingError(
                "request_too_large",
                f"the texts of the request have more than {self._max_characters} characters; raise max_characters",
            )

    def snapshot(self) -> CountSnapshot:
        """Return a copy of the state."""
        return CountSnapshot(
            dict(self._exact),
            dict(self._estimates),
            dict(self._margins),
            frozenset(self._rules),
            self._max_characters - self._remaining,
        )

    def restore(self, snapshot: CountSnapshot) -> None:
        """Continue an empty builder from a snapshot. Its characters count against the limit as well."""
        self._exact, self._estimates, self._rules = dict(snapshot.exact), dict(snapshot.estimates), set(snapshot.rules)
        self._margins = dict(snapshot.margins)
        self.charge_characters(snapshot.characters)

    def has_estimates(self, kind: str) -> bool:
        """Return whether there are estimates of a kind."""
        return any(estimated_kind == kind for estimated_kind, _ in self._estimates)

    def add_exact(self, kind: str, tokens: int, characters: int) -> None:
        """Add tokens of texts. They are an estimate if the vocabulary of the model is unknown.

        No vocabulary makes more tokens of a text than it has bytes, and a character has at most four.
        """
        if not self.family.vocabulary_unknown:
            self._exact[kind] = self._exact.get(kind, 0) + tokens
        elif tokens:
            self.add_estimate(kind, tokens, 4 * characters, _UNKNOWN_VOCABULARY)

    def add_rule(self, kind: str, name: str, times: int = 1) -> None:
        """Apply a rule of the dialect, once or several times. It is exact if recorded requests confirm it."""
        rule: Rule = getattr(self.dialect, name)
        self._rules.add(name)
        tokens = rule.tokens * times
        if rule.samples:
            self._exact[kind] = self._exact.get(kind, 0) + tokens
        else:
            self.add_estimate(
                kind, tokens, tokens * 2 + 8 * times, f"the rule '{name}' is confirmed by no recorded request"
            )

    def add_estimate(self, kind: str, tokens: int, upper: int | None, reason: str) -> None:
        """Add an estimate with an unknown fact as its reason; ``upper`` is its bound, if there is one."""
        before, bound = self._estimates.get((kind, reason), (0, 0))
        self._estimates[kind, reason] = (before + tokens, None if upper is None or bound is None else bound + upper)

    def add_margin(self, kind: str, tokens: int, reason: str) -> None:
        """Widen the bound by tokens that no count contains: few recorded requests show more than the rules give."""
        self._margins[kind, reason] = self._margins.get((kind, reason), 0) + tokens

    def build(self, max_input_tokens: int | None) -> TokenCount:
        """Return the count."""
        total = sum(self._exact.values())
        if total >= _MARGIN_PER:
            self._margins["messages", _TEXT_MARGIN] = total // _MARGIN_PER
        exact = [_new(CountPart, (kind, tokens, tokens, True, "")) for kind, tokens in self._exact.items()]
        estimates = [
            CountPart(kind, tokens, upper, False, reason) for (kind, reason), (tokens, upper) in self._estimates.items()
        ]
        if self._margins:
            estimates += [CountPart(kind, 0, tokens, True, why) for (kind, why), tokens in self._margins.items()]
        return TokenCount((*exact, *estimates), frozenset(self._rules), max_input_tokens)
