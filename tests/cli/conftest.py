"""Fixtures of the command line's tests."""

from __future__ import annotations

from cli_kit import run
from cli_ledger_kit import desk

__all__ = ["desk", "run"]
