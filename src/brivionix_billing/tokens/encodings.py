"""Encodings: they turn a text into tokens, and never need a network.

tiktoken does the work. It would fetch each vocabulary over the network at its first use, which gateways often cannot
do, and waits for a silent proxy forever. So this package bundles the vocabularies ``o200k_base`` (all current models of
OpenAI) and ``cl100k_base`` (gpt-4, gpt-3.5, embeddings). They are public data of tiktoken, MIT licence, and are
verified against tiktoken's own hashes before use. Other encodings are read from tiktoken's cache, if they are there.
"""

from __future__ import annotations

import os
import re
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from hashlib import sha1, sha256
from importlib.resources import files
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = [
    "BUNDLED_ENCODING",
    "BUNDLED_ENCODINGS",
    "block_end",
    "split_blocks",
    "count_tokens",
    "load_encoding",
    "encoding_for_model",
]


class BundledEncoding(NamedTuple):
    """An encoding whose vocabulary this package contains. A test compares every field with tiktoken's own."""

    sha256: str
    pattern: str
    special_tokens: dict[str, int]


BUNDLED_ENCODING: Final = "o200k_base"
"""The encoding of all current models of OpenAI."""
BUNDLED_ENCODINGS: Final = {
    "o200k_base": BundledEncoding(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        "|".join(
            [
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""\p{N}{1,3}""",
                r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
                r"""\s*[\r\n]+""",
                r"""\s+(?!\S)""",
                r"""\s+""",
            ]
        ),
        {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018},
    ),
    "cl100k_base": BundledEncoding(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        "|".join(
            [
                r"""'(?i:[sdmt]|ll|ve|re)""",
                r"""[^\r\n\p{L}\p{N}]?+\p{L}++""",
                r"""\p{N}{1,3}+""",
                r""" ?[^\s\p{L}\p{N}]++[\r\n]*+""",
                r"""\s++$""",
                r"""\s*[\r\n]""",
                r"""\s+(?!\S)""",
                r"""\s""",
            ]
        ),
        {
            "<|endoftext|>": 100_257,
            "<|fim_prefix|>": 100_258,
            "<|fim_middle|>": 100_259,
            "<|fim_suffix|>": 100_260,
            "<|endofprompt|>": 100_276,
        },
    ),
}
_SAME_TEXTS: Final = {"o200k_harmony": "o200k_base"}
"""Encodings that differ from a bundled one in special tokens only, which count as ordinary text here."""
_URL: Final = "https://openaipublic.blob.core.windows.net/"
_P50K: Final = {
    f"{_URL}encodings/p50k_base.tiktoken": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069"
}
_CACHED_FILES: Final = {
    "p50k_base": _P50K,
    "p50k_edit": _P50K,
    "r50k_base": {
        f"{_URL}encodings/r50k_base.tiktoken": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
    },
    "gpt2": {
        f"{_URL}gpt-2/encodings/main/vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        f"{_URL}gpt-2/encodings/main/encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    },
}
"""Files of tiktoken's other encodings: address, under whose SHA-1 tiktoken caches it, and SHA-256."""
_BLOCK_CHARACTERS: Final = 400_000
"""Size of the blocks of longer texts, in characters. tiktoken's pattern matcher panics if it must backtrack over a
million characters."""
# A position that no encoding looks past: after a letter or digit, and before a character that continues no word. The
# apostrophe is excluded, because "don't" is one word in some encodings.
_SAFE_BOUNDARY: Final = re.compile(r"(?<=[^\W_])[\s!-&(-/:-@\[-`{-~、。，．：；！？]")
_lock: Final = Lock()
_locks: Final[dict[str, Lock]] = {}


def load_encoding(name: str) -> Encoding:
    """Return the encoding of a name. It is loaded once per process, at its first use, and never from a network.

    Safe to call from threads. Raises ``missing_extra`` without tiktoken, ``unknown_encoding`` if tiktoken does not have
    the name, and ``encoding_unavailable`` if its vocabulary is neither bundled nor in tiktoken's cache.
    """
    if not isinstance(name, str):
        raise BillingError("unknown_encoding", f"encoding is {safe_repr(name)}; use the name of an encoding")
    name = _SAME_TEXTS.get(name, name)
    with _lock:
        lock = _locks.setdefault(name, Lock())
    with lock:  # prevents loading 200 000 entries twice, and waiting for another encoding
        return _load(name)


@cache
def _load(name: str) -> Encoding:
    tiktoken = _tiktoken()
    bundled = BUNDLED_ENCODINGS.get(name)
    if bundled is not None:
        ranks = _bundled_ranks(name)
        encoding: Encoding = tiktoken.Encoding(
            name, pat_str=bundled.pattern, mergeable_ranks=ranks, special_tokens=bundled.special_tokens
        )
        return encoding
    if name not in tiktoken.list_encoding_names():
        raise BillingError(
            "unknown_encoding",
            f"tiktoken has no encoding {safe_repr(name)}; it has: {', '.join(sorted(tiktoken.list_encoding_names()))}",
        )
    # tiktoken fetches a file that is missing from its cache or damaged. So it is called only if all files are good.
    cached_files = _CACHED_FILES.get(name)
    if cached_files is None or not all(_is_cached(url, digest) for url, digest in cached_files.items()):
        raise BillingError(
            "encoding_unavailable",
            f"the vocabulary {name} is neither part of this package nor in tiktoken's cache; let tiktoken fetch it "
            "once where there is a network, and set TIKTOKEN_CACHE_DIR to the folder of its cache",
        )
    cached: Encoding = tiktoken.get_encoding(name)
    return cached


def _is_cached(url: str, digest: str) -> bool:
    """Return whether the folder of tiktoken's cache has a file with this hash."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":  # tiktoken's way to turn the cache off
        return False
    path = Path(folder or os.path.join(tempfile.gettempdir(), "data-gym-cache"))
    try:
        content = (path / sha1(url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
    except OSError:
        return False
    return sha256(content).hexdigest() == digest


def encoding_for_model(model: str) -> str | None:
    """Return the name of tiktoken's encoding for a model of OpenAI, if there is one. It loads no vocabulary."""
    try:
        return str(_tiktoken().encoding_name_for_model(model))
    except KeyError:
        return None


def _tiktoken() -> ModuleType:
    try:
        import tiktoken
    except ImportError:
        raise BillingError("missing_extra", "counting tokens requires tiktoken; run: pip install tiktoken") from None
    return tiktoken


def _bundled_ranks(name: str) -> dict[bytes, int]:
    content = files("brivionix_billing.tokens").joinpath("data", f"{name}.tiktoken").read_bytes()
    if sha256(content).hexdigest() != BUNDLED_ENCODINGS[name].sha256:
        raise BillingError(
            "encoding_unavailable", f"the vocabulary {name} of this installation is damaged; reinstall the package"
        )
    return {b64decode(token): int(rank) for token, _, rank in (line.partition(b" ") for line in content.splitlines())}


def count_tokens(text: str, encoder: Encoding) -> int:
    """Count the tokens of a text.

    Special tokens count as ordinary text, and half a surrogate pair as U+FFFD. A text of more than 400 000 characters
    is counted in blocks that end at word boundaries, which gives the same number. If such a text has no word boundary,
    the count may differ by one per block.
    """
    if len(text) <= _BLOCK_CHARACTERS:
        return len(encoder.encode_ordinary(text))
    return sum(len(encoder.encode_ordinary(block)) for block in split_blocks(text))


def split_blocks(text: str, size: int = _BLOCK_CHARACTERS) -> Iterator[str]:
    """Split a text into blocks of at most ``size`` characters, which end as :func:`block_end` returns."""
    start = 0
    while len(text) - start > size:
        end = block_end(text, start, start + size)
        yield text[start:end]
        start = end
    yield text[start:]


def block_end(text: str, start: int, end: int) -> int:
    """Return the end of a block of ``text``: the last word boundary up to ``end``, else ``end``.

    Every encoding of OpenAI ends a word at such a boundary, whatever the context. So the tokens of the blocks add up to
    those of the whole text.
    """
    for low in (max(start + 1, end - 2_048), start + 1):
        boundaries = [match.start() for match in _SAFE_BOUNDARY.finditer(text, low, end + 1)]
        if boundaries:
            return boundaries[-1]
    return end
