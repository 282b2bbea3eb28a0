"""Hostile clients at the sockets of the example gateway: slow, idle, endless, and with requests of two meanings."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import httpx
import pytest

from brivionix_billing.gateway import GatewayPolicy
from gateway_kit import BODIES, CHAT, Customer, Stack, running

SECONDS: Final = 0.4
"""The limits of the server in these tests. A client waits ten times as long for their effect."""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    url = f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}"
    limits: dict[str, Any] = {"header_seconds": SECONDS, "write_seconds": SECONDS, "max_connections": 20}
    with running(url, policy=GatewayPolicy(), **limits) as found:
        yield found


@contextmanager
def connected(stack: Stack, *, buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection to the gateway, with a small buffer for what arrives."""
    host, port = httpx.URL(stack.url).host, httpx.URL(stack.url).port
    with socket.socket() as client:
        if buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        client.settimeout(10 * SECONDS)
        client.connect((host, port))
        yield client


def read_all(client: socket.socket) -> bytes:
    """Return what arrives until the gateway closes the connection. Raises ``TimeoutError`` if it does not."""
    received = b""
    try:
        while piece := client.recv(65536):
            received += piece
    except ConnectionError:
        pass
    return received


def head(customer: Customer, *lines: str) -> bytes:
    """Return the headers of a request, without the blank line at their end."""
    given = [f"{name}: {value}" for name, value in customer.headers.items()]
    return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "Host: gateway", *given, *lines, ""]).encode()


CHUNKED_HEAD: Final = b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
BODY: Final = json.dumps(CHAT).encode()
CHUNKED: Final = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 5"],
        ["Transfer-Encoding: identity", f"Content-Length: {len(BODY)}"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: xchunked"],
        ["Content-Length: 5", f"Content-Length: {len(BODY)}"],
        ["Content-Length: +5"],
        ["Content-Length: 5, 5"],
        ["Content-Length : 5"],
        ["Transfer-Encoding:\x0bchunked"],
    ],
)
def test_a_request_of_ambiguous_length_is_rejected(stack: Stack, lines: list[str]) -> None:
    """Nothing is served, and what follows is not taken for a second request."""
    customer = stack.customer()
    before = len(stack.seen)
    second = head(customer, f"Content-Length: {len(BODY)}") + b"\r\n" + BODY
    with connected(stack) as client:
        client.sendall(head(customer, *lines) + b"\r\n" + CHUNKED + second)
        answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\ncache-control: no-store\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert len(stack.seen) == before
    assert stack.booked(customer, "hold") == []


def test_a_chunked_request_is_served(stack: Stack) -> None:
    """A body in chunks is not ambiguous."""
    customer = stack.customer()
    with connected(stack) as client:
        client.sendall(head(customer, "Transfer-Encoding: chunked", "Connection: close") + b"\r\n" + CHUNKED)
        assert read_all(client).startswith(b"HTTP/1.1 200 ")
    assert len(stack.booked(customer)) == 1


@pytest.mark.parametrize("sent", ["nothing", "half a header", "header after header", "blank lines", "after a response"])
def test_a_connection_that_sends_no_request_is_closed(stack: Stack, sent: str) -> None:
    """It is closed within a bound, also if it goes on to send something now and then."""
    customer = stack.customer()
    with connected(stack) as client:
        if sent == "after a response":
            client.sendall(b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            client.settimeout(60)  # uvicorn waits 5 s for the next request
            drop = b"\r\n"
        else:
            client.sendall(b"" if sent in ("nothing", "blank lines") else head(customer)[:-1])
            drop = {"header after header": b"X-More: 1\r\n", "blank lines": b"\r\n"}.get(sent, b"")
        received = b""
        for _ in range(1000):
            try:
                if drop:
                    client.sendall(drop)
                client.settimeout(0.05 if drop else 10 * SECONDS)
                piece = client.recv(65536)
            except TimeoutError:
                assert drop
                continue
            except ConnectionError:
                break
            received += piece
            if not piece:
                break
        else:
            raise AssertionError("the connection stays open")
    assert b"200" not in received


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"GET /health HTTP/1.1\r\n", b"X-Header: " + b"a" * 1000 + b"\r\n"),
        (b"GET /health HTTP/1.1\r\nX-Header: ", b"a" * 1000),
        (b"GET /", b"a" * 1000),
        (
            b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
            b"X-Trailer: " + b"a" * 1000 + b"\r\n",
        ),
        (b"POST /v1/responses HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"a" * 1000),
    ],
    ids=["headers", "one header", "URL", "trailers", "extension of a chunk"],
)
def test_what_is_no_body_has_a_maximum_length(stack: Stack, start: bytes, part: bytes) -> None:
    """Headers, trailers and extensions of chunks without end are cut off, before they fill the memory."""
    with connected(stack) as client:
        try:
            client.sendall(start)
            for _ in range(5000):
                client.sendall(part)
            raise AssertionError("all was read")
        except ConnectionError:
            pass


def test_a_body_that_goes_on_after_its_response_is_cut_off(stack: Stack) -> None:
    """A client that was refused cannot keep its connection by sending more of its body."""
    with connected(stack) as client:
        client.sendall(b"POST /v1/responses HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000000\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 401 ")
        client.settimeout(0.2)
        for _ in range(200):
            try:
                client.sendall(b"x")
                assert client.recv(65536) == b""
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            raise AssertionError("the connection stays open")


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_reads_nothing_is_closed_and_charged(stack: Stack, streamed: bool) -> None:
    """The connection is closed within a bound, and the request costs what the provider reports."""
    customer = stack.customer()
    body = json.dumps({**CHAT, "stream": streamed}).encode()
    request = head(customer, f"Content-Length: {len(body)}", "x-demo: long=12000") + b"\r\n" + body
    with connected(stack, buffer=4096) as client:
        client.sendall(request)
        stack.wait_for(customer, 1)
        (entry,) = stack.booked(customer)
        assert "estimated" not in entry.content["usage"]["usage"]
        threading.Event().wait(3 * SECONDS)
        client.settimeout(20)
        assert len(read_all(client)) < 8_000_000  # what the kernel had in its buffers


def test_beyond_the_maximum_the_longest_idle_connection_is_closed(stack: Stack) -> None:
    """Idle connections do not keep a customer out."""
    customer = stack.customer()
    clients: list[socket.socket] = []
    try:
        for _ in range(40):
            client = socket.create_connection((httpx.URL(stack.url).host, httpx.URL(stack.url).port or 0), timeout=9)
            clients.append(client)
        with httpx.Client(base_url=stack.url, trust_env=False) as http:
            assert http.get("/v1/models", headers=customer.headers).status_code == 200
        assert clients[0].recv(1) == b""
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/none", "/v1/balance", *BODIES])
def test_every_response_has_the_security_headers(stack: Stack, path: str) -> None:
    """No response is cached or taken for a page: an answer, an error, or a stream."""
    customer = stack.customer()
    if path in BODIES:
        answers = [stack.post(path, customer, {**BODIES[path], "stream": streamed}) for streamed in (True, False)]
    else:
        answers = [stack.get(path, customer), stack.http.get(path)]
    for answer in answers:
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


HEALTH: Final = b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n"


def test_requests_before_the_response_to_another_are_not_stored(stack: Stack) -> None:
    """Of many requests at once, the first one gets a response, after which the connection is closed."""
    with connected(stack) as client:
        client.sendall(HEALTH * 500)
        received = read_all(client)
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in received


def test_what_follows_a_request_is_no_part_of_its_response(stack: Stack) -> None:
    """The response to a request arrives unchanged, although bytes follow the request that are no HTTP."""
    customer = stack.customer()
    with connected(stack) as client:
        client.sendall(head(customer, f"Content-Length: {len(BODY)}") + b"\r\n" + BODY + b"nonsense\r\n\r\n")
        received = read_all(client)
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"400 Bad Request" not in received


def test_connections_whose_bodies_never_come_refuse_nobody(stack: Stack) -> None:
    """Beyond the maximum of connections, those that wait for a body are closed, also after an early response."""
    lines = b"POST /v1/responses HTTP/1.1\r\nHost: gateway\r\nContent-Length: 10\r\n\r\n"
    with ExitStack() as connections:
        for _ in range(25):
            connections.enter_context(connected(stack)).sendall(lines)
        assert httpx.get(f"{stack.url}/health", timeout=5).status_code == 200
