"""Buffers the text of a stream, in bounded memory, until its tokens are needed.

Small texts are not counted, because the provider's usage makes the count unnecessary. Text beyond
:data:`MAX_BUFFERED_CHARACTERS` is counted in blocks, and only the count is kept. A block ends where every encoding of
OpenAI ends a word (``tokens.encodings.block_end``), so the blocks add up to the count of the whole text. A text without
word boundaries is cut anywhere, which may add a token or two per block.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["BLOCK_CHARACTERS", "MAX_BUFFERED_CHARACTERS", "TextBuffer"]

MAX_BUFFERED_CHARACTERS: Final = 256 * 1024
"""Maximum number of buffered characters: about 60 000 tokens, more than nearly all answers."""

BLOCK_CHARACTERS: Final = 64 * 1024
"""Characters that are counted at once. This takes some milliseconds, which block the event loop of a gateway."""

MAX_PARTS: Final = 1024
_MAX_PIECES: Final = 512


class _TextPart:
    """One of several texts that arrive at the same time: the content of a choice, the arguments of a call."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0

    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class TextBuffer:
    """Several texts, each growing piece by piece, and their total number of tokens."""

    __slots__ = ("_characters", "_count", "_dropped_tokens", "_max_characters", "_parts", "_total")

    def __init__(self, count: Callable[[str], int], max_characters: int = MAX_BUFFERED_CHARACTERS) -> None:
        self._count = count
        self._max_characters = max_characters
        self._parts: dict[Hashable, _TextPart] = {}
        self._characters = 0  # characters
        self._dropped_tokens = 0  # tokens of discarded text
        self._total: int | None = 0

    def add(self, key: Hashable, text: str) -> None:
        """Add text to the part with this key."""
        if not text:
            return
        part = self._parts.get(key)
        if part is None:
            if len(self._parts) >= MAX_PARTS:
                self._count_and_drop(next(iter(self._parts)))
            part = self._parts[key] = _TextPart()
        part.pieces.append(text)
        part.size += len(text)
        self._characters += len(text)
        self._total = None
        if len(part.pieces) > _MAX_PIECES:
            part.text()  # many small strings use ten times the memory of one
        while self._characters > self._max_characters:
            self._spill()

    def total(self) -> int:
        """Return the tokens of all text since the last :meth:`clear`."""
        if self._total is None:
            self._total = self._dropped_tokens + sum(self._count(part.text()) for part in self._parts.values())
        return self._total

    @property
    def empty(self) -> bool:
        """Whether there was no text since the last :meth:`clear`."""
        return not self._parts and not self._dropped_tokens

    def clear(self) -> None:
        """Discard all text and counts."""
        self._parts.clear()
        self._characters = self._dropped_tokens = self._total = 0

    def _spill(self) -> None:
        from brivionix_billing.tokens.encodings import block_end  # imported late, because few streams are this long

        block = min(BLOCK_CHARACTERS, self._max_characters)
        part = max(self._parts.values(), key=lambda part: part.size)
        if part.size <= block:  # very many small parts
            for key in list(self._parts):
                self._count_and_drop(key)
            return
        text, start = part.text(), 0
        while self._characters - start > self._max_characters and len(text) - start > block:
            end = block_end(text, start, start + block)
            self._dropped_tokens += self._count(text[start:end])
            start = end
        part.pieces, part.size = [text[start:]], len(text) - start
        self._characters -= start

    def _count_and_drop(self, key: Hashable) -> None:
        part = self._parts.pop(key)
        self._dropped_tokens += self._count(part.text())
        self._characters -= part.size
