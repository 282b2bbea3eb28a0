"""Encodings: they turn a text into tokens, without a network for ``o200k_base``.

tiktoken does the work. It fetches each vocabulary over the network at its first use, which gateways often cannot do. So
this package bundles the vocabulary of all current OpenAI models (public data of tiktoken, MIT licence). It is verified
against tiktoken's own hash before use. tiktoken provides the other encodings.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.resources import files
from queue import Empty, Queue
from threading import Lock, Thread
from time import monotonic
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.errors import BillingError, safe_repr

if TYPE_CHECKING:
    from tiktoken import Encoding

__all__ = ["BUNDLED_ENCODING", "block_end", "split_blocks", "count_tokens", "load_encoding", "encoding_for_model"]

BUNDLED_ENCODING: Final = "o200k_base"
_SHA256: Final = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d"
# The word pattern and the special tokens of o200k_base are facts of the encoding, like its vocabulary. A test compares
# them with tiktoken's own.
_WORD_PATTERN: Final = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
_SPECIAL_TOKENS: Final = {"<|endoftext|>": 199_999, "<|endofprompt|>": 200_018}
_BLOCK_CHARACTERS: Final = 400_000
"""Size of the blocks of longer texts, in characters. tiktoken's pattern matcher panics if it must backtrack over a
million characters."""
# A position that no encoding looks past: after a letter or digit, and before a character that continues no word. The
# apostrophe is excluded, because "don't" is one word in some encodings.
_SAFE_BOUNDARY: Final = re.compile(r"(?<=[^\W_])[\s!-&(-/:-@\[-`{-~、。，．：；！？]")
_lock: Final = Lock()
_locks: Final[dict[str, Lock]] = {}
_failed_at: Final[dict[str, float]] = {}
_FETCH_TIMEOUT_SECONDS: Final = 10
"""Timeout of fetching a vocabulary, in seconds. tiktoken itself waits for a silent proxy forever."""
_RETRY_AFTER_SECONDS: Final = 60
"""Seconds until a failed fetch is retried, so that requests do not queue up for it."""


def load_encoding(name: str) -> Encoding:
    """Return the encoding of a name. It is loaded once per process, at its first use.

    Safe to call from threads. Raises ``missing_extra`` without tiktoken, ``unknown_encoding`` if tiktoken does not have
    the name, and ``encoding_unavailable`` if its vocabulary can be neither read nor fetched.
    """
    if not isinstance(name, str):
        raise BillingError("unknown_encoding", f"encoding is {safe_repr(name)}; use the name of an encoding")
    with _lock:
        lock = _locks.setdefault(name, Lock())
    with lock:  # prevents loading 200 000 entries twice, and waiting for another encoding
        return _load(name)


@cache
def _load(name: str) -> Encoding:
    tiktoken = _tiktoken()
    if name == BUNDLED_ENCODING:
        encoding: Encoding = tiktoken.Encoding(
            BUNDLED_ENCODING, pat_str=_WORD_PATTERN, mergeable_ranks=_bundled_ranks(), special_tokens=_SPECIAL_TOKENS
        )
        return encoding
    if name not in tiktoken.list_encoding_names():
        raise BillingError(
            "unknown_encoding",
            f"tiktoken has no encoding {safe_repr(name)}; it has: {', '.join(sorted(tiktoken.list_encoding_names()))}",
        )
    if monotonic() - _failed_at.get(name, -_RETRY_AFTER_SECONDS) < _RETRY_AFTER_SECONDS:
        raise _unavailable_error(name, "moments ago")
    results: Queue[Any] = Queue()
    Thread(target=_fetch, args=(tiktoken, name, results), daemon=True).start()
    try:
        result = results.get(timeout=_FETCH_TIMEOUT_SECONDS)
    except Empty:
        result = TimeoutError()
    if isinstance(result, Exception):  # errors of the network, the disk or a proxy
        _failed_at[name] = monotonic()
        raise _unavailable_error(name, type(result).__name__) from result
    return result  # type: ignore[no-any-return]  # an Encoding


def _fetch(tiktoken: ModuleType, name: str, results: Queue[Any]) -> None:
    try:
        results.put(tiktoken.get_encoding(name))
    except Exception as error:  # passed to the waiting thread
        results.put(error)


def _unavailable_error(name: str, reason: str) -> BillingError:
    return BillingError(
        "encoding_unavailable",
        f"the vocabulary {name} could not be fetched ({reason}); let tiktoken fetch it once where "
        "there is a network, and set TIKTOKEN_CACHE_DIR to the folder of its cache",
    )


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


def _bundled_ranks() -> dict[bytes, int]:
    content = files("brivionix_billing.tokens").joinpath("data", f"{BUNDLED_ENCODING}.tiktoken").read_bytes()
    if sha256(content).hexdigest() != _SHA256:
        raise BillingError(
            "encoding_unavailable",
            f"the vocabulary {BUNDLED_ENCODING} of this installation is damaged; reinstall the package",
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
