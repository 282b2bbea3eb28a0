"""A process that dies at any statement loses nothing, and what it was asked for can be asked for again."""

from __future__ import annotations

import re
import subprocess
import sys

from crash_scenario import day
from paths import ROOT

SCRIPT = ROOT / "tests" / "support" / "crash_scenario.py"


def test_killed_at_every_statement_the_day_ends_where_it_would_have_ended(database: str) -> None:
    """Killed before each statement and each commit of a day: the ledger is sound, and the same ids end the same day."""
    done = subprocess.run([sys.executable, SCRIPT, database], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = re.fullmatch(r"(\d+) of (\d+) points, (\d+) operations, (\d+) entries: all sound\n", done.stdout)
    assert told is not None, done.stdout
    points, of, operations, entries = map(int, told.groups())
    assert points == of > 9 * operations
    assert operations == len(day())
    assert entries == operations + 2  # a hold and a lot expired meanwhile
    print(done.stdout)
