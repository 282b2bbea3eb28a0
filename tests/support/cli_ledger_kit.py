"""Runs the ledger's subcommands on a ledger of two accounts."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from bill_kit import BOOK
from brivionix_billing import Usage
from brivionix_billing.ledger import Ledger
from cli_kit import Run

__all__ = ["Desk", "FIRST", "Json", "OCTOBER", "available", "desk"]

Json = dict[str, Any]


OCTOBER = ("--period", "2026-10")


FIRST = datetime(2026, 10, 1, tzinfo=UTC)


class Desk:
    """Runs subcommands on a ledger of two accounts."""

    def __init__(self, run: Run) -> None:
        self.run, self.folder = run, run.folder
        self.does("migrate")
        for account in ("acct_1", "acct_2"):
            self.does("open", account, "--id", f"open-{account}", "--at", "2026-09-01")
        self.top_up("acct_1", "85", "evt_1", "2026-09-20")

    def __call__(self, *args: str) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        return self.run("ledger", *args)

    def does(self, *args: str) -> str:
        """What a subcommand prints that must be done."""
        status, out, err = self(*args)
        assert status == 0, err
        return out

    def json(self, *args: str) -> Any:
        """The same, as JSON."""
        return json.loads(self.does(*args, "--format", "json"))

    def refused(self, *args: str) -> str:
        """The code of the error of a subcommand that must be refused."""
        status, out, err = self(*args)
        assert (status, out) == (2, ""), out
        return err.rpartition("[")[2].rstrip("]\n")

    def top_up(self, account: str, pay: str, id: str, at: str) -> None:
        """A payment in RMB."""
        payment = ("--channel", "rmb", "--pay", pay, "--reference", f"pi_{id}")
        self.does("topup", account, *payment, "--id", id, "--at", at)

    def ledger(self) -> Ledger:
        """The same ledger, as a gateway has it."""
        return Ledger.open("sqlite:///ledger.db", BOOK)

    def requests(self, rows: list[Json]) -> None:
        """Requests that a gateway serves: each is held for, and settled."""
        ledger = self.ledger()
        for row in rows:
            at = datetime.fromisoformat(row["at"])
            usage = Usage.from_response(row["usage"])
            charge = BOOK.rate(usage, model=row["model"], group=row["group"], at=at, service_tier=row["service_tier"])
            ledger.hold(row["account"], "0.5", id=row["request_id"], at=at)
            ledger.settle(row["request_id"], charge, usage=row["usage"], at=at + timedelta(seconds=9))
        ledger.close()

    def tampered(self, statement: str) -> None:
        """Change the database behind the ledger's back."""
        with sqlite3.connect(self.folder / "ledger.db") as connection:
            connection.execute(statement)
        connection.close()


@pytest.fixture
def desk(run: Run, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A ledger in the folder of the command."""
    monkeypatch.delenv("BRIVIONIX_LEDGER", raising=False)
    return Desk(run)


def available(desk: Desk, account: str = "acct_1") -> Decimal:
    """What an account can spend."""
    return Decimal(desk.json("balance", account)[0]["available"])
