"""Folders that tests read from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["DATA", "ROOT", "SHARED_DATA"]

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder of the project."""
DATA: Final = ROOT / "tests" / "data"
"""Small recordings and inputs that belong to the tests."""
SHARED_DATA: Final = ROOT.parent / "shared" / "data"
"""The full recordings next to the clone. Tests that need them are skipped if they are missing."""
