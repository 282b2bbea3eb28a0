"""The command ``import``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import PriceBook
from brivionix_billing.cli import main
from import_kit import FILES, PRICES
from paths import ROOT


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    """Run the command; return status, stdout and stderr."""
    status = main(["import", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("source", FILES)
def test_a_price_file_is_printed(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout is a valid price file that names its source; stderr says what was not imported."""
    status, out, err = run(capsys, source, PRICES / FILES[source])
    assert status == 0
    assert PriceBook.loads(out).model_names
    assert out.startswith(f"# Prices imported from {source} ({FILES[source]})")
    assert "models imported" in err
    assert "prices without a date start on 2020-01-01" in err


def test_the_output_is_always_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs print the same text."""
    assert run(capsys, "litellm", PRICES / "litellm.json")[1] == run(capsys, "litellm", PRICES / "litellm.json")[1]


def test_models_can_be_chosen_by_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    """Only matching models are imported, and only the declarations that they need."""
    _, out, _ = run(capsys, "litellm", PRICES / "litellm.json", "--model", "gpt-5.4*", "--model", "gpt-5.2")
    assert PriceBook.loads(out).model_names == ["gpt-5.4", "gpt-5.4-mini", "gpt-5.2"]
    assert "calendars:" not in out


def test_no_matching_model_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed."""
    status, out, err = run(capsys, "litellm", PRICES / "litellm.json", "--model", "wibble")
    assert (status, out) == (2, "")
    assert "no model is left to import" in err


def test_the_start_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    """``--from`` dates the prices to which the source gives no date."""
    _, out, err = run(capsys, "portkey", PRICES / "portkey_openai.json", "--from", "2026-10-12")
    assert "from: 2026-10-12" in out
    assert "2020-01-01" not in out + err


def test_everything_that_was_not_imported_is_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report has each rejection and each note with its reason."""
    report = tmp_path / "report.json"
    run(capsys, "litellm", PRICES / "litellm.json", "--report", report)
    content = json.loads(report.read_text(encoding="utf-8"))
    assert {"model", "field", "reason"} == content["rejections"][0].keys()
    assert any(note["code"] == "float_noise" for note in content["notes"])


def test_prices_are_merged_into_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--into`` changes the file and prints nothing on stdout."""
    target = tmp_path / "pricing.yaml"
    target.write_bytes((ROOT / "pricing.yaml").read_bytes())
    status, out, err = run(capsys, "portkey", PRICES / "portkey_openai.json", "--into", target, "--from", "2026-12-01")
    assert (status, out) == (0, "")
    assert "0 models added" in err
    assert "3 got new prices, 2 unchanged" in err
    assert "from: 2026-12-01" in target.read_text(encoding="utf-8")


def test_into_requires_a_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prices of a file in use never change from an invented date on."""
    target = tmp_path / "pricing.yaml"
    target.write_bytes((ROOT / "pricing.yaml").read_bytes())
    status, _, err = run(capsys, "portkey", PRICES / "portkey_openai.json", "--into", target)
    assert status == 2
    assert "add --from DATE" in err


@pytest.mark.parametrize("arguments", [("--from", "tomorrow"), ("--into", "missing.yaml", "--from", "2026-12-01")])
def test_wrong_arguments_are_refused(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong date, and a file that does not exist."""
    status, out, _ = run(capsys, "portkey", PRICES / "portkey_openai.json", *arguments)
    assert (status, out) == (2, "")


def test_a_file_of_another_source_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message says which file to pass."""
    status, out, err = run(capsys, "portkey", PRICES / "litellm.json")
    assert (status, out) == (2, "")
    assert "pass pricing/PROVIDER.json" in err
    assert "[source_unreadable]" in err


def test_the_summary_has_reasons_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Similar reasons are counted together, the first one is shown with its numbers, and one of a thing is singular."""
    source = tmp_path / "models.json"
    bad = {name: {"litellm_provider": "x", "input_cost_per_token": -number} for number, name in enumerate("abc", 2)}
    good = {"good": {"litellm_provider": "x", "input_cost_per_token": 1e-6}}
    source.write_text(json.dumps({**bad, "d": {"litellm_provider": "x", "mode": "chat"}, **good}), "utf-8")
    _, _, err = run(capsys, "litellm", source)
    assert "litellm: 1 model imported" in err
    assert "not imported: 4 models; --report" in err
    assert "  3 like: input_cost_per_token: the price is negative (-2)" in err
    assert "  d: states no price" in err
