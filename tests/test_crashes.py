"""Inputs that fuzzing has found, and the harnesses of the fuzzer on their seeds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz.mutation import make_mutator
from fuzz.readers import READERS, read
from fuzz.seeds import dictionary, seeds
from paths import DATA, ROOT

CRASHES = DATA / "crashes"
FOUND = sorted(path for path in CRASHES.rglob("*") if path.is_file() and path.parent != CRASHES)


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_crash_stays_fixed(path: Path) -> None:
    """An input that once crashed a reader is read or rejected, within seconds."""
    start = time.process_time()
    read(path.parent.name, path.read_bytes())
    assert time.process_time() - start < 5


def test_there_is_a_folder_for_known_readers_only() -> None:
    """Every stored crash belongs to a harness, so none is skipped."""
    assert {path.parent.name for path in FOUND} <= set(READERS)


@pytest.mark.parametrize("name", READERS)
def test_the_seeds_are_accepted(name: str) -> None:
    """Each harness accepts nearly all of its seeds, so the fuzzer starts in the depth of the reader."""
    accepted = [read(name, seed) for seed in seeds(name)]
    assert len(accepted) >= 9
    assert accepted.count(False) <= len(accepted) // 5
    assert all(line.startswith('"') and line.isascii() for line in dictionary(name).splitlines())


@pytest.mark.parametrize("name", READERS)
def test_mutated_seeds_raise_nothing(name: str) -> None:
    """Some mutations of the structure of each seed are read or rejected: a small fuzzing run without a fuzzer."""
    mutate = make_mutator({"stream": 2, "catalog": 1}.get(name, 0), lambda data, limit: data[: limit // 2])
    chosen = seeds(name)[:: max(1, len(seeds(name)) // 12)]
    for number, seed in enumerate(chosen):
        data = seed
        for step in range(6):
            data = mutate(data, 16_384, 1000 * number + step)
            read(name, data)


def test_a_defect_is_no_rejection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another exception than ``BillingError`` passes through a harness."""

    def fail(data: bytes) -> None:
        raise KeyError(data)

    monkeypatch.setitem(READERS, "fail", fail)
    with pytest.raises(KeyError):
        read("fail", b"")


def test_fuzzing_starts_and_stops(tmp_path: Path) -> None:
    """``python -m fuzz.run READER`` fuzzes with Atheris for the given time, if it is installed."""
    pytest.importorskip("atheris", reason="the extra fuzz is not installed")
    command = [sys.executable, "-m", "fuzz.run", "usage"]
    environment = {"FUZZ_SECONDS": "1", "FUZZ_FOLDER": str(tmp_path), "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert (done.returncode, "no reader failed" in done.stdout) == (0, True), done.stderr[-2000:]
    assert list((tmp_path / "corpus" / "usage").iterdir())
