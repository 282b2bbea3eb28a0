"""CPU time per request of the example gateway, beside litellm's proxy, behind the same local provider.

``python benchmarks/gateway.py --litellm PATH`` needs the extra ``gateway``, and an executable ``litellm`` of a virtual
environment with ``litellm[proxy]``. Linux only: the CPU time of a process is read from ``/proc``.

Both serve the same requests of the same client, in turns. The gateway authenticates, counts, holds, forwards and
settles on SQLite; the proxy authenticates by its master key and has no database. The provider and the client run in
the process of this script, which is not measured.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from brivionix_billing import PriceBook  # noqa: E402
from brivionix_billing.ledger import Ledger  # noqa: E402
from examples.gateway.recorded_provider import create_provider  # noqa: E402
from examples.gateway.threaded_server import ThreadedServer  # noqa: E402

MODEL: Final = "gpt-5.4-mini"
TEXT: Final = "Summarise the differences between holding and settling an amount in two sentences. " * 6
CHAT: Final = {
    "model": MODEL,
    "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": TEXT}],
    "max_completion_tokens": 300,
}
REQUIRED: Final = 8
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LITELLM: Final = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: {upstream}, api_key: sk-none}}
general_settings: {{master_key: {key}}}
litellm_settings: {{telemetry: false}}
"""


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its children that ended, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / _TICKS


def family_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its descendants, in seconds."""
    total = cpu_seconds(pid)
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            total += family_cpu_seconds(int(child))
    return total


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def serving(command: list[str], port: int, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it is left; wait until it listens."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, env={**os.environ, **environment})
    try:
        for _ in range(1200):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended:\n{log.read_text()[-2000:]}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(60)


class Contestant:
    """A server, and a client that sends it requests."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, key: str) -> None:
        self.name, self._process = name, process
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {key}"}, trust_env=False, timeout=60
        )

    def one(self, body: dict[str, Any]) -> None:
        """Send a request and read all of the answer."""
        answer = self._client.post("/v1/chat/completions", json=body)
        if answer.status_code != 200 or "flight" not in answer.text:
            raise SystemExit(f"{self.name} answered {answer.status_code}: {answer.text[:500]}")

    def milliseconds(self, body: dict[str, Any], requests: int, threads: int) -> float:
        """Return the CPU time per request, in ms."""
        before = family_cpu_seconds(self._process.pid)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(self.one, [body] * requests))
        return (family_cpu_seconds(self._process.pid) - before) * 1000 / requests


def create_ledger(database: str, book: PriceBook) -> str:
    """Create a ledger with one customer who has Credits; return the secret of a token."""
    now = datetime.now(UTC)
    with Ledger.open(database, book) as ledger:
        ledger.open_account("acct", at=now)
        ledger.grant("acct", 1_000_000, reason="benchmark", id="grant", at=now)
        secret = ledger.create_token("acct", id="token", at=now, group="default").secret
    assert secret is not None
    return secret


def main() -> int:
    """Print a table. Returns 1 if the required ratio is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--litellm", default=shutil.which("litellm") or "", help="the executable of litellm[proxy]")
    parser.add_argument("--requests", type=int, default=400, help="per round (400)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, nargs="+", default=[4, 16, 32], help="requests in flight (4 16 32)")
    args = parser.parse_args()
    book = PriceBook.load(ROOT / "pricing.yaml")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(ThreadedServer(create_provider())).url + "/v1"
        database = str(folder / "ledger.db")
        secret = create_ledger(database, book)
        port = free_port()
        command = [sys.executable, "-m", "examples.gateway", "--db", database, "--upstream", upstream]
        command += ["--prices", str(ROOT / "pricing.yaml"), "--port", str(port)]
        process = stack.enter_context(serving(command, port, folder / "gateway.log", GATEWAY_UPSTREAM_KEY="sk-none"))
        contestants = [Contestant("gateway", process, port, secret)]
        if args.litellm:
            config = folder / "litellm.yaml"
            config.write_text(_LITELLM.format(model=MODEL, upstream=upstream, key="sk-master"))
            port = free_port()
            command = [args.litellm, "--config", str(config), "--port", str(port), "--num_workers", "1"]
            local = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
            process = stack.enter_context(serving(command, port, folder / "litellm.log", **local))
            contestants.append(Contestant("litellm", process, port, "sk-master"))
        else:
            print("without litellm: pass --litellm PATH for the ratio")
        return measure(contestants, args.requests, args.rounds, args.at_once)


def measure(contestants: list[Contestant], requests: int, rounds: int, at_once: list[int]) -> int:
    """Let all contestants serve in turns, and print medians. Returns 1 if the ratio is too low under the last load."""
    ratio: float | None = None
    for threads in at_once:
        ratio = compare("complete", contestants, CHAT, requests, rounds, threads)
    # A stream takes litellm 7 times as long.
    compare("stream", contestants, {**CHAT, "stream": True}, requests // 4, rounds, at_once[0])
    if ratio is None:
        return 0
    print(f"complete answers, {at_once[-1]} at once: ratio {ratio:.1f} (required: {REQUIRED})")
    return int(ratio < REQUIRED)


def compare(
    name: str, contestants: list[Contestant], body: dict[str, Any], requests: int, rounds: int, threads: int
) -> float | None:
    """Print the median CPU time of each contestant. Returns the median ratio, if there are two."""
    taken: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for contestant in contestants:
        contestant.milliseconds(body, max(requests // 4, threads), threads)  # warm
    for _ in range(rounds):
        for contestant in contestants:
            taken[contestant.name].append(contestant.milliseconds(body, requests, threads))
    text = ", ".join(f"{who} {median(times):.2f} ms" for who, times in taken.items())
    ratio = None
    if len(taken) > 1:
        ratios = [theirs / ours for ours, theirs in zip(taken["gateway"], taken["litellm"], strict=True)]
        ratio = median(ratios)
        text += f"; ratio {ratio:.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    print(f"{name:9} {threads:2} at once, CPU per request: {text}", flush=True)
    return ratio


if __name__ == "__main__":
    sys.exit(main())
