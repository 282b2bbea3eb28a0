"""What to do with numbers of a usage object that are on no meter: report them, reject them, ignore them, or price them.

A price file says so by path, in ``unaccounted``; the caller of ``PriceBook.rate`` may say so for one request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, Meter, custom_meter
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.usage import Usage
from brivionix_billing.usage.fields import UsageExtras, require_quantity
from brivionix_billing.usage.notes import UsageNotes

__all__ = ["ACTIONS", "DEFAULT_ACTIONS", "IGNORE", "REASONING", "REJECT", "REPORT", "UnaccountedPolicy"]

REPORT: Final = "report"
REJECT: Final = "reject"
IGNORE: Final = "ignore"
REASONING: Final = "reasoning"
ACTIONS: Final = (REPORT, REJECT, IGNORE, REASONING)
"""Actions beside the names of meters."""

DEFAULT_ACTIONS: Final[Mapping[str, str]] = {
    # The upstream's own price of the request is not a quantity. Perplexity's usage.cost.request_cost is a fee, and
    # stays reported.
    "usage.cost": IGNORE,
    "usage.cost.input_tokens_cost": IGNORE,
    "usage.cost.output_tokens_cost": IGNORE,
    "usage.cost.total_cost": IGNORE,
    "usage.cost_details.*": IGNORE,
    "usage.cost_in_usd_ticks": IGNORE,
    "usage*.cost_estimate": IGNORE,
    # Anthropic charges nothing for a fetched page beside its tokens, and xAI nothing for a call of an MCP server.
    "usage.server_tool_use.web_fetch_requests": IGNORE,
    "usage.server_side_tool_usage_details.mcp_calls": IGNORE,
}
"""Path -> action, for paths that a price file does not mention. Every other path is reported."""


class UnaccountedPolicy:
    """Actions by path, the first match first: of the caller or the price file, then the default ones."""

    def __init__(self, actions: Mapping[str, str], meters: Mapping[str, Meter]) -> None:
        self._meters = meters
        self._rules: list[tuple[Callable[[str], bool], str]] = [
            (matcher([pattern]), action) for pattern, action in (*actions.items(), *DEFAULT_ACTIONS.items())
        ]

    def action(self, path: str) -> str:
        """Return ``report``, ``reject``, ``ignore`` or the name of a meter."""
        return next((action for matches, action in self._rules if matches(path)), REPORT)

    def apply(self, usage: Usage) -> Usage:
        """Return the usage with priced paths on their meters, and only reported paths left as unaccounted.

        Raises ``unaccounted_usage`` for a path that is to be rejected.
        """
        reported: list[tuple[str, Decimal | int]] = []
        priced: dict[str, int] = {}
        for path, value in usage.unaccounted:
            action = self.action(path)
            if action == REPORT:
                reported.append((path, value))
            elif action == REJECT:
                raise BillingError(
                    "unaccounted_usage",
                    f"{path} is {format_plain(Decimal(value))}, which the price file rejects under 'unaccounted'; "
                    "bill the request by hand, or price the path as a meter",
                )
            elif action != IGNORE:
                priced[action] = priced.get(action, 0) + self._quantity(path, value, action)
        if len(reported) == len(usage.unaccounted):
            return usage
        return _with_quantities(usage, priced, tuple(reported), self._meters)

    def _quantity(self, path: str, value: Decimal | int, name: str) -> int:
        """Return a number as the stored quantity of a meter."""
        meter = self._meters.get(name)
        if meter is None and name != REASONING:
            raise BillingError(
                "invalid_argument",
                f"unaccounted: {safe_repr(name)} for {path} is no action; use report, reject, ignore or a meter",
            )
        places = 0 if meter is None else meter.places
        return require_quantity(f"{path}, priced as {name},", value, places)


def _with_quantities(
    usage: Usage,
    priced: Mapping[str, int],
    reported: tuple[tuple[str, Decimal | int], ...],
    meters: Mapping[str, Meter],
) -> Usage:
    extras = usage.extras or UsageExtras()
    notes = extras.notes or UsageNotes()
    notes = notes._replace(unaccounted=reported, reported=usage)
    input_tokens = usage.input_tokens
    basic = {"input": usage.input_quantity, "cache_read": usage.cache_read_quantity, "output": usage.output_quantity}
    others = dict(extras.meters)
    reasoning = usage.reasoning_tokens
    for name, quantity in priced.items():
        stored = "output" if name == REASONING else name
        if name == REASONING:
            reasoning += quantity
        meter = meters.get(stored) or custom_meter(stored, "unit")
        if meter.direction == "input":
            input_tokens += quantity
        target = basic if stored in basic else others
        target[stored] = target.get(stored, 0) + quantity
    order = {name: index for index, name in enumerate(METERS)}
    ordered = sorted(others.items(), key=lambda item: (order.get(item[0], len(order)), item[0]))
    return Usage.from_fields(
        usage._replace(
            input_tokens=input_tokens,
            input_quantity=basic["input"],
            cache_read_quantity=basic["cache_read"],
            output_quantity=basic["output"],
            reasoning_tokens=reasoning,
            extras=extras._replace(meters=tuple(ordered), notes=notes if any(notes) else None),
        )
    )
