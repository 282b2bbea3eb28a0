"""What all pages of a bill, HTML, PDF and text, show in the same way: its heading, and its channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["bill_heading", "is_statement", "shown_channels"]


def is_statement(document: Mapping[str, Any]) -> bool:
    """Return whether a bill only states the use of prepaid Credits: it has no taxes, and nothing is due."""
    return document["kind"] == "invoice" and not document["due"] and not document.get("taxes")


def bill_heading(document: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Return the title of a document, or the one that its content has in a language."""
    heading: str = document.get("title") or words["statement" if is_statement(document) else document["kind"]]
    return heading


def shown_channels(document: Mapping[str, Any], all_channels: bool) -> list[str]:
    """Return the channels that pages show, that of payment first: only this one, unless all are requested."""
    names, payment = list(document["totals"]["channels"]), document["payment"]
    if not payment or payment["channel"] not in names:
        return names
    others = [name for name in names if name != payment["channel"]] if all_channels else []
    return [payment["channel"], *others]
