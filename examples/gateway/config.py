"""Settings of the gateway: options of the command line, with defaults from the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from brivionix_billing.gateway import DEFAULT_LIMITS, GatewayLimits

from .demo import DEMO_DB

__all__ = ["Config", "parse_config"]


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a gateway."""

    db: str = "gateway.db"
    """The ledger: the path of a SQLite file, or the URL of a database."""
    prices: str = "pricing.yaml"
    upstream: str = "https://api.openai.com/v1"
    upstream_key: str = field(default="", repr=False)
    anthropic: str = "https://api.anthropic.com/v1"
    """The provider of ``/v1/messages``."""
    anthropic_key: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    demo: bool = False
    limits: GatewayLimits = DEFAULT_LIMITS
    """What customers may have in progress."""
    max_buffered_bytes: int = 1024 * 1024
    """Maximum part of a stream that is stored, in bytes. It is used if the provider's usage cannot be billed."""
    forwarded_headers: frozenset[str] = frozenset({"openai-beta", "anthropic-version", "anthropic-beta"})
    """Names of client headers that are forwarded to the provider. The client's token is never forwarded."""
    max_connections: int = 2000
    """Maximum number of connections. Beyond it, the one that has been idle for longest is closed."""
    header_seconds: float = 10
    """How long a client may take to send the headers of a request."""
    write_seconds: float = 60
    """How long a client may take to read what was sent to it, before its connection is closed."""
    connect_seconds: float = 10
    read_seconds: float = 600
    stop_seconds: int = 20
    """How long open requests may go on when the service stops. What is open then is settled by the policy."""
    retry_delays: tuple[float, ...] = (0.2, 1, 5, 20, 60)
    """Delays before each retry of a charge that could not be posted, in seconds."""
    webhook: str = field(default="", repr=False)
    """URL that signals of the ledger are posted to. ``""``: they are logged."""
    signal_seconds: float = 5
    """Time after which an empty outbox is read again."""


def _port(parser: argparse.ArgumentParser, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        parser.error(f"--port {text!r} is invalid; use a port from 1 to 65535")
    return int(text)


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """Parse the settings. The provider's key is read from the environment only, because ``ps`` shows options."""
    default = Config()
    parser = argparse.ArgumentParser(prog="python -m examples.gateway", description=__doc__, allow_abbrev=False)

    def add(name: str, metavar: str, fallback: str, help: str) -> None:
        variable = "GATEWAY_" + name.upper()
        value = environment.get(variable, fallback).strip()
        displayed = value.replace("%", "%%") if "@" not in value else "set"  # it may contain a password
        parser.add_argument(f"--{name}", metavar=metavar, default=value, help=f"{help} ({variable}; now {displayed})")

    add("db", "DB", default.db, "the ledger: a SQLite file, or postgresql://user@host/name")
    add("prices", "FILE", default.prices, "the price file")
    add("upstream", "URL", default.upstream, "the provider; its key is read from GATEWAY_UPSTREAM_KEY")
    add("anthropic", "URL", default.anthropic, "the provider of /v1/messages; its key is in GATEWAY_ANTHROPIC_KEY")
    add("host", "HOST", default.host, "the address to listen on")
    add("port", "PORT", str(default.port), "the port to listen on")
    parser.add_argument(
        "--demo", action="store_true", help=f"start with recorded answers and a demo account, in the ledger {DEMO_DB}"
    )
    args = parser.parse_args(arguments)
    db = DEMO_DB if args.demo and args.db == default.db else args.db
    return Config(
        db=db,
        prices=args.prices,
        upstream=args.upstream,
        upstream_key=environment.get("GATEWAY_UPSTREAM_KEY", "").strip(),
        anthropic=args.anthropic,
        anthropic_key=environment.get("GATEWAY_ANTHROPIC_KEY", "").strip(),
        webhook=environment.get("GATEWAY_WEBHOOK", "").strip(),
        host=args.host,
        port=_port(parser, args.port),
        demo=args.demo,
    )
