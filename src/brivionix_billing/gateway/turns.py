"""Turns of accounts: who may go on if several wait for the same thing."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

__all__ = ["PACED_BYTES", "Pace", "Turns"]

PACED_BYTES: Final = 64 * 1024
"""Size of the parts of a body or stream that a :class:`Pace` lets pass, in bytes. What is shorter never waits."""


class Turns:
    """A number of places. If several accounts wait for one, they take turns, however much each has waiting."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By account, the account whose turn is next first."""

    async def take(self, account: str) -> None:
        """Take a place when it is the account's turn. Call :meth:`give_back` after that, unless it was cancelled."""
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()  # the turn came at the same moment
            raise

    def give_back(self) -> None:
        """Give a place to the account whose turn it is."""
        while self._waiting:
            account = next(iter(self._waiting))
            turns = self._waiting.pop(account)
            turn = turns.popleft()
            if turns:
                self._waiting[account] = turns  # at the end
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def admit_all(self) -> None:
        """Give a place to everything that waits, beyond the number of places."""
        while self._waiting:
            self._free -= 1
            self.give_back()


class Pace:
    """Lets the parts of long bodies or streams pass at a limited rate, in bytes per second for all together.

    Accounts take turns. While a long body arrives at the speed of a local network, the event loop is never idle. Every
    other thread, and so the ledger with the requests of all customers, then waits for Python's lock, some milliseconds
    at each statement.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._bytes_per_second = bytes_per_second
        self._turns = Turns(1)

    async def wait(self, account: str, count: int) -> None:
        """Wait until ``count`` bytes of an account may be read on. After them, nothing passes for their time."""
        await self._turns.take(account)
        asyncio.get_running_loop().call_later(count / self._bytes_per_second, self._turns.give_back)
