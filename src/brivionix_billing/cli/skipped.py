"""Prints which records of the usage are not billed, on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from brivionix_billing.cli.output import count_noun, print_stderr
from brivionix_billing.invoice.aggregation.account_usage import Duplicate
from brivionix_billing.invoice.aggregation.chunks import FoundRecords
from brivionix_billing.report.rejections import RejectedGroup

__all__ = ["found_days", "print_duplicates", "print_groups", "print_out_of_scope"]

_MAX_REPORTED: Final = 20
"""Maximum number of records, or of groups of records, that are named."""


def print_duplicates(duplicates: Sequence[Duplicate], count: int) -> None:
    """Print the first repeated records, and how many there are."""
    for duplicate in duplicates[:_MAX_REPORTED]:
        print_stderr(
            f"line {duplicate.line}: request id {duplicate.request_id} is repeated with the same content; counted once"
        )
    if count > _MAX_REPORTED:
        print_stderr(f"... {count} repeated records in total")


def print_out_of_scope(count: int) -> None:
    """Print how many records are of other accounts or times."""
    if count:
        print_stderr(f"{count} records of other accounts or outside the period were ignored")


def found_days(found: FoundRecords) -> str:
    """Return from when to when the usage has records, for a period without any."""
    return f"the usage has records from {found.first[:10]} to {found.last[:10]} (UTC)"


def print_groups(groups: Sequence[RejectedGroup]) -> None:
    """Print groups of records by code, model and service tier, with advice and an example."""
    for group in groups[:_MAX_REPORTED]:
        about = ", ".join(filter(None, (group.code, group.model, group.service_tier)))
        print_stderr(f"  {count_noun(group.records, 'record')}, {about}: {group.advice()}")
        print_stderr(f"    {group.example}")
    if len(groups) > _MAX_REPORTED:
        print_stderr(f"  ... and {len(groups) - _MAX_REPORTED} more groups")
