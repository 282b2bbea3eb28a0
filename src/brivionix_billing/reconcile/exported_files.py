"""Reads files that other parties export: tables of any usual encoding and delimiter, pages of JSON, archives.

A file is read as a whole, up to :data:`MAX_FILE_BYTES`. Numbers of JSON are exact. Every failure is
``invalid_statement`` with the file, the row and the fix.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded

__all__ = [
    "MAX_FILE_BYTES",
    "ExportedFile",
    "Row",
    "Section",
    "json_values",
    "read_files",
    "read_sections",
    "statement_error",
]

MAX_FILE_BYTES: Final = 512 * 1024 * 1024
"""Maximum size of a file, and of the files of an archive together, in bytes."""
_MAX_CELL: Final = 1024 * 1024
_MAX_MEMBERS: Final = 1000
_MAX_NUMBER_LENGTH: Final = 60
_MAX_EXPONENT: Final = 1_000
_DELIMITERS: Final = (",", "\t", ";", "|")
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "download the CSV"),
    (b"%PDF", "a PDF document", "download the CSV"),
    (b"<", "HTML or XML, perhaps the page of an error or a login", "download the file again"),
)
_ZIP_ERRORS: Final = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError),
    RuntimeError,  # the archive has a password
    *(ValueError, IndexError, struct.error),  # the module does not check every name, offset and field that it reads
)
"""What reading a damaged archive raises."""
_WORKBOOK_MEMBER: Final = "[Content_Types].xml"
_UTF8_NAME: Final = 0x800
"""Flag of a member of a ZIP archive whose name is UTF-8."""
_PADDING: Final = " \t\r\n\u00a0\u3000\ufeff"


def statement_error(place: str, problem: str, fix: str) -> BillingError:
    """Return the error for a file that is not a report or statement of the named kind, or contradicts itself."""
    return BillingError("invalid_statement", f"{place}: {problem}; {fix}")


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file, or one member of an archive."""

    name: str
    """The path for messages; of a member of an archive, with its name."""
    content: bytes

    @property
    def digest(self) -> str:
        """``sha256:`` and the hash of the content."""
        return "sha256:" + hashlib.sha256(self.content).hexdigest()

    @property
    def is_json(self) -> bool:
        """Whether the content begins like JSON."""
        return self.content.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")

    def text(self) -> str:
        """Return the content as text: by its byte order mark, else UTF-8, else GBK."""
        for mark, what, fix in _OTHER_FILES:
            if self.content.lstrip()[: len(mark)] == mark:
                raise statement_error(self.name, f"the file is {what}", fix)
        encoding = next((name for bom, name in _BOMS if self.content.startswith(bom)), None)
        for name in (encoding,) if encoding else ("utf-8", "gb18030"):
            try:
                text = self.content.decode(name)
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                return text
        raise statement_error(self.name, "the file is no text in UTF-8, UTF-16 or GBK", "download it again")


def read_files(paths: Sequence[str]) -> list[ExportedFile]:
    """Return the files at the paths. Archives (ZIP, gzip) are unpacked. Raises ``file_unreadable``."""
    found: list[ExportedFile] = []
    for path in paths:
        content = read_bounded(path, MAX_FILE_BYTES, "the statement", too_large="invalid_statement")
        found += _unpack(str(path), content)
    return found


def _unpack(name: str, content: bytes) -> Iterator[ExportedFile]:
    if content.startswith(b"PK\x03\x04"):
        yield from _unzip(name, content)
    elif content.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                inner = stream.read(MAX_FILE_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise statement_error(name, f"the gzip file is damaged ({error})", "download it again") from None
        _require_size(name, len(inner))
        yield ExportedFile(name, inner)
    else:
        yield ExportedFile(name, content)


def _unzip(name: str, content: bytes) -> Iterator[ExportedFile]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            if any(member.filename == _WORKBOOK_MEMBER for member in members):
                raise statement_error(name, "the file is an Excel workbook", "download the CSV")
            if len(members) > _MAX_MEMBERS:
                raise statement_error(name, f"the archive has more than {_MAX_MEMBERS} files", "unpack it")
            total = 0
            for member in members:
                path = PurePosixPath(_member_name(member))
                if path.parts[:1] == ("__MACOSX",) or path.name.startswith("."):
                    continue
                if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    # Other decompressors raise errors of their own, and are not in every Python.
                    raise statement_error(name, "the archive has an unusual compression", "unpack it")
                with archive.open(member) as stream:
                    inner = stream.read(MAX_FILE_BYTES - total + 1)
                total += len(inner)
                _require_size(name, total)
                yield ExportedFile(f"{name}:{path}", inner)
    except _ZIP_ERRORS as error:
        raise statement_error(name, f"cannot unpack the archive ({error})", "unpack it, and name its files") from None


def _member_name(member: zipfile.ZipInfo) -> str:
    """Return the name of a member. Alipay writes names in GBK, without the mark of UTF-8."""
    if member.flag_bits & _UTF8_NAME:
        return member.filename
    try:
        return member.filename.encode("cp437").decode("gb18030")
    except UnicodeError:
        return member.filename


def _require_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise statement_error(name, f"the unpacked file has more than {MAX_FILE_BYTES} bytes", "split it by days")


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: column -> text without padding."""

    place: str
    """File and line, for messages."""
    cells: dict[str, str]

    def get(self, *names: str) -> str:
        """Return the text of the first of the columns that the table has; ``""`` if it has none."""
        for name in names:
            if name in self.cells:
                return self.cells[name]
        return ""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its rows, and the comment lines after the previous section up to the end of this one."""

    columns: tuple[str, ...]
    rows: list[Row]
    comments: list[str]


def read_sections(
    file: ExportedFile,
    headings: Sequence[str],
    *,
    marker: str = "",
    comment: str = "",
    prefix: str = "",
    free_text: str = "",
) -> list[Section]:
    """Return the sections of a file of tables.

    A section starts at a line whose first cell is one of ``headings``, or that has the cell ``marker``. ``comment``
    starts comment lines. ``prefix`` is before every value of formats that quote nothing. ``free_text`` is a column of
    formats that do not quote it, so its text may contain the delimiter. Lines before the first heading are ignored if
    they are blank or comments.
    """
    text = file.text()
    lines = text.splitlines()
    first = next((line for line in lines if line.strip(_PADDING) and not (comment and _is_comment(line, comment))), "")
    delimiter = max(_DELIMITERS, key=first.count)
    sections: list[Section] = []
    comments: list[str] = []
    width = 0
    for number, cells in _split_rows(file, text, delimiter, prefix):
        place = f"{file.name}, line {number}"
        if comment and _is_comment(cells[0] if cells else "", comment):
            (sections[-1].comments if sections else comments).append(delimiter.join(cells).strip(_PADDING))
            continue
        values = [cell.strip(_PADDING + prefix) for cell in cells]
        if not any(values):
            continue
        if values[0] in headings or (marker and marker in values):
            sections.append(Section(_columns(place, values), [], comments))
            comments, width = [], len(values)
            continue
        if not sections:
            wanted = f"has the column {marker}" if marker else f"starts with {headings[0]!r}"
            raise statement_error(
                place,
                f"expected a heading that {wanted}, found {safe_repr(values[0], 60)}",
                "pass the file as it was downloaded, of the source that --source names",
            )
        # A heading that ends with delimiters has rows that end with as many.
        if len(values) == width and not any(values[len(sections[-1].columns) :]):
            values = values[: len(sections[-1].columns)]
        sections[-1].rows.append(_row(place, values, sections[-1].columns, delimiter, free_text))
    if not sections:
        raise statement_error(file.name, "the file has no heading", "download it again")
    return sections


def _split_rows(file: ExportedFile, text: str, delimiter: str, prefix: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells)."""
    if prefix:
        for number, line in enumerate(text.splitlines(), 1):
            start = line.lstrip(_PADDING)
            yield number, start.split(delimiter + prefix) if start.startswith(prefix) else start.split(delimiter)
        return
    csv.field_size_limit(_MAX_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise statement_error(
            f"{file.name}, line {reader.line_num}", f"the line is no valid CSV ({error})", "download the file again"
        ) from None


def _row(place: str, values: list[str], columns: Sequence[str], delimiter: str, free_text: str) -> Row:
    more = len(values) - len(columns)
    if more > 0 and free_text in columns:
        index = columns.index(free_text)
        values = [*values[:index], delimiter.join(values[index : index + more + 1]), *values[index + more + 1 :]]
    if len(values) != len(columns):
        raise statement_error(
            place,
            f"the row has {len(values)} cells, its heading {len(columns)}",
            "download the file again, because an editor may have changed it",
        )
    return Row(place, dict(zip(columns, values, strict=True)))


def _is_comment(cell: str, comment: str) -> bool:
    return cell.lstrip(_PADDING + '"').startswith(comment)


def _columns(place: str, names: Sequence[str]) -> tuple[str, ...]:
    used = list(names)
    while used and not used[-1]:
        del used[-1]
    repeated = {name for name, count in Counter(used).items() if count > 1 and name}
    if repeated:
        raise statement_error(place, f"the column {min(repeated)!r} is repeated", "remove one of them")
    return tuple(used)


def json_values(file: ExportedFile) -> Iterator[tuple[str, Any]]:
    """Yield (place, value) of the JSON values of a file: one document, JSON Lines, or documents one after the other.

    Numbers are ``int`` or ``Decimal``.
    """
    text = file.text().lstrip("\ufeff")
    decoder = json.JSONDecoder(
        parse_float=_parse_number,
        parse_int=_parse_integer,
        parse_constant=_reject_constant,
        object_pairs_hook=_reject_repeated_keys,
    )
    position, count = 0, 0
    while True:
        while position < len(text) and text[position] in " \t\r\n,":
            position += 1
        if position >= len(text):
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise statement_error(
                file.name,
                f"invalid JSON after value {count} ({safe_repr(reason, 120)})",
                "download it again, because it may be cut off",
            ) from None
        count += 1
        yield f"{file.name}, value {count}", value


def _parse_number(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"the number {text[:20]}... is too long")
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"the number {text[:20]} is out of range") from None
    if abs(value.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"the number {text[:20]} is out of range")
    return value


def _parse_integer(text: str) -> int:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError(f"the number {text[:20]}... is too long")
    return int(text)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object repeats a key")
    return found
