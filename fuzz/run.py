"""Fuzzes readers with Atheris: ``python -m fuzz.run [READER ...]``; ``FUZZ_SECONDS`` each, by default 20.

Inputs that reach new code are kept in ``fuzz/corpus/READER/``, so that the next run continues from them. A crash is
stored in ``fuzz/crashes/READER/``. Move its file to ``tests/data/crashes/READER/`` when the library is fixed: the tests
replay what is there. ``FUZZ_FOLDER`` names another folder for both.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["main"]

_ROOT: Final = Path(__file__).resolve().parents[1]
_FOLDER: Final = Path(os.environ.get("FUZZ_FOLDER") or Path(__file__).resolve().parent)
_OPTIONS: Final = ("-max_len=16384", "-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1", "-close_fd_mask=0")
_PREFIX: Final = {"stream": 2, "catalog": 1}
"""Number of bytes before the data, by which a harness chooses something."""


def main(arguments: list[str]) -> int:
    """Fuzz the named readers, or all, each in a process of its own. Returns 1 if one of them failed."""
    if arguments[:1] == ["--in-process"]:
        return _fuzz(arguments[1], arguments[2:])
    from fuzz.readers import READERS
    from fuzz.seeds import dictionary, seeds

    failed = []
    for name in arguments or list(READERS):
        corpus, crashes = _FOLDER / "corpus" / name, _FOLDER / "crashes" / name
        for folder in (corpus, crashes):
            folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as first:
            for number, seed in enumerate(seeds(name)):
                Path(first, f"seed-{number}").write_bytes(seed)
            words = _FOLDER / "corpus" / f"{name}.dict"
            words.write_text(dictionary(name), encoding="ascii")
            seconds = os.environ.get("FUZZ_SECONDS", "20")
            options = [*_OPTIONS, f"-max_total_time={seconds}", f"-dict={words}", f"-artifact_prefix={crashes}/"]
            command = [sys.executable, "-m", "fuzz.run", "--in-process", name, *options, str(corpus), first]
            print(f"== {name}: {seconds} seconds", flush=True)
            if subprocess.run(command, cwd=_ROOT, check=False).returncode:
                failed.append(name)
    print("failed: " + ", ".join(failed) if failed else "no reader failed")
    return 1 if failed else 0


def _fuzz(name: str, options: list[str]) -> int:
    import atheris

    with atheris.instrument_imports(include=["brivionix_billing"]):
        from fuzz.readers import read
    from fuzz.mutation import make_mutator

    def run(data: bytes) -> None:
        read(name, data)

    def mutate_bytes(data: bytes, limit: int) -> bytes:
        mutated: bytes = atheris.Mutate(data, limit)  # Fuzz() replaces this attribute of the module
        return mutated

    mutator = make_mutator(_PREFIX.get(name, 0), mutate_bytes)
    atheris.Setup([sys.argv[0], *options], run, custom_mutator=mutator)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
