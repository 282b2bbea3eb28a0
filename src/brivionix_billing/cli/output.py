"""Prints results on stdout, and messages and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from brivionix_billing.errors import escape_unprintable
from brivionix_billing.tables import SourcePosition
from brivionix_billing.tabular import format_csv

__all__ = ["count_noun", "print_stdout", "print_stderr", "print_rows", "as_json", "printable", "progress"]


def print_stdout(text: str) -> None:
    """Write text to stdout, in UTF-8 regardless of the locale."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace"))
    sys.stdout.buffer.flush()


def print_stderr(message: str) -> None:
    """Print a message on stderr, with unprintable characters escaped."""
    text = "\n".join(escape_unprintable(line) for line in message.splitlines())
    global _is_progress_shown
    if _is_progress_shown:
        _is_progress_shown = False
        print(file=sys.stderr)
    encoding = sys.stderr.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=sys.stderr)


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural.

    >>> count_noun(1, "model"), count_noun(2, "model")
    ('1 model', '2 models')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_rows(rows: Sequence[Mapping[str, Any]], kind: str, format_text: Callable[[], str]) -> None:
    """Print rows as JSON, as CSV, or as the human-readable text that ``format_text`` returns."""
    if kind == "json":
        print_stdout(as_json(list(rows)))
    elif kind == "csv":
        print_stdout(format_csv(rows))
    else:
        print_stdout(printable(format_text() + "\n"))


def as_json(value: Any) -> str:
    """Return JSON for a terminal: letters of all scripts as they are, control characters escaped."""
    text = json.dumps(value, ensure_ascii=False, indent=2) + "\n"
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def printable(text: str) -> str:
    """Return the text with every unprintable character but the newline escaped."""
    return "".join(c if c.isprintable() or c == "\n" else escape_unprintable(c) for c in text)


def progress(position: SourcePosition) -> Callable[[int, int], None] | None:
    """Return a callback that shows lines and bytes read and the time that remains.

    It returns ``None`` if stderr is not a terminal.
    """
    if not sys.stderr.isatty():
        return None
    start = time.monotonic()

    def show(lines: int, size: int) -> None:
        global _is_progress_shown
        read = f", {size / 1e6:,.0f} MB" if size else ""  # an engine does not know it
        text = f"{lines:,} lines{read}" + _remaining(position.fraction, time.monotonic() - start)
        _is_progress_shown = True  # before it is shown, because Ctrl-C may follow at once
        print(f"\r{text:<60}", end="", file=sys.stderr, flush=True)

    return show


def _remaining(fraction: float | None, elapsed: float) -> str:
    """Return the part that was read and the time that remains, as far as they are known.

    >>> _remaining(0.25, 30), _remaining(None, 30)
    (', 25 %, 1:30 left', '')
    """
    if fraction is None or fraction < _MIN_FRACTION:
        return ""
    minutes, seconds = divmod(round(elapsed * (1 - fraction) / fraction), 60)
    return f", {fraction * 100:.0f} %, {minutes}:{seconds:02} left"


_MIN_FRACTION: Final = 0.01
"""Part of the work from which the remaining time is estimated."""
_is_progress_shown = False
"""Whether the cursor is at the end of the progress."""
