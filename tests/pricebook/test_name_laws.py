"""Laws of name patterns: conflicts and meanings equal those of a search over all short names."""

from __future__ import annotations

import re
from itertools import product
from time import perf_counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.pricebook.names import name_pattern, pattern_conflicts
from model_kit import book_of, findings
from profiles import examples

NAMES = ["".join(letters) for size in range(7) for letters in product("ab", repeat=size)]
"""All names of at most six letters. Two patterns with three letters each match one of these in common, if any."""
ENTRY = "prices: [{from: 2026-01-01, standard: {input: 1}}]"
patterns = st.text("ab*", min_size=1, max_size=4).filter(lambda text: "*" in text and "**" not in text)


def matches(pattern: str, name: str) -> bool:
    """Match without the library."""
    return re.fullmatch(pattern.replace("*", ".*"), name) is not None


def literals(pattern: str) -> int:
    return len(pattern.replace("*", ""))


@settings(max_examples=examples(400), deadline=None)
@given(st.dictionaries(patterns, st.sampled_from(["m", "n"]), min_size=2, max_size=6))
def test_two_patterns_conflict_if_a_name_exists_that_both_match(targets: dict[str, str]) -> None:
    """Two patterns with equally many letters and different targets are a conflict iff they match a common name."""
    found = pattern_conflicts([name_pattern(text, target) for text, target in targets.items()])
    expected = {
        frozenset((one, other))
        for one in targets
        for other in targets
        if one < other
        and literals(one) == literals(other)
        and targets[one] != targets[other]
        and any(matches(one, name) and matches(other, name) for name in NAMES)
    }
    assert {frozenset((one.text, other.text)) for one, other in found} == expected


@settings(max_examples=examples(100), deadline=None)
@given(st.dictionaries(patterns, st.sampled_from(["model-m", "model-n"]), min_size=1, max_size=4))
def test_the_pattern_with_the_most_letters_decides(targets: dict[str, str]) -> None:
    """A name means the target of the longest pattern that matches it, and no model if no pattern matches."""
    if any(pattern_conflicts([name_pattern(text, target) for text, target in targets.items()])):
        return
    lines = "\n".join(f'  "{text}": {target}' for text, target in targets.items())
    book = book_of(f"model-m: {{{ENTRY}}}\n  model-n: {{{ENTRY}}}", f"aliases:\n{lines}")
    for name in NAMES[1:64]:
        matching = sorted((text for text in targets if matches(text, name)), key=literals)
        assert _meaning(book, name) == (targets[matching[-1]] if matching else None)


def _meaning(book: PriceBook, name: str) -> str | None:
    try:
        return book.resolve_model(name)
    except BillingError as error:
        return None if error.code == "unknown_model" else error.code


def test_a_name_wins_over_an_alias_a_snapshot_and_a_pattern() -> None:
    """An exact name or alias wins over a snapshot, and a snapshot over a pattern, however long the pattern is."""
    models = "\n  ".join(
        (
            f"one: {{aliases: [other], {ENTRY}}}",
            f"one-2026-01-01: {{{ENTRY}}}",
            f'wide: {{aliases: ["on*", "othe*"], {ENTRY}}}',
        )
    )
    book = book_of(models)
    meanings = {name: _meaning(book, name) for name in ("one", "other", "one-2026-01-01", "one-20260101", "one-x")}
    assert meanings == {
        "one": "one",
        "other": "one",
        "one-2026-01-01": "one-2026-01-01",
        "one-20260101": "one",
        "one-x": "wide",
    }


def test_a_question_mark_in_an_alias_is_a_character() -> None:
    """``?`` stands for any character in the patterns of groups only: in a name it is itself, with one star or two."""
    for pattern in ("a?*", "a?*b*"):
        book = book_of(f'm: {{aliases: ["{pattern}"], {ENTRY}}}')
        assert [_meaning(book, name) for name in ("a?xb", "axxb")] == ["m", None], pattern


def test_a_longer_name_cannot_be_rewritten_forever() -> None:
    """Patterns that lead to each other, or lengthen a name, end in ``unknown_model``."""
    top = 'aliases: {"ping-*": "pong-*", "pong-*": "ping-*", "grow*": "grow-*", "self*": "self*"}'
    book = book_of(f"m: {{{ENTRY}}}", top)
    for name in ("ping-m", "pong-m", "grow", "self", "grow" + "x" * 300):
        assert _meaning(book, name) is None


def test_ten_thousand_patterns_are_read_and_matched_in_seconds() -> None:
    """Ten thousand prefixes are checked against each other, and a name is looked up among them, without delay."""
    lines = "\n".join(f'  "vendor-{number:05}/*": m' for number in range(10_000))
    started = perf_counter()
    book = book_of(f"m: {{{ENTRY}}}", f"aliases:\n{lines}")
    assert _meaning(book, "vendor-09999/any") == "m"
    assert [_meaning(book, f"vendor-{number}/any") for number in range(20)] == [None] * 20
    assert perf_counter() - started < 20


def test_ten_thousand_patterns_that_begin_alike_are_a_finding() -> None:
    """Patterns that all begin and end with a star cannot be compared pair by pair, so the file is refused at once."""
    lines = "\n".join(f'  "*{number:05}*": {"mn"[number % 2]}' for number in range(10_000))
    started = perf_counter()
    found = findings(book_of, f"m: {{{ENTRY}}}\n  n: {{{ENTRY}}}", f"aliases:\n{lines}")
    assert all("match the same names" in f.message or "too many patterns" in f.message for f in found)
    assert perf_counter() - started < 30


@pytest.mark.parametrize("name", ["<script>alert(1)</script>*", "a`b*", "a\u202eb*", "a\\\\u0000b*", " a*", "x" * 129])
def test_a_pattern_that_could_do_harm_is_refused(name: str) -> None:
    """Markup, direction marks, control characters, outer spaces and overlong patterns are not names."""
    for top in (f'aliases: {{"{name}": m}}', f'regions: {{us: ["{name}"]}}', f'upstreams: {{"{name}": {{}}}}'):
        assert findings(book_of, f"m: {{{ENTRY}}}", top), top
