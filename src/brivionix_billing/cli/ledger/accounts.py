"""Subcommands of ``ledger`` about accounts and their tokens."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from brivionix_billing.cli.arguments import EXIT_OK, parse_time_or_now
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    parse_optional_time,
    print_entry,
    subcommand,
)
from brivionix_billing.cli.output import print_rows
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError
from brivionix_billing.tabular import format_table
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import ApiToken, Balance

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add these subcommands to the parser."""
    parser = subcommand(commands, "open", _open, "open an account, with nothing in it", at=True)
    parser.add_argument("account", metavar="ACCOUNT", help="its id, as it will stand in usage files and on bills")
    add_id(parser)

    subcommand(commands, "accounts", _accounts, "all accounts with their balances", at=True)

    parser = subcommand(commands, "balance", _balance, "what an account has", at=True)
    parser.add_argument("account", metavar="ACCOUNT")

    parser = subcommand(commands, "lots", _lots, "the lots of an account, and what became of them and of their money")
    parser.add_argument("account", metavar="ACCOUNT")

    tokens = commands.add_parser(
        "token", help="API tokens of an account", description="API tokens of an account.", allow_abbrev=False
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    parser = subcommand(
        tokens,
        "create",
        _create,
        "make a token, and tell its secret, once",
        "Makes an API token of an account, and tells its secret. Only a hash of it is kept: nobody can tell it again.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--group", required=True, metavar="G", help="the group whose prices and models it has")
    _add_settings(parser)
    parser.add_argument("--disabled", action="store_true", help="it cannot be used until it is enabled")
    add_id(parser, "token")

    parser = subcommand(
        tokens,
        "change",
        _change,
        "other settings for a token",
        "Changes the settings that are given; the others stay.",
        at=True,
        prices=True,
    )
    parser.add_argument("token", metavar="TOKEN", help="its id, not its secret")
    parser.add_argument("--group", metavar="G", help="the group whose prices and models it has")
    _add_settings(parser)
    able = parser.add_mutually_exclusive_group()
    able.add_argument("--enabled", action="store_true", help="it can be used")
    able.add_argument("--disabled", action="store_true", help="it cannot be used until it is enabled")
    add_id(parser)

    parser = subcommand(tokens, "list", _tokens, "all tokens of an account, without their secrets")
    parser.add_argument("account", metavar="ACCOUNT")


def _add_settings(parser: ArgumentParser) -> None:
    parser.add_argument("--name", metavar="TEXT", help="a name for people")
    parser.add_argument("--expires", metavar="T", help="when it expires, or 'never'")
    parser.add_argument("--limit", metavar="N", help="Credits that it may spend over its life, or 'none'")


def _open(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        entry = ledger.open_account(args.account, id=args.id, at=at)
        return print_entry(args, ledger, entry, at, f"account {entry.account} is open")


def _accounts(args: Namespace) -> int:
    at = parse_time_or_now(args.at)
    with open_ledger(args) as ledger:
        return _balances(args, [ledger.balance(account, at=at) for account in ledger.accounts()])


def _balance(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        return _balances(args, [ledger.balance(args.account, at=parse_time_or_now(args.at))])


def _balances(args: Namespace, found: list[Balance]) -> int:
    rows = [balance.as_dict() for balance in found]
    heads = ["account", "available", "held", "owed"]
    print_rows(
        rows, args.format, lambda: format_table([heads, *([row[head] for head in heads] for row in rows)], left=1)
    )
    return EXIT_OK


def _lots(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        rows = [lot.as_dict() for lot in ledger.lots(args.account)]
    heads = ["id", "at", "expires", "channel"]
    heads += ["credits", "remaining", "used", "expired", "returned", "paid", "recognised", "refunded", "deferred"]
    # A Credit expires, and so does a lot: the heading of the time says which is meant.
    names = ["lot", "came", "until", *heads[3:]]
    print_rows(
        rows,
        args.format,
        lambda: format_table([names, *([row[head] or "-" for head in heads] for row in rows)], left=4),
    )
    return EXIT_OK


def _create(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        book.models(group=args.group, at=at)  # a token of a group that nobody has could do nothing
        made = ledger.create_token(
            args.account,
            id=args.id,
            at=at,
            group=args.group,
            name=args.name or "",
            expires=None if args.expires == "never" else parse_optional_time(args.expires),
            limit=None if args.limit == "none" else args.limit,
            enabled=not args.disabled,
        )

    def people() -> str:
        if made.secret is None:
            return f"token {made.id} was made before; its secret is told once, and is not known any more"
        return f"token {made.id} of {made.account}, group {made.group}\nsecret, told only now: {made.secret}"

    print_rows([{**_row(made), "secret": made.secret}], args.format, people)
    return EXIT_OK


def _change(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        settings: dict[str, Any] = {}
        if args.group is not None:
            book.models(group=args.group, at=at)
            settings["group"] = args.group
        if args.name is not None:
            settings["name"] = args.name
        if args.expires is not None:
            settings["expires"] = None if args.expires == "never" else parse_instant(args.expires)
        if args.limit is not None:
            settings["limit"] = None if args.limit == "none" else args.limit
        if args.enabled or args.disabled:
            settings["enabled"] = args.enabled
        if not settings:
            raise BillingError(
                "invalid_argument", "say what to change: --group, --name, --expires, --limit, --enabled, ..."
            )
        return _print_tokens(args, [ledger.change_token(args.token, id=args.id, at=at, **settings)])


def _tokens(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        ledger.balance(
            args.account, at=parse_time_or_now(None)
        )  # an account that is not there has no tokens, but should be told
        return _print_tokens(args, ledger.tokens(args.account))


def _print_tokens(args: Namespace, found: list[ApiToken]) -> int:
    rows = [_row(token) for token in found]
    heads = ["id", "name", "group", "enabled", "expires", "limit", "spent", "held"]

    def people() -> str:
        cells = [[_cell(row[head]) for head in heads] for row in rows]
        return format_table([["token", *heads[1:]], *cells], left=5)

    print_rows(rows, args.format, people)
    return EXIT_OK


def _cell(value: str | bool | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value or "-"


def _row(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "account": token.account,
        "name": token.name,
        "group": token.group,
        "enabled": token.enabled,
        "expires": None if token.expires is None else format_instant(token.expires),
        "limit": None if token.limit is None else format_plain(token.limit),
        "spent": format_plain(token.spent),
        "held": format_plain(token.held),
    }
