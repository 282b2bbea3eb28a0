"""Latency of a paying customer of the example gateway while 16 hostile clients attack it.

``python benchmarks/hostile_clients.py`` needs the extra ``gateway``; Linux only, because the memory is read from
``/proc``. Gateway, provider and attackers are processes of their own; the customer runs in this one.

In each round the customer sends requests one after the other, first alone and then during the attack; ``/health`` is
asked meanwhile. An attacker repeats one of these without a pause:

- a body of 10 MB of text, with Credits and without;
- a body of 10 MB with 900 000 keys, and one with as many values as are allowed;
- a header that arrives byte by byte;
- a long stream that is requested and never read.

Real attackers use no core of the gateway. So these run only when nothing else wants the core (``SCHED_IDLE``); provider
and customer have the same priority as the gateway. ``--attackers normal`` lets the attackers compete for the cores,
too.

Two controls show what the machine does by itself: ``--control load`` replaces the attackers by as many processes as
there are cores, which only compute, at the same priority. With ``--control none``, no one attacks. A p99 of 300
requests is the third slowest, so single rounds differ by much even then.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from brivionix_billing import PriceBook
from brivionix_billing.ledger import Ledger
from gateway import CHAT, MODEL, ROOT, free_port, serving

_KINDS: Final = (
    *("poor",) * 3,
    *("text",) * 3,
    *("keys",) * 2,
    *("values",) * 2,
    *("headers",) * 3,
    *("streams",) * 3,
)
"""The attackers, by kind."""
ATTACKERS: Final = len(_KINDS)
REQUIRED: Final = 3
"""Allowed multiple of the p99 without an attack."""
HEALTH_SECONDS: Final = 0.2
_PROVIDER: Final = """
import asyncio, json, sys, uvicorn

USAGE = {"prompt_tokens": 266, "completion_tokens": 147, "total_tokens": 413}
WHOLE = json.dumps({"model": "gpt-5.4-mini", "choices": [{"message": {"content": "Hello"}}], "usage": USAGE}).encode()
LAST = b"data: " + json.dumps({"model": "gpt-5.4-mini", "choices": [], "usage": USAGE}).encode() + b"\\n\\n"

async def app(scope, receive, send):
    # It parses no body and sends in turns: a real provider lets no customer wait for another.
    start, more = b"", True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        start = start or message.get("body", b"")[-2000:]
    streamed = b'"stream":true' in start
    kind = b"text/event-stream" if streamed else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for _ in range(2000 if streamed else 0):
        await send({"type": "http.response.body", "body": b":" + b" " * 1021 + b"\\n\\n", "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": LAST if streamed else WHOLE})

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", lifespan="off")
"""


def _bodies() -> dict[str, bytes]:
    """Return the bodies of the attacks."""
    text = "The quick brown fox jumps over the lazy dog. " * (10_000_000 // 45)
    keys = {f"k{number}": 1 for number in range(900_000)}
    values = [{"role": "user", "content": str(number)} for number in range(60_000)]
    return {
        "text": json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()[:10_400_000],
        "keys": json.dumps({"model": MODEL, "messages": [], "metadata": keys}, separators=(",", ":")).encode(),
        "values": json.dumps({"model": MODEL, "messages": values}).encode(),
    }


def _head(secret: str, length: int, *lines: str) -> bytes:
    head = ["POST /v1/chat/completions HTTP/1.1", "Host: gateway", f"Authorization: Bearer {secret}", *lines]
    return "\r\n".join([*head, f"Content-Length: {length}", "", ""]).encode()


async def _post(port: int, secret: str, body: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_head(secret, len(body), "Connection: close") + body)
        with suppress(ConnectionError):
            await writer.drain()
        await reader.read()
    finally:
        writer.close()


async def _slow_header(port: int, secret: str) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for byte in _head(secret, 10):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
    finally:
        writer.close()


async def _unread_stream(port: int, secret: str) -> None:
    body = json.dumps({**CHAT, "stream": True}).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    try:
        writer.write(_head(secret, len(body)) + body)
        await asyncio.sleep(2)
    finally:
        writer.close()


def attack(
    port: int, secrets: list[str], poor: str, is_attacking: Any, *, is_idle: bool, only: str | None = None
) -> None:
    """Attack while the event is set, until the process is terminated. An idle process only uses what others leave.

    ``only`` is the kind of those that attack; ``None``: all do.
    """
    if is_idle:
        _become_idle()
    bodies = _bodies()
    kinds: dict[str, Callable[[int, str], Awaitable[None]]] = {
        name: partial(_post, body=body) for name, body in bodies.items()
    }
    kinds |= {"poor": kinds["text"], "headers": _slow_header, "streams": _unread_stream}
    # Each with a token of its own, but for those without Credits.
    attacks = [
        partial(kinds[name], port, poor if name == "poor" else secret)
        for name, secret in zip(_KINDS, secrets, strict=True)
        if only in (None, name)
    ]

    async def repeat(one: Callable[[], Awaitable[None]]) -> None:
        while True:
            if is_attacking.is_set():
                with suppress(OSError, asyncio.IncompleteReadError):
                    await one()
            await asyncio.sleep(0.005)

    async def everything() -> None:
        await asyncio.gather(*map(repeat, attacks))

    asyncio.run(everything())


def _become_idle() -> None:
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def compute(is_attacking: Any, *, is_idle: bool) -> None:
    """Only use a core while the event is set."""
    if is_idle:
        _become_idle()
    while True:
        if not is_attacking.is_set():
            time.sleep(0.005)
        else:
            sum(range(10_000))


class Customer:
    """Sends requests one after the other, and measures each."""

    def __init__(self, port: int, secret: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

    def request(self, method: str, path: str, body: bytes | None = None) -> float:
        """Return the seconds that a request takes."""
        begin = time.perf_counter()
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except http.client.RemoteDisconnected:  # it was idle
            self._connection.close()
            return self.request(method, path, body)
        if answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status}: {content[:300]!r}")
        return time.perf_counter() - begin


def measure(customer: Customer, health: Customer, requests: int) -> tuple[list[float], list[float]]:
    """Return the times of requests, and of ``/health`` meanwhile."""
    body = json.dumps(CHAT).encode()
    is_done, healths = threading.Event(), list[float]()

    def ask() -> None:
        while not is_done.wait(0.02):
            healths.append(health.request("GET", "/health"))

    asking = threading.Thread(target=ask)
    asking.start()
    times = [customer.request("POST", "/v1/chat/completions", body) for _ in range(requests)]
    is_done.set()
    asking.join()
    return times, healths


def p99(times: list[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[len(times) * 99 // 100]


def resident_mb(pid: int, field: str) -> float:
    """Return the memory of a process in MB: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1000


def main() -> int:
    """Measure and print. Returns 1 if the p99 or ``/health`` is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=300, help="requests per round and state")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attackers", choices=("idle", "normal"), default="idle", help="their priority (idle)")
    parser.add_argument("--only", choices=sorted(set(_KINDS)), help="attack only with this kind (all)")
    parser.add_argument("--control", choices=("load", "none"), help="instead of attacking: only compute, or nothing")
    arguments = parser.parse_args()
    book, context = PriceBook.load(ROOT / "pricing.yaml"), multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database, now, secrets = str(folder / "ledger.db"), datetime.now(UTC), list[str]()
        with Ledger.open(database, book) as ledger:
            for number in range(ATTACKERS + 2):
                account = f"acct_{number}"
                ledger.open_account(account, at=now)
                if number:
                    ledger.grant(account, 100_000, reason="benchmark", id=f"grant_{number}", at=now)
                token = ledger.create_token(account, id=f"tok_{number}", at=now, group="default")
                secrets.append(token.secret or "")
        upstream, port = free_port(), free_port()
        provider = [sys.executable, "-c", _PROVIDER, str(upstream)]
        stack.enter_context(serving(provider, upstream, folder / "provider.log"))
        command = [sys.executable, "-m", "examples.gateway", "--db", database, "--port", str(port)]
        command += ["--upstream", f"http://127.0.0.1:{upstream}/v1", "--prices", str(ROOT / "pricing.yaml")]
        gateway = stack.enter_context(serving(command, port, folder / "gateway.log", GATEWAY_UPSTREAM_KEY="sk-none"))
        is_attacking = context.Event()
        priority = {"is_idle": arguments.attackers == "idle"}
        options = {**priority, "only": arguments.only}
        attackers = [
            context.Process(target=attack, args=(port, secrets[1:-1], secrets[0], is_attacking), kwargs=options)
        ]
        if arguments.control is not None:
            count = multiprocessing.cpu_count() if arguments.control == "load" else 0
            attackers = [context.Process(target=compute, args=(is_attacking,), kwargs=priority) for _ in range(count)]
        for process in attackers:
            process.start()
            stack.callback(process.terminate)
        customer, health = Customer(port, secrets[-1]), Customer(port, secrets[-1])
        measure(customer, health, 50)
        ratios, slowest = list[float](), 0.0
        print("round  p50 alone  p50 attacked  p99 alone  p99 attacked  ratio  /health max  memory   (ms, MB)")
        for number in range(arguments.rounds):
            alone, _ = measure(customer, health, arguments.requests)
            is_attacking.set()
            time.sleep(1)
            attacked, healths = measure(customer, health, arguments.requests)
            is_attacking.clear()
            time.sleep(2)
            ratios.append(p99(attacked) / p99(alone))
            slowest = max(slowest, *healths)
            figures = [median(alone), median(attacked), p99(alone), p99(attacked)]
            row = "  ".join(f"{1000 * figure:11.1f}" for figure in figures)
            memory = resident_mb(gateway.pid, "VmRSS")
            print(f"{number + 1:5}{row}  {ratios[-1]:5.1f}  {1000 * max(healths):11.1f}  {memory:6.0f}")
        print(
            f"median ratio {median(ratios):.1f} (at most {REQUIRED}), /health {1000 * slowest:.0f} ms (at most 200),",
            end=" ",
        )
        print(f"most memory of the gateway: {resident_mb(gateway.pid, 'VmHWM'):.0f} MB")
    return int(median(ratios) > REQUIRED or slowest > HEALTH_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
