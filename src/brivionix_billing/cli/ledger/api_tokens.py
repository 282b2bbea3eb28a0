"""Subcommands of ``ledger`` about API tokens."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.cli.arguments import EXIT_OK
from brivionix_billing.cli.ledger.common import (
    add_id,
    open_ledger,
    open_ledger_for_update,
    parse_optional_time,
    subcommand,
)
from brivionix_billing.cli.output import print_rows
from brivionix_billing.cli.parser import text_or_empty
from brivionix_billing.decimals import format_plain, parse_decimal
from brivionix_billing.errors import BillingError
from brivionix_billing.tabular import format_table
from brivionix_billing.times import format_instant, parse_instant

if TYPE_CHECKING:
    from brivionix_billing.ledger import ApiToken

__all__ = ["add_commands"]

_MAX_GRACE_HOURS: Final = 24 * 366


def add_commands(commands: Any) -> None:
    """Add the subcommands to the parser."""
    tokens = commands.add_parser(
        "token", help="API tokens of an account", description="API tokens of an account.", allow_abbrev=False
    ).add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    parser = subcommand(
        tokens,
        "create",
        _create,
        "create a token, and show its secret once",
        "Creates an API token of an account, and shows its secret. Only the hash of the secret is stored, so it cannot "
        "be shown again.",
        at=True,
        prices=True,
    )
    parser.add_argument("account", metavar="ACCOUNT")
    parser.add_argument("--group", required=True, metavar="G", help="group of the token: its prices and models")
    parser.add_argument("--member", metavar="MEMBER", help="member of the account that has the token, by its id")
    _add_settings(parser)
    parser.add_argument("--disabled", action="store_true", help="disable the token")
    add_id(parser, "token")

    parser = subcommand(
        tokens,
        "change",
        _change,
        "change settings of a token",
        "Changes the settings that are given, and keeps the others.",
        at=True,
        prices=True,
    )
    parser.add_argument("token", metavar="TOKEN", help="id of the token, not its secret")
    parser.add_argument("--group", metavar="G", help="group of the token: its prices and models")
    _add_settings(parser)
    owner = parser.add_mutually_exclusive_group()
    owner.add_argument("--member", metavar="MEMBER", help="move the token to this member, by its id")
    owner.add_argument("--no-member", action="store_true", help="move the token from its member to the account itself")
    switch = parser.add_mutually_exclusive_group()
    switch.add_argument("--enabled", action="store_true", help="enable the token")
    switch.add_argument("--disabled", action="store_true", help="disable the token")
    add_id(parser)

    parser = subcommand(
        tokens,
        "rotate",
        _rotate,
        "give a token a new secret, and show it once",
        "Gives a token a new secret, which is valid at once. The present one stays valid for the grace period. If a "
        "secret was stolen, use a grace period of 0.",
        at=True,
        prices=True,
    )
    parser.add_argument("token", metavar="TOKEN", help="id of the token, not its secret")
    parser.add_argument(
        "--grace-hours", required=True, metavar="N", help="how long the present secret stays valid, in hours"
    )
    add_id(parser)

    parser = subcommand(tokens, "list", _tokens, "list the tokens of an account, without their secrets")
    parser.add_argument("account", metavar="ACCOUNT")


def _add_settings(parser: ArgumentParser) -> None:
    parser.add_argument("--name", type=text_or_empty, metavar="TEXT", help="display name")
    parser.add_argument("--expires", metavar="T", help="expiry of the token, or 'never'")
    parser.add_argument("--limit", metavar="N", help="maximum that it may spend over its life, in Credits, or 'none'")


def _create(args: Namespace) -> int:
    with open_ledger_for_update(args) as (ledger, book, at):
        book.models(group=args.group, at=at)  # raises unknown_group: such a token could not be used
        token = ledger.create_token(
            args.account,
            id=args.id,
            at=at,
            group=args.group,
            name=args.name or "",
            expires=None if args.expires == "never" else parse_optional_time(args.expires),
            limit=None if args.limit == "none" else args.limit,
            enabled=not args.disabled,
            member=args.member,
        )

    def render_text() -> str:
        if token.secret is None:
            return f"token {token.id} was created before; its secret is shown only once"
        return f"token {token.id} of {token.account}, group {token.group}\nsecret, shown only now: {token.secret}"

    print_rows([{**_row(token), "secret": token.secret}], args.format, render_text)
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
        if args.member is not None or args.no_member:
            settings["member"] = args.member
        if args.enabled or args.disabled:
            settings["enabled"] = args.enabled
        if not settings:
            raise BillingError(
                "invalid_argument",
                "nothing to change; add --group, --name, --expires, --limit, --member, --no-member, --enabled or "
                "--disabled",
            )
        return _print_tokens(args, [ledger.change_token(args.token, id=args.id, at=at, **settings)])


def _rotate(args: Namespace) -> int:
    grace = parse_decimal(args.grace_hours)
    if not 0 <= grace <= _MAX_GRACE_HOURS:
        raise BillingError("invalid_argument", f"--grace-hours {args.grace_hours}: must be 0 to {_MAX_GRACE_HOURS}")
    with open_ledger_for_update(args) as (ledger, _, at):
        token = ledger.rotate_secret(args.token, id=args.id, at=at, grace=timedelta(seconds=int(grace * 3600)))
    until = None if token.previous_secret_expires is None else format_instant(token.previous_secret_expires)

    def render_text() -> str:
        if token.secret is None:
            return f"the secret of token {token.id} was rotated before; it is shown only once"
        ends = "the previous secret is invalid" if until is None else f"the previous one is valid until {until}"
        return f"token {token.id} of {token.account}: {ends}\nnew secret, shown only now: {token.secret}"

    row = {**_row(token), "previous_secret_expires": until, "secret": token.secret}
    print_rows([row], args.format, render_text)
    return EXIT_OK


def _tokens(args: Namespace) -> int:
    with open_ledger(args) as ledger:
        return _print_tokens(args, ledger.tokens(args.account))


def _print_tokens(args: Namespace, tokens: list[ApiToken]) -> int:
    rows = [_row(token) for token in tokens]
    heads = ["id", "name", "group", "member", "enabled", "expires", "limit", "spent", "held"]

    def render_text() -> str:
        cells = [[_cell(row[head]) for head in heads] for row in rows]
        return format_table([["token", *heads[1:]], *cells], left=6)

    print_rows(rows, args.format, render_text)
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
        "member": token.member,
        "enabled": token.enabled,
        "expires": None if token.expires is None else format_instant(token.expires),
        "limit": None if token.limit is None else format_plain(token.limit),
        "spent": format_plain(token.spent),
        "held": format_plain(token.held),
    }
