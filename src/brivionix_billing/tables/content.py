"""Recognises the form of usage by its first bytes, and yields its rows as lines of a usage file."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.errors import BillingError, missing_extra, safe_repr
from brivionix_billing.file_kinds import DOCUMENT, PRICE_FILE, describe_kind, gateway_of
from brivionix_billing.tables.columns import TableOptions
from brivionix_billing.tables.mappings import TableColumns, columns_of
from brivionix_billing.tables.parquet import parquet_lines
from brivionix_billing.usage.record_file import MAX_LINE, bounded_lines, line_blocks, split_lines

__all__ = ["usage_blocks", "usage_lines"]

_HEAD_BYTES: Final = 64 * 1024
_CHUNK: Final = 256 * 1024
_CHECKED_LINES: Final = 100
_MAX_SHAPES: Final = 1000
_COMPRESSED_BYTES: Final = 1024
"""How much is decompressed at once: it may become 32 MiB."""
_JSON_WHITE: Final = " \t\r\n"
_OTHER_FILES: Final = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook; unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; save it as CSV"),
    (b"SQLite format 3\0", "an SQLite database; export its usage as CSV, or use 'ledger records' for a ledger"),
    (b"%PDF", "a PDF document; export the usage as CSV or JSON Lines"),
    (b"PGDMP", "a PostgreSQL dump; export the usage as CSV"),
    (b"<", "HTML or XML; export the usage as CSV or JSON Lines"),
)
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_USAGE_FORMS: Final = "JSON Lines, JSON, CSV, TSV or Parquet"
_DELIMITERS: Final = (",", "\t", ";", "|")
Note = Callable[[str], None]


def usage_lines(source: IO[bytes], options: TableOptions | None = None) -> Iterator[bytes]:
    """Yield the lines of a usage file for usage of any form.

    ``source`` is opened for bytes. Raises ``file_unreadable`` for what is no usage, and ``invalid_argument`` for a
    table without the columns.
    """
    for block in usage_blocks(source, options):
        yield from split_lines(block)


def usage_blocks(source: IO[bytes], options: TableOptions | None = None) -> Iterator[bytes]:
    """Yield the same lines as :func:`usage_lines`, one or more at a time."""
    options = options or TableOptions()
    reader = source if hasattr(source, "peek") else io.BufferedReader(source, _HEAD_BYTES)  # type: ignore[type-var]  # any raw stream
    head = reader.peek(_HEAD_BYTES)[:_HEAD_BYTES]
    decompressed = _decompressor(head)
    if decompressed is not None:
        with _readable("damaged", EOFError, OSError, zlib.error), decompressed(reader) as inner:
            again = io.BufferedReader(inner, _HEAD_BYTES)
            if _decompressor(again.peek(16)) is not None:
                raise BillingError("file_unreadable", "the usage is compressed twice; decompress it once")
            yield from usage_blocks(again, options)
        return
    if head.startswith(b"PAR1"):
        yield from parquet_lines(reader, options)
        return
    for mark, what in _OTHER_FILES:
        if head.lstrip()[: len(mark)] == mark:
            raise BillingError("file_unreadable", f"the usage is {what}")
    if (kind := describe_kind(head)) in (DOCUMENT, PRICE_FILE):
        raise BillingError("file_unreadable", f"this is {kind}, and no usage; use {_USAGE_FORMS}")
    gateway = gateway_of(head)
    if gateway is not None and options.preset is None and not options.mapping:
        raise BillingError("file_unreadable", f"this looks like a log of {gateway}; use --map {gateway}")
    encoding = next((name for bom, name in _BOMS if head.startswith(bom)), None)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if encoding in (None, "utf-8-sig") and start in (b"{", b"") and _is_json_lines(head):
        blocks = None if options.changes_rows else line_blocks(reader)
        yield from _with_options(bounded_lines(reader), options) if blocks is None else blocks
        return
    if encoding is None:
        encoding = _guess_encoding(head, options.note)
    with _readable("not text of one encoding", UnicodeError):
        text = io.TextIOWrapper(reader, encoding=encoding, newline="")
        if start == b"[" or _first_character(head, encoding) in "[{":
            yield from _with_options(_json_lines(text), options)
        else:
            yield from _csv_lines(text, options)
        text.detach()  # the caller closes what it opened


@contextmanager
def _readable(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn failures of decompression or decoding into errors that say so."""
    try:
        yield
    except errors as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BillingError("file_unreadable", f"the usage is {what}: {reason}") from None


def _decompressor(head: bytes) -> Callable[[Any], Any] | None:
    if head.startswith(b"\x1f\x8b"):
        return lambda source: gzip.GzipFile(fileobj=source)
    if head.startswith(b"BZh"):
        return lambda source: bz2.BZ2File(source)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return _open_zstandard
    return None


def _open_zstandard(source: IO[bytes]) -> Any:
    try:
        import zstandard
    except ImportError:
        raise missing_extra("usage compressed with Zstandard", "frames", "decompress it") from None
    return io.BufferedReader(_Zstandard(source, zstandard), _HEAD_BYTES)


class _Zstandard(io.RawIOBase):
    """Decompresses frames. Unlike the reader of ``zstandard``, it notices that the last one is cut off."""

    def __init__(self, source: IO[bytes], zstandard: Any) -> None:
        self._source, self._zstandard = source, zstandard
        self._frame: Any = None
        self._compressed, self._pending = b"", memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            self._compressed = self._compressed or self._source.read(_COMPRESSED_BYTES)
            if not self._compressed:
                if self._frame is not None:
                    raise EOFError("it ends within a frame of Zstandard")
                return 0
            self._decompress()
        count = min(len(buffer), len(self._pending))
        buffer[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def _decompress(self) -> None:
        frame = self._frame or self._zstandard.ZstdDecompressor().decompressobj()
        try:
            self._pending = memoryview(frame.decompress(self._compressed))
        except self._zstandard.ZstdError as error:
            raise OSError(str(error)) from None
        self._compressed = frame.unused_data
        self._frame = None if frame.eof else frame


def _is_json_lines(head: bytes) -> bool:
    """Return whether no line is the beginning of a longer JSON value, as far as the first lines say."""
    lines = [line.strip() for line in head.split(b"\n")]
    if len(lines) > 1:
        del lines[-1]  # it may be cut
    return not any(line[-1:] in (b"{", b",", b"[") and line[-1:] for line in lines[:_CHECKED_LINES])


def _first_character(head: bytes, encoding: str) -> str:
    text = codecs.getincrementaldecoder(encoding)("ignore").decode(head)
    return text.lstrip("\ufeff" + _JSON_WHITE)[:1] or " "


def _guess_encoding(head: bytes, note: Note) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        try:
            codecs.getincrementaldecoder("gb18030")().decode(head)
        except UnicodeDecodeError:
            raise BillingError(
                "file_unreadable", "the usage is neither UTF-8 nor GBK; save it as UTF-8, or it is no text"
            ) from None
        kind = describe_kind(head)
        if kind is not None and not kind.startswith("a table"):
            raise BillingError("file_unreadable", f"the usage is {kind}; use {_USAGE_FORMS}") from None
        note("the usage is not UTF-8; it is read as GBK")
        return "gb18030"
    if b"\0" in head:
        raise BillingError("file_unreadable", f"the usage is no text; use {_USAGE_FORMS}")
    return "utf-8"


def _json_lines(text: IO[str]) -> Iterator[bytes]:
    """Yield the values of a JSON array, or JSON values one after the other, one per line."""
    decoder, buffer, position, is_array, is_first = json.JSONDecoder(), "", 0, False, True
    ends, count = False, 0
    while True:
        while position < len(buffer) and buffer[position] in _JSON_WHITE + ("," if is_array else ""):
            position += 1
        if is_first and position < len(buffer):
            is_first = False
            if buffer[position] in "\ufeff[":
                is_array |= buffer[position] == "["
                is_first = buffer[position] == "\ufeff"
                position += 1
                continue
        if is_array and buffer[position : position + 1] == "]":
            position, is_array = position + 1, False
            continue
        try:
            if position == len(buffer):
                raise ValueError  # more is needed
            _, end = decoder.raw_decode(buffer, position)
            if end == len(buffer) and not ends:
                raise ValueError  # a number may go on
        except (ValueError, RecursionError) as error:
            if ends or isinstance(error, RecursionError) or len(buffer) - position > MAX_LINE:
                if position < len(buffer) or is_array:
                    raise BillingError(
                        "file_unreadable",
                        f"the usage is not valid JSON after row {count}; "
                        "it may be cut off there, or the row above 1 MiB",
                    ) from None
                return
            buffer, position = buffer[position:], 0
            more = text.read(_CHUNK)
            ends = not more
            buffer += more
            continue
        # White space has no meaning outside of texts, and no raw line end is inside of them.
        count += 1
        yield re.sub(r"[\r\n]+", " ", buffer[position:end]).encode("utf-8", "surrogatepass") + b"\n"
        position = end


def _with_options(lines: Iterable[bytes], options: TableOptions) -> Iterable[bytes]:
    """Return JSON objects as they are, or read like rows of a table if the options rename or add something."""
    return _read_rows(lines, options) if options.changes_rows else lines


def _read_rows(lines: Iterable[bytes], options: TableOptions) -> Iterator[bytes]:
    tables: dict[tuple[str, ...], TableColumns] = {}
    for line in lines:
        try:
            row: Any = loads_strict(line, "the row")
        except BillingError:
            row = None
        if not isinstance(row, dict) or not row:
            yield line  # rejected where it is read as a record
            continue
        names = tuple(row)
        columns = tables.get(names)
        if columns is None:
            if len(tables) > _MAX_SHAPES:
                tables.clear()
            known = [*names, *(name for name in options.mapping if name not in names)]  # a field may be missing
            columns = tables[names] = columns_of(known, options)
        yield columns.line([*row.values(), *[None] * (len(columns.names) - len(row))])


def _csv_lines(text: IO[str], options: TableOptions) -> Iterator[bytes]:
    first = text.readline(MAX_LINE)
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(MAX_LINE)
    length = 0

    def lines() -> Iterator[str]:
        nonlocal length
        line = first
        while line:
            length += len(line)
            if length >= MAX_LINE:  # a part of a row must not be read as a row
                raise csv.Error(f"a row has more than {MAX_LINE} characters")
            yield line
            line = text.readline(MAX_LINE)

    rows = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lstrip("\ufeff") for name in next(rows, [])]
        if len(names) < 2:
            raise BillingError(
                "file_unreadable",
                f"the usage begins with {safe_repr(first.strip(), 60)}; use {_USAGE_FORMS}",
            )
        columns = columns_of(names, options)
        for row in rows:
            length = 0
            if row:
                yield columns.line(row)
    except csv.Error as error:
        raise BillingError("file_unreadable", f"the usage is no valid CSV after row {rows.line_num}: {error}") from None
