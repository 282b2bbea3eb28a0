"""Starts the gateway: ``python -m examples.gateway --help``."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import uvicorn

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.ledger import Ledger

from .app import GatewayApp, create_app
from .config import Config, parse_config
from .demo import demo_instructions, open_demo_ledger, refuse_demo_tokens
from .http_protocol import guarded_by
from .recorded_provider import create_provider
from .service import Gateway
from .threaded_server import ThreadedServer

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

MAX_SKEW = timedelta(minutes=5)
"""Maximum difference between the clocks of this machine and of the database. Holds last longer."""
_OTHER_FILES = 100
"""Files that are no connections of clients: the ledger, logs, libraries."""
_GC_THRESHOLD = 10_000
"""Objects after which Python looks for garbage in cycles. Requests leave hardly any, so its default of 700 is low."""


def main() -> int:
    """Run the gateway until it is stopped. Returns the exit status."""
    config = parse_config(sys.argv[1:], os.environ)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        book = PriceBook.load(config.prices)
        with ExitStack() as stack:
            if config.demo:
                config, announcement = _start_demo(config, book, stack)
            else:
                # A typing error in the name of the database must not create an empty ledger.
                with Ledger.open(config.db, book, create=False) as ledger:
                    refuse_demo_tokens(ledger)
                database = config.db.rpartition("@")[2]  # without user and password
                announcement = f"The gateway listens on http://{config.host}:{config.port}, "
                announcement += f"ledger {database}, provider {config.upstream}."
                if not config.upstream_key:
                    announcement += " GATEWAY_UPSTREAM_KEY is not set: requests to the provider have no key."
            serve(config, book, announcement)
    except BillingError as error:
        print(f"{error} [{error.code}]", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _start_demo(config: Config, book: PriceBook, stack: ExitStack) -> tuple[Config, str]:
    now = datetime.now(UTC)
    open_demo_ledger(config.db, book, now)
    provider = stack.enter_context(ThreadedServer(create_provider()))
    models = book.models(group="default", at=now)
    if not models:
        raise BillingError(
            "no_price", "the price file has no model with a price today; check the clock and the price file"
        )
    model = "gpt-5.4-mini" if "gpt-5.4-mini" in models else models[0]
    upstream = f"{provider.url}/v1"
    config = replace(
        config, upstream=upstream, anthropic=upstream, forwarded_headers=config.forwarded_headers | {"x-demo"}
    )
    return config, demo_instructions(f"http://{config.host}:{config.port}", model)


def serve(config: Config, book: PriceBook, announcement: str) -> None:
    """Serve until stopped. Prints the announcement as soon as the server listens."""
    config = replace(config, max_connections=_allow_connections(config.max_connections))
    app = create_app(lambda: Gateway(config, book, Ledger.open(config.db, book, max_skew=MAX_SKEW)))
    settings = uvicorn.Config(
        app,
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        http=guarded_by(config),
        ws="none",
        proxy_headers=False,  # nothing here depends on the address of a client
        timeout_graceful_shutdown=config.stop_seconds + 15,  # the billing ends open requests before that
    )
    _Server(settings, app, config.stop_seconds, announcement).run()


def _allow_connections(wanted: int) -> int:
    """Return how many clients may connect. Each needs a file for itself, and one for its provider."""
    if resource is None:
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(wanted, max(1, (soft - _OTHER_FILES) // 2))
    return wanted


class _Server(uvicorn.Server):
    """A server that prints an announcement after its startup, and ends open requests itself when it stops."""

    def __init__(self, config: uvicorn.Config, app: GatewayApp, stop_seconds: int, announcement: str) -> None:
        super().__init__(config)
        self._app, self._stop_seconds, self._announcement = app, stop_seconds, announcement

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What exists now stays. Without this, each full garbage collection looks at all of it, for some 50 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_GC_THRESHOLD)
        if self.started:
            print(self._announcement, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # While uvicorn waits for its connections, so that clients get an answer instead of a broken connection.
        closing = asyncio.create_task(self._app.gateway.billing.close(self._stop_seconds))
        await super().shutdown(sockets)
        await closing


if __name__ == "__main__":
    sys.exit(main())
