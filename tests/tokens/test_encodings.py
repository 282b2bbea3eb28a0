"""Counts of texts: the bundled vocabulary, hostile texts, other encodings."""

from __future__ import annotations

import subprocess
import sys
import threading
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens import encodings as encodings_module
from brivionix_billing.tokens.encodings import count_tokens, load_encoding, split_blocks
from profiles import examples
from samples import SHIPPED, code_of
from token_kit import counter

NONE: Any = None
BYTES: Any = b"x"


@pytest.mark.parametrize(("name", "size"), [("o200k_base", 200_019), ("cl100k_base", 100_277)])
def test_a_bundled_encoding_is_that_of_tiktoken(name: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Word pattern, special tokens and vocabulary of a bundled encoding equal those that tiktoken would fetch."""
    requested: list[Any] = []

    def fetched(url: str, expected_hash: str) -> dict[bytes, int]:
        requested.append((url.rpartition("/")[2], expected_hash))
        return load_encoding(name)._mergeable_ranks

    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", fetched)
    expected_encoding = getattr(tiktoken_ext.openai_public, name)()
    actual = load_encoding(name)
    assert requested == [(f"{name}.tiktoken", encodings_module.BUNDLED_ENCODINGS[name].sha256)]
    assert expected_encoding["pat_str"] == actual._pat_str
    assert expected_encoding["special_tokens"] == actual._special_tokens
    assert actual.n_vocab == size


@pytest.mark.parametrize("name", sorted(encodings_module._CACHED_FILES))
def test_the_files_of_other_encodings_are_those_of_tiktoken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses and hashes of the other encodings equal those of tiktoken."""
    requested: dict[str, str] = {}

    def fetched(url: str, expected_hash: str) -> dict[bytes, int]:
        requested[url] = expected_hash
        return {}

    def fetched_pair(vocab_bpe_file: str, encoder_json_file: str, vocab_bpe_hash: str, encoder_json_hash: str) -> Any:
        requested.update({vocab_bpe_file: vocab_bpe_hash, encoder_json_file: encoder_json_hash})
        return {}

    monkeypatch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", fetched)
    monkeypatch.setattr(tiktoken_ext.openai_public, "data_gym_to_mergeable_bpe_ranks", fetched_pair)
    getattr(tiktoken_ext.openai_public, name)()
    assert requested == encodings_module._CACHED_FILES[name]


def test_a_cached_file_with_another_hash_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """tiktoken would fetch a damaged file again. So an encoding is read from the cache only if its hash is right."""
    url, digest = "https://x.y/z", sha256(b"right").hexdigest()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert not encodings_module._is_cached(url, digest)
    (tmp_path / sha1(url.encode()).hexdigest()).write_bytes(b"right")
    assert encodings_module._is_cached(url, digest)
    (tmp_path / sha1(url.encode()).hexdigest()).write_bytes(b"wrong")
    assert not encodings_module._is_cached(url, digest)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert not encodings_module._is_cached(url, digest)


def test_older_models_are_counted_without_a_network() -> None:
    """gpt-4 and the embeddings have the bundled cl100k_base. o200k_harmony differs in special tokens only."""
    assert TokenCounter("gpt-4").text("hello world, how are you?") == 7
    assert TokenCounter("text-embedding-3-small").text("hello world") == 2
    assert load_encoding("o200k_harmony") is load_encoding("o200k_base")


def test_counting_needs_no_network() -> None:
    """A process that cannot open a socket counts a text and a request."""
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise OSError('no network')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from brivionix_billing.tokens import TokenCounter\n"
        "c = TokenCounter('gpt-5.4-mini')\n"
        "print(c.text('hello world'), c.chat({'messages': [{'role': 'user', 'content': 'hello world'}]}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "8"]


def test_the_vocabulary_is_loaded_lazily_and_once() -> None:
    """Importing the library loads no tiktoken, creating counters loads no vocabulary, and two counters share one."""
    program = (
        "import sys, brivionix_billing\n"
        "assert 'tiktoken' not in sys.modules\n"
        "from brivionix_billing.tokens import TokenCounter, encodings\n"
        "a, b = TokenCounter('gpt-5.4'), TokenCounter('gpt-4o')\n"
        "assert encodings._load.cache_info().currsize == 0\n"
        "a.text('x'), b.text('x')\n"
        "assert encodings._load.cache_info().currsize == 1\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_damaged_vocabulary_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vocabulary with another hash is rejected."""
    damaged = encodings_module.BUNDLED_ENCODINGS["o200k_base"]._replace(sha256="0" * 64)
    monkeypatch.setitem(encodings_module.BUNDLED_ENCODINGS, "o200k_base", damaged)
    with pytest.raises(BillingError) as caught:
        encodings_module._bundled_ranks("o200k_base")
    assert code_of(caught) == "encoding_unavailable"


def test_another_encoding_is_never_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If a vocabulary is neither bundled nor cached, the error names it and the fix, and tiktoken is not called."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiktoken, "get_encoding", None)
    with pytest.raises(BillingError, match=r"p50k_base.*TIKTOKEN_CACHE_DIR") as caught:
        TokenCounter("gpt-4", encoding="p50k_base").text("hello")
    assert code_of(caught) == "encoding_unavailable"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: TokenCounter("nobody-9"), "unknown_model"),
        (lambda: TokenCounter(NONE), "unknown_model"),
        (lambda: TokenCounter("gpt-5.4", family="gpt-9"), "unknown_token_family"),
        (lambda: TokenCounter("gpt-5.4", encoding="o300k").text("x"), "unknown_encoding"),
        (lambda: TokenCounter("gpt-5.4", PriceBook.load(SHIPPED)).text(BYTES), "invalid_request"),
        (lambda: TokenCounter("gpt-4o", PriceBook.load(SHIPPED)), "unknown_model"),
        (lambda: TokenCounter("gpt-5.4", max_characters=10).text("x" * 11), "request_too_large"),
    ],
)
def test_uncountable_input_is_an_error(make: Any, code: str) -> None:
    """Unknown models, families and encodings, invalid texts and long texts raise errors with their codes."""
    with pytest.raises(BillingError) as caught:
        make()
    assert code_of(caught) == code


def test_the_price_file_chooses_encoding_and_family() -> None:
    """The encoding and token_family of a book take precedence over the model's name."""
    text = SHIPPED.read_text(encoding="utf-8").replace(
        "    released: 2025-12-11\n    encoding: o200k_base\n",
        "    released: 2025-12-11\n    encoding: p50k_base\n    token_family: gpt-4o\n",
    )
    token_counter = TokenCounter("gpt-5.2-2025-12-11", PriceBook.loads(text))
    assert (token_counter.encoding, token_counter.family.name, token_counter.max_input_tokens) == (
        "p50k_base",
        "gpt-4o",
        272_000,
    )


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini"),
        ("gpt-5.4-2026-03-05", "gpt-5.4"),
        ("gpt-5-mini", "gpt-5-mini"),
        ("gpt-5.3-codex", "gpt-5.2"),
        ("openai/gpt-4o-mini", "gpt-4o-mini"),
        ("GPT-4.1-nano", "gpt-4.1-nano"),
        ("o4-mini-2025-04-16", "o4-mini"),
        ("o3-mini", "o-series"),
    ],
)
def test_a_name_belongs_to_its_longest_prefix(model: str, family: str) -> None:
    """Without a book, the longest prefix of the model's name determines the family."""
    assert TokenCounter(model).family.name == family


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("<|endoftext|>", 7),
        ("<|im_start|>system", 7),
        ("\ud800", 1),
        ("\x00\x1b[31m\u202e", None),
        ("a\u0301" * 1000, None),
        ("你好,世界", None),
    ],
)
def test_strange_texts_are_texts(text: str, tokens: int | None) -> None:
    """Special tokens count as ordinary text; half surrogate pairs and control characters are counted."""
    result = counter().text(text)
    assert result == (tokens if tokens is not None else result)
    assert 0 <= result <= len(text.encode("utf-8", "replace")) + 2
    if text.startswith("<|"):
        assert result > 1


@pytest.mark.parametrize(
    "text", ["a" * 10_000_000, " " * 3_000_000, "\n" * 2_000_000, "\t " * 1_000_000, "中" * 1_000_000]
)
def test_a_text_of_one_letter_is_counted(text: str) -> None:
    """Ten million equal letters, or three million spaces (which crash tiktoken), are counted within seconds."""
    result = TokenCounter("gpt-5.4-mini", cache_characters=0).text(text)
    assert len(text) / 130 < result <= len(text)


words = st.text(alphabet=st.sampled_from("ab  .,'\n1é中\t/"), max_size=60)


@settings(max_examples=examples(60))
@given(st.lists(words, max_size=40), st.integers(20, 200))
@example(["a b"] * 100, 20)
def test_blocks_add_up_to_the_text(parts: list[str], size: int) -> None:
    """The blocks of a text add up to the text, and none exceeds the size."""
    text = "".join(parts)
    result = list(split_blocks(text, size))
    assert "".join(result) == text
    assert all(len(block) <= size for block in result)


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.sampled_from(["don't", "well", "12345", "naïve", "x=y", "\n\n", "中文"]), min_size=300, max_size=400)
)
def test_counting_in_blocks_changes_nothing(some: list[str]) -> None:
    """If a text has words with spaces between them, its blocks have as many tokens as the whole."""
    text = " and ".join(some)
    encoder = load_encoding("o200k_base")
    assert sum(len(encoder.encode_ordinary(block)) for block in split_blocks(text, 500)) == count_tokens(text, encoder)


def test_the_cache_stays_within_its_bound() -> None:
    """The cache returns known counts, reports hits and size, and stays within its bound."""
    token_counter = TokenCounter("gpt-5.4-mini", cache_characters=20_000)
    text = "remember me " * 20
    assert token_counter.text(text) == token_counter.text("".join(text))
    assert (token_counter.cache_info().hits, token_counter.cache_info().misses, token_counter.cache_info().entries) == (
        1,
        1,
        1,
    )
    for number in range(500):
        token_counter.text(f"{number} " * 50)
        info = token_counter.cache_info()
        assert info.characters <= info.max_characters == 20_000
    assert token_counter.cache_info().entries < 500
    before = token_counter.cache_info().hits
    token_counter.text(f"{499} " * 50)
    assert token_counter.cache_info().hits == before + 1
    for number in range(30):  # used entries stay, and each use is a hit
        earlier = token_counter.cache_info()
        token_counter.text(f"{499} " * 50)
        token_counter.text(f"new {number} " * 30)
        after = token_counter.cache_info()
        assert (after.hits - earlier.hits, after.misses - earlier.misses) == (1, 1)
    token_counter.cache_clear()
    assert token_counter.cache_info().entries == token_counter.cache_info().characters == 0
    token_counter.text("x" * 15_000)  # too large for the cache
    assert token_counter.cache_info().entries == 0


def test_threads_share_a_counter() -> None:
    """Many threads with one counter get the counts that one thread gets."""
    texts = [f"text number {number} " * (number % 7 + 1) for number in range(60)]
    expected = [counter().text(text) for text in texts]
    token_counter = TokenCounter("gpt-5.4-mini", cache_characters=6_000)
    wrong: list[str] = []

    def work(shift: int) -> None:
        for index in range(600):
            text = texts[(index * 7 + shift) % 60]
            if token_counter.text(text) != expected[(index * 7 + shift) % 60]:
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(shift,)) for shift in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert token_counter.cache_info().characters <= 6_000
