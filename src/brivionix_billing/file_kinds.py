"""Says what a file looks like, for the message of a command that got another one than it reads."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["DOCUMENT", "HEAD_BYTES", "PRICE_FILE", "describe_kind", "gateway_of"]

HEAD_BYTES: Final = 4096
"""What :func:`describe_kind` needs of a file at most."""

DOCUMENT: Final = "a bill or another document of this library"
PRICE_FILE: Final = "a price file"

_MARKS: Final = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"%PDF", "a PDF document"),
    (b"PGDMP", "a PostgreSQL dump"),
    (b"PAR1", "a Parquet file"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"\x1f\x8b", "a compressed file"),
    (b"\x28\xb5\x2f\xfd", "a compressed file"),
    (b"-----BEGIN", "a key or a certificate"),
    (b"<", "HTML or XML"),
)
_USAGE_KEY: Final = re.compile(rb'\[?\s*\{[^{}]*"(request_id|account|usage)"\s*:')
_DOCUMENT: Final = re.compile(rb'\{\s*"balance"\s*:.*"corrects"\s*:|\{.*"schema"\s*:\s*"brivionix', re.DOTALL)
_PRICE_FILE: Final = re.compile(rb"^(version|models|groups|credit|channels)\s*:", re.MULTILINE)
_GATEWAYS: Final = {"new-api": (b"quota", b"model_name"), "litellm": (b"spend", b"startTime")}
"""Gateway -> columns by which its log is known."""
_OWN_COLUMN: Final = b"account"
"""A column that usage files have, and logs do not."""
_TABLE: Final = re.compile(rb"[\w. -]+([,\t;|][\w. -]+){3,}\r?\n")


def describe_kind(head: bytes) -> str | None:
    r"""Return what a file is by its first bytes, such as ``"a bill"``, or ``None`` if nothing is known about them.

    >>> describe_kind(b'{"request_id": "req_1", "at": "2026-10-01T00:00:00Z"}')
    'usage in JSON'
    >>> describe_kind(b"version: 1\nmodels: {}\n")
    'a price file'
    """
    head = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, kind in _MARKS:
        if head.startswith(mark):
            return kind
    if _DOCUMENT.match(head):
        return DOCUMENT
    if _USAGE_KEY.match(head):
        return "usage in JSON"
    if _PRICE_FILE.search(head):
        return PRICE_FILE
    return "a table, such as usage in CSV" if _TABLE.match(head) else None


def gateway_of(head: bytes) -> str | None:
    r"""Return the gateway that writes such a log, ``new-api`` or ``litellm``, or ``None``.

    >>> gateway_of(b'{"id": 1, "type": 2, "quota": 2925, "model_name": "gpt-5.5"}')
    'new-api'
    >>> gateway_of(b"request_id,spend,startTime\n")
    'litellm'
    """
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n", 1)[0]
    names = set(re.findall(rb"""(?<![\w\\])["']?(\w+)["']?(?=\s*[:,\t;|\r]|$)""", first))
    if _OWN_COLUMN in names:
        return None
    return next((gateway for gateway, columns in _GATEWAYS.items() if names.issuperset(columns)), None)
