"""Operations leave nothing to the garbage collector: rows and cursors are freed when an operation ends."""

from __future__ import annotations

import gc
from pathlib import Path

from crash_scenario import run_day
from ledger_kit import opened


def test_no_operation_leaves_a_circle_of_objects(tmp_path: Path) -> None:
    """A day with every kind of operation leaves no objects of this library that refer to each other in a circle."""
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            run_day(ledger)
            gc.collect()
            left = [type(item).__name__ for item in gc.garbage if type(item).__module__.startswith("brivionix_billing")]
        finally:
            gc.set_debug(0)
            gc.enable()
            gc.garbage.clear()
    assert left == []
