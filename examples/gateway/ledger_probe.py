"""Whether the ledger answers, for load balancers, at once and under any load."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from brivionix_billing import BillingError
from brivionix_billing.gateway import GatewayBilling

__all__ = ["LedgerProbe"]

_WAIT_SECONDS: Final = 0.1
_MAX_SECONDS: Final = 10.0
"""How long the ledger may take before it counts as unavailable."""


class LedgerProbe:
    """Asks the ledger, once at a time however often it is called."""

    def __init__(self, billing: GatewayBilling) -> None:
        self._billing = billing
        self._asking: asyncio.Task[Any] | None = None
        self._asked_at = 0.0

    async def check(self) -> str:
        """Return ``ok``, or ``busy`` if the ledger has not answered yet. Raises ``ledger_unavailable``."""
        loop = asyncio.get_running_loop()
        if self._asking is None:
            self._asked_at = loop.time()
            self._asking = self._billing.background.start(self._ask())
            # No one may wait for it any more when it fails, and asyncio would log the error with its message.
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        asking = self._asking
        if (await asyncio.wait((asking,), timeout=_WAIT_SECONDS))[0]:
            asking.result()
            return "ok"
        if loop.time() - self._asked_at > _MAX_SECONDS:
            raise BillingError("ledger_unavailable", f"the ledger has not answered for {_MAX_SECONDS:g} s")
        return "busy"

    async def _ask(self) -> None:
        try:
            await self._billing.threads.run(self._billing.ledger.entry, "health")
        finally:
            self._asking = None
