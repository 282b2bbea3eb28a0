"""The text that a stream brought, kept as short as possible until somebody wants to know how many tokens it has.

Nothing is counted while the text is small: if the provider's usage arrives, it was not needed. What grows beyond
:data:`KEEP` is counted in blocks, and only the count is kept. A block ends where every encoding of OpenAI ends a word
too (``tokens.encodings.block_end``), so that counting in blocks and counting the whole give the same number. A text
without a single such place is cut anywhere; that can cost a token or two a block.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Final

__all__ = ["BLOCK_CHARACTERS", "MAX_BUFFERED_CHARACTERS", "TextBuffer"]

MAX_BUFFERED_CHARACTERS: Final = 256 * 1024
"""Characters of text that are kept before any is counted: about 60 000 tokens, more than nearly all answers have."""

BLOCK_CHARACTERS: Final = 64 * 1024
"""Characters that are counted at a time, in some milliseconds: a gateway's loop waits for it."""

MAX_STRANDS: Final = 1024
_MAX_PIECES: Final = 512


class _TextPart:
    """One text among several that arrive at the same time: the content of one choice, the arguments of one call."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.size = 0

    def text(self) -> str:
        if len(self.pieces) > 1:
            self.pieces = ["".join(self.pieces)]
        return self.pieces[0] if self.pieces else ""


class TextBuffer:
    """Texts of several strands, each growing piece by piece, and how many tokens they have together."""

    __slots__ = ("_count", "_counted", "_keep", "_kept", "_known", "_strands")

    def __init__(self, count: Callable[[str], int], keep: int = MAX_BUFFERED_CHARACTERS) -> None:
        self._count = count
        self._keep = keep
        self._strands: dict[Hashable, _TextPart] = {}
        self._kept = 0  # characters
        self._counted = 0  # tokens of what is no longer kept
        self._known: int | None = 0

    def add(self, strand: Hashable, text: str) -> None:
        """More text of a strand."""
        if not text:
            return
        found = self._strands.get(strand)
        if found is None:
            if len(self._strands) >= MAX_STRANDS:
                self._count_and_drop(next(iter(self._strands)))
            found = self._strands[strand] = _TextPart()
        found.pieces.append(text)
        found.size += len(text)
        self._kept += len(text)
        self._known = None
        if len(found.pieces) > _MAX_PIECES:
            found.text()  # many small strings take ten times the memory of one
        while self._kept > self._keep:
            self._spill()

    def total(self) -> int:
        """Tokens of all that came since the last :meth:`clear`."""
        if self._known is None:
            self._known = self._counted + sum(self._count(strand.text()) for strand in self._strands.values())
        return self._known

    @property
    def empty(self) -> bool:
        """Whether no text came since the last :meth:`clear`."""
        return not self._strands and not self._counted

    def clear(self) -> None:
        """Forget all of it."""
        self._strands.clear()
        self._kept = self._counted = self._known = 0

    def _spill(self) -> None:
        from brivionix_billing.tokens.encodings import block_end  # few streams are so long

        block = min(BLOCK_CHARACTERS, self._keep)
        strand = max(self._strands.values(), key=lambda strand: strand.size)
        if strand.size <= block:  # very many small ones
            for each in list(self._strands):
                self._count_and_drop(each)
            return
        text, start = strand.text(), 0
        while self._kept - start > self._keep and len(text) - start > block:
            end = block_end(text, start, start + block)
            self._counted += self._count(text[start:end])
            start = end
        strand.pieces, strand.size = [text[start:]], len(text) - start
        self._kept -= start

    def _count_and_drop(self, name: Hashable) -> None:
        strand = self._strands.pop(name)
        self._counted += self._count(strand.text())
        self._kept -= strand.size
