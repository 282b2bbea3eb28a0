"""The row of a reconciliation: a state, one cause, two amounts and their exact difference."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import subtract

__all__ = ["NO_CAUSE", "Columns", "Row", "State", "format_amount"]

NO_CAUSE: Final = ""
"""The cause of a row of which nothing is to be said."""
_NOTHING: Final = Decimal(0)


class State(StrEnum):
    """How a row of one side relates to the other side."""

    MATCHED = "matched"
    """Both sides have it, with the same amount within the tolerance of the rule."""
    DIFFERS = "differs"
    """Both sides have it, with different amounts, or with amounts that cannot be confirmed."""
    ONLY_OURS = "only_ours"
    """The other side does not have it."""
    ONLY_THEIRS = "only_theirs"
    """Our side does not have it."""
    DUPLICATE = "duplicate"
    """The same side has it a second time."""


class Columns(NamedTuple):
    """Names of the columns of the rows of one kind of reconciliation."""

    key: str
    """The column that identifies a row, such as ``request_id``."""
    theirs: str
    """The column of the amount of the other side, such as ``logged``."""
    ours: str
    """The column of the amount of our side, such as ``expected``."""
    details: tuple[str, ...] = ()
    """Further columns, after the amounts."""

    @property
    def names(self) -> tuple[str, ...]:
        """All columns in their order."""
        return (self.key, "state", "cause", self.theirs, self.ours, "difference", "unit", *self.details)


class Row(NamedTuple):
    """A row of a result. Its two amounts have the same unit."""

    key: str
    state: State
    cause: str
    """One word, the same for all rows of this kind; :data:`NO_CAUSE` for most rows that match."""
    unit: str
    """The currency (ISO 4217), or another unit such as ``quota``."""
    theirs: Decimal | None
    """The amount of the other side; ``None`` if it has no such row."""
    ours: Decimal | None
    """The amount of our side; ``None`` if it has no such row."""
    details: Mapping[str, str] = {}  # a default that nothing changes
    """Texts of further columns."""

    @property
    def difference(self) -> Decimal:
        """Theirs minus ours, exactly. A side without an amount counts as 0."""
        return subtract(self.theirs or _NOTHING, self.ours or _NOTHING)

    def as_dict(self, columns: Columns) -> dict[str, Any]:
        """Return the cells by column. Amounts are plain decimals, and empty if there is none."""
        return {
            columns.key: self.key,
            "state": self.state.value,
            "cause": self.cause,
            columns.theirs: "" if self.theirs is None else format_amount(self.theirs),
            columns.ours: "" if self.ours is None else format_amount(self.ours),
            "difference": format_amount(self.difference),
            "unit": self.unit,
            **{name: self.details.get(name, "") for name in columns.details},
        }


def format_amount(amount: Decimal) -> str:
    """Format a finite amount like :func:`~brivionix_billing.decimals.format_plain`, which is slower."""
    if not amount:
        return "0"
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
