"""The catalog: what was read from a source, in the structure of the price file, and what could not be expressed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, NamedTuple

__all__ = [
    "SOURCE_CURRENCY",
    "UNDATED_START",
    "Catalog",
    "DatedPrices",
    "ImportedGroup",
    "ImportedModel",
    "Note",
    "PriceSet",
    "Rejection",
]

UNDATED_START: Final = "2020-01-01"
"""Start of prices to which the source gives no date."""

SOURCE_CURRENCY: Final = "USD"
"""Currency of the prices of a model for which the source states no other."""

PriceSet = dict[str, Any]
"""The prices of one service tier as a price file has them: meter -> ``Decimal``, and ``long_context``, ``windows``,
``regions`` and ``modes`` with sets of their own, or with a factor."""


class Rejection(NamedTuple):
    """Something that was not imported: a whole row if ``field`` is empty, else one field of it."""

    model: str
    field: str
    reason: str


class Note(NamedTuple):
    """A remark on something that was imported, or ignored on purpose."""

    code: str
    model: str
    field: str
    message: str


@dataclass
class DatedPrices:
    """The prices of some service tiers from a date on; ``start`` is ``None`` if the source states no date."""

    start: str | None
    tiers: dict[str, PriceSet]


@dataclass
class ImportedModel:
    """A model of the source."""

    name: str
    prices: list[DatedPrices]
    display_name: str | None = None
    vendor: str | None = None
    context: dict[str, int] = field(default_factory=dict)
    """Some of ``window``, ``max_input`` and ``max_output``, in tokens."""
    released: str | None = None
    aliases: list[str] = field(default_factory=list)
    currency: str | None = None
    unpriced_tokens: str = "refuse"
    """What tokens without a price cost: ``as_container`` if the source charges them like those that contain them."""
    caches_input: bool | None = None
    """Whether the model may read input from a cache. ``None``: the source does not say what kind of model it is."""


@dataclass
class ImportedGroup:
    """A pricing group of the source."""

    name: str
    ratio: Decimal
    models: list[str]
    """Names, or patterns."""
    display_name: str | None = None


@dataclass
class Catalog:
    """Everything that was read from one file of a source."""

    source: str
    models: dict[str, ImportedModel] = field(default_factory=dict)
    groups: dict[str, ImportedGroup] = field(default_factory=dict)
    meters: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Meters that the price file must declare."""
    calendars: dict[str, dict[str, Any]] = field(default_factory=dict)
    service_tiers: dict[str, list[str]] = field(default_factory=dict)
    """Service tiers that the price file must declare, with more names of each."""
    regions: dict[str, list[str]] = field(default_factory=dict)
    cached_as_input: bool = False
    """Whether the source bills a cached token like any other input token if the model has no price for it."""
    unpriced_tokens: str = "refuse"
    """The setting of most models."""
    rejections: list[Rejection] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    priced_rows: int = 0
    """Rows that state at least one price that is not 0."""
    _seen: set[Note] = field(default_factory=set)

    def reject(self, model: str, reason: str, field: str = "") -> None:
        """Record that a row, or one field of it, is not imported."""
        self.rejections.append(Rejection(model, field, reason))

    def note(self, code: str, message: str, model: str = "", field: str = "") -> None:
        """Record a remark, once."""
        note = Note(code, model, field, message)
        if note not in self._seen:
            self._seen.add(note)
            self.notes.append(note)

    def select(self, chosen: Callable[[str], bool]) -> None:
        """Keep only models with a chosen name or alias, and what was recorded about them."""
        self.models = {
            name: model for name, model in self.models.items() if chosen(name) or any(map(chosen, model.aliases))
        }
        self.rejections = [found for found in self.rejections if not found.model or chosen(found.model)]
        self.notes = [note for note in self.notes if not note.model or chosen(note.model) or note.model in self.models]

    def drop(self, model: str, reason: str) -> None:
        """Remove a model that was already accepted."""
        del self.models[model]
        self.reject(model, reason)
