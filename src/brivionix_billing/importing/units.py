"""The meters to which sources are mapped, and the order in which price sets are written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from brivionix_billing.meters import (
    MAX_QUANTITY_PLACES,
    METERS,
    MINIMUM_METER,
    REQUEST_METERS,
    Meter,
)
from brivionix_billing.meters import (
    TOOL_METERS as TOOLS,
)

__all__ = ["METER_ORDER", "PER", "TOKEN_METERS", "TOOL_METERS", "sort_meters", "steps_per_price"]

_KNOWN: Final[Mapping[str, Meter]] = {
    name: meter for name, meter in {**METERS, **REQUEST_METERS}.items() if name != MINIMUM_METER.name
}
PER: Final[dict[str, int]] = {name: meter.per for name, meter in _KNOWN.items()}
"""Built-in meter -> the quantity that its price is quoted for."""
TOKEN_METERS: Final = frozenset(name for name, meter in _KNOWN.items() if meter.is_token)
"""The meters that a price set inside another one must price, if the outer one does."""
TOOL_METERS: Final = frozenset(meter.name for meter in TOOLS)
"""Fees of tools. Factors of regions, modes and windows do not apply to them."""


def _written_order() -> list[str]:
    """Return the meters as a price set lists them: text, then other modalities, then all that are not tokens."""
    text = [name for name, meter in _KNOWN.items() if meter.is_token and meter.modality == "text"]
    text.sort(key=lambda name: _KNOWN[name].direction == "output")
    others = [name for name, meter in _KNOWN.items() if meter.is_token and name not in text]
    rest = [name for name, meter in _KNOWN.items() if not meter.is_token and not meter.is_tool]
    return [*text, *others, *rest, *(meter.name for meter in TOOLS)]


METER_ORDER: Final[dict[str, int]] = {name: position for position, name in enumerate(_written_order())}


def sort_meters(names: Iterable[str]) -> list[str]:
    """Return meter names in the order in which price sets are written; meters of the file come last, by name."""
    return sorted(names, key=lambda name: (METER_ORDER.get(name, len(METER_ORDER)), name))


def steps_per_price(meter: str, per: int | None = None) -> int:
    """Return how many of the smallest quantities a price is quoted for. Seconds are counted in thousandths.

    ``per`` is that of a meter which the price file declares.
    """
    quoted_for = PER.get(meter, 1) if per is None else per
    places = _KNOWN[meter].places if meter in _KNOWN else MAX_QUANTITY_PLACES
    return quoted_for * int(10**places)
