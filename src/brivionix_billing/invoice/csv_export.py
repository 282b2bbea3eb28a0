"""The lines of a bill as CSV, for accounting systems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.invoice.document import rounded_costs
from brivionix_billing.invoice.figures import LINE_CONDITIONS
from brivionix_billing.tabular import format_csv

__all__ = ["lines_csv"]

_LINE_COLUMNS: Final = (
    *("model", "group", "service_tier", "context_tier", "price_since", "meter", "quantity", "per"),
    *("list_price", "ratio", "unit_price", "credits"),
)


def lines_csv(document: Mapping[str, Any]) -> str:
    """Return a header row and one row per line.

    ``credits`` is exact, in Credits. Prices are nominal USD per ``per``. A bill with prices of routers, regions, modes,
    windows or other currencies has columns for them. Each ``rounded_`` column adds up to the
    rounded total, and is in the currency of its name. A price that is null is an empty cell. Raises
    ``invalid_document`` if a line has no cost through a channel of the document.
    """
    totals = document["totals"]
    nominal = f"rounded_nominal_{totals['nominal']['currency']}"
    channels: dict[str, str] = {}
    for name, total in totals["channels"].items():
        column = f"rounded_{name}_{total['currency']}"
        # A channel may be called "nominal", and many readers of CSV merge columns with equal names.
        channels[name] = f"{column}_channel" if column == nominal else column
    # Most bills have no such lines, and importers are set up for the usual columns.
    conditions = [name for name in LINE_CONDITIONS if any(line.get(name) for line in document["lines"])]
    columns = ["bill", "kind", "account", "period", *_LINE_COLUMNS, *conditions]
    columns += ["rounded_credits", nominal, *channels.values()]
    rows = []
    for line in document["lines"]:
        rounded = line["rounded"]
        rows.append(
            {
                "bill": document["id"],
                "kind": document["kind"],
                "account": document["customer"]["account"],
                "period": document["period"]["name"],
                **{name: line[name] for name in _LINE_COLUMNS},
                **{name: line.get(name) for name in conditions},
                "rounded_credits": rounded["credits"],
                nominal: rounded["nominal"],
                **{channels[name]: cost for name, cost in rounded_costs(document, rounded).items()},
            }
        )
    return format_csv(rows, columns)
