"""Bills as files: one folder per bill, which is written once and never overwritten.

A folder contains ``invoice.json`` (the canonical document), ``invoice.txt`` (human-readable), ``invoice.csv`` (the
lines) and ``records.txt`` (the list of records). Only the user can read them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import atomic_write_bytes, create_file, make_folder
from brivionix_billing.invoice.csv_export import lines_csv
from brivionix_billing.invoice.document import read_document, schema_errors
from brivionix_billing.invoice.signing import document_hash
from brivionix_billing.invoice.text_page import render_text

__all__ = [
    "DOCUMENT_FILE",
    "RECORDS_FILE",
    "RecordListWriter",
    "find_documents",
    "latest_document",
    "write_bill",
    "read_intact_document",
]

DOCUMENT_FILE: Final = "invoice.json"
TEXT_FILE: Final = "invoice.txt"
CSV_FILE: Final = "invoice.csv"
RECORDS_FILE: Final = "records.txt"
_PAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_RESERVED_FILES: Final = (DOCUMENT_FILE, TEXT_FILE, CSV_FILE, RECORDS_FILE)
_MAX_BUFFERED_BYTES: Final = 16 * 1024 * 1024
_NO_PAGES: Final[Mapping[str, bytes]] = MappingProxyType({})


def write_bill(
    folder: Path,
    document: Mapping[str, Any],
    records: Path | None,
    pages: Mapping[str, bytes] = _NO_PAGES,
    *,
    locale: str = "en",
    all_channels: bool = False,
) -> Path:
    """Write a sealed document, its text page and its lines, and move its list of records into the folder.

    ``pages`` are further files by name; ``locale`` and ``all_channels`` are those of the text page. Returns the path of
    the document. Raises ``document_exists`` if any of these files exists. Raises ``invalid_argument`` for the name of a
    page that is reserved, or has characters other than letters, digits and . _ -.
    """
    for name in pages:
        if name in _RESERVED_FILES or not _PAGE_NAME.fullmatch(name):
            raise BillingError(
                "invalid_argument",
                f"the page name {safe_repr(name)} is reserved or invalid; use 1 to 64 of A-Z a-z 0-9 . _ -",
            )
    make_folder(folder)
    path = folder / DOCUMENT_FILE
    for name in (*_RESERVED_FILES, *pages):
        if os.path.lexists(folder / name):
            raise _exists_error(folder / name)
    # The first file is created exclusively, so of two processes with the same folder, only one goes on.
    _write_new(folder / TEXT_FILE, render_text(document, locale=locale, all_channels=all_channels).encode())
    if records is not None:
        os.replace(records, folder / RECORDS_FILE)
    _write_new(folder / CSV_FILE, lines_csv(document).encode())
    for name, content in pages.items():
        _write_new(folder / name, content)
    # Write the document last and atomically: if it exists, the bill is complete.
    atomic_write_bytes(path, canonical_json(document))
    return path


def _write_new(path: Path, content: bytes) -> None:
    try:
        with create_file(path, binary=True) as file:
            file.write(content)
    except FileExistsError:
        raise _exists_error(path) from None


def _exists_error(path: Path) -> BillingError:
    return BillingError(
        "document_exists", f"{path} exists, and a bill is never overwritten; choose another folder, or write a note"
    )


def find_documents(path: Path) -> Iterator[Path]:
    """Yield the file of a document, or all documents below a folder in order of their paths."""
    if path.is_dir():
        paths = sorted(path.rglob(DOCUMENT_FILE))
        if not paths:
            raise BillingError("file_unreadable", f"no {DOCUMENT_FILE} in {path}")
        yield from paths
    else:
        yield path


def latest_document(path: Path) -> dict[str, Any]:
    """Return the document with the highest number at or below a path. The next one of its series follows it."""
    numbers: dict[int, Path] = {}
    series = set()
    for document_path in find_documents(path):
        document = read_document(document_path)
        if type(document.get("number")) is int:
            numbers[document["number"]] = document_path
            series.add(str(document.get("series")))
    if len(series) > 1:
        raise BillingError("series_broken", f"{path} contains more than one series; name the last document itself")
    if not numbers:
        raise BillingError("invalid_document", f"{path}: no numbered document")
    return read_intact_document(numbers[max(numbers)])


def read_intact_document(path: Path) -> dict[str, Any]:
    """Return a document that matches the schema and its own hash. Raises ``invalid_document`` for any other."""
    document = read_document(path)
    errors = schema_errors(document)
    if errors:
        place, message = errors[0]
        raise BillingError("invalid_document", f"{path}: {place}: {message}")
    if document["hash"] != document_hash(document):
        raise BillingError("invalid_document", f"{path} was altered after it was issued: its hash does not match")
    return document


class RecordListWriter:
    """Writes the record lists of many accounts in parallel, with few open files and bounded memory."""

    def __init__(self, folder: Path) -> None:
        # A new folder with an unused name, so no existing file is overwritten.
        self._folder = tempfile.TemporaryDirectory(prefix=".records-", dir=folder)
        self._paths: dict[str, Path] = {}
        self._buffered: dict[str, list[bytes | memoryview]] = {}
        self._size = 0

    def __enter__(self) -> RecordListWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the lists that were not moved into a bill."""
        self._folder.cleanup()

    def add(self, account: str, lines: bytes | memoryview) -> None:
        """Append lines to the list of an account, in UTF-8."""
        self._buffered.setdefault(account, []).append(lines)
        self._size += len(lines)
        if self._size > _MAX_BUFFERED_BYTES:
            self._flush()

    def finish(self, account: str) -> Path | None:
        """Return the path of an account's complete list, or ``None`` if it has no records."""
        self._flush()
        return self._paths.get(account)

    def _flush(self) -> None:
        for account, lines in self._buffered.items():
            path = self._paths.get(account)
            if path is None:
                path = self._paths[account] = Path(self._folder.name, str(len(self._paths)))
                create_file(path).close()
            with path.open("ab", buffering=0) as file:
                for part in lines:
                    while part:
                        part = part[file.write(part) :]
        self._buffered.clear()
        self._size = 0
