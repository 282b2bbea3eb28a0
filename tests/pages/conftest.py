"""Fixtures of the pages' tests."""

from __future__ import annotations

from pricing_page_kit import tab

__all__ = ["tab"]
