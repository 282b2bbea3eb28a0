"""The service of docs/quickstart-gateway.md: at most 60 lines, and billed right whatever its clients do."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from openai import OpenAI

from brivionix_billing import PriceBook, Usage
from brivionix_billing.ledger import Entry, Ledger
from examples.gateway.recorded_provider import create_provider
from examples.gateway.threaded_server import ThreadedServer
from paths import ROOT

pytest.importorskip("fastapi")
MODEL = "gpt-5.4-mini"
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Book me a flight"}]}


def python_blocks() -> list[str]:
    """Return the service and its client as the page has them."""
    page = (ROOT / "docs" / "quickstart-gateway.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def service_code() -> str:
    """Return the service as the page has it."""
    service, _ = python_blocks()
    return service


class Service(NamedTuple):
    """The running service, and a second hand on its ledger."""

    url: str
    ledger: Ledger
    secret: str

    def entries(self, kind: str) -> list[Entry]:
        """Return the entries of a kind."""
        return [entry for entry in self.ledger.journal("acct") if entry.kind == kind]

    def wait_for(self, count: int) -> list[Entry]:
        """Return the settlements, as soon as there are so many."""
        pause = threading.Event()
        for _ in range(2000):
            if len(found := self.entries("settle")) >= count:
                return found
            pause.wait(0.01)
        raise AssertionError(f"{len(self.entries('settle'))} of {count} settlements")


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    book = PriceBook.load(ROOT / "pricing.yaml")
    with Ledger.open(url, book) as ledger, ThreadedServer(create_provider()) as provider:
        now = datetime.now(UTC)
        ledger.open_account("acct", at=now)
        ledger.grant("acct", 1000, reason="test", id="grant", at=now)
        secret = ledger.create_token("acct", group="default", id="token", at=now).secret
        assert secret is not None
        for name, value in {"UPSTREAM": f"{provider.url}/v1", "UPSTREAM_KEY": "sk-up", "DB": url}.items():
            monkeypatch.setenv(f"GATEWAY_{name}", value)
        monkeypatch.setenv("GATEWAY_PRICES", str(ROOT / "pricing.yaml"))
        names: dict[str, Any] = {"__name__": "service"}
        exec(compile(service_code(), "docs/quickstart-gateway.md", "exec"), names)
        with ThreadedServer(names["app"]) as server:
            yield Service(server.url, ledger, secret)
        assert ledger.balance("acct", at=datetime.now(UTC)).held == 0
        assert ledger.verify() == []


def test_the_service_has_at_most_60_lines() -> None:
    """So that a reader sees at once that nothing about billing is left to write."""
    assert len(service_code().splitlines()) <= 60


def test_the_sdk_is_served_and_charged(service: Service) -> None:
    """A complete answer and a stream cost what the SDK reports; an unknown path and a wrong token are errors."""
    with OpenAI(base_url=f"{service.url}/v1", api_key=service.secret, max_retries=0) as client:
        whole = client.chat.completions.create(**CHAT)
        chunks = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    entries = service.wait_for(2)
    usages = [Usage.from_response(entry.content["usage"]) for entry in entries]
    assert usages == [Usage.from_response(whole), Usage.from_response(chunks[-1])]
    header = {"authorization": f"Bearer {service.secret}"}
    refused = httpx.post(f"{service.url}/v1/else", json={}, headers=header)
    assert (refused.status_code, refused.headers["cache-control"]) == (404, "no-store")
    assert httpx.post(f"{service.url}/v1/responses", json={}).status_code == 401


def test_clients_that_leave_at_any_moment_are_charged_exactly(service: Service) -> None:
    """Clients that leave after none, one, two and more events: the provider is read to its end, and no hold is left."""
    header = {"authorization": f"Bearer {service.secret}"}
    with httpx.Client(base_url=service.url, headers=header, trust_env=False) as client:
        for events in range(12):
            with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
                lines = answer.iter_lines()
                for _ in range(events):
                    next(lines)
    usages = [Usage.from_response(entry.content["usage"]) for entry in service.wait_for(12)]
    assert {(usage.estimated, usage.input_tokens, usage.output_tokens) for usage in usages} == {(False, 266, 147)}
