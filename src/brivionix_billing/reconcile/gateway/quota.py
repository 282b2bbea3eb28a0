"""Turns exact quota into the whole number that a gateway deducts, in the way in which this gateway rounds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from fractions import Fraction
from typing import Final, NamedTuple

__all__ = [
    "DEFAULT_METHOD",
    "METHODS",
    "Method",
    "Mode",
    "detect_method",
    "round_by",
    "round_fraction",
]

_NEAR: Final = Fraction(1, 100_000)
"""A value this close to a boundary of rounding may be rounded otherwise after float arithmetic. Its numerator is 1."""


_MIN_TIES: Final = 10
_EXPLAINED: Final = Fraction(85, 100)
"""The share of the ties of a log that its method must explain, else they go either way."""


class Mode(StrEnum):
    """How a number is rounded to a whole one."""

    HALF_UP = "half_up"
    HALF_EVEN = "half_even"
    DOWN = "down"


class Method(NamedTuple):
    """How a gateway computes the quota of a request."""

    mode: Mode
    order: str = ""
    """Empty for exact arithmetic; else the order of the float operations, such as ``ratios_first``."""
    is_noisy: bool = False
    """Whether values at a boundary of rounding go either way, because the order of float operations is not known."""

    def __str__(self) -> str:
        text = f"{self.mode.value}, floats {self.order.replace('_', ' ')}" if self.order else self.mode.value
        return f"{text}, ties either way" if self.is_noisy else text

    def accepts(self, logged: int, exact: Fraction, as_float: Callable[[str], float | None]) -> bool:
        """Return whether a value at a boundary of rounding may have become this quota."""
        if logged <= 0 or not _near_boundary(exact, self.mode) or not self.gives(exact, logged):
            return False
        results = [as_float(order) for order in _ORDERS]
        if self.is_noisy or None in results:
            return True
        return any(round_by(Method(self.mode, order), exact, as_float) == logged for order in _ORDERS)

    def gives(self, exact: Fraction, logged: int) -> bool:
        """Return whether a value may become this quota, whatever happens at a boundary of rounding."""
        whole, near = exact.denominator, _NEAR.denominator
        distance = exact.numerator - logged * whole
        if self.mode is Mode.DOWN:
            return -whole <= distance * near <= whole * (near + 1)
        return 2 * near * abs(distance) <= whole * (near + 2)


DEFAULT_METHOD: Final = Method(Mode.HALF_UP)
_ORDERS: Final = ("ratios_first", "left_to_right", "part_by_part", "per_million")
METHODS: Final = tuple(Method(mode, order) for order in ("", *_ORDERS) for mode in Mode)
"""All methods. Of those that replay a log equally well, the first one is taken."""


def round_fraction(value: Fraction, mode: Mode) -> int:
    """Round an exact value. Halves go away from zero with ``half_up``.

    >>> round_fraction(Fraction(5, 2), Mode.HALF_UP), round_fraction(Fraction(5, 2), Mode.HALF_EVEN)
    (3, 2)
    """
    if value < 0:
        return -round_fraction(-value, mode)
    numerator, denominator = value.numerator, value.denominator
    if mode is Mode.DOWN:
        return numerator // denominator
    if mode is Mode.HALF_UP:
        return (2 * numerator + denominator) // (2 * denominator)
    return round(value)


def _near_boundary(value: Fraction, mode: Mode) -> bool:
    """Return whether float arithmetic may round a value otherwise than exact arithmetic."""
    denominator = value.denominator
    rest = value.numerator % denominator
    twice = 2 * min(rest, denominator - rest) if mode is Mode.DOWN else abs(2 * rest - denominator)
    return twice * _NEAR.denominator <= 2 * denominator


def round_by(method: Method, exact: Fraction, as_float: Callable[[str], float | None]) -> int:
    """Round a value by a method. ``as_float`` repeats the float operations of an order, if they are known."""
    if method.order and _near_boundary(exact, method.mode):
        value = as_float(method.order)
        if value is not None:
            if method.mode is Mode.HALF_UP:
                return math.floor(value + 0.5) if value >= 0 else -math.floor(-value + 0.5)
            return round(value) if method.mode is Mode.HALF_EVEN else int(value)
    return round_fraction(exact, method.mode)


def _replays(logged: int, exact: Fraction, as_float: Callable[[str], float | None]) -> tuple[bool, ...]:
    """Return for each of the methods whether it gives the logged value."""
    if not any(_near_boundary(exact, mode) for mode in (Mode.HALF_UP, Mode.DOWN)):
        # Floats are rounded as the exact value is, for both ways to round halves alike.
        results = {mode: round_fraction(exact, mode) == logged for mode in Mode}
        return tuple([results[method.mode] for method in METHODS])
    return tuple([round_by(method, exact, as_float) == logged for method in METHODS])


def detect_method(samples: Iterable[tuple[int, Fraction, Callable[[str], float | None]]]) -> Method:
    """Return the method that replays most of the logged values: (logged, exact value, float operations)."""
    outcomes: Counter[tuple[bool, ...]] = Counter()
    ties = []
    for logged, exact, as_float in samples:
        if exact.denominator != 1 and abs(logged * exact.denominator - exact.numerator) < 2 * exact.denominator:
            results = _replays(logged, exact, as_float)
            outcomes[results] += 1
            # Float arithmetic is exact for ratios that are halves, quarters and so on.
            if exact.denominator == 2 and any(as_float(order) != exact for order in _ORDERS):
                ties.append(results)
    counts = {
        method: sum(rows for results, rows in outcomes.items() if results[index])
        for index, method in enumerate(METHODS)
    }
    # Faulty rows may look like the result of float operations, so these must explain clearly more.
    advantage = 3 + len(ties) // 20
    best = max(METHODS, key=lambda method: counts[method] + (0 if method.order else advantage))
    right = sum(results[METHODS.index(best)] for results in ties)
    is_float = bool(best.order) or best.mode is Mode.DOWN
    return best._replace(is_noisy=is_float or (len(ties) >= _MIN_TIES and right < _EXPLAINED * len(ties)))
