"""The commands of plans: ``ledger subscribe`` and those after it."""

from __future__ import annotations

import pytest

from cli_ledger_kit import LedgerCommand
from paths import ROOT

AT = ("--at", "2026-11-05")
LATER = ("--at", "2026-11-20")


@pytest.fixture(autouse=True)
def plans(command: LedgerCommand) -> None:
    """The price file has plans."""
    texts = [(ROOT / name).read_text("utf-8") for name in ("pricing.yaml", "examples/plans.yaml")]
    (command.folder / "pricing.yaml").write_text("\n".join(texts), encoding="utf-8")


def pay(command: LedgerCommand, order: str, gross: str, at: tuple[str, str] = AT) -> None:
    command.run_ok(
        *("payment", "acct_1", "--channel", "rmb", "--gross", gross, "--reference", order, "--order", order),
        *("--id", f"pay-{order}", *at),
    )


def test_a_plan_from_its_subscription_to_its_end(command: LedgerCommand) -> None:
    """An account subscribes, pays, upgrades at once, and cancels; each state is printed."""
    subscribed = command.run_ok("subscribe", "acct_1", "basic", "--channel", "rmb", "--id", "sub", *AT)
    assert subscribed.startswith("subscription sub: basic, unpaid\n")
    ordered = command.run_ok("order-period", "acct_1", "sub", "--tax-rate", "0.06", "--id", "first", *AT)
    assert "order first: 100 Credits for 72.08 CNY by rmb, until 2026-12-05T00:00:00Z\n" in ordered
    pay(command, "first", "72.08")
    changed = command.run_ok("change-plan", "acct_1", "sub", "pro", "--channel", "rmb", "--id", "up", *LATER)
    assert changed.splitlines()[:3] == [
        "subscription sub: pro, active until 2026-12-05T00:00:00Z",
        "34 CNY of lot pay-first pay for 57.142857 Credits, lot ~up:0001",
        "order up: 142.857143 Credits for 85.00 CNY by rmb, until 2026-12-05T00:00:00Z",
    ]
    options = ("--channel", "rmb", "--at-period-end", "--id", "down")
    assert ", then basic\n" in command.run_ok("change-plan", "acct_1", "sub", "basic", *options, *LATER)
    (due,) = command.json("due-renewals", "--before", "2026-12-05", *LATER)
    assert (due["id"], due["next_plan"], due["next_price"]) == ("sub", "basic", "68.00 CNY")
    assert command.json("due-renewals", *LATER) == []
    cancelled = command.run_ok("cancel-plan", "acct_1", "sub", "--id", "cancel", *LATER)
    assert cancelled.startswith("subscription sub: pro, cancelled until 2026-12-05T00:00:00Z\n")
    (found,) = command.json("subscriptions", "acct_1", "--at", "2026-12-05")
    assert (found["state"], found["next_plan"], found["order"]) == ("ended", None, "up")


def test_a_free_plan_has_its_allowance_at_once(command: LedgerCommand) -> None:
    """The list has the Credits that are left."""
    command.run_ok("subscribe", "acct_1", "free", "--id", "sub", *AT)
    assert "sub  acct_1   free  active  2026-11-06T00:00:00Z          1       free" in command.run_ok(
        "subscriptions", "acct_1", *AT
    )


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("subscribe", "acct_1", "prro", "--id", "x", *AT), "unknown_plan"),
        (("subscribe", "acct_1", "pro", "--id", "x", *AT), "unknown_channel"),
        (("order-period", "acct_1", "none", "--id", "x", *AT), "unknown_subscription"),
        (("due-renewals", "--before", "soon"), "invalid_time"),
    ],
)
def test_a_mistake_is_an_error(command: LedgerCommand, arguments: tuple[str, ...], code: str) -> None:
    """A plan, channel, subscription or time that does not exist is an error with its code."""
    assert command.error_code(*arguments) == code
