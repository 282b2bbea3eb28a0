"""Fair clocks: contestants take turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

__all__ = ["ROOT", "Row", "Times", "calls", "earlier", "peak_memory", "processes", "show", "statements"]

ROOT = Path(__file__).resolve().parent.parent


class Times(NamedTuple):
    """What one contestant took, in seconds per run."""

    best: float
    median: float


class Row(NamedTuple):
    """A line of the table. ``ratio`` is what is judged, where something was demanded of it."""

    what: str
    measured: str
    ratio: str = ""
    demanded: str = ""
    met: bool | None = None


@contextmanager
def earlier(commit: str) -> Iterator[Path]:
    """Yield a folder with the project as it was at a commit."""
    with tempfile.TemporaryDirectory(prefix="brivionix-before-") as folder:
        before = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(before), commit], check=True)
        try:
            yield before
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)


def peak_memory() -> float:
    """Return the peak memory of this process in MiB."""
    try:
        # The number of getrusage() starts with that of the process which started this one.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2


def statements(contestants: Mapping[str, str], names: dict[str, Any], rounds: int = 25) -> dict[str, Times]:
    """Time per run of short statements: each round runs every one for about 20 ms."""
    clocks = {name: timeit.Timer(text, globals=names) for name, text in contestants.items()}
    numbers = {}
    for name, clock in clocks.items():
        clock.timeit(200)  # caches are warm and prices are loaded before anything counts
        numbers[name] = max(20, int(0.02 / (clock.timeit(200) / 200)))
    taken: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(rounds):
        for name, clock in clocks.items():
            taken[name].append(clock.timeit(numbers[name]) / numbers[name])
    return _summed(taken)


def calls(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Time per call of functions that take milliseconds and more."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
    return _summed(taken)


def processes(programs: Mapping[str, str], rounds: int) -> dict[str, Times]:
    """Time of ``python -c program``, each in a process of its own, with every module compiled beforehand."""
    with tempfile.TemporaryDirectory(prefix="brivionix-bench-") as compiled:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def run(program: str) -> None:
            subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True)

        runners = {name: partial(run, program) for name, program in programs.items()}
        for runner in runners.values():
            runner()  # writes the compiled modules
        return calls(runners, rounds)


def _summed(taken: Mapping[str, Sequence[float]]) -> dict[str, Times]:
    return {name: Times(min(times), median(times)) for name, times in taken.items()}


def show(rows: Sequence[Row]) -> str:
    """The rows as a table of text."""
    cells = [("what", "measured", "ratio", "demanded", "met")]
    words = {True: "yes", False: "NO", None: ""}
    cells += [(row.what, row.measured, row.ratio, row.demanded, words[row.met]) for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
