"""Formats the result of a verification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from brivionix_billing.invoice.report import VerificationReport

__all__ = ["report_dict", "report_text"]


def report_text(verdict: str, report: VerificationReport, printed_notes: set[str]) -> str:
    """Return a verdict with its differences and notes, without unprintable characters.

    ``printed_notes`` collects the notes of all reports, so that each is printed once.
    """
    out = [verdict]
    out += [f"  {difference}" for difference in report.differences[:200]]
    if len(report.differences) > 200:
        out.append(f"  ... and {len(report.differences) - 200} more differences")
    notes = [note for note in dict.fromkeys(report.notes) if note not in printed_notes]
    printed_notes.update(notes)  # a note that applies to all documents is printed once
    out += [f"  note: {note}" for note in notes]
    return "".join("".join(c if c.isprintable() else "?" for c in line) + "\n" for line in out)


def report_dict(path: Path, report: VerificationReport) -> dict[str, Any]:
    """Return a report as JSON data."""
    return {
        "path": str(path),
        "id": report.id,
        "verified": report.ok,
        "signature": report.signature,
        "differences": [difference._asdict() for difference in report.differences],
        "notes": report.notes,
    }
