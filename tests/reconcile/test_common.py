"""Rules, matching and results, which every reconciliation has in common."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing.reconcile.matching import Item, Key, Match, Rule, match
from brivionix_billing.reconcile.result import Input, Result, ResultWriter
from brivionix_billing.reconcile.rows import Columns, Row, State

COLUMNS = Columns("id", "statement", "ledger", ("at",))
NOON = datetime(2026, 10, 1, 12, tzinfo=UTC)
BY_ID = Key(("id",))
BY_ACCOUNT = Key(("account",), timedelta(minutes=5), same_amount=True)
RULE = Rule("payments test", "statement", "ledger", (BY_ID, BY_ACCOUNT))


def item(amount: str, *, key: str = "", account: str = "", minutes: int = 0, unit: str = "USD") -> Item:
    return Item({"id": key, "account": account}, unit, Decimal(amount), NOON + timedelta(minutes=minutes))


def states(theirs: list[Item], ours: list[Item], rule: Rule = RULE) -> list[str]:
    return [found.state.value for found in match(theirs, ours, rule)]


def test_the_first_key_is_tried_first() -> None:
    """An equal id pairs two items, although another item is closer by the second key."""
    ours = [item("5", account="ada"), item("5", key="a", account="bob", minutes=60)]
    (pair, rest) = match([item("5", key="a", account="ada")], ours, RULE)
    assert (pair.ours, pair.key, rest.ours) == (ours[1], BY_ID, ours[0])


def test_the_closest_time_within_the_window_is_taken() -> None:
    """Without an id, the item whose time is closest is paired, and one outside of the window never is."""
    ours = [item("5", account="ada", minutes=-4), item("5", account="ada", minutes=1)]
    (pair, _) = match([item("5", account="ada")], ours, RULE)
    assert pair.ours == ours[1]
    assert states([item("5", account="ada")], [item("5", account="ada", minutes=6)]) == ["only_theirs", "only_ours"]


def test_their_side_may_be_later_by_the_delay() -> None:
    """The delay extends the window for items of the other side that come later, and only for those."""
    rule = Rule("payments test", "statement", "ledger", (BY_ACCOUNT,), delay=timedelta(hours=1))
    assert states([item("5", account="ada", minutes=59)], [item("5", account="ada")], rule) == ["matched"]
    assert states([item("5", account="ada")], [item("5", account="ada", minutes=59)], rule)[0] == "only_theirs"


def test_a_second_item_with_the_same_id_is_a_duplicate() -> None:
    """On either side, a further item with an id that its side has already is a duplicate."""
    one = item("5", key="a")
    assert states([one, one], [one]) == ["matched", "duplicate"]
    assert states([one], [one, one]) == ["matched", "duplicate"]
    assert states([one, one], []) == ["only_theirs", "duplicate"]


def test_a_unit_never_matches_another() -> None:
    """Items in different currencies are not paired."""
    assert states([item("5", key="a")], [item("5", key="a", unit="CNY")]) == ["only_theirs", "only_ours"]


@pytest.mark.parametrize(("amount", "state"), [("10.10", "matched"), ("10.11", "differs")])
def test_amounts_agree_within_the_larger_tolerance(amount: str, state: str) -> None:
    """The larger of the absolute tolerance and the tolerance as a fraction applies, its limit included."""
    rule = Rule("payments test", "a", "b", (BY_ID,), tolerance=Decimal("0.02"), ratio_tolerance=Decimal("0.01"))
    assert states([item(amount, key="a")], [item("10", key="a")], rule) == [state]


ITEMS = st.lists(
    st.builds(
        item,
        st.decimals(-100, 100, places=3).map(str),
        key=st.sampled_from(["", "a", "b"]),
        account=st.sampled_from(["", "ada", "bob"]),
        minutes=st.integers(0, 12),
        unit=st.sampled_from(["USD", "CNY"]),
    ),
    max_size=8,
)


@given(ITEMS, ITEMS)
def test_every_item_is_in_one_match(theirs: list[Item], ours: list[Item]) -> None:
    """Each item of both sides is in exactly one match."""
    found = match(theirs, ours, RULE)
    assert Counter(id(each.theirs) for each in found if each.theirs) == Counter(map(id, theirs))
    assert Counter(id(each.ours) for each in found if each.ours) == Counter(map(id, ours))


def row(found: Match) -> Row:
    theirs, ours = found.theirs, found.ours
    either = theirs or ours
    assert either is not None
    cause = "" if found.state is State.MATCHED else "amount"
    amounts = (theirs.amount if theirs else None, ours.amount if ours else None)
    return Row(either.fields["id"], found.state, cause, either.unit, *amounts, {"at": "=1+1"})


def write(folder: Path, theirs: list[Item], ours: list[Item], form: str = "csv") -> Result:
    with ResultWriter(folder, RULE, COLUMNS, form) as writer:
        for each in theirs:
            writer.count(each.unit, theirs=each.amount)
        for each in ours:
            writer.count(each.unit, ours=each.amount)
        for found in match(theirs, ours, RULE):
            writer.add(row(found))
        return writer.finish([Input("statement.csv", "sha256:00")], notes=["a note"])


THEIRS = [item("5.10", key="a"), item("7", key="b"), item("0.1", account="ada")]
OURS = [item("5", key="a"), item("2", key="c"), item("0.1", account="ada", minutes=1)]


def test_differences_add_up_to_the_difference_of_the_totals(tmp_path: Path) -> None:
    """The differences of the rows, in rows.csv and by cause, sum to the difference of the totals, exactly."""
    write(tmp_path, THEIRS, OURS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    lines = (tmp_path / "rows.csv").read_text().splitlines()[1:]
    assert summary["totals"] == {"USD": {"statement": "12.2", "ledger": "7.1", "difference": "5.1"}}
    assert sum(Decimal(line.split(",")[5]) for line in lines) == Decimal("5.1")
    assert sum(Decimal(cause["difference"]) for cause in summary["causes"]) == Decimal("5.1")
    assert summary["agrees"] is False


def write_wrong_sum(folder: Path) -> None:
    with ResultWriter(folder, RULE, COLUMNS) as writer:
        writer.count("USD", theirs=Decimal("5.10"))
        writer.add(Row("a", State.ONLY_THEIRS, "missing", "USD", Decimal(5), None))
        writer.finish([])


def test_rows_that_do_not_add_up_are_never_a_result(tmp_path: Path) -> None:
    """If a row is lost or changed on its way, nothing is written."""
    with pytest.raises(RuntimeError, match="add up"):
        write_wrong_sum(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["csv", "parquet", "xlsx"])
def test_a_repeated_run_gives_the_same_bytes(tmp_path: Path, form: str) -> None:
    """Rows and summary of the same inputs are the same files, in every format."""
    pytest.importorskip({"parquet": "duckdb", "xlsx": "xlsxwriter"}.get(form, "csv"))
    for name in ("one", "two"):
        write(tmp_path / name, THEIRS, OURS, form)
    for file in (f"rows.{form}", "summary.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_parquet_has_the_rows_of_csv(tmp_path: Path) -> None:
    """In Parquet amounts are decimals, and texts are without the apostrophe of CSV."""
    duckdb = pytest.importorskip("duckdb")
    write(tmp_path, THEIRS, OURS, "parquet")
    rows = duckdb.sql(f"SELECT * EXCLUDE (cause, unit) FROM '{tmp_path}/rows.parquet'").fetchall()
    assert rows[0] == ("a", "differs", Decimal("5.1"), Decimal(5), Decimal("0.1"), "=1+1")
    assert rows[3] == ("c", "only_ours", None, Decimal(2), Decimal(-2), "=1+1")
