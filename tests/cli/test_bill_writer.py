"""Bills that several processes write: the bytes and the errors are those of one process, and Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bill_kit import record
from brivionix_billing import processes
from brivionix_billing.cli import bill_writer, invoices
from brivionix_billing.cli.render import PageWriter
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice import build_invoice, seal
from cli_kit import Run
from inline_pool import InlinePool, SlowPool

ALL = ("invoice", "usage.jsonl", "--all", "--period", "2026-10", "--out", "bills")
POOLS = [InlinePool, SlowPool]
"""With the first, other processes write all bills, with the second, this one writes most of them."""


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share bills with processes from the second one on, two at a time."""
    monkeypatch.setattr(processes, "create_pool", request.param)
    monkeypatch.setattr(bill_writer, "_PROCESS_BILLS", 2)
    monkeypatch.setattr(bill_writer, "_BATCH_BILLS", 2)


@pytest.fixture
def accounts(run: Run) -> None:
    """Write usage of eleven accounts."""
    run.usage([record(number, account=f"acct_{number:02}") for number in range(11)])


@pytest.mark.usefixtures("pool", "accounts")
@pytest.mark.parametrize("options", [("--sign-key", "key.pem", "--all-channels", "--locale", "zh_CN"), ("--no-html",)])
def test_processes_write_the_bytes_of_one(run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    """Signed and unsigned bills, their pages, lists and tables do not depend on the number of processes."""
    key = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (run.folder / "key.pem").write_bytes(key)
    found = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    for workers in ([], *(["--workers", str(number)] for number in (0, 1, 2, 4))):
        result = run(*ALL, *options, *workers)
        found.append((result, contents(run.folder / "bills")))
        shutil.rmtree(run.folder / "bills")
    assert found == [found[0]] * 5
    assert len(found[0][1]) == 11 * (4 if "--no-html" in options else 5) + 1


@pytest.mark.usefixtures("pool", "accounts")
@pytest.mark.parametrize("pages", [[], [3], [8, 2], [10]])
@pytest.mark.parametrize("bill", [None, 2, 5, 9])
def test_the_first_error_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, pages: list[int], bill: int | None
) -> None:
    """If several pages and a bill fail, the error is that of the first account, as in one process."""
    render = PageWriter.render

    def fail_page(self: PageWriter, document: Mapping[str, Any]) -> dict[str, bytes]:
        if document["number"] - 1 in pages:
            raise BillingError("invalid_document", f"page of {document['customer']['account']}")
        return render(self, document)

    def fail_bill(usage: Any, *rest: Any) -> Any:
        if usage.account == f"acct_{bill or 99:02}":
            raise BillingError("invalid_document", f"bill of {usage.account}")
        return build_invoice(usage, *rest)

    monkeypatch.setattr(PageWriter, "render", fail_page)
    monkeypatch.setattr(invoices, "build_invoice", fail_bill)
    alone, shared = (run(*ALL, "--workers", workers) for workers in ("0", "3"))
    if pages or bill:
        assert alone[0] == 2
        assert shared == alone
        assert not (run.folder / "bills").exists()


@pytest.mark.usefixtures("pool", "accounts")
def test_an_interrupt_ends_the_processes_and_leaves_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After Ctrl-C, bills that have not begun are left out, and the folder is removed."""
    ended: list[tuple[bool, bool]] = []
    numbers: list[int] = []

    def interrupt(document: Mapping[str, Any], key: Any) -> Any:
        numbers.append(document["number"])
        if len(numbers) == 8:
            raise KeyboardInterrupt
        return seal(document, key)

    monkeypatch.setattr(invoices, "seal", interrupt)
    monkeypatch.setattr(
        InlinePool, "shutdown", lambda _, wait=True, cancel_futures=False: ended.append((wait, cancel_futures))
    )
    assert run(*ALL, "--workers", "3") == (130, "", "stopped\n")
    assert ended == [(False, False), (True, True)]  # those that read, and those that write
    assert not (run.folder / "bills").exists()


@pytest.mark.usefixtures("accounts")
def test_few_bills_start_no_process(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a hundred bills, starting a process would take longer than writing them."""
    monkeypatch.setattr(bill_writer, "running_pool", None)
    assert run(*ALL)[0] == 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
