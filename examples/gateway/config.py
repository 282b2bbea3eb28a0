"""What can be set, and from where: options of the command line, else the environment."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Config", "parse_config"]

_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a gateway."""

    db: str = "gateway.db"
    """The ledger: the path of a SQLite file, or the URL of a database."""
    prices: str = "pricing.yaml"
    upstream: str = "https://api.openai.com/v1"
    upstream_key: str = field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 8000
    demo: bool = False
    max_body_bytes: int = 10 * _MB
    """Of a request's body; more is refused with 413 before it is read."""
    max_buffered_bytes: int = _MB
    """Of a stream: what is kept of it for the case that the provider's usage cannot be billed."""
    forwarded_headers: frozenset[str] = frozenset({"openai-beta"})
    """Headers of the client that the provider gets to see. The client's token is never one of them."""
    body_timeout_seconds: float = 60
    """How long a client may take to send its request."""
    connect_seconds: float = 10
    read_seconds: float = 600
    retry_delays: tuple[float, ...] = (0.2, 1, 5, 20, 60)
    """How long to wait before a charge is tried again that the database did not take."""


def _port(parser: argparse.ArgumentParser, text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        parser.error(f"--port {text!r} is no port")
    return int(text)


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> Config:
    """The settings by the command line. The provider's key comes from the environment only: ``ps`` shows options."""
    default = Config()
    parser = argparse.ArgumentParser(prog="python -m examples.gateway", description=__doc__, allow_abbrev=False)

    def add(name: str, shown: str, fallback: str, help: str) -> None:
        variable = "GATEWAY_" + name.upper()
        value = environment.get(variable, fallback).strip()
        told = value.replace("%", "%%") if "@" not in value else "set"  # there may be a password in it
        parser.add_argument(f"--{name}", metavar=shown, default=value, help=f"{help} ({variable}; now {told})")

    add("db", "DB", default.db, "the ledger: a SQLite file, or postgresql://user@host/name")
    add("prices", "FILE", default.prices, "the price file")
    add("upstream", "URL", default.upstream, "the provider; its key is read from GATEWAY_UPSTREAM_KEY")
    add("host", "HOST", default.host, "the address to listen on")
    add("port", "PORT", str(default.port), "the port to listen on")
    parser.add_argument("--demo", action="store_true", help="recorded answers, a demo account, a ledger of its own")
    given = parser.parse_args(arguments)
    db = "gateway-demo.db" if given.demo and given.db == default.db else given.db
    return Config(
        db=db,
        prices=given.prices,
        upstream=given.upstream,
        upstream_key=environment.get("GATEWAY_UPSTREAM_KEY", "").strip(),
        host=given.host,
        port=_port(parser, given.port),
        demo=given.demo,
    )
