"""Many processes on one balance: no Credit is held twice, no update is lost, and no other error reaches a caller."""

from __future__ import annotations

from pathlib import Path

from contention import contend
from ledger_kit import schema


def test_sixteen_processes_on_one_balance_in_sqlite(tmp_path: Path) -> None:
    """CASES 30: of 20 000 holds, exactly those that the balance covers are granted, and no process starves."""
    contest = contend(f"sqlite:///{tmp_path / 'ledger.db'}", synchronous="NORMAL")
    assert min(contest.shares) > 0  # `contend` asserts the rest


def test_sixteen_processes_on_one_balance_in_postgresql(postgres: str) -> None:
    """CASES 30: of 2400 holds on PostgreSQL, exactly those that the balance covers are granted."""
    with schema(postgres) as url:
        assert min(contend(url, holds=2_400, covered=1_500, pool_size=1).shares) > 0
