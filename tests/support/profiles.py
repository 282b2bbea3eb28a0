"""Hypothesis profiles: ``quick`` for every run of the tests, ``thorough`` for ``make test-thorough``.

A test states its number of examples in a thorough run: ``@settings(max_examples=examples(300))``. The quick profile
runs an eighth of them, and at least 12. Each local run draws new examples. If ``CI`` is set, Hypothesis always draws
the same ones. ``HYPOTHESIS_PROFILE`` selects the profile.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from hypothesis import settings

__all__ = ["examples", "load", "sampled"]

T = TypeVar("T")

_DIVISORS: Final = {"quick": 8, "thorough": 1}
_MIN: Final = 12
"""Minimum number of examples of a test in any profile, unless the test asks for fewer."""


def _profile() -> str:
    name = os.environ.get("HYPOTHESIS_PROFILE", "quick")
    if name not in _DIVISORS:
        raise ValueError(f"HYPOTHESIS_PROFILE: unknown profile {name!r}; use one of {', '.join(_DIVISORS)}")
    return name


def examples(thorough: int) -> int:
    """Return the number of examples for the profile in use, given that of a thorough run."""
    return max(min(thorough, _MIN), thorough // _DIVISORS[_profile()])


def sampled(items: Iterable[T], slower: int = 1) -> Iterator[T]:
    """Yield all items in a thorough run; in a quick run a random one of every eight, which are drawn anew in each run.

    If each item is ``slower``, a quick run has fewer of them by this factor. If ``CI`` is set, the same ones are drawn.
    """
    divisor = _DIVISORS[_profile()]
    divisor *= slower if divisor > 1 else 1
    source = random.Random(0 if os.environ.get("CI") else None)
    iterator = iter(items)
    while some := list(islice(iterator, divisor)):
        yield source.choice(some)


def load() -> None:
    """Load the profile in use. A test without settings of its own has 100 examples in a thorough run."""
    name = _profile()
    settings.register_profile(name, deadline=None, max_examples=examples(100))
    settings.load_profile(name)
