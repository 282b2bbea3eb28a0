"""Archives: old texts are moved to a file, and the chain stays verifiable with and without it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import ledger_kit as kit
from brivionix_billing import BillingError
from brivionix_billing.ledger import Ledger
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.database.tables import ARCHIVE
from ledger_kit import later, refused, tables, with_credits


def fill(ledger: Ledger) -> None:
    """Post requests of every outcome, in two halves of 100 seconds, with a limit, a signal and another account."""
    with_credits(ledger)
    with_credits(ledger, account="other")
    ledger.create_token("acct", id="tok", at=later(0), group="default", secret="s" * 30)
    ledger.set_limit("acct", "daily", 90, window="day", id="limit", at=later(0))
    ledger.set_signal("acct", "low", "low_balance", threshold=99, id="signal", at=later(0))
    for half in (0, 100):
        for number in range(4):
            ledger.hold("acct", "0.9", id=f"r{half + number}", at=later(half + number + 1), token="tok")
        settle(ledger, f"r{half}", half + 10)
        ledger.release(f"r{half + 1}", at=later(half + 11))
        ledger.charge("acct", "0.25", id=f"batch{half}", at=later(half + 12))
        ledger.charge("other", "0.25", id=f"other{half}", at=later(half + 12))
        ledger.grant("acct", 1, reason="gift", id=f"gift{half}", at=later(half + 13))
        ledger.transfer("acct", "other", 2, reason="split", id=f"move{half}", at=later(half + 14))


def settle(ledger: Ledger, id: str, seconds: int) -> None:
    ledger.settle(id, kit.charge(at=later(seconds)), usage=kit.body(), at=later(seconds))


@pytest.fixture
def full(database: str) -> Iterator[Ledger]:
    """Yield a ledger with requests on each database."""
    with kit.opened(database) as ledger:
        fill(ledger)
        yield ledger


def test_an_archived_ledger_stays_valid_and_can_be_restored(full: Ledger, tmp_path: Path) -> None:
    """Verification succeeds with and without the files, in every step; a restore brings all tables back."""
    folder, before = tmp_path / "archive", tables(full)
    for seconds in (50, 150):
        done = full.archive(folder, before=later(seconds), at=later(300))
        assert done.file is not None
        assert done.file.stat().st_mode & 0o777 == 0o600
        assert (full.verify(), full.verify(archive=folder)) == ([], [])
    settle(full, "r2", 301)  # it was held before the first archive
    full.expire(at=later(5_000))
    settle(full, "r3", 5_001)  # late
    assert (full.verify(), full.verify(archive=folder)) == ([], [])
    derived = tables(full)
    full.rebuild(archive=folder)
    assert tables(full) == derived
    assert full.restore(folder) == 8 + 8
    assert full.verify() == []
    after = tables(full)
    assert after["billing_archive"] == []
    assert [row for row in before["billing_journal"] if row not in after["billing_journal"]] == []


def test_entries_that_were_archived_in_parts_and_restored_can_be_archived_at_once(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Files that stay after a restore end with the same entry as a new one, and do not hinder it, altered or not."""
    folder = tmp_path / "archive"
    fill(ledger)
    for seconds in (50, 150):
        ledger.archive(folder, before=later(seconds), at=later(300))
    moved = ledger.restore(folder)
    again = ledger.archive(folder, before=later(150), at=later(300))
    assert again.file is not None
    assert (again.entries, len(list(folder.iterdir()))) == (moved, 3)
    for content, files in ((again.file.read_bytes(), 3), (b"altered", 4)):
        ledger.restore(folder)
        again.file.write_bytes(content)
        ledger.archive(folder, before=later(150), at=later(300))
        assert len(list(folder.iterdir())) == files
        assert (ledger.verify(), ledger.verify(archive=folder)) == ([], [])


def test_balances_statements_and_holds_do_not_need_the_archive(full: Ledger, tmp_path: Path) -> None:
    """What is read from the tables is the same before and after."""

    def read() -> list[Any]:
        at = later(200)
        return [
            full.balance("acct", at=at),
            full.statement("acct", "2026-11"),
            full.usage("acct", "2026-11"),
            full.payments("acct"),
            full.open_holds("acct", at=at),
            full.limits("acct", at=at),
        ]

    before = read()
    full.archive(tmp_path, before=later(150), at=later(200))
    assert read() == before


def test_an_archived_id_is_never_used_again(full: Ledger, tmp_path: Path) -> None:
    """A retry of an archived operation, also for another account or another hold, names the file and posts nothing."""
    done = full.archive(tmp_path, before=later(50), at=later(200))
    assert done.file is not None
    before = tables(full)
    for retry in (
        lambda: full.hold("acct", "0.9", id="r0", at=later(1), token="tok"),
        lambda: full.hold("other", "0.9", id="r0", at=later(1)),
        lambda: settle(full, "r0", 10),
        lambda: full.settle("r2", 1, at=later(201), id="batch0"),
        lambda: full.charge("acct", "0.25", id="batch0", at=later(12)),
        lambda: full.reverse_charge("acct", "batch0", reason="wrong", author="Ada", id="undo", at=later(201)),
        lambda: list(full.journal("acct")),
        lambda: list(full.records("acct", "2026-11", skip_unpriced=True)),
        full.rebuild,
    ):
        with refused("entry_archived") as caught:
            retry()
        assert done.file.name in str(caught.value)
    assert tables(full) == before
    assert full.grant("acct", 1, reason="gift", id="gift0", at=later(13)).repeated  # it is not archived


def test_requests_that_are_archived_are_left_out_and_announced(ledger: Ledger, tmp_path: Path) -> None:
    """The page names a file with the charged requests that it does not list."""
    for number in range(4):
        ledger.charge("acct", 1, id=f"c{number}", at=later(number))
    assert ledger.requests("acct", at=later(9)).archived is None
    done = ledger.archive(tmp_path, before=later(2), at=later(9))
    page = ledger.requests("acct", at=later(9))
    assert done.file is not None
    assert ([request.id for request in page.requests], page.archived) == (["c3", "c2"], done.file.name)


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE billing_hold SET credits = '7.000000000000000000' WHERE id = 'r0'", "hold differs"),
        ("DELETE FROM billing_hold WHERE id = 'r1'", "hold differs"),
        ("UPDATE billing_hold SET state = 'released' WHERE id = 'r2'", "hold r2"),
        ("UPDATE billing_usage SET requests = 7 WHERE token = 'tok'", "usage differs"),
        ("UPDATE billing_lot SET used = '7.000000000000000000' WHERE id = 'lot-acct'", "lot lot-acct"),
        ("DELETE FROM billing_journal WHERE id = 'r0'", "archived entries"),
        ("UPDATE billing_journal SET body = REPLACE(body, 'gift', 'loan') WHERE id = 'gift0'", "altered"),
        ("UPDATE billing_archive SET state = REPLACE(state, '99', '98')", ""),
        ("UPDATE billing_archive SET digest = 'x'", "no entry states the archive"),
        ("UPDATE billing_journal SET hash = 'x' WHERE id = 'move0'", "altered"),
        ("DELETE FROM billing_archive", "archive file"),
        ("UPDATE billing_journal SET body = 'archived in x' WHERE id = 'r100'", "archive file"),
    ],
)
def test_verify_without_the_files_finds_what_was_altered(
    ledger: Ledger, tmp_path: Path, statement: str, found: str
) -> None:
    """Rows that were derived from archived entries are compared as all others, by row or by digest."""
    fill_sqlite(ledger)
    ledger.archive(tmp_path, before=later(50), at=later(200))
    with ledger.engine.begin() as connection:
        assert connection.exec_driver_sql(statement).rowcount
    require_found(ledger, tmp_path, found)


def require_found(ledger: Ledger, folder: Path, found: str) -> None:
    inconsistencies = ledger.verify()
    assert any(found in str(each) for each in inconsistencies), inconsistencies
    assert ledger.verify(archive=folder) != []


def test_a_change_of_any_column_of_the_archive_is_found(ledger: Ledger, tmp_path: Path) -> None:
    """Also without the files: the chain has an entry with all of the row."""
    fill_sqlite(ledger)
    ledger.archive(tmp_path, before=later(50), at=later(200))
    for column in ARCHIVE.columns.keys():  # noqa: SIM118  # not a dict
        with ledger.engine.connect() as connection:
            where = "WHERE account = 'acct'"
            (old,) = connection.exec_driver_sql(f"SELECT {column} FROM billing_archive {where}").one()
            connection.exec_driver_sql(f"UPDATE billing_archive SET {column} = '7' {where}")
            connection.commit()
            assert ledger.verify() != [], column
            where = where if column != "account" else "WHERE account = '7'"
            connection.exec_driver_sql(f"UPDATE billing_archive SET {column} = ? {where}", (old,))
            connection.commit()
    assert ledger.verify() == []


def test_an_entry_that_keeps_its_text_cannot_be_forged_with_a_matching_hash(ledger: Ledger, tmp_path: Path) -> None:
    """The entries between archived ones are not in a chain without the files, so a digest has their hashes."""
    fill_sqlite(ledger)
    ledger.archive(tmp_path, before=later(50), at=later(200))
    with ledger.engine.begin() as connection:
        (text,) = connection.exec_driver_sql("SELECT body FROM billing_journal WHERE id = 'gift0'").one()
        forged = text.replace('"gift"', '"loan"')
        connection.exec_driver_sql(
            "UPDATE billing_journal SET body = ?, hash = ? WHERE id = 'gift0'",
            (forged, sha256(forged.encode()).hexdigest()),
        )
    require_found(ledger, tmp_path, "that are not archived were altered")


def fill_sqlite(ledger: Ledger) -> None:
    """Fill the ledger of the fixture, which has the account already."""
    with ledger.engine.begin() as connection:
        for (name,) in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").all():
            if name.startswith("billing_") and name != "billing_version":
                connection.exec_driver_sql(f"DELETE FROM {name}")
    fill(ledger)


def test_an_altered_or_missing_file_is_found(full: Ledger, tmp_path: Path) -> None:
    """One changed byte is an inconsistency, and nothing is restored from it. A missing file is an error."""
    file = full.archive(tmp_path, before=later(50), at=later(200)).file
    assert file is not None
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    before = tables(full)
    assert any("altered" in str(found) for found in full.verify(archive=tmp_path))
    with refused("archive_broken"):
        full.restore(tmp_path)
    file.unlink()
    for read in (lambda: full.verify(archive=tmp_path), lambda: full.restore(tmp_path)):
        with refused("file_unreadable"):
            read()
    assert tables(full) == before


def test_a_checkpoint_covers_archived_entries(full: Ledger, tmp_path: Path) -> None:
    """One from before the archive still matches, and one from after it proves the archived state."""
    old = full.checkpoint()
    full.archive(tmp_path, before=later(50), at=later(200))
    assert full.verify(old) == []
    assert full.audit(old).unproved == 2
    assert full.audit(full.checkpoint()).unproved == 0
    assert full.audit(old, archive=tmp_path).unproved == 0
    number, hash = old["acct"]
    assert full.verify({"acct": (number, "0" * 64)}) != []
    assert full.verify({"acct": (3, hash)}) != []
    assert full.verify_new_entries(old) == []
    with refused("entry_archived"):
        full.verify_new_entries({})


def test_an_inconsistent_account_is_not_archived(ledger: Ledger, tmp_path: Path) -> None:
    """The state after the archived entries must not contain an error."""
    ledger.charge("acct", 1, id="c", at=later(1))
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE billing_usage SET requests = 7")
    with refused("journal_broken"):
        ledger.archive(tmp_path, before=later(2), at=later(2))
    assert list(tmp_path.glob("*.gz")) == []
    with refused("invalid_argument"):
        ledger.archive(tmp_path, before=later(3), at=later(2))


STEPS = ("file", "name", "read", "first account", "second account")


@pytest.mark.parametrize("step", STEPS)
def test_a_crash_leaves_each_account_as_it_was_or_archived(
    full: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A failure at any step changes no account in part, removes no text that is not on disk, and a retry mends it."""
    before, calls = tables(full), 0
    execute = Store.execute

    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    def fail_late(store: Store, statement: str, *values: Any) -> int:
        nonlocal calls
        if statement == store.sql.archive_entries:
            calls += 1
            if calls == STEPS.index(step) - 2:
                execute(store, statement, *values)
                raise KeyboardInterrupt
        return execute(store, statement, *values)

    target, replacement = {
        "file": ("os.fsync", fail),
        "name": ("os.link", fail),
        "read": ("brivionix_billing.ledger.archive_files.ArchiveFolder.check", fail),
    }.get(step, ("brivionix_billing.ledger.database.store.Store.execute", fail_late))
    with monkeypatch.context() as patch:
        patch.setattr(target, replacement)
        with pytest.raises(KeyboardInterrupt):
            full.archive(tmp_path, before=later(50), at=later(200))
    after = tables(full)
    assert (after == before) is (step != "second account")
    assert len(after["billing_archive"]) == (1 if step == "second account" else 0)
    assert list(tmp_path.glob(".brivionix*")) == []
    assert full.verify() == []
    full.archive(tmp_path, before=later(50), at=later(200))
    assert (full.verify(), full.verify(archive=tmp_path)) == ([], [])
    assert len(tables(full)["billing_archive"]) == 2
    full.restore(tmp_path)
    assert [row for row in before["billing_journal"] if row not in tables(full)["billing_journal"]] == []


def test_a_file_of_another_ledger_restores_nothing(full: Ledger, tmp_path: Path) -> None:
    """Texts are restored only to the rows with their hashes."""
    file = full.archive(tmp_path, before=later(50), at=later(200)).file
    assert file is not None
    with kit.opened(f"sqlite:///{tmp_path}/other.db") as other:
        with_credits(other)
        other.charge("acct", 1, id="x", at=later(1))
        made = other.archive(tmp_path / "b", before=later(50), at=later(200)).file
    assert made is not None
    file.write_bytes(made.read_bytes())
    with pytest.raises(BillingError, match="altered"):
        full.restore(tmp_path)
