"""What a change of a price file changes: for whom, from when, and by how much."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.pricebook.changes import is_edit, list_prices, price_changes
from brivionix_billing.pricebook.price_change import PriceChange, percent_change
from request_strategies import book_settings
from samples import SHIPPED, D, shipped, utc
from strategies import TIERS, Data, books, instants, render

TEXT = SHIPPED.read_text("utf-8")
MINI = "standard: {input: 0.75, cache_read: 0.075, output: 4.5}"


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command. Returns the exit status, stdout and stderr."""
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def changes(old: str, new: str, times: int = 1) -> list[PriceChange]:
    """Return what a replacement in the shipped file changes."""
    assert old in TEXT
    return price_changes(shipped(), PriceBook.loads(TEXT.replace(old, new, times)))


def test_a_list_price_is_one_change_for_all_groups() -> None:
    """A list price that changes is one change, with the groups that pay it, from the start of its entry."""
    later = f"{MINI}\n      - from: 2026-10-01\n        standard: {{input: 0.6, cache_read: 0.075, output: 4.5}}"
    (change,) = changes(MINI, later)
    assert change.subject == ("gpt-5.4-mini", "standard", "any", "", "input")
    assert (change.start, change.old, change.new) == (utc("2026-10-01"), D("0.75"), D("0.6"))
    assert change.groups == ("default", "mini-only", "coding", "partner", "free-trial")
    assert change.as_dict()["percent"] == "-20.00"
    assert is_edit(change, shipped())


@pytest.mark.parametrize(
    ("old", "new", "kind", "subject", "values"),
    [
        ("ratio: 0.95", "ratio: 0.96", "ratio", ("partner",), (D("0.95"), D("0.96"))),
        ("gpt-5.3-codex: {ratio: 0.8}", "gpt-5.3-codex: {ratio: 0.7}", "ratio", ("coding", "gpt-5.3-codex"),
         (D("0.8"), D("0.7"))),
        ("models: [gpt-5.4-mini]", "models: [gpt-5.4-mini, gpt-5.2]", "access", ("mini-only", "gpt-5.2"),
         (None, "allowed")),
        ("standard: {input: 1.5, cache_read: 0.15", "standard: {input: 1.6, cache_read: 0.15", "group_price",
         ("partner", "gpt-5.2", "standard", "any", "", "input"), (D("1.5"), D("1.6"))),
        ("price_per_credit: 0.85", "price_per_credit: 0.8", "channel", ("rmb", "CNY"), (D("0.85"), D("0.8"))),
    ],
)  # fmt: skip
def test_each_kind_of_term_is_compared(old: str, new: str, kind: str, subject: object, values: object) -> None:
    """Ratios, models of groups, prices of groups and channels are compared apart from list prices."""
    (change,) = changes(old, new)
    assert (change.kind, change.subject, (change.old, change.new)) == (kind, subject, values)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("window: 400000", "window: 500000"),
        ("Best value", "Cheap"),
    ],
)
def test_limits_and_texts_are_no_change(old: str, new: str) -> None:
    """A change that moves no price is none."""
    assert changes(old, new) == []


def test_additions_are_no_edits_of_the_past() -> None:
    """A new group with an early date edits nothing, and a fee for a model that was sold then does."""
    group = "  fresh:\n    terms: [{from: 2026-01-01, ratio: 2, models: [gpt-5.2]}]\n  coding:\n"
    assert not any(is_edit(change, shipped()) for change in changes("  coding:\n", group))
    assert all(is_edit(change, shipped()) for change in changes(MINI, MINI.replace("4.5}", "4.5, request: 0.1}")))
    assert all(is_edit(change, shipped()) for change in changes(MINI, MINI.replace("4.5}", "4.5, minimum: 0.1}")))


def test_a_default_cache_discount_changes_the_prices_of_a_group() -> None:
    """A group's own price of input gives its price of cached input, which moves with the default discount."""
    base = (
        "version: 1\ncredit: {currency: USD, nominal_per_credit: 1}\n"
        "cache_discount: [{from: 2026-01-01, discount: 0.9}, {from: 2026-05-01, discount: 0.8}]\n"
        "models: {m: {prices: [{from: 2026-01-01, standard: {input: 10}}]}}\n"
        "groups: {g: {terms: [{from: 2026-01-01, ratio: 1, models: [m], "
        "overrides: {m: {prices: {standard: {input: 5}}}}}]}}\n"
    )
    old, new = PriceBook.loads(base), PriceBook.loads(base.replace("0.8", "0.5"))
    (change,) = [change for change in price_changes(old, new) if change.kind == "group_price"]
    assert (change.start, change.subject[-1]) == (utc("2026-05-01"), "cache_read")
    assert (change.old, change.new) == (D("1"), D("2.5"))
    assert is_edit(change, old)


NEW_CHANNEL = "channels:\n  wechat: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.9}]}\n"


def test_an_earlier_price_of_a_published_channel_is_an_edit() -> None:
    """A bill states a channel for its whole period, so an earlier start edits it, and a new channel does not."""
    published = utc("2026-06-01")
    later = PriceBook.loads(TEXT.replace("channels:\n", NEW_CHANNEL.replace("2026-01-01", "2026-05-15")))
    unused = PriceBook.loads(TEXT.replace("channels:\n", NEW_CHANNEL.replace("2026-01-01", "2026-06-15")))
    early = PriceBook.loads(TEXT.replace("channels:\n", NEW_CHANNEL))
    edits = [
        {change.kind for change in price_changes(old, early) if is_edit(change, old, published)}
        for old in (shipped(), later, unused)
    ]
    assert edits == [set(), {"channel", "channel_entry"}, set()]


@given(st.decimals("0.0001", "1000", places=4), st.decimals("0", "1000", places=4))
def test_a_percentage_is_rounded_half_up(old: Decimal, new: Decimal) -> None:
    """The change in per cent is that of exact fractions, rounded to two places, halves away from zero."""
    exact = (Fraction(new) - Fraction(old)) / Fraction(old) * 10_000
    rounded = int(abs(exact) + Fraction(1, 2)) * (1 if exact >= 0 else -1)
    shown = percent_change(old, new)
    assert shown is not None
    assert Fraction(shown) == Fraction(rounded, 100)


@book_settings
@given(books(), books(), st.lists(instants, min_size=3, max_size=6))
def test_the_changes_are_the_differences_at_every_time(old: Data, new: Data, times: list[datetime]) -> None:
    """At any time, the list prices that differ are exactly those of the changes in whose period it is."""
    one, other = PriceBook.loads(render(old)), PriceBook.loads(render(new))
    found = [change for change in price_changes(one, other) if change.kind == "list_price"]
    for at in times:
        expected = set()
        for model in {*one.model_names, *other.model_names}:
            for tier in TIERS:
                prices = [
                    list_prices(book, model, tier, at) if model in book.model_names else {} for book in (one, other)
                ]
                for key in {**prices[0], **prices[1]}:
                    values = prices[0].get(key), prices[1].get(key)
                    if values[0] != values[1]:
                        expected.add(((model, tier, *key), *values))
        assert expected == {(c.subject, c.old, c.new) for c in found if c.start <= at < c.end}


def test_the_command_refuses_edits_of_published_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``diff --published`` exits with 1 if a price that was in force before that time changes, else with 0."""
    edited = tmp_path / "new.yaml"
    edited.write_text(TEXT.replace("input: 0.75", "input: 0.8"), "utf-8")
    status, out, err = command(capsys, "diff", str(SHIPPED), str(edited), "--published", "2026-11-01")
    assert status == 1
    assert "gpt-5.4-mini standard input: 0.75 -> 0.8 (6.67 %)" in out
    assert "edits what is published" in err
    assert command(capsys, "diff", str(SHIPPED), str(edited), "--published", "2026-01-01")[0] == 0
    assert command(capsys, "diff", str(SHIPPED), str(SHIPPED), "--published", "2030-01-01")[0] == 0
