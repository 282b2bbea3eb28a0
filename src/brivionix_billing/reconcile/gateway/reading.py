"""Reads the rows of a log: JSON Lines, JSON, CSV, compressed or not, and the table of a database."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import mmap
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import IO, Any, Final

from brivionix_billing.errors import BillingError, missing_extra, safe_repr
from brivionix_billing.reconcile.result import Input, input_of
from brivionix_billing.tables.sql import require_database

__all__ = ["LogSource", "RawRow", "database_source", "file_source", "read_range"]

RawRow = str | Mapping[str, Any]
"""A row as JSON text, or as it is read from CSV."""
_BATCH: Final = 5_000
_MAX_CELL: Final = 16 * 1024 * 1024
"""Maximum length of a cell of CSV, in characters: some logs have the whole request."""


@dataclass(frozen=True, slots=True)
class LogSource:
    """A log that can be read several times."""

    input: Callable[[], Input]
    """Return the name and the digest. That of a file is computed in a thread while its rows are read."""
    rows: Callable[[], Iterator[RawRow]]
    place: str
    """The name of the log in messages."""
    path: str | None = None
    """The file, if its lines are rows in JSON."""

    def ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges of bytes of about this size that a file of lines is made of. Each ends after a line."""
        if self.path is None:
            raise ValueError("only a file of lines has ranges")
        start = 0
        with _readable(self.path), open(self.path, "rb") as file:
            last = file.seek(0, os.SEEK_END)
            while start < last:
                file.seek(start + size)
                file.readline()
                end = min(file.tell(), last)
                yield start, end
                start = end

    def rows_with(self, *patterns: bytes) -> Iterator[RawRow]:
        """Yield all rows that may match one of these regular expressions as JSON. Only a file of lines is searched.

        Raises ``file_unreadable`` for a row that is not UTF-8.
        """
        if self.path is None:
            yield from self.rows()
            return
        with open(self.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for pattern in patterns:  # each by itself, because an expression with one beginning is found much faster
                found, position = re.compile(pattern), 0
                while match := found.search(content, position):
                    start, end = content.rfind(b"\n", 0, match.start()) + 1, content.find(b"\n", match.end())
                    position = len(content) if end < 0 else end
                    with _readable(self.path):
                        text = content[start:position].decode("utf-8")
                    yield from filter(str.strip, text.split("\r"))  # which also ends a line of text


def file_source(path: str) -> LogSource:
    """Return the log in a file. Raises ``file_unreadable``."""
    is_lines = _has_lines(path)
    thread = ThreadPoolExecutor(1)
    digest = thread.submit(input_of, path)
    thread.shutdown(wait=False)
    return LogSource(
        digest.result, lambda: _read_file(path), safe_repr(Path(path).name, 200), path if is_lines else None
    )


def _has_lines(path: str) -> bool:
    """Return whether a file is not compressed, and its lines are rows in JSON."""
    try:
        with open(path, "rb") as file:
            first = file.readline()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the log {safe_repr(path, 200)}: {reason}") from None
    return first.startswith(b"{") and _is_row(first.decode("utf-8", "replace"))


@contextmanager
def _open_text(path: str) -> Iterator[IO[str]]:
    with _readable(path):
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
        opener: Callable[..., Any] = gzip.open if is_gzip else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            yield file


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn failures of reading or decoding into ``file_unreadable``."""
    try:
        yield
    except (OSError, EOFError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"cannot read the log {safe_repr(path, 200)}: {reason}") from None


def _read_file(path: str) -> Iterator[RawRow]:
    with _open_text(path) as file:
        first = ""
        for line in file:
            if line.strip():
                first = line
                break
        start = first.lstrip()[:1]
        if start == "{" and _is_row(first):
            yield first
            yield from filterfalse(str.isspace, file)
        elif start in ("{", "["):
            yield from _items(first + file.read(), path)
        elif first:
            yield from _csv_rows(first, file, path)
        else:
            raise _no_rows(safe_repr(path, 200))


def read_range(path: str, start: int, end: int) -> Iterator[str]:
    """Yield the rows in a range of bytes of a file of lines."""
    with _readable(path):
        with open(path, "rb") as file:
            file.seek(start)
            content = io.BytesIO(file.read(end - start))
        yield from filterfalse(str.isspace, io.TextIOWrapper(content, encoding="utf-8", newline=""))


def _no_rows(place: str) -> BillingError:
    """Return the error of an empty log. It agrees with every price file, so it is more likely a failed export."""
    return BillingError("file_unreadable", f"the log {place} has no rows, so nothing can be compared; export it again")


def _csv_rows(first: str, rest: Iterable[str], path: str) -> Iterator[RawRow]:
    csv.field_size_limit(_MAX_CELL)
    reader = csv.DictReader(_with_first(first, rest), strict=True)
    row = None
    try:
        for row in reader:
            if None in row or None in row.values():
                raise csv.Error("a row has more or fewer cells than the heading")
            yield row
    except csv.Error as error:
        raise BillingError(
            "file_unreadable",
            f"the log {safe_repr(path, 200)} is no valid CSV at line {reader.line_num}: {error}; export it again",
        ) from None
    if row is None:
        raise _no_rows(safe_repr(path, 200))


def _with_first(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _is_row(line: str) -> bool:
    """Return whether a line is a row on its own, and not the beginning of a longer text or a page of an API."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and not isinstance(value.get("data"), dict | list)


def _items(text: str, path: str) -> Iterator[RawRow]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BillingError("file_unreadable", f"the log {safe_repr(path, 200)} is not valid JSON: {error}") from None
    while isinstance(value, dict):
        value = next((value[key] for key in ("data", "items", "logs", "results") if key in value), None)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BillingError(
            "file_unreadable", f"the log {safe_repr(path, 200)} has no list of rows; export the log as JSON Lines"
        )
    if not value:
        raise _no_rows(safe_repr(path, 200))
    yield from value


def database_source(url: str, table: str, order: str) -> LogSource:
    """Return the log in a table of a database. Raises ``missing_extra``, ``file_unreadable``.

    Rows that are added while it is read are left out.
    """
    try:
        import sqlalchemy
    except ImportError:
        raise missing_extra("a database", "ledger", "export the log to a file") from None
    from sqlalchemy.exc import SQLAlchemyError

    def failure(error: Exception) -> BillingError:
        reason = type(error).__name__ if "://" in str(error) else str(error).splitlines()[0]
        return BillingError("file_unreadable", f"cannot read the table {table} of the database: {reason}")

    try:
        engine = sqlalchemy.create_engine(url)
        require_database(engine)
        log = sqlalchemy.Table(table, sqlalchemy.MetaData(), autoload_with=engine)
        with engine.connect() as connection:
            last = connection.execute(sqlalchemy.select(sqlalchemy.func.max(log.c[order]))).scalar()
    except (SQLAlchemyError, KeyError, ValueError, ImportError) as error:
        raise failure(error) from None
    if last is None:
        raise _no_rows(f"in table {table}")

    def rows() -> Iterator[RawRow]:
        chosen = sqlalchemy.select(log).where(log.c[order] <= last).order_by(log.c[order])
        try:
            with engine.connect().execution_options(stream_results=True, yield_per=_BATCH) as connection:
                for row in connection.execute(chosen).mappings():
                    yield json.dumps(dict(row), default=str)
        except SQLAlchemyError as error:
            raise failure(error) from None

    digest = hashlib.sha256()
    for row in rows():
        digest.update(str(row).encode() + b"\n")
    found = Input(table, f"sha256:{digest.hexdigest()}")
    return LogSource(lambda: found, rows, f"table {table}")
