"""Holds, and their end: each is settled or released once, whatever becomes of request, client or database."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from brivionix_billing import BillingError
from brivionix_billing.ledger import DEFAULT_HOLD_TTL, Ledger, LedgerThreadPool

from .admission import AdmittedRequest
from .background import BackgroundTasks
from .pricing import PricedResponse

__all__ = ["HoldManager"]

_LOG: Final = logging.getLogger("gateway")


class HoldManager:
    """The ledger, as the gateway's requests use it. What ends a hold is a job of the service, not of the request."""

    def __init__(
        self,
        ledger: Ledger,
        threads: LedgerThreadPool,
        jobs: BackgroundTasks,
        clock: Callable[[], datetime],
        retries: Sequence[float],
    ) -> None:
        self._ledger, self._threads, self._jobs, self._clock = ledger, threads, jobs, clock
        self._retries = (*retries, None)

    async def hold(self, call: AdmittedRequest) -> None:
        """Set the worst case aside. If this raises, nothing is held, or is being given back."""
        assert call.worst_case.charge is not None  # it was asked for with a group and a time
        try:
            await self._threads.run(
                self._ledger.hold,
                call.token.account,
                call.worst_case.charge,
                id=call.id,
                at=call.received_at,  # as the charge will have it: a month must not close between the two
                ttl=DEFAULT_HOLD_TTL
                + (self._clock() - call.received_at),  # from now on, however long the body was on its way
                token=call.token.id,
            )
        except asyncio.CancelledError:
            # The hold was finished all the same (see Threads), and nobody is left who would use it.
            self.release(call)
            raise
        except BillingError as error:
            if error.code == "ledger_unavailable":
                # The database may have taken it and failed to say so.
                self.release(call)
            raise

    def release(self, call: AdmittedRequest) -> asyncio.Task[None]:
        """Give back what a request held."""
        return self._jobs.start(self._resolve_with_retries(call, None))

    def settle(self, call: AdmittedRequest, found: PricedResponse) -> asyncio.Task[None]:
        """Charge what a request used."""
        return self._jobs.start(self._resolve_with_retries(call, found))

    async def _resolve_with_retries(self, call: AdmittedRequest, found: PricedResponse | None) -> None:
        """Do it, again if the database could not. The id makes it the same operation, so it is never done twice."""
        ledger, plain = self._ledger, False
        for wait in self._retries:
            try:
                if found is None:
                    await self._threads.run(ledger.release, call.id, at=self._clock())
                else:
                    charge, usage = (found.charge.credits, None) if plain else (found.charge, found.usage)
                    await self._threads.run(ledger.settle, call.id, charge, at=self._clock(), usage=usage)
                return
            except BillingError as error:
                if found is None and error.code in ("unknown_hold", "hold_resolved"):
                    return  # it was never made, or has expired: there is nothing to give back
                _LOG.error("%s: %s: %s", call.id, error.code, error.message)
                if error.code == "ledger_unavailable":
                    pass  # again
                elif found is None or plain or error.code == "hold_resolved":
                    break
                else:
                    plain = True  # the journal does not take this usage: the same Credits without it, rather than none
                    continue
            if wait is not None:
                await asyncio.sleep(wait)
        # The hold expires by itself, and what is settled later is charged all the same: this line has all it needs.
        record = {
            "request_id": call.id,
            "at": call.received_at.isoformat(),
            "account": call.token.account,
            "group": call.token.group,
            "model": call.model,
            "service_tier": call.service_tier,
            "usage": None if found is None else found.usage,
            "credits": "0" if found is None else str(found.charge.credits),
        }
        _LOG.critical("not booked, do it by hand: %s", json.dumps(record))
