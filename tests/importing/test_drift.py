"""Drift: where the list prices of a price file differ from those of a public source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from brivionix_billing.cli import main
from paths import DATA
from samples import SHIPPED

PORTKEY = str(DATA / "prices" / "portkey_openai.json")
LITELLM = str(DATA / "prices" / "litellm.json")


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command. Returns the exit status, stdout and stderr."""
    status = main(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def drift(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, old: str, new: str, *options: str
) -> tuple[int, list[dict[str, str]]]:
    """Return the status and the differences of the shipped file with a replacement."""
    text = SHIPPED.read_text("utf-8")
    assert old in text
    path = tmp_path / "pricing.yaml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    status, out, _ = command(capsys, "drift", "portkey", PORTKEY, "--prices", str(path), "--format", "json", *options)
    return status, json.loads(out)["differences"]


@pytest.mark.parametrize(("source", "file"), [("portkey", PORTKEY), ("litellm", LITELLM)])
def test_the_shipped_prices_do_not_drift(source: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped price file states the prices of the source wherever both state one."""
    status, out, err = command(capsys, "drift", source, file, "--prices", str(SHIPPED), "--at", "2026-11-01")
    assert (status, out) == (0, "")
    assert "0 differences" in err


def test_another_price_is_a_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A price that differs is named with both values, its tier, its range of input tokens and the per cent."""
    long_context = "{above: 272000, input: 10, cache_read: 1, output: 45}"
    status, found = drift(capsys, tmp_path, long_context, long_context.replace("45", "44"), "--at", "2026-11-01")
    assert status == 1
    (row,) = found
    assert (row["model"], row["service_tier"], row["meter"]) == ("gpt-5.5", "standard", "output")
    assert (row["context"], row["ours"], row["theirs"], row["percent"]) == (">272000", "44", "45", "2.27")


def test_another_boundary_is_a_difference_in_the_range_between(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If only one boundary differs, the prices differ between the two, and nowhere else."""
    status, found = drift(
        capsys, tmp_path, "{above: 272000, input: 10", "{above: 300000, input: 10", "--at", "2026-11-01"
    )
    assert status == 1
    assert {(row["meter"], row["ours"], row["theirs"]) for row in found} == {
        ("input", "5", "10"), ("cache_read", "0.5", "1"), ("output", "30", "45")
    }  # fmt: skip


def test_the_prices_of_a_time_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A price that starts later is no difference before its start."""
    mini = "batch: {input: 0.375, cache_read: 0.0375, output: 2.25}"
    later = f"{mini}\n      - from: 2026-12-01\n        standard: {{input: 0.6, cache_read: 0.075, output: 4.5}}"
    assert drift(capsys, tmp_path, mini, later, "--at", "2026-11-30T23:59:59Z") == (0, [])
    assert [row["theirs"] for row in drift(capsys, tmp_path, mini, later, "--at", "2026-12-01")[1]] == ["0.75"]


def test_a_nominal_currency_other_than_usd_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices of sources are in USD, so a price file in another currency is not compared."""
    path = tmp_path / "pricing.yaml"
    path.write_text(SHIPPED.read_text("utf-8").replace("currency: USD\n  nominal", "currency: EUR\n  nominal"), "utf-8")
    status, _, err = command(capsys, "drift", "portkey", PORTKEY, "--prices", str(path))
    assert status == 2
    assert "prices of sources are in USD, those of the file in EUR" in err
