"""Fixtures of the command line's tests."""

from __future__ import annotations

from cli_kit import run
from cli_ledger_kit import command

__all__ = ["command", "run"]
