"""Bills as files: a folder per bill, written once and never over another.

A folder holds ``invoice.json`` (the canonical document), ``invoice.txt`` (for people), ``invoice.csv`` (its lines) and
``records.txt`` (the list of its records).
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
from brivionix_billing.invoice.csv_export import lines_csv
from brivionix_billing.invoice.document import read_document, schema_errors
from brivionix_billing.invoice.record_list import format_record_list
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
_HELD_BYTES: Final = 16 * 1024 * 1024


_NO_PAGES: Final[Mapping[str, bytes]] = MappingProxyType({})


def write_bill(
    folder: Path, document: Mapping[str, Any], records: Path | None, pages: Mapping[str, bytes] = _NO_PAGES
) -> Path:
    """Write a sealed document, its page and its lines; take in its list of records.

    ``pages`` are further files, by name. Raises ``document_exists`` where any of all these stands already,
    ``invalid_argument`` for a page whose name is that of a file of ours, or is not letters, digits and . _ - alone.
    """
    for name in pages:
        if name in _RESERVED_FILES or not _PAGE_NAME.fullmatch(name):
            raise BillingError("invalid_argument", f"the page {safe_repr(name)} is not a file name of its own")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DOCUMENT_FILE
    for name in (*_RESERVED_FILES, *pages):
        if (folder / name).exists():
            raise BillingError(
                "document_exists",
                f"{folder / name} stands already; a bill is never edited: choose another folder, or write a note",
            )
    if records is not None:
        os.replace(records, folder / RECORDS_FILE)
    (folder / TEXT_FILE).write_text(render_text(document), encoding="utf-8")
    (folder / CSV_FILE).write_text(lines_csv(document), encoding="utf-8", newline="")
    for name, content in pages.items():
        (folder / name).write_bytes(content)
    # The document comes last and at once: where it stands, the bill is whole.
    draft = folder / f".{DOCUMENT_FILE}"
    draft.write_bytes(canonical_json(document))
    os.replace(draft, path)
    return path


def find_documents(path: Path) -> Iterator[Path]:
    """A document's file, or all documents below a folder, in order of their paths."""
    if path.is_dir():
        found = sorted(path.rglob(DOCUMENT_FILE))
        if not found:
            raise BillingError("file_unreadable", f"no {DOCUMENT_FILE} in {path}")
        yield from found
    else:
        yield path


def latest_document(path: Path) -> dict[str, Any]:
    """The document with the highest number at or below a path: the one that the series goes on from."""
    numbers: dict[int, Path] = {}
    series = set()
    for found in find_documents(path):
        document = read_document(found)
        if type(document.get("number")) is int:
            numbers[document["number"]] = found
            series.add(str(document.get("series")))
    if len(series) > 1:
        raise BillingError("series_broken", f"{path} holds more than one series; name the last document itself")
    if not numbers:
        raise BillingError("invalid_document", f"{path}: no numbered document")
    return read_intact_document(numbers[max(numbers)])


def read_intact_document(path: Path) -> dict[str, Any]:
    """A document that is what it says: by the schema, and by its hash."""
    document = read_document(path)
    wrong = schema_errors(document)
    if wrong:
        raise BillingError("invalid_document", f"{path}: {wrong[0][0]}: {wrong[0][1]}")
    if document["hash"] != document_hash(document):
        raise BillingError("invalid_document", f"{path} was changed after it was issued: its hash does not fit")
    return document


class RecordListWriter:
    """Lists of records of many accounts, written side by side with few open files and little memory."""

    def __init__(self, folder: Path) -> None:
        # A folder of its own, with a name that nobody has: nothing that stands there is touched.
        self._folder = tempfile.TemporaryDirectory(prefix=".records-", dir=folder)
        self._paths: dict[str, Path] = {}
        self._held: dict[str, list[str]] = {}
        self._size = 0

    def __enter__(self) -> RecordListWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()  # with whatever no bill has taken in

    def add(self, account: str, leaves: list[bytes], ids: list[str]) -> None:
        """Append records of an account."""
        text = format_record_list(leaves, ids)
        self._held.setdefault(account, []).append(text)
        self._size += len(text)
        if self._size > _HELD_BYTES:
            self._flush()

    def finish(self, account: str) -> Path | None:
        """The finished list of an account."""
        self._flush()
        return self._paths.get(account)

    def _flush(self) -> None:
        for account, texts in self._held.items():
            path = self._paths.get(account)
            if path is None:
                path = self._paths[account] = Path(self._folder.name, str(len(self._paths)))
                path.write_bytes(b"")
            with path.open("a", encoding="utf-8") as file:
                file.writelines(texts)
        self._held.clear()
        self._size = 0
