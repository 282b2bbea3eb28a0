"""The gateway from its command line, and as its page tells of it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from brivionix_billing import BillingError
from brivionix_billing.errors import CODES
from brivionix_billing.gateway import GatewayLimits, from_billing_error
from brivionix_billing.ledger import Ledger
from examples.gateway.config import parse_config
from examples.gateway.demo import EVERYTHING, open_demo_ledger, refuse_demo_tokens
from examples.gateway.recorded_provider import create_provider
from examples.gateway.threaded_server import ThreadedServer
from gateway_kit import (
    BOOK,
    RESPONSES,
    ROOT,
    Stack,
    clock,
    running,
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        f"sqlite:///{tmp_path_factory.mktemp('gateway') / 'ledger.db'}", limits=GatewayLimits(max_body_bytes=100_000)
    ) as found:
        yield found


# Starting


def test_settings_come_from_options_and_else_from_the_environment() -> None:
    """An option wins over the environment; the provider's key is read from there only, and never shown."""
    environment = {"GATEWAY_PORT": "9000", "GATEWAY_DB": "here.db", "GATEWAY_UPSTREAM_KEY": "sk-secret\n"}
    config = parse_config(["--port", "9001"], environment)
    assert (config.port, config.db, config.upstream_key, config.demo) == (9001, "here.db", "sk-secret", False)
    assert "sk-secret" not in repr(config)
    assert parse_config(["--demo"], {}).db == "gateway-demo.db"


def test_one_command_starts_the_demo(tmp_path: Path) -> None:
    """`python -m examples.gateway --demo` prints what to try, and what it prints works; Ctrl+C ends it cleanly."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    command = [sys.executable, "-m", "examples.gateway", "--demo", "--port", str(port)]
    command += ["--db", str(tmp_path / "demo.db"), "--prices", str(ROOT / "pricing.yaml")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        greeting = "".join(iter(started.stdout.readline, "Stop the gateway with Ctrl+C.\n"))
        secret = re.search(r"sk-demo\S+", greeting)
        assert f"http://127.0.0.1:{port}/v1" in greeting
        assert secret is not None
        transport = httpx.HTTPTransport(retries=8)  # it listens a moment after it has greeted
        with httpx.Client(transport=transport, headers={"authorization": f"Bearer {secret[0]}"}, timeout=20) as client:
            answer = client.post(f"http://127.0.0.1:{port}/v1/responses", json=RESPONSES)
        started.send_signal(signal.SIGINT)
        _, errors = started.communicate(timeout=20)
    assert (answer.status_code, started.returncode, errors) == (200, 0, "")
    ledger = Ledger.open(str(tmp_path / "demo.db"))
    assert ledger.verify() == []
    assert ledger.balance("demo", at=clock()).held == 0
    ledger.close()


def test_the_providers_answers_are_not_delayed_by_nagles_algorithm() -> None:
    """Every connection that the demo's provider accepts has TCP_NODELAY set."""
    with (
        ThreadedServer(create_provider()) as provider,
        httpx.Client(trust_env=False, verify=False, timeout=20) as client,
    ):
        assert client.post(f"{provider.url}/v1/responses", json=RESPONSES).status_code == 200
        (connection,) = provider._server.server_state.connections
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


# The documentation


def page_rows() -> list[tuple[str, str]]:
    """Code and status of each row of the page's table of errors."""
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    return re.findall(r"^\| `(\w+)` \| (\d+) \|", page, re.MULTILINE)


@pytest.mark.parametrize(("code", "status"), page_rows())
def test_the_page_says_the_status_of_each_code(code: str, status: str) -> None:
    """A code of the library in the table of docs/gateway.md has the status that the gateway answers with."""
    if code in CODES:
        assert from_billing_error(BillingError(code, "")).status == int(status)
    else:
        assert code.startswith("upstream_") or code in {
            *("gateway_stopping", "unknown_path", "unknown_method", "internal_error"),
            *("request_too_slow", "too_many_requests", "overloaded"),
        }


def test_the_example_of_the_page_works(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    """The SDK example of docs/gateway.md runs unchanged, except for address and token."""
    page = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(from openai .*?)^```", page, re.MULTILINE | re.DOTALL)
    code = code.replace("http://127.0.0.1:8000", stack.url).replace(EVERYTHING, stack.customer().secret)
    exec(compile(code, "docs/gateway.md", "exec"), {})
    assert "I can help plan it" in capsys.readouterr().out


def test_the_demo_starts_twice_with_the_same_account(tmp_path: Path) -> None:
    """Opening the demo's ledger again, another day, changes nothing."""
    path = str(tmp_path / "demo.db")
    for days in (0, 1):
        open_demo_ledger(path, BOOK, clock() + timedelta(days=days))
    with Ledger.open(path, BOOK) as ledger:
        assert ledger.balance("demo", at=clock()).available == 100
        assert ledger.authenticate(EVERYTHING, at=clock()).group == "default"


@pytest.mark.parametrize("name", ["empty.db", "used.db", "postgresql://billing@localhost/billing"])
def test_the_demo_refuses_every_other_ledger(name: str, tmp_path: Path) -> None:
    """The demo adds its public tokens to no ledger that it did not create: not with other accounts, and not empty."""
    url = name if "://" in name else str(tmp_path / name)
    if name == "used.db":
        open_demo_ledger(url, BOOK, clock())
    if "://" not in name:
        with Ledger.open(url, BOOK) as ledger:
            if name == "used.db":
                ledger.open_account("acct_1", at=clock())
    with pytest.raises(BillingError, match="not a ledger of the demo"):
        open_demo_ledger(url, BOOK, clock())


def test_a_gateway_does_not_start_with_the_public_tokens_of_the_demo(tmp_path: Path) -> None:
    """A ledger with the demo's tokens is refused until they are disabled."""
    path = str(tmp_path / "demo.db")
    open_demo_ledger(path, BOOK, clock())
    with Ledger.open(path, BOOK) as ledger:
        for token in ("demo-everything", "demo-mini-only"):
            with pytest.raises(BillingError, match=token):
                refuse_demo_tokens(ledger)
            ledger.change_token(token, id=f"disable-{token}", at=clock(), enabled=False)
        refuse_demo_tokens(ledger)


def test_a_demo_with_the_database_of_a_gateway_does_not_start(tmp_path: Path) -> None:
    """``--demo`` with ``GATEWAY_DB`` of a production ledger ends with an error, and adds nothing to it."""
    path = tmp_path / "production.db"
    Ledger.open(str(path), BOOK).close()
    result = subprocess.run(
        [sys.executable, "-m", "examples.gateway", "--demo", "--port", "1"],
        env={**os.environ, "GATEWAY_DB": str(path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2
    assert "not a ledger of the demo" in result.stderr
    with Ledger.open(str(path), BOOK) as ledger:
        assert list(ledger.accounts()) == []
