"""The share of its worst case that a request is expected to use, from recent requests.

A hold of the worst case fills the windows of limits while the request is in flight, mostly with tokens that it will
not use. So the limits may count an expected share instead, see ``GatewayPolicy.expected_quantile``.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from decimal import ROUND_UP, Context, Decimal
from math import ceil
from typing import Final

from brivionix_billing.rating import Charge
from brivionix_billing.tokens import WorstCase

__all__ = ["ObservedShares"]

_SIZE: Final = 200
"""Number of recent requests that are observed, for each account and model."""
_LEAST: Final = 20
"""With fewer observations, the worst case is expected."""
_MAX_KEYS: Final = 10_000
_CONTEXT: Final = Context(prec=3, rounding=ROUND_UP)
_SMALLEST: Final = Decimal("0.001")


class ObservedShares:
    """The shares of their worst cases that the last 200 requests of each account and model used, in this process.

    ``quantile`` is that of the shares which a request is expected to use, above 0 and at most 1.
    """

    def __init__(self, quantile: Decimal) -> None:
        self._quantile = quantile
        self._shares: OrderedDict[tuple[str, str], deque[Decimal]] = OrderedDict()

    def expected(self, account: str, model: str) -> Decimal:
        """Return the share that a request is expected to use: 1 until 20 requests were observed."""
        shares = self._shares.get((account, model), ())
        if len(shares) < _LEAST:
            return Decimal(1)
        return sorted(shares)[ceil(self._quantile * len(shares)) - 1]

    def observe(self, account: str, model: str, worst_case: WorstCase, charge: Charge) -> None:
        """Record what a request used: of the Credits or of the tokens, whichever share is larger."""
        if worst_case.charge is None:
            return
        usage = charge.usage
        share = max(
            _share(charge.units, worst_case.charge.units),
            _share(usage.input_tokens + usage.output_tokens, worst_case.input_tokens + worst_case.output_tokens),
        )
        shares = self._shares.setdefault((account, model), deque(maxlen=_SIZE))
        shares.append(min(max(share, _SMALLEST), Decimal(1)))
        self._shares.move_to_end((account, model))
        if len(self._shares) > _MAX_KEYS:
            self._shares.popitem(last=False)


def _share(used: int, most: int) -> Decimal:
    """Return a share with three digits, rounded up."""
    return _CONTEXT.divide(Decimal(used), Decimal(most)) if most else Decimal(0)
