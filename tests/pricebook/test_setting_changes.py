"""``diff`` reports what moves a past charge beside prices: settings, calendars, and what names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from brivionix_billing.pricebook.changes import is_edit, price_changes
from brivionix_billing.pricebook.price_change import PriceChange
from samples import utc

PUBLISHED = utc("2026-11-01")
BASE = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
priced_model: requested
unpriced_tokens: refuse
service_tiers: {priority: [scale]}
calendars:
  peak:
    time_zone: Asia/Shanghai
    rules:
      - {from: 2026-01-01, hours: ["09:00-12:00"]}
  late:
    time_zone: Asia/Shanghai
    rules:
      - {from: 2026-01-01, hours: ["11:00-14:00"]}
upstreams:
  up: {cache_read: in_input}
meters:
  widgets: {unit: call, per: 1}
aliases: {"zz/*": "*", "old-*": m2}
regions: {us: [us-east], default: [eu-west]}
models:
  m1:
    aliases: [one, "ft:m1:*"]
    released: 2026-01-01
    prices:
      - from: 2026-01-01
        standard:
          {input: 1, widgets: 1, windows: {peak: {factor: 2}, late: {factor: 3}}, regions: {us: {factor: 1.1}}}
  m2:
    prices:
      - {from: 2026-01-01, standard: {input: 4, output: 5}}
  router:
    routes_to: [m1]
    prices:
      - {from: 2026-01-01, standard: {router_fee: 0.14}}
channels:
  rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}
groups:
  default:
    terms:
      - {from: 2026-01-01, ratio: 1, models: ["*"]}
"""


def compared(old: str, new: str, base: str = BASE) -> list[tuple[PriceChange, bool]]:
    """Return the changes of a replacement in the file, each with whether it edits what is published."""
    assert old in base
    books = PriceBook.loads(base), PriceBook.loads(base.replace(old, new, 1))
    return [(change, is_edit(change, books[0], PUBLISHED)) for change in price_changes(*books)]


def edited(old: str, new: str, base: str = BASE) -> set[tuple[str, ...]]:
    """Return kind and subject of each edit of what is published."""
    return {(change.kind, *change.subject) for change, edits in compared(old, new, base) if edits}


@pytest.mark.parametrize(
    ("old", "new", "edit"),
    [
        ("nominal_per_credit: 1", "nominal_per_credit: 2", ("credit", "nominal_per_credit")),
        ("{currency: USD", "{currency: EUR", ("credit", "currency")),
        ("priced_model: requested", "priced_model: served", ("priced_model",)),
        ("unpriced_tokens: refuse", "unpriced_tokens: as_container", ("unpriced_tokens", "m1")),
        ("  m2:\n", "  m2:\n    unpriced_tokens: as_container\n", ("unpriced_tokens", "m2")),
        ("unpriced_tokens: refuse", "", None),
        ("priority: [scale]", "standard: [scale]", ("service_tier", "scale")),
        ("priority: [scale]", "priority: [scale, default]", ("service_tier", "default")),
        ("{priority: [scale]}", "{}", ("service_tier", "scale")),
        ("09:00-12:00", "08:00-12:00", ("calendar", "peak")),
        ("time_zone: Asia/Shanghai", "time_zone: Asia/Tokyo", ("calendar", "peak")),
        ('"09:00-12:00"]', '"09:00-12:00"], weekdays: [mon]', ("calendar", "peak")),
        ('"09:00-12:00"]', '"09:00-12:00"], excluded_dates: [2026-10-01]', ("calendar", "peak")),
        ("cache_read: in_input", "cache_read: beside_input", ("upstream", "up")),
        ("  up: {cache_read: in_input}", "  other: {}", ("upstream", "up")),
        ("unit: call, per: 1", "unit: call, per: 1000", ("meter", "widgets", "per")),
        ("unit: call", "unit: second", ("meter", "widgets", "unit")),
        ("routes_to: [m1]", "routes_to: [m2]", ("route", "router", "m1")),
        ("routes_to: [m1]", "routes_to: [m1, m2]", ("route", "router", "m2")),
        ("us: [us-east]", "us: []", ("region", "us-east")),
        ("us: [us-east], default: [eu-west]", "us: [us-east, eu-west]", ("region", "eu-west")),
        ("m2:\n    prices:\n", "m2:\n    released: 2025-01-01\n    prices:\n", ("name", "m2-2024-12-31")),
        ("    aliases: [one, ", "    aliases: [", ("name", "one")),
        (', "ft:m1:*"]', "]", ("name", "ft:m1:*")),
        ('"zz/*": "*", ', "", ("name", "zz/*")),
        ('"old-*": m2', '"old-*": m1', ("name", "old-*")),
        ('"old-*": m2', '"old-*": m2, "old-x*": m1', ("name", "old-x*")),
        ('"old-*": m2', '"old-*": m2, "zz/m2*": m1', ("name", "zz/m2*")),
        ("released: 2026-01-01", "released: 2025-12-01\n    cache_discount: false", None),
        ("  m2:\n", "  m1-2026-05-05:\n    prices: [{from: 2027-01-01, standard: {input: 9}}]\n  m2:\n",
         ("name", "m1-2026-05-05")),
        ("  m2:\n", "  m3:\n    aliases: [zz/m2]\n    prices: [{from: 2027-01-01, standard: {input: 9}}]\n  m2:\n",
         ("name", "zz/m2")),
        ("windows: {peak: {factor: 2}, late: {factor: 3}}", "windows: {late: {factor: 3}, peak: {factor: 2}}",
         ("price_entry", "m1", "standard", "", "order of windows")),
        ("      - {from: 2026-01-01, standard: {input: 4, output: 5}}",
         "      - {from: 2026-01-01, standard: {input: 4, output: 5}}\n"
         "      - {from: 2026-02-01, standard: {input: 4, output: 5}}",
         ("price_entry", "m2", "standard", "effective from")),
        ("[{from: 2026-01-01, price_per_credit: 0.85}]",
         "[{from: 2026-01-01, price_per_credit: 0.85}, {from: 2026-02-01, price_per_credit: 0.85}]",
         ("channel_entry", "rmb", "effective from")),
    ],
)  # fmt: skip
def test_what_moves_a_past_charge_is_an_edit(old: str, new: str, edit: tuple[str, ...] | None) -> None:
    """A setting, calendar or name that past charges depend on is reported, and is an edit of what is published."""
    found = edited(old, new)
    assert found == set() if edit is None else edit in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('      - {from: 2026-01-01, hours: ["09:00-12:00"]}',
         '      - {from: 2026-01-01, hours: ["09:00-12:00"]}\n      - {from: 2026-11-01, hours: ["09:00-11:00"]}'),
        ('["09:00-12:00"]', '["09:00-10:00", "10:00-12:00"]'),
        ('"09:00-12:00"]', '"09:00-12:00"], excluded_dates: [2027-01-01]'),
        ("priority: [scale]", "priority: [scale, fastest]"),
        ("us: [us-east]", "us: [us-east, us-west]"),
        ("  up: {", "  more: {}\n  up: {"),
        ("[one, ", "[one, uno, "),
        ("  m2:\n",
         '  m3:\n    aliases: [three, "3*"]\n    prices: [{from: 2026-01-01, standard: {input: 9}}]\n  m2:\n'),
        ('"zz/*": "*"', '"zz/*": "*", "yy/*": "*", "zz/special-*": m2'),
        ("  widgets: {unit: call, per: 1}", "  widgets: {unit: call, per: 1}\n  other: {unit: call}"),
    ],
)  # fmt: skip
def test_additions_and_later_rules_are_no_edits(old: str, new: str) -> None:
    """Names that meant nothing, new models, and calendar rules from the time on that is published, edit nothing."""
    assert edited(old, new) == set()


def test_an_unused_calendar_or_region_is_no_edit() -> None:
    """What no published price uses may change."""
    base = BASE.replace("windows: {peak: {factor: 2}, late: {factor: 3}}, regions: {us: {factor: 1.1}}", "request: 1")
    assert edited("09:00-12:00", "09:00-11:00", base) == set()
    assert edited("us: [us-east]", "us: []", base) == set()


def test_a_calendar_change_states_both_rules() -> None:
    """The change of a calendar has the rule before and after it, and starts when they differ."""
    ((change, edits),) = compared('"09:00-12:00"]', '"09:00-12:00"], excluded_dates: [2026-10-01/2026-10-07]')
    assert (change.start, edits) == (utc("2026-09-30T16:00:00Z"), True)
    assert change.old == "daily 09:00-12:00 Asia/Shanghai"
    assert change.new == "daily 09:00-12:00 Asia/Shanghai except 2026-10-01/2026-10-07"


def run(tmp_path: Path, old: str, new: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    """Compare the file with a replacement by the command. Returns the status, the lines of stdout, and stderr."""
    (tmp_path / "old.yaml").write_text(BASE, "utf-8")
    (tmp_path / "new.yaml").write_text(BASE.replace(old, new, 1), "utf-8")
    status = main(["diff", str(tmp_path / "old.yaml"), str(tmp_path / "new.yaml"), "--published", "2026-11-01"])
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def test_a_new_model_is_one_line_and_no_edit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model that a group may use by a pattern is one line from its first price on, and edits nothing."""
    model = "  m3:\n    prices: [{from: 2027-01-01, standard: {input: 9, output: 9}}]\n  m2:\n"
    status, lines, err = run(tmp_path, "  m2:\n", model, capsys)
    assert (status, err) == (0, "")
    assert lines == ["from 2027-01-01T00:00:00Z: new model m3: 2 prices in standard; groups default"]


def test_a_change_without_prices_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only a change of limits, texts or the order is reported as none of prices."""
    assert run(tmp_path, "  m2:\n", "  m2:\n    context: {window: 7}\n", capsys)[:2] == (
        0, ["no price changes; limits, texts or the order do"]
    )  # fmt: skip
    assert run(tmp_path, 'models: ["*"]', "models: [m1, m2, router]", capsys)[:2] == (
        0, ["no price changes; the new file states the same prices in another form"]
    )  # fmt: skip
    assert run(tmp_path, "in_input", "beside_input", capsys)[0] == 1


def test_check_notes_a_model_that_took_the_name_of_another(tmp_path: Path) -> None:
    """A model whose name is a snapshot or a pattern of an older model gets a note; one that is as old does not."""
    path = tmp_path / "pricing.yaml"
    for name, start, notes in (
        ("m1-2026-05-05", "2027-01-01", 1),
        ("old-x", "2027-01-01", 1),
        ("old-x", "2026-01-01", 0),
    ):
        model = f"  {name}:\n    prices: [{{from: {start}, standard: {{input: 9}}}}]\n  m2:\n"
        path.write_text(BASE.replace("  m2:\n", model, 1), "utf-8")
        found = [note for note in PriceBook.load_with_notes(path)[1] if "without this model" in note.message]
        assert len(found) == notes
