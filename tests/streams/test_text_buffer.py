"""The text buffer: block counts equal the count of the whole, and memory does not grow with the stream."""

from __future__ import annotations

import tracemalloc
from functools import cache
from random import Random
from typing import Any

import pytest
import regex  # type: ignore[import-untyped]
import tiktoken_ext.openai_public as openai_public
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing.streams import StreamUsage
from brivionix_billing.streams.text_buffer import BLOCK_CHARACTERS, MAX_BUFFERED_CHARACTERS, MAX_PARTS, TextBuffer
from brivionix_billing.tokens import TokenCounter
from brivionix_billing.tokens.encodings import block_end
from paths import ROOT
from profiles import examples
from streams_kit import Bytes, Never, chat_chunk, fed, sse

DOCS = ROOT / "docs"

# Characters of words in all encodings, and characters that may join words.
_texts = st.text(alphabet="abZé中文́७9²  \n\r\t.,'’-_/(){}\"，。！¡", max_size=40)


@cache
def words() -> dict[str, Any]:
    """Return the word pattern of each encoding of OpenAI, from tiktoken itself."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
            patch.setattr(openai_public, loader, lambda *_, **__: {})
        for name, constructor in openai_public.ENCODING_CONSTRUCTORS.items():
            found[name] = regex.compile(constructor()["pat_str"])
    return found


@cache
def counter() -> TokenCounter:
    return TokenCounter("gpt-4o")


@cache
def prose() -> str:
    """Return some hundred thousand characters of English, Chinese, code, JSON and tables."""
    pages = [path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))]
    chinese = "潮汐是海水每天两次的缓慢涨落。月亮和太阳一起拉动海水，港口的人都知道这一点！" * 400
    return "\n".join(pages) + chinese + '{"a":[1,2,{"b":"c d"}],"e":-0.5}' * 2000


@settings(max_examples=examples(1500))
@given(_texts, st.data())
def test_a_block_ends_where_every_encoding_ends_a_word(text: str, data: st.DataObject) -> None:
    """At a boundary, the words of a text are those of its two parts, in every encoding."""
    end = data.draw(st.integers(1, max(1, len(text) - 1)))
    found = block_end(text, 0, end)
    assert 0 < found <= end
    if not (
        found < len(text) and text[found - 1].isalnum() and not (text[found].isalnum() or text[found] in "'’\u0301")
    ):
        assert found == end  # no boundary: cut anywhere
        return
    for name, pattern in words().items():
        whole = [match.group() for match in pattern.finditer(text)]
        parts = [match.group() for part in (text[:found], text[found:]) for match in pattern.finditer(part)]
        assert whole == parts, name


def test_all_encodings_are_covered() -> None:
    """The tested patterns are all patterns of tiktoken."""
    assert {"gpt2", "p50k_base", "cl100k_base", "o200k_base"} <= set(words())
    assert [match.group() for match in words()["o200k_base"].finditer("don't go")] == ["don't", " go"]


def test_a_block_ends_at_the_last_boundary() -> None:
    """The last boundary counts, near the end or far from it; without one, the block ends at its limit."""
    assert block_end("one two three", 0, 9) == 7
    assert block_end("one two three", 4, 9) == 7
    assert block_end("don't stop", 0, 6) == 5
    far = "ab cd" + "x" * 100_000
    assert block_end(far, 0, BLOCK_CHARACTERS) == 2
    assert block_end("x" * 100, 0, 60) == 60
    assert block_end("文，中文文文", 0, 5) == 1


@settings(max_examples=examples(300))
@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=9)), max_size=30), st.integers(1, 40))
def test_nothing_is_lost_or_counted_twice(pieces: list[tuple[int, str]], keep: int) -> None:
    """The total is the sum over the texts, however much is buffered or counted early."""
    buffer, total = TextBuffer(Bytes().text, keep), 0
    for strand, text in pieces:
        buffer.add(strand, text)
        total += len(text.encode())
        assert buffer.total() == total
    buffer.clear()
    assert buffer.total() == 0
    buffer.add(0, "a")
    assert buffer.total() == 1


def test_texts_are_counted_separately() -> None:
    """Two texts that arrive in turn are counted separately."""
    buffer = TextBuffer(counter().text)
    for piece in ("inter", "nation", "al", "ization"):
        buffer.add("a", piece)
        buffer.add("b", piece.upper())
    assert buffer.total() == counter().text("internationalization") + counter().text("INTERNATIONALIZATION")


@pytest.mark.parametrize("keep", [3_000, 20_000, BLOCK_CHARACTERS, MAX_BUFFERED_CHARACTERS])
def test_block_counts_add_up_to_the_whole(keep: int) -> None:
    """Prose, Chinese, code and JSON in small pieces have the exact count of the whole."""
    text, chance = prose(), Random(7)
    buffer, start = TextBuffer(counter().text, keep), 0
    while start < len(text):
        end = start + chance.randint(1, 60)
        buffer.add(0, text[start:end])
        start = end
    assert buffer.total() == counter().text(text)


@pytest.mark.parametrize("text", ["x" * 600_000, "0123456789" * 60_000, " " * 600_000, "文" * 300_000, "-=" * 300_000])
def test_a_text_without_words_is_counted_approximately(text: str) -> None:
    """Without word boundaries, the count is off by less than 0.1 %."""
    buffer = TextBuffer(counter().text)
    for start in range(0, len(text), 5_000):
        buffer.add(0, text[start : start + 5_000])
    whole = counter().text(text)
    assert abs(buffer.total() - whole) <= whole / 1000


def test_many_small_texts_are_bounded() -> None:
    """A stream with a new choice in every delta is counted, and not buffered."""
    buffer = TextBuffer(Bytes().text)
    tracemalloc.start()
    try:
        for number in range(60 * MAX_PARTS):
            buffer.add(number, "some text")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert buffer.total() == 60 * MAX_PARTS * 9


def test_small_texts_are_bounded_together() -> None:
    """A thousand small texts that grow in turn are bounded together."""
    buffer = TextBuffer(Bytes().text)
    tracemalloc.start()
    try:
        for number in range(5_000):
            buffer.add(number % 1_000, f"{number:05}" * 100)
        assert tracemalloc.get_traced_memory()[1] < 1_500_000
    finally:
        tracemalloc.stop()
    assert buffer.total() == 5_000 * 500


def test_small_pieces_are_joined() -> None:
    """A quarter of a million characters in pairs use at most twice their size."""
    buffer = TextBuffer(Never().text)
    tracemalloc.start()
    try:
        for number in range(MAX_BUFFERED_CHARACTERS // 2):
            buffer.add(0, f"{number % 100:02}")
        assert tracemalloc.get_traced_memory()[1] < 2 * MAX_BUFFERED_CHARACTERS + 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("size", "as_text"), [(20, False), (4_000, False), (4_000, True)])
def test_memory_is_flat_over_100_megabytes(size: int, as_text: bool) -> None:
    """100 MB of deltas (quick: 12) use at most 4 MB, and 1.2 MB of the smallest 1.5 MB; all of them count."""
    delta = ("many words of an answer " * 200)[:size]
    chunk: Any = sse(chat_chunk(delta)).encode() if as_text else chat_chunk(delta)
    total, most = (examples(100_000_000), 4_000_000) if size > 100 else (1_200_000, 1_500_000)  # unjoined: 2.4 MB
    number = total // size
    stream = fed(chunk)
    tracemalloc.start()
    try:
        for _ in range(number - 1):
            stream.feed(chunk)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    assert stream.result().usage.output_tokens == number * size


def test_counting_caches_no_text() -> None:
    """The tokenizer of a long stream does not cache its text."""
    stream = StreamUsage({"model": "gpt-5.4"})
    stream.feed(chat_chunk(prose()))  # loads the vocabulary
    tracemalloc.start()
    try:
        for number in range(5_000):
            stream.feed(chat_chunk(f"{number:06} " + "some words of a long answer " * 36))
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


def test_a_small_text_is_not_counted_early() -> None:
    """Up to 256 kB of text, and with reported usage, no counter is called."""
    stream = fed(*[chat_chunk("x" * 1000)] * 256, request={"messages": []}, counter=Never())
    stream.feed(chat_chunk("", "stop"))
    stream.feed({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 64_000}})
    assert stream.result().usage.output_tokens == 64_000
    assert stream.warnings == ()


def test_the_text_is_discarded_when_the_usage_arrives() -> None:
    """After the reported usage, no text of the answer stays in memory."""
    tracemalloc.start()
    try:
        stream = fed()
        for number in range(200):
            stream.feed(chat_chunk(f"{number} words of an answer " * 40))
        before = tracemalloc.get_traced_memory()[0]
        stream.feed(chat_chunk("", "stop", usage={"prompt_tokens": 1, "completion_tokens": 2}))
        assert before - tracemalloc.get_traced_memory()[0] > 150_000
    finally:
        tracemalloc.stop()
    assert stream.done
