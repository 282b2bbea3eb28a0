"""The command ``reconcile gateway``: the log of a gateway against the price file."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from brivionix_billing.cli.arguments import add_prices, add_workers, load_book, worker_count
from brivionix_billing.cli.reconcile.common import add_result_options, add_source, naming_other_sources, print_result
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.reconcile.gateway.litellm import reconcile_litellm
from brivionix_billing.reconcile.gateway.log_period import LogPeriod, litellm_time, new_api_time
from brivionix_billing.reconcile.gateway.new_api_log import reconcile_new_api
from brivionix_billing.reconcile.gateway.reading import LogSource, database_source, file_source
from brivionix_billing.reconcile.result import Result
from brivionix_billing.times import Period, load_zone

__all__ = ["add_commands"]

_MAX_RATIOS: Final = 1024 * 1024


def add_commands(subcommands: Any) -> None:
    """Add the subcommand to the parser."""
    parser = subcommands.add_parser(
        "gateway",
        help="the log of a gateway against the price file",
        description="Recomputes every row of the log of a gateway: by the figures of the row itself, and by the price "
        "file at that time. Names one cause of every difference.",
        allow_abbrev=False,
    )
    parser.add_argument("log", metavar="LOG", nargs="?", help="the log: JSON Lines, JSON or CSV, also compressed")
    add_source(parser, ["new-api", "litellm"], "the gateway")
    parser.add_argument("--db", metavar="URL", help="read the log from the gateway's database instead of LOG")
    parser.add_argument(
        "--quota-per-unit", type=int, metavar="N", default=500_000, help="new-api's QuotaPerUnit (500000)"
    )
    parser.add_argument(
        "--user-ratios", metavar="FILE", help="new-api's option GroupGroupRatio, as JSON (learned from the log)"
    )
    parser.add_argument(
        "--group", metavar="G", default="default", help="litellm: the group of rows whose team is no group (default)"
    )
    parser.add_argument(
        "--log-zone", metavar="Z", default="UTC", help="litellm: time zone of the times of the log without one (UTC)"
    )
    parser.add_argument("--period", metavar="P", help="a month (2026-10), or FROM/TO (the whole log)")
    parser.add_argument("--zone", metavar="Z", default="UTC", help="time zone of the period (UTC)")
    add_workers(parser, "read the log, if it has one row in JSON per line")
    add_prices(parser)
    add_result_options(parser)
    parser.set_defaults(run=_gateway)


def _gateway(args: Namespace) -> int:
    if not 0 < args.quota_per_unit <= 10**12:
        raise BillingError("invalid_argument", f"--quota-per-unit {args.quota_per_unit} is out of range; use 500000")
    ratios = None if args.user_ratios is None else _read_ratios(args.user_ratios)
    with naming_other_sources(args.source, [] if args.log is None else [args.log]):
        return print_result(_reconcile(args, ratios))


def _reconcile(args: Namespace, ratios: Mapping[str, Mapping[str, Fraction]] | None) -> Result:
    is_litellm = args.source == "litellm"
    source = _source(args, *(("LiteLLM_SpendLogs", "startTime") if is_litellm else ("logs", "id")))
    book, limit = load_book(args), None
    if args.period is not None:
        time_of = litellm_time(load_zone(args.log_zone)) if is_litellm else new_api_time
        limit = LogPeriod(Period.parse(args.period, args.zone), time_of)
        source = limit.limit(source)
    options: dict[str, Any] = {"format": args.format, "workers": worker_count(args, "log")}
    if is_litellm:
        result = reconcile_litellm(source, book, args.out, group=args.group, zone=args.log_zone, **options)
    else:
        result = reconcile_new_api(
            source, book, args.out, quota_per_unit=args.quota_per_unit, user_ratios=ratios, **options
        )
    return result if limit is None else limit.annotate(result, Path(args.out))


def _source(args: Namespace, table: str, order: str) -> LogSource:
    if (args.log is None) == (args.db is None):
        raise BillingError("invalid_argument", "a log is read from LOG or from --db URL; give one of them")
    return file_source(args.log) if args.db is None else database_source(args.db, table, order)


def _read_ratios(path: str) -> dict[str, dict[str, Fraction]]:
    """Return user group -> group -> ratio. Raises ``file_unreadable``, ``invalid_argument``."""
    content = read_bounded(path, _MAX_RATIOS, "the ratios of user groups", too_large="file_unreadable")
    try:
        found = json.loads(content, parse_float=str)
        return {
            str(name): {str(group): Fraction(ratio) for group, ratio in groups.items()}
            for name, groups in found.items()
        }
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BillingError(
            "invalid_argument",
            f'{safe_repr(path, 200)} is not the option GroupGroupRatio; write {{"vip": {{"default": 0.9}}}}',
        ) from None
