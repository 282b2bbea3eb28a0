"""Crash safety: a killed process loses nothing, and its operations can be retried."""

from __future__ import annotations

import re
import subprocess
import sys

from crash_scenario import day
from paths import ROOT

SCRIPT = ROOT / "tests" / "support" / "crash_scenario.py"


def test_a_day_killed_at_every_statement_ends_like_a_day_without_a_crash(database: str) -> None:
    """A day that is killed before any statement or commit, and retried with the same ids, ends in the same tables.

    In a quick run it is killed at a random one of every 24 statements.
    """
    done = subprocess.run([sys.executable, SCRIPT, database], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = re.fullmatch(
        r"(\d+) of (\d+) points, (\d+) operations, (\d+) entries, (\d+) archives: all valid\n", done.stdout
    )
    assert report is not None, done.stdout
    points, of, operations, entries, archives = map(int, report.groups())
    assert of > 9 * operations
    assert points >= of // 24
    assert archives >= 5
    assert operations == len(day())
    # The expiries of a hold and a lot, the second entries of two transfers, and the allowance of a free plan.
    assert entries == operations + 5
    print(done.stdout)
