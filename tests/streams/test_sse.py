"""Server-sent events: independent of how the bytes are cut, bounded, and complete without a last blank line."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brivionix_billing.streams.sse import SseEvent, SseParser
from profiles import examples
from streams_kit import FEW, frames

_LINES = st.one_of(
    st.sampled_from(
        ["data: {}", "data:x", "data", "data:", "data:  y", "event: e", ": note", ":", "id: 7", "x", "", ""]
    ),
    # A line that begins with a bracket is JSON without framing, for which there are tests of its own.
    st.text(alphabet="da:t é\u2028{}", max_size=6).filter(lambda line: line.lstrip()[:1] not in ("{", "[")),
)
_ENDS = st.sampled_from(["\n", "\r", "\r\n"])


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Lines of a stream, valid or not, with line ends of every kind."""
    lines = draw(st.lists(st.tuples(_LINES, _ENDS), max_size=14))
    return draw(st.sampled_from(["", "\ufeff"])) + "".join(line + end for line, end in lines)


@st.composite
def partitions(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Return the bytes in pieces, some of them empty."""
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def read(pieces: list[bytes], limit: int = 1000) -> tuple[list[SseEvent], int]:
    parser = SseParser(limit)
    return [event for piece in pieces for event in parser.feed(piece)], parser.pop_oversize_count()


@settings(max_examples=examples(400))
@given(st.data())
def test_events_follow_the_standard_in_every_partition(data: st.DataObject) -> None:
    """Bytes in any pieces give the events of an independent parser of the whole text."""
    text = data.draw(texts())
    whole = text.encode()
    expected = [SseEvent(name, body.encode()) for name, body in frames(text)]
    assert read(data.draw(partitions(whole))) == (expected, 0)
    assert read([whole[i : i + 1] for i in range(len(whole))]) == (expected, 0)


def test_a_crlf_across_two_pieces_is_one_line_end() -> None:
    """CR at the end of a piece and LF at the start of the next end one line, not two; CR alone ends one at once."""
    assert read([b"data: 1\r", b"\ndata: 2\r", b"", b"\n\r", b"\n"])[0] == [SseEvent("", b"1\n2")]
    assert read([b"data: 1\r\r"])[0] == [SseEvent("", b"1")]
    assert read([b"x\rdata: 1", b"\n\n"])[0] == [SseEvent("", b"1")]


@settings(max_examples=examples(1000))
@given(st.data(), st.integers(0, 30))
def test_too_large_events_are_the_same_in_every_partition(data: st.DataObject, limit: int) -> None:
    """The pieces do not determine which events exceed the limit, and the others are read."""
    text = data.draw(texts())
    events, passed = read([text.encode()], limit)
    assert read(data.draw(partitions(text.encode())), limit) == (events, passed)
    every = [SseEvent(name, body.encode()) for name, body in frames(text)]
    left = iter(every)
    assert all(event in left for event in events)  # in this order
    assert all(len(event.data) <= limit for event in events)
    assert passed or events == every


def test_an_event_after_a_too_large_one_is_read() -> None:
    """A skipped large event ends at its blank line."""
    events, passed = read([b"data: " + b"x" * 50 + b"\ndata: y\n\ndata: z\n\n"], limit=40)
    assert (events, passed) == ([SseEvent("", b"z")], 1)
    assert read([b"data: x\n" * 20 + b"\ndata: z\n\n"], limit=60) == ([SseEvent("", b"z")], 1)


def test_an_endless_line_does_not_fill_the_memory() -> None:
    """Twenty million bytes of one line use no more memory than the limit."""
    parser = SseParser(100_000)
    piece = b"data: " + b"x" * 9_994
    tracemalloc.start()
    try:
        for _ in range(2000):
            parser.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 400_000
    finally:
        tracemalloc.stop()
    assert parser.feed(b"\n\ndata: z\n\n") == [SseEvent("", b"z")]


@pytest.mark.parametrize("end", [b"", b" ", b"\n", b"\r", b"\r\n"])
def test_the_last_event_needs_no_blank_line(end: bytes) -> None:
    """An event that ends after its JSON without line ends is returned, once."""
    parser = SseParser()
    assert parser.feed(b'event: e\ndata: {"a": 1}') == parser.feed(end) == []
    assert parser.flush() == SseEvent("e", b'{"a": 1}')
    assert parser.flush() is None
    assert parser.feed(b"\n\ndata: {}\n\n") == [SseEvent("", b"{}")]


@pytest.mark.parametrize("rest", [b"", b"data: ", b'data: {"a": {}', b"event: }", b": {}", b"data: 5", b"data: [DONE"])
def test_an_incomplete_event_is_not_returned(rest: bytes) -> None:
    """An incomplete event, or one without an object, is not returned early; its rest completes it."""
    parser = SseParser()
    parser.feed(rest)
    assert parser.flush() is None
    if rest == b'data: {"a": {}':
        assert parser.feed(b"}\n\n") == [SseEvent("", b'{"a": {}}')]


def test_the_recorded_streams_are_read() -> None:
    """The recorded streams give the same events byte by byte and in one piece."""
    for sample in FEW:
        whole = sample["sse"].encode()
        expected = [SseEvent(name, data.encode()) for name, data in frames(sample["sse"])]
        assert len(expected) > 3
        assert read([whole], 10**7)[0] == read([whole[i : i + 1] for i in range(len(whole))], 10**7)[0] == expected
