"""The commands ``ledger signal`` and ``ledger signals``."""

from __future__ import annotations

import json

import pytest

from cli_ledger_kit import LedgerCommand

AT = ("--at", "2026-10-05")


def test_a_signal_from_its_setting_to_its_acknowledgement(command: LedgerCommand) -> None:
    """A signal is set, listed, leased as one line of JSON, acknowledged, and removed."""
    set_it = ("signal", "set", "acct_1", "low", "--kind", "low_balance", "--threshold", "200", "--id", "s1", *AT)
    assert command.run_ok(*set_it).startswith("signal low: low_balance\n")
    assert "This operation was done before" in command.run_ok(*set_it)
    (setting,) = command.json("signal", "list", "acct_1")
    assert (setting["name"], setting["threshold"], setting["quiet"]) == ("low", "200", "recovery")
    (signal,) = command.json("signals", "list")
    assert (signal["account"], signal["number"], signal["acknowledged_by"]) == ("acct_1", 1, None)
    assert signal["content"] == {"balance": "100", "threshold": "200"}
    (line,) = command.run_ok("signals", "lease", *AT).splitlines()
    assert json.loads(line)["content"] == {"balance": "100", "threshold": "200"}
    assert command.run_ok("signals", "lease", "--limit", "5", "--seconds", "9", *AT) == ""
    assert "up to 1 are acknowledged" in command.run_ok("signals", "acknowledge", "acct_1", "1", *AT)
    assert command.json("signals", "list", "acct_1") == []
    assert command.json("signals", "list", "acct_1", "--all")[0]["acknowledged_by"] == "signals:acct_1:1"
    assert command.json("signals", "list", "acct_1", "--all", "--after", "1") == []
    assert "is removed" in command.run_ok("signal", "remove", "acct_1", "low", "--id", "s2", *AT)
    assert command.json("signal", "list", "acct_1") == []


def test_all_options_of_a_signal(command: LedgerCommand) -> None:
    """The options of an automatic top-up and of a limit reach the ledger."""
    command.run_ok("limit", "set", "acct_1", "daily", "--amount", "5", "--window", "day", "--id", "l1", *AT)
    command.run_ok(
        *("signal", "set", "acct_1", "a", "--kind", "top_up_due", "--threshold", "10", "--credits", "50"),
        *("--cap", "200", "--zone", "Asia/Shanghai", "--id", "s1", *AT),
    )
    command.run_ok(
        *("signal", "set", "acct_1", "b", "--kind", "limit_near", "--limit", "daily", "--share", "0.8", "--id", "s2"),
        *AT,
    )
    first, second = command.json("signal", "list", "acct_1")
    assert (first["credits"], first["cap"], first["zone"]) == ("50", "200", "Asia/Shanghai")
    assert (second["limit"], second["share"], second["threshold"]) == ("daily", "0.8", None)


@pytest.mark.parametrize(
    "args",
    [
        ("signal", "set", "acct_1", "a", "--kind", "low_balance", "--id", "s"),
        ("signal", "set", "acct_1", "a", "--kind", "debt", "--share", "0.5", "--id", "s"),
        ("signal", "remove", "acct_1", "a", "--id", "s"),
        ("signals", "acknowledge", "acct_1", "1"),
        ("signals", "acknowledge", "acct_1", "0"),
        ("signals", "lease", "--limit", "0"),
        ("signals", "lease", "--seconds", "0"),
        ("signals", "lease", "--seconds", "99999999999999999999"),
        ("signals", "list", "--all"),
        ("signals", "list", "--after", "3"),
    ],
)
def test_invalid_arguments(command: LedgerCommand, args: tuple[str, ...]) -> None:
    """Missing, foreign and impossible arguments are errors in one line."""
    assert command.error_code(*args) == "invalid_argument"
