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

__all__ = ["LedgerCommand", "FIRST", "Json", "OCTOBER", "available", "command"]

Json = dict[str, Any]


OCTOBER = ("--period", "2026-10")


FIRST = datetime(2026, 10, 1, tzinfo=UTC)


class LedgerCommand:
    """Runs subcommands on a ledger of two accounts."""

    def __init__(self, run: Run) -> None:
        self.run, self.folder = run, run.folder
        self.run_ok("migrate")
        for account in ("acct_1", "acct_2"):
            self.run_ok("open", account, "--id", f"open-{account}", "--at", "2026-09-01")
        self.top_up("acct_1", "85", "evt_1", "2026-09-20")

    def __call__(self, *args: str) -> tuple[int, str, str]:
        """Run a subcommand. Returns exit status, stdout and stderr."""
        return self.run("ledger", *args)

    def run_ok(self, *args: str) -> str:
        """Run a subcommand that must succeed. Returns stdout."""
        status, out, err = self(*args)
        assert status == 0, err
        return out

    def json(self, *args: str) -> Any:
        """Run a subcommand that must succeed. Returns its JSON."""
        return json.loads(self.run_ok(*args, "--format", "json"))

    def error_code(self, *args: str) -> str:
        """Run a subcommand that must fail. Returns the error code."""
        status, out, err = self(*args)
        assert (status, out) == (2, ""), out
        return err.rpartition("[")[2].rstrip("]\n")

    def top_up(self, account: str, pay: str, id: str, at: str) -> None:
        """Credit a payment in RMB."""
        payment = ("--channel", "rmb", "--pay", pay, "--reference", f"pi_{id}")
        self.run_ok("topup", account, *payment, "--id", id, "--at", at)

    def ledger(self) -> Ledger:
        """Open the ledger in Python."""
        return Ledger.open("sqlite:///ledger.db", BOOK)

    def serve(self, rows: list[Json]) -> None:
        """Hold and settle requests, as a gateway does."""
        ledger = self.ledger()
        for row in rows:
            at = datetime.fromisoformat(row["at"])
            usage = Usage.from_response(row["usage"])
            charge = BOOK.rate(usage, model=row["model"], group=row["group"], at=at, service_tier=row["service_tier"])
            ledger.hold(row["account"], "0.5", id=row["request_id"], at=at)
            ledger.settle(row["request_id"], charge, usage=row["usage"], at=at + timedelta(seconds=9))
        ledger.close()

    def tamper(self, statement: str) -> None:
        """Change the database behind the ledger's back."""
        with sqlite3.connect(self.folder / "ledger.db") as connection:
            connection.execute(statement)
        connection.close()


@pytest.fixture
def command(run: Run, monkeypatch: pytest.MonkeyPatch) -> LedgerCommand:
    """A ledger of two accounts in the folder of the command."""
    monkeypatch.delenv("BRIVIONIX_LEDGER", raising=False)
    return LedgerCommand(run)


def available(command: LedgerCommand, account: str = "acct_1") -> Decimal:
    """Return the available Credits of an account."""
    return Decimal(command.json("balance", account)[0]["available"])
