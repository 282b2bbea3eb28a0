"""Writes the result of a reconciliation: its rows, and a summary by state and cause.

A result does not depend on the time, the machine or the folder of its inputs: repeating a run gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, NamedTuple

from brivionix_billing.decimals import add, format_plain, negate, sum_exact
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write, atomic_write_bytes, make_folder
from brivionix_billing.reconcile.matching import Rule
from brivionix_billing.reconcile.rows import Columns, Row, State
from brivionix_billing.tabular import CsvLines, format_table, quote_formula

__all__ = ["FORMATS", "CauseTotal", "Input", "Result", "ResultWriter", "Totals", "input_of", "row_cells"]

FORMATS: Final = ("csv", "parquet", "xlsx")
"""Formats of the file of rows."""
_VERSION: Final = "brivionix-reconciliation/1"
_BATCH: Final = 2_000
"""Rows that are formatted together."""
_STATES: Final = {state: position for position, state in enumerate(State)}


class Input(NamedTuple):
    """A file or a table that a result was made from."""

    name: str
    """The name of the file without its folder, or of the table."""
    digest: str
    """``sha256:...`` of the bytes of the file, or of the rows of the table."""


def input_of(path: str | Path) -> Input:
    """Return the name and the digest of a file. Raises ``file_unreadable``."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {reason}") from None
    return Input(Path(path).name, f"sha256:{digest}")


@dataclass(slots=True)
class Totals:
    """Sums of one unit, exact."""

    rows: int = 0
    theirs: Decimal | int = 0
    ours: Decimal | int = 0

    def add(self, rows: int, theirs: Decimal | int, ours: Decimal | int) -> None:
        """Add to all sums."""
        self.rows += rows
        self.theirs, self.ours = _add(self.theirs, theirs), _add(self.ours, ours)

    @property
    def difference(self) -> Decimal:
        """Theirs minus ours."""
        return sum_exact((Decimal(self.theirs), negate(Decimal(self.ours))))

    def as_dict(self, columns: Columns) -> dict[str, Any]:
        """Return the sums as plain decimals."""
        return {
            columns.theirs: format_plain(Decimal(self.theirs)),
            columns.ours: format_plain(Decimal(self.ours)),
            "difference": format_plain(self.difference),
        }


class CauseTotal(NamedTuple):
    """The sums of the rows of one state, cause and unit."""

    state: State
    cause: str
    unit: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Result:
    """What a reconciliation found. The rows are in a file."""

    rule: Rule
    columns: Columns
    inputs: tuple[Input, ...]
    price_book: str | None
    """Digest of the price book, if prices were compared."""
    causes: tuple[CauseTotal, ...]
    """In the order of states, then by cause and unit."""
    totals: Mapping[str, Totals]
    """Unit -> the sums of all rows."""
    rows: Input
    """The file of rows."""
    notes: tuple[str, ...] = ()
    """What was assumed, and what a reader should know."""
    figures: Mapping[str, Any] = field(default_factory=dict)
    """Further figures of one kind of reconciliation, as JSON values with amounts as texts."""

    @property
    def agrees(self) -> bool:
        """Whether every row is matched."""
        return all(each.state is State.MATCHED for each in self.causes)

    def as_dict(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        states: dict[str, int] = dict.fromkeys(map(str, State), 0)
        for each in self.causes:
            states[each.state.value] += each.totals.rows
        return {
            "format": _VERSION,
            "rule": self.rule.as_dict(),
            "rule_digest": self.rule.digest,
            "inputs": [each._asdict() for each in self.inputs],
            "price_book": self.price_book,
            "agrees": self.agrees,
            "totals": {unit: totals.as_dict(self.columns) for unit, totals in self.totals.items()},
            "states": states,
            "causes": [
                {
                    "state": each.state.value,
                    "cause": each.cause,
                    "unit": each.unit,
                    "rows": each.totals.rows,
                    **each.totals.as_dict(self.columns),
                }
                for each in self.causes
            ],
            "notes": list(self.notes),
            **({"figures": dict(self.figures)} if self.figures else {}),
            "rows": {**self.rows._asdict(), "count": sum(states.values())},
        }

    def write_summary(self, folder: Path) -> None:
        """Write ``summary.json``."""
        summary = json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"
        atomic_write_bytes(folder / "summary.json", summary.encode("utf-8", "backslashreplace"))

    def as_text(self) -> str:
        """Return the summary for people: one line per state, cause and unit, and the totals."""
        heading = ["state", "cause", "unit", "rows", self.columns.theirs, self.columns.ours, "difference"]
        lines = [
            [each.state.value, each.cause or "-", each.unit, *_shown(each.totals, self.columns)] for each in self.causes
        ]
        lines += [["total", "", unit, *_shown(totals, self.columns)] for unit, totals in self.totals.items()]
        verdict = "The books agree." if self.agrees else "The books disagree."
        if not self.causes:
            verdict = "Nothing was compared: neither side has a row."
        return "\n".join([format_table([heading, *lines], left=3), *("", *self.notes) * bool(self.notes), "", verdict])


def _shown(totals: Totals, columns: Columns) -> list[str]:
    return [f"{totals.rows:,}", *totals.as_dict(columns).values()]


@dataclass(slots=True)
class ResultWriter:
    """Writes the rows of a result as they are found, and checks that they add up.

    Use it as a context manager, and :meth:`finish` it within the block. Files appear when the block ends without an
    error. :meth:`count` is for the code that reads the inputs, :meth:`add` for the code that compares them; so the sums
    of the rows are checked against sums that were made independently of them.
    """

    folder: Path
    rule: Rule
    columns: Columns
    format: str = "csv"
    _files: ExitStack = field(default_factory=ExitStack)
    _out: IO[bytes] | None = None
    _hash: Any = None
    _pending: CsvLines = field(default_factory=CsvLines)
    _sums: dict[tuple[State, str, str], Totals] = field(default_factory=lambda: defaultdict(Totals))
    _inputs: dict[str, Totals] = field(default_factory=lambda: defaultdict(Totals))
    _kept: io.BytesIO | None = None
    """The rows, if their format needs all of them at once."""

    def __enter__(self) -> ResultWriter:
        if self.format not in FORMATS:
            raise BillingError(
                "invalid_argument", f"{safe_repr(self.format)} is not a format of rows; use {', '.join(FORMATS)}"
            )
        make_folder(self.folder)
        if self.format == "csv":
            self._out = self._files.enter_context(atomic_write(self.folder / self._file_name))
        else:
            from brivionix_billing.reconcile.row_formats import require_format

            require_format(self.format)
            self._out = self._kept = io.BytesIO()
        self._hash = hashlib.sha256()
        self._pending.add_row(self.columns.names)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.__exit__(kind, error, trace)

    @property
    def _file_name(self) -> str:
        return f"rows.{self.format}"

    def count(self, unit: str, *, theirs: Decimal | int = 0, ours: Decimal | int = 0) -> None:
        """Count an amount of an input as it is read. Amounts of one side may be counted one by one or as a sum."""
        self._inputs[unit].add(0, theirs, ours)

    def add(self, row: Row) -> None:
        """Add a row."""
        self._sums[row.state, row.cause, row.unit].add(1, row.theirs or 0, row.ours or 0)
        self._pending.add_row(row_cells(row, self.columns))
        if len(self._pending) >= _BATCH:
            self._flush()

    def add_formatted(
        self, lines: str, state: State, cause: str, unit: str, rows: int, theirs: Decimal | int, ours: Decimal | int
    ) -> None:
        """Add rows of one state, cause and unit that the caller has formatted as lines of CSV. They may be many."""
        self._sums[state, cause, unit].add(rows, theirs, ours)
        if lines:
            self._pending.append(lines)
            self._flush()

    def _flush(self) -> None:
        data = "".join(self._pending).encode("utf-8", "backslashreplace")
        assert self._out is not None  # noqa: S101  # open within the block
        self._hash.update(data)
        self._out.write(data)
        self._pending.clear()

    def finish(
        self,
        inputs: Iterable[Input],
        price_book: str | None = None,
        notes: Sequence[str] = (),
        figures: Mapping[str, Any] | None = None,
    ) -> Result:
        """Write what is left and ``summary.json``, and return the result.

        Raises ``RuntimeError`` if the rows do not add up to what was counted: a bug that must not be booked.
        """
        self._flush()
        totals: dict[str, Totals] = {}
        for (_, _, unit), each in sorted(self._sums.items(), key=lambda item: item[0][2]):
            sums = totals.setdefault(unit, Totals())
            sums.add(each.rows, each.theirs, each.ours)
        for unit in {*totals, *self._inputs}:
            counted, found = self._inputs.get(unit, Totals()), totals.get(unit, Totals())
            if (counted.theirs, counted.ours) != (found.theirs, found.ours):
                raise RuntimeError(
                    f"the rows in {unit} add up to {found.theirs} and {found.ours}, "
                    f"but the inputs to {counted.theirs} and {counted.ours}"
                )
        causes = [CauseTotal(*key, each) for key, each in self._sums.items()]
        causes.sort(key=lambda each: (_STATES[each.state], each.cause, each.unit))
        rows = Input(self._file_name, f"sha256:{self._hash.hexdigest()}")
        if self._kept is not None:
            from brivionix_billing.reconcile.row_formats import convert

            content = convert(self._kept.getvalue(), self.columns, self.format)
            rows = Input(self._file_name, f"sha256:{hashlib.sha256(content).hexdigest()}")
            atomic_write_bytes(self.folder / self._file_name, content)
        result = Result(
            self.rule, self.columns, tuple(inputs), price_book, tuple(causes), totals, rows, tuple(notes), figures or {}
        )
        result.write_summary(self.folder)
        return result


def row_cells(row: Row, columns: Columns) -> list[str]:
    """Return the cells of a row, as a line of CSV has them."""
    cells = row.as_dict(columns).values()
    # A cell that starts with a letter or a digit is no formula.
    return [cell if not cell or cell[0].isalnum() else quote_formula(cell) for cell in cells]


def _add(total: Decimal | int, amount: Decimal | int) -> Decimal | int:
    """Return the exact sum. Whole numbers stay integers, which are faster."""
    if type(total) is int and type(amount) is int:
        return total + amount
    return add(Decimal(total), Decimal(amount))
