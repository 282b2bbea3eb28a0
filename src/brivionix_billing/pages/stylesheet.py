"""Checks a custom style sheet: only what is known to load nothing and to stay within the style element.

The check is a list of what is allowed: at-rules, functions and characters. CSS loads something by a function, such as
``url()``, ``src()`` or ``image-set()``, or by an at-rule, such as ``@import``. A browser skips comments and reads
escapes, so these must not hide a name: escapes are not allowed, and a comment does not separate a name from its
parenthesis.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NoReturn

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded

__all__ = ["load_stylesheet", "validate_stylesheet"]

_MAX_LENGTH: Final = 256 * 1024
"""Maximum length of a style sheet, in characters."""
_PAGE_MARGINS: Final = tuple(f"{edge}-{place}" for edge in ("top", "bottom") for place in ("left", "center", "right"))
_AT_RULES: Final = frozenset({"media", "supports", "page", "keyframes", "layer", "container", *_PAGE_MARGINS})
_FUNCTIONS: Final = frozenset(
    " ".join(
        (
            "var calc min max clamp round mod rem abs sign sqrt pow hypot minmax repeat fit-content counter counters",
            "rgb rgba hsl hsla hwb lab lch oklab oklch color color-mix light-dark",
            "linear-gradient radial-gradient conic-gradient",
            "repeating-linear-gradient repeating-radial-gradient repeating-conic-gradient",
            "translate translatex translatey translatez translate3d scale scalex scaley rotate skew skewx skewy matrix",
            "blur brightness contrast drop-shadow grayscale hue-rotate invert opacity saturate sepia",
            "inset circle ellipse polygon cubic-bezier steps linear",
            "not is where has lang dir nth-child nth-last-child nth-of-type nth-last-of-type",
        )
    ).split()
)
"""Functions of values and of selectors."""
_CONDITION_WORDS: Final = frozenset({"and", "or", "not"})
"""Words of a media query that may be followed by a parenthesis."""
_PROGRAM_PROPERTIES: Final = frozenset({"behavior", "-ms-behavior", "-moz-binding"})
"""Properties by which old browsers ran programs."""
_FORBIDDEN: Final = re.compile(r"[<\\]")
"""Characters that are not allowed in comments and texts either: a browser ends the element at any ``</style``."""
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:[ \t\n]|/\*(?:[^*]|\*(?!/))*\*/)+)
    |(?P<text>"[^"\n\\]*"|'[^'\n\\]*')
    |(?P<rule>@[\w-]+)
    |(?P<word>[\w-]+%?)
    |(?P<open>\()
    |(?P<sign>[{}\[\]):;,>+~*=^$|!/.#&%])
    """,
    re.VERBOSE,
)
_HINTS: Final = {
    "\\": "write the character itself",
    "@": "write only @media, @supports, @page, @keyframes, @layer and @container",
    '"': "end the text in its line",
    "'": "end the text in its line",
    "(": "use colours, borders and gradients, because the page loads nothing",
    "/": "write comments as /* ... */",
}
_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def load_stylesheet(path: str | Path) -> str:
    """Read a custom style sheet.

    Raises ``file_unreadable``; raises ``invalid_argument`` for text that could end the style element, and for rules
    that load something, because the policy of the page would silently block them.
    """
    # A character has up to 4 bytes, and a byte order mark has 3.
    content = read_bounded(path, 4 * _MAX_LENGTH + 3, too_large="invalid_argument")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BillingError("file_unreadable", f"cannot read {safe_repr(str(path), 200)}: {error}") from None
    return validate_stylesheet(text, str(path))


def validate_stylesheet(text: str, name: str = "style") -> str:
    """Return a style sheet with the line ends that a browser hashes. Raises ``invalid_argument`` if it is unsafe."""
    if len(text) > _MAX_LENGTH:
        raise BillingError("invalid_argument", f"{name}: more than {_MAX_LENGTH} characters; shorten it")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    forbidden = _FORBIDDEN.search(text)
    place = forbidden.start() if forbidden else next((i for i, c in enumerate(text) if not _is_visible(c)), -1)
    if place >= 0:
        _reject(name, text, place)
    _check_tokens(text, name)
    if re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).strip() and "{" not in text:
        raise BillingError(
            "invalid_argument", f"{name}: no style sheet; write rules such as :root {{ --bb-radius: 4px }}"
        )
    return text


def _is_visible(character: str) -> bool:
    return character.isprintable() or character in "\n\t"


def _check_tokens(text: str, name: str) -> None:
    place, word, previous, after_space = 0, "", "", False
    open_brackets: list[str] = []
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            _reject(name, text, place)
        kind, part = match.lastgroup, match[0].lower()
        if kind == "rule" and part[1:] not in _AT_RULES:
            _reject(name, text, place, part, _HINTS["@"])
        if kind == "word" and part in _PROGRAM_PROPERTIES:
            _reject(name, text, place, part)
        if kind == "open" and word and word not in _CONDITION_WORDS and (after_space or word not in _FUNCTIONS):
            _reject(name, text, place, f"{word}(", _HINTS["("])
        if kind == "sign" and (text.startswith("/*", place) or previous + part == "//"):
            _reject(name, text, place, text[place : place + 2] if part == "/" else part, _HINTS["/"])
        if part in _CLOSING:
            open_brackets.append(_CLOSING[part])
        elif part in _CLOSING.values() and (not open_brackets or open_brackets.pop() != part):
            _reject(name, text, place, part, "open and close every bracket")
        place = match.end()
        after_space = kind == "space"
        if not after_space:
            word, previous = part if kind == "word" else "", part
    if open_brackets:
        raise BillingError("invalid_argument", f"{name}: {open_brackets[-1]!r} is missing at the end; add it")


def _reject(name: str, text: str, place: int, part: str = "", hint: str = "") -> NoReturn:
    line = text.count("\n", 0, place) + 1
    part = part or text[place]
    raise BillingError(
        "invalid_argument",
        f"{name}:{line}: {safe_repr(part)} is not allowed in a style sheet; {hint or _HINTS.get(part, 'remove it')}",
    )
