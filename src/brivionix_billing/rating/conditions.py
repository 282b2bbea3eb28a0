"""What a price depends on beside the model, the group and the service tier: context, region, mode and window."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

__all__ = ["ANY_CONTEXT", "STANDARD_VARIATION", "Boundary", "ContextRange", "PriceFactor", "Variation"]


class Boundary(NamedTuple):
    """A number of input tokens from which other prices apply."""

    tokens: int
    is_inclusive: bool
    """Whether the other prices apply to this number already (``at_least``), or only above it."""

    @property
    def last_below(self) -> int:
        """The largest number of input tokens below the boundary."""
        return self.tokens - 1 if self.is_inclusive else self.tokens

    def __str__(self) -> str:
        return f"{'>=' if self.is_inclusive else '>'}{self.tokens}"

    @property
    def complement(self) -> str:
        """The numbers below the boundary, such as ``<=272000``."""
        return f"{'<' if self.is_inclusive else '<='}{self.tokens}"


class ContextRange(NamedTuple):
    """The numbers of input tokens to which a context tier applies."""

    name: str
    """``short``, ``long``, or if a model has several boundaries, the one that was crossed: ``>128000``."""
    lower: Boundary | None
    upper: Boundary | None

    @property
    def is_long(self) -> bool:
        """Whether the range starts at a boundary."""
        return self.lower is not None

    @property
    def bounds(self) -> dict[str, int]:
        """The bounds as stated: ``over`` or ``from``, then ``up_to`` or ``under``; empty for any number."""
        found = {}
        if self.lower is not None:
            found["from" if self.lower.is_inclusive else "over"] = self.lower.tokens
        if self.upper is not None:
            found["under" if self.upper.is_inclusive else "up_to"] = self.upper.tokens
        return found

    def __str__(self) -> str:
        parts = [*([str(self.lower)] if self.lower else []), *([self.upper.complement] if self.upper else [])]
        return " ".join(parts) or "any"


ANY_CONTEXT: Final = ContextRange("short", None, None)


class PriceFactor(NamedTuple):
    """A factor on the list prices of a model; the fees of tools are not multiplied."""

    dimension: str
    """``region``, ``mode`` or ``window``."""
    name: str
    factor: Decimal


class Variation(NamedTuple):
    """What distinguishes prices of the same model, group and service tier beside the number of input tokens."""

    region: str | None = None
    """The serving region that has a price of its own; ``None``: the usual price."""
    mode: str | None = None
    """The serving mode that has a price of its own."""
    window: str | None = None
    """The calendar in whose window the request started."""

    def named(self) -> tuple[tuple[str, str], ...]:
        """Return (dimension, name) of those that apply."""
        return tuple((name, value) for name, value in self._asdict().items() if value is not None)


STANDARD_VARIATION: Final = Variation()
