"""Service tiers: the built-in ones, and the names by which requests and responses mean them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["SERVICE_TIERS", "TierNames", "effective_service_tier", "normalize_service_tier"]

SERVICE_TIERS: Final = ("standard", "batch", "flex", "priority")
"""The built-in tiers. A price file may define more."""

_BUILT_IN_NAMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{name: name for name in SERVICE_TIERS},
        "default": "standard",  # OpenAI's responses
        "auto": "standard",  # requested; a response that repeats it served the standard tier
        "on_demand": "standard",  # Groq's responses
        "fast": "priority",
    }
)


class TierNames:
    """The service tiers of a price book, and the names that mean them. Immutable."""

    __slots__ = ("_names", "tiers")

    def __init__(self, declared: Mapping[str, Iterable[str]] | None = None) -> None:
        """``declared`` maps built-in tiers and tiers of a price file to further names. Names are in lower case."""
        names = dict(_BUILT_IN_NAMES)
        for tier, others in (declared or {}).items():
            for name in (tier, *others):
                names[name.lower()] = tier
        self.tiers: tuple[str, ...] = tuple(dict.fromkeys([*SERVICE_TIERS, *(declared or {})]))
        """All tiers, in the order of pages and tables."""
        self._names = names

    def knows(self, name: str) -> bool:
        """Return whether a name means a tier, in any case."""
        return name.lower() in self._names

    def normalize(self, name: object) -> str:
        """Return the tier that a name means, in any case; ``None`` is standard. Raises ``unknown_service_tier``."""
        if name is None:
            return "standard"
        tier = self._names.get(name.lower()) if isinstance(name, str) else None
        if tier is None:
            known = ", ".join(self._names)
            raise BillingError(
                "unknown_service_tier",
                f"{safe_repr(name)} is not a service tier; use one of {known}, or add it to service_tiers in the "
                "price file",
                near=(name, self._names),
            )
        return tier

    def effective(self, served: str | None, requested: str | None) -> str | None:
        """Return the tier name that decides the price: the served one, if the provider reports it.

        ``auto`` in a response repeats the request and reports nothing. A batch is requested through its own endpoint,
        and the bodies that it returns may report ``default``: that does not make them standard. Raises
        ``unknown_service_tier`` for an unknown requested tier, even if the served one decides.
        """
        if requested is not None:
            tier = self.normalize(requested)
            if served is None or served.lower() == "auto":
                return requested
            if tier == "batch" and self._names.get(served.lower()) == "standard":
                return requested
        return served


_BUILT_IN: Final = TierNames()


def normalize_service_tier(name: object) -> str:
    """Return the built-in tier that a name means, in any case; ``None`` is standard. Raises ``unknown_service_tier``.

    >>> normalize_service_tier("Priority"), normalize_service_tier("default"), normalize_service_tier(None)
    ('priority', 'standard', 'standard')
    """
    return _BUILT_IN.normalize(name)


def effective_service_tier(served: str | None, requested: str | None) -> str | None:
    """Return :meth:`TierNames.effective` of the built-in tiers."""
    return _BUILT_IN.effective(served, requested)
