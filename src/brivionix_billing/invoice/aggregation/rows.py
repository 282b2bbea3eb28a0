"""The row of a record, and sums of rows by bucket."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from typing import Any, Final, NamedTuple

from brivionix_billing.meters import BASIC_METERS

__all__ = ["COLUMN", "UNBILLED", "BucketSums", "PackedRow", "RecordRow", "sum_rows"]

UNBILLED: Final = -1
"""The bucket of a record that is rejected or out of scope. Its request id counts for duplicates all the same."""


class RecordRow(NamedTuple):
    """One record: the values that sort it, add it up and name it."""

    key: bytes
    """SHA-256 of the request id."""
    request_id: str
    line: int
    leaf: bytes
    bucket: int
    """Number of its bucket, or ``UNBILLED``; then the fields below are empty."""
    account: int
    """Number of its account, or ``UNBILLED``."""
    at: str
    """Time in UTC without Z."""
    input: int
    cache_read: int
    output: int
    """The billed quantities of ``BASIC_METERS``, by their names."""
    other_meters: tuple[tuple[str, int], ...]
    """(meter, quantity), for all meters but the three above."""
    parts: tuple[tuple[int, tuple[tuple[str, int], ...]], ...] = ()
    """(bucket, quantities) of the runs of other models within the request."""
    unaccounted: tuple[tuple[str, str], ...] = ()
    """(path, number as text) of what the usage states and nothing is charged for."""
    notes: tuple[Any, ...] = ()
    """See :class:`ComparedCharges`."""


PackedRow = tuple[Any, ...]
"""The fields of a :class:`RecordRow` as a plain tuple, which can be packed."""


COLUMN: Final = {name: column for column, name in enumerate(RecordRow._fields)}
"""Field of a row -> its place in a packed row."""
_bucket_of = itemgetter(COLUMN["bucket"])
_others_of = itemgetter(COLUMN["other_meters"])
_quantity_of = [(meter, itemgetter(COLUMN[meter])) for meter in BASIC_METERS]
_PARTS: Final = COLUMN["parts"]


@dataclass(slots=True)
class BucketSums:
    """The sums of one bucket."""

    requests: int = 0
    quantities: dict[str, int] = field(default_factory=dict)
    """Meter -> billed quantity."""

    def add(self, requests: int, quantities: Iterable[tuple[str, int]], sign: int = 1) -> None:
        """Add requests with (meter, billed quantity), or with a ``sign`` of -1 take them away."""
        self.requests += sign * requests
        for name, quantity in quantities:
            self.quantities[name] = self.quantities.get(name, 0) + sign * quantity


def sum_rows(rows: Iterable[PackedRow]) -> dict[int, BucketSums]:
    """Return the sums of rows by bucket, without those that are not billed."""
    members = defaultdict[int, list[PackedRow]](list)
    for row in rows:
        members[_bucket_of(row)].append(row)
    members.pop(UNBILLED, None)
    # Sums over columns are faster than a loop over rows.
    sums = {
        bucket: BucketSums(len(found), {meter: sum(map(quantity_of, found)) for meter, quantity_of in _quantity_of})
        for bucket, found in members.items()
    }
    for bucket, found in members.items():
        sums[bucket].add(0, chain.from_iterable(map(_others_of, found)))
        for row in found:
            if len(row) > _PARTS:
                for other, quantities in row[_PARTS]:
                    sums.setdefault(other, BucketSums()).add(0, quantities)
    return sums
