"""The command ``ledger member``, and the options of other commands about members."""

from __future__ import annotations

from datetime import UTC, datetime

from cli_ledger_kit import OCTOBER, LedgerCommand

AT = ("--at", "2026-10-05")


def test_a_member_from_joining_to_leaving(command: LedgerCommand) -> None:
    """It joins, gets a token and a limit, uses Credits, is frozen and unfrozen, and leaves; its usage is listed."""
    assert command.run_ok("member", "add", "acct_1", "ann", "--id", "m1", *AT).startswith("member ann is added\n")
    create = ("token", "create", "acct_1", "--group", "default", "--member", "ann", "--id", "t1", *AT)
    assert command.json(*create)[0]["member"] == "ann"
    limit = ("limit", "set", "acct_1", "ann", "--amount", "5", "--window", "day", "--member", "ann", "--id", "l1", *AT)
    command.run_ok(*limit)
    at = datetime(2026, 10, 5, tzinfo=UTC)
    with command.ledger() as ledger:
        ledger.charge("acct_1", "2", id="c1", at=at, token="t1")
        ledger.charge("acct_1", "3", id="c2", at=at)
    (line,) = command.json("limit", "list", "acct_1", "--member", "ann", *AT)
    assert (line["member"], line["used"]) == ("ann", "2")
    (request,) = command.json("requests", "acct_1", "--member", "ann", *AT)
    assert (request["id"], request["member"]) == ("c1", "ann")
    lines = command.json("usage", "acct_1", *OCTOBER, "--by", "member")
    assert [(each["member"], each["credits"]) for each in lines] == [("", "3"), ("ann", "2")]
    assert "\nann            1 " in command.run_ok("statement", "acct_1", *OCTOBER)
    for change, state, id in (("freeze", "frozen", "f"), ("unfreeze", "active", "u"), ("remove", "removed", "r")):
        done = command.run_ok("member", change, "acct_1", "ann", "--reason", "policy", "--id", id, *AT)
        assert done.startswith(f"member ann is {state}\n")
        assert command.json("member", "list", "acct_1")[0]["state"] == state
    assert command.error_code("member", "remove", "acct_1", "ann", "--reason", "x", "--id", "r2", *AT) == (
        "member_removed"
    )
    moved = command.json("token", "change", "t1", "--no-member", "--id", "t2", *AT)
    assert moved[0]["member"] is None
