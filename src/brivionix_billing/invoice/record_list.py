"""The list of a bill's records, ``records.txt``: reads it, and compares it with a usage file.

The list has one line per record, in tree order: the leaf hash in hexadecimal, a space, the request id. The list alone
proves nothing. Its hashes must lead to the Merkle root of the bill.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.merkle import RootBuilder
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period

__all__ = ["RecordComparison", "compare_records"]


class RecordComparison(NamedTuple):
    """The differences between a list of records and a usage file."""

    root_differs: bool
    """Whether the list leads to another root than the bill's."""
    differences: list[tuple[str, str]]
    """(record, message), in tree order."""


def compare_records(
    lines: Iterable[bytes], book: PriceBook, period: Period, account: str, list_path: Path, root: str
) -> RecordComparison:
    """Compare the list of a bill's records with the billable records of a usage file.

    ``root`` is the Merkle root that the bill states. Raises ``file_unreadable`` or ``invalid_document`` if the list
    cannot be read.
    """
    current_leaves: dict[str, bytes] = {}

    def collect(_: str, leaves: list[bytes], ids: list[str]) -> None:
        current_leaves.update(zip(ids, leaves, strict=True))

    aggregate_usage(lines, book, period, account=account, on_leaves=collect)
    tree = RootBuilder()
    differences: list[tuple[str, str]] = []
    for request_id, leaf in _read_record_list(list_path):
        tree.extend([leaf])
        current = current_leaves.pop(request_id, None)
        if current is None:
            message = "is in the bill, but the usage file has no such billable record; it may have been removed"
            differences.append((f"record {request_id}", message))
        elif current != leaf:
            differences.append((f"record {request_id}", "was altered: it is not the record that was billed"))
    differences += [
        (f"record {request_id}", "is in the usage file, but not in the bill") for request_id in current_leaves
    ]
    return RecordComparison("sha256:" + tree.root().hex() != root, differences)


def _read_record_list(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (request id, leaf hash) of each line."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                leaf, _, request_id = line.rstrip("\n").partition(" ")
                try:
                    yield request_id, bytes.fromhex(leaf)
                except ValueError:
                    message = f"{path}:{number}: not a line of a record list; use the records.txt of the bill"
                    raise BillingError("invalid_document", message) from None
    except UnicodeDecodeError:
        message = f"{path}: not a record list, because it is not UTF-8; use the records.txt of the bill"
        raise BillingError("invalid_document", message) from None
    except (OSError, ValueError) as error:
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {error}") from None
