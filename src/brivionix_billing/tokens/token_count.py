"""What a count is made of: its parts, and how well each is known."""

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
"""The kinds of parts, in the order in which they are shown."""


class CountPart(NamedTuple):
    """Tokens of one kind in a request."""

    kind: str
    """One of :data:`KINDS`."""
    tokens: int
    upper: int | None
    """No more than so many; ``None``: no bound is known, short of what the model takes at all."""
    exact: bool
    reason: str = ""
    """For an estimate: what is not known."""


_UNKNOWN_VOCABULARY: Final = "the vocabulary of this model is not known here; its texts are counted with another one"
_new = tuple.__new__


@final
class TokenCount(int):
    """A number of tokens that knows what it is made of. It is an ``int`` in every other way.

    >>> from brivionix_billing.tokens import TokenCounter
    >>> count = TokenCounter("gpt-5.4-mini").chat({"messages": [{"role": "user", "content": "Hello"}]})
    >>> count, count.exact, count.upper
    (7, True, 7)
    """

    parts: tuple[CountPart, ...]
    rules: frozenset[str]
    """Names of the rules that were needed, see ``families.ChatTemplate``."""
    max_input_tokens: int | None
    """The most input that the model takes, where it is known."""

    def __new__(
        cls, parts: tuple[CountPart, ...] = (), rules: frozenset[str] = frozenset(), max_input_tokens: int | None = None
    ) -> TokenCount:
        self = super().__new__(cls, sum([part.tokens for part in parts]))
        self.parts, self.rules, self.max_input_tokens = parts, rules, max_input_tokens
        return self

    @property
    def exact(self) -> bool:
        """Whether every part follows from a rule that real requests bear out. If not, this is an estimate."""
        return all(part.exact for part in self.parts)

    @property
    def upper(self) -> int | None:
        """No request of this content has more input tokens. ``None`` where nothing is known that would bound them."""
        total = 0
        for part in self.parts:
            if part.upper is None:
                return self.max_input_tokens
            total += part.upper
        return total if self.max_input_tokens is None else max(int(self), min(total, self.max_input_tokens))

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is not known, each once; empty for an exact count."""
        return tuple(dict.fromkeys(part.reason for part in self.parts if not part.exact))

    def by_kind(self) -> dict[str, int]:
        """Kind -> tokens, in the order of :data:`KINDS`; kinds that do not occur are left out."""
        totals: dict[str, int] = {}
        for kind in KINDS:
            tokens = [part.tokens for part in self.parts if part.kind == kind]
            if tokens:
                totals[kind] = sum(tokens)
        return totals

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
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
    """What a tally has come to, to go on from."""

    exact: dict[str, int]
    estimates: dict[tuple[str, str], tuple[int, int | None]]
    rules: frozenset[str]
    characters: int


class CountBuilder:
    """Collects the parts of one count. What is exact is summed up by kind, what is not is kept with its reason."""

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
        self._rules: set[str] = set()

    def add_text(self, kind: str, text: str) -> int:
        """The tokens of a text, which are exact. Raises ``request_too_large`` once the texts are more than allowed."""
        tokens = self.count_text(text)
        self.add_exact(kind, tokens, len(text))
        return tokens

    def count_text(self, text: str) -> int:
        """The tokens of a text that is not part of the count as it stands."""
        self.charge_characters(len(text))
        return self._count(text)

    def charge_characters(self, characters: int) -> None:
        """Raises ``request_too_large`` once the texts have more characters than are counted at once."""
        self._remaining -= characters
        if self._remaining < 0:
            raise BillingError(
                "request_too_large", "the texts of the request are longer than the counter was told to count"
            )

    def snapshot(self) -> CountSnapshot:
        """What it has come to."""
        return CountSnapshot(
            dict(self._exact), dict(self._estimates), frozenset(self._rules), self._max_characters - self._remaining
        )

    def restore(self, snapshot: CountSnapshot) -> None:
        """Start, empty, from what was counted before. What was too much does not become less by being known."""
        self._exact, self._estimates, self._rules = dict(snapshot.exact), dict(snapshot.estimates), set(snapshot.rules)
        self.charge_characters(snapshot.characters)

    def has_estimates(self, kind: str) -> bool:
        """Whether there are estimates of a kind."""
        return any(estimated_kind == kind for estimated_kind, _ in self._estimates)

    def add_exact(self, kind: str, tokens: int, characters: int) -> None:
        """Tokens of texts. Of a model that is not known to use this vocabulary they are an estimate.

        No vocabulary makes more tokens of a text than it has bytes, and a character has at most four.
        """
        if not self.family.vocabulary_unknown:
            self._exact[kind] = self._exact.get(kind, 0) + tokens
        elif tokens:
            self.add_estimate(kind, tokens, 4 * characters, _UNKNOWN_VOCABULARY)

    def add_rule(self, kind: str, name: str, times: int = 1) -> None:
        """Apply a rule of the dialect, so many times; it is exact where pairs bear it out."""
        rule: Rule = getattr(self.dialect, name)
        self._rules.add(name)
        tokens = rule.tokens * times
        if rule.samples:
            self._exact[kind] = self._exact.get(kind, 0) + tokens
        else:
            self.add_estimate(kind, tokens, tokens * 2 + 8 * times, f"the rule '{name}' is known from no request")

    def add_estimate(self, kind: str, tokens: int, upper: int | None, reason: str) -> None:
        """Tokens that are not known; ``upper`` bounds them, where anything does."""
        before, bound = self._estimates.get((kind, reason), (0, 0))
        self._estimates[kind, reason] = (before + tokens, None if upper is None or bound is None else bound + upper)

    def build(self, max_input_tokens: int | None) -> TokenCount:
        """The count."""
        exact = [_new(CountPart, (kind, tokens, tokens, True, "")) for kind, tokens in self._exact.items()]
        estimates = [
            CountPart(kind, tokens, upper, False, reason) for (kind, reason), (tokens, upper) in self._estimates.items()
        ]
        return TokenCount((*exact, *estimates), frozenset(self._rules), max_input_tokens)
