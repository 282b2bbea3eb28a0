"""Covers demands by sources that only some demands may use: holds by restricted lots.

Open holds are not assigned to lots. They are covered if there is any assignment of Credits to holds in which every hold
uses only lots that it may use. So one more Credit can be held or taken if such an assignment still exists afterwards.
This is a maximum flow between a few lots and a few kinds of holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["Coverage"]


class Coverage:
    """An assignment of demands to sources, which is rearranged when that makes room for more."""

    __slots__ = ("_assigned", "_free")

    def __init__(self, sources: Mapping[str, int]) -> None:
        self._free = dict(sources)
        """Source -> amount that is not assigned."""
        self._assigned: dict[frozenset[str], dict[str, int]] = {}
        """Sources that a kind of demand may use -> the amount that it has of each."""

    def place(self, amount: int, usable: Iterable[str]) -> int:
        """Cover as much of a demand as its usable sources allow, without a loss of earlier demands. Returns it."""
        kind = frozenset(usable).intersection(self._free)
        self._assigned.setdefault(kind, {})
        left = amount
        while left and (moved := self._move(kind, left)):
            left -= moved
        return amount - left

    def take(self, source: str, amount: int) -> int:
        """Remove up to ``amount`` from a source, as long as all demands stay covered. Returns what was removed."""
        taken = self.place(amount, (source,))
        own = self._assigned[frozenset((source,))] if taken else {}
        if taken:
            own[source] -= taken
        return taken

    def _move(self, kind: frozenset[str], most: int) -> int:
        """Assign more to a kind of demand, along the shortest chain of rearrangements. Returns the amount."""
        # Breadth first: a demand gets a source from another kind of demand, which gets another source instead.
        came_from: dict[str, tuple[frozenset[str], str | None]] = {}
        frontier: list[tuple[frozenset[str], str | None]] = [(kind, None)]
        for demand, released in frontier:
            for source in sorted(demand):
                if source in came_from:
                    continue
                came_from[source] = demand, released
                if self._free[source]:
                    return self._apply(came_from, source, most)
                frontier += [(other, source) for other, parts in self._assigned.items() if parts.get(source)]
        return 0

    def _apply(self, came_from: Mapping[str, tuple[frozenset[str], str | None]], last: str, most: int) -> int:
        chain: list[tuple[frozenset[str], str, str | None]] = []
        source: str | None = last
        amount = min(most, self._free[last])
        while source is not None:
            demand, released = came_from[source]
            chain.append((demand, source, released))
            if released is not None:
                amount = min(amount, self._assigned[demand][released])
            source = released
        self._free[last] -= amount
        for demand, gained, released in chain:
            parts = self._assigned[demand]
            parts[gained] = parts.get(gained, 0) + amount
            if released is not None:
                parts[released] -= amount
        return amount
