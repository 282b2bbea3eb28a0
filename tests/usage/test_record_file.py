"""Reading usage files: a pattern changes no result, and every line gives a record or a rejection."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import bill_oracle
from bill_kit import ROOT, body, record
from brivionix_billing.errors import CODES
from brivionix_billing.usage import Usage, line_patterns, record_file, records
from brivionix_billing.usage.line_patterns import LinePatterns
from brivionix_billing.usage.record_file import MAX_LINE, Record, RejectedRecord, read_records
from brivionix_billing.usage.records import Origins
from profiles import examples
from strategies import bodies

Json = dict[str, Any]


def parse_in_full(line: bytes) -> Record | RejectedRecord | None:
    """Parse a line without the patterns of other lines."""
    return record_file._parse(1, line, Origins())


def comparable(parsed: Record | RejectedRecord | None) -> Any:
    """Return a record in which the origin is a tuple, which can be compared."""
    if not isinstance(parsed, Record):
        return parsed
    origin = parsed.origin
    names = (origin.account, origin.group, origin.model, origin.service_tier)
    return parsed._replace(origin=names), parsed.usage  # type: ignore[arg-type]  # only compared


@contextmanager
def learning_from(*lines: bytes) -> Iterator[None]:
    """Begin without patterns, and learn from each of these lines, and from every later one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_patterns, "_LEARN_EVERY", 1)
        patch.setattr(line_patterns, "PATTERNS", LinePatterns())
        list(read_records(lines))
        yield


def matches(line: bytes) -> bool:
    """Return whether a line is read by a pattern, and not parsed in full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_file, "_parse", lambda *_: None)
        return next(read_records([line]), None) is not None


# --- generated lines ---

_NAMES = ["a", "默认", "é:", '"', "\\", "a:b", "/", "😀", "\x7f", "\u202e", "\n", "", "x" * 256, "x" * 257, "\ud800"]
_names = st.one_of(st.sampled_from(_NAMES), st.text(max_size=4))
_counts = st.one_of(
    st.integers(0, 300), st.sampled_from([10**12, 10**12 + 1, -1, 2**53, 2**64, None, 0.0, 1.5, True, "1"])
)
_times = st.one_of(
    st.sampled_from(
        [
            "2026-10-20T08:00:00Z",
            "2026-10-20T08:00:00.1Z",
            "2026-10-20T08:00:00.113Z",
            "2026-10-20T08:00:00.113000Z",
            "2026-10-20T08:00:00.1130Z",
            "2026-10-20T08:00:00,113Z",
            "2026-10-20T080000.1Z",
            "2026-10-20T08:00:00+08:00",
            "2026-10-20T24:00:00Z",
            "2026-02-29T08:00:00Z",
            "2026-W43-2T08:00:00Z",
            "0001-01-01T00:00:00+01:00",
            "2026-10-20",
            "2026-10-20T08:00:60Z",
        ]
    ),
    st.none(),
    st.integers(),
)


@st.composite
def _usage(draw: DrawFn) -> Json:
    prompt = draw(st.integers(0, 500))
    completion = draw(st.integers(0, 500))
    chat = draw(st.booleans())
    input_prefix, output_prefix = ("prompt", "completion") if chat else ("input", "output")
    usage: Json = {f"{input_prefix}_tokens": prompt, f"{output_prefix}_tokens": completion}
    if draw(st.booleans()):
        usage["total_tokens"] = draw(st.sampled_from([*[prompt + completion] * 3, None, prompt]))
    zero_keys = ["audio_tokens", "zz", 'a"cached_tokens', 'a"reasoning_tokens', "数", "cached_tokens:", "text_tokens"]
    for prefix, key, whole in (
        (input_prefix, "cached_tokens", prompt),
        (output_prefix, "reasoning_tokens", completion),
    ):
        kind = draw(st.integers(0, 5))
        if kind > 1:
            details = dict.fromkeys(draw(st.lists(st.sampled_from(zero_keys), unique=True, max_size=3)), 0)
            if kind > 2:
                details[key] = draw(st.integers(0, whole))
            usage[f"{prefix}_tokens_details"] = dict(draw(st.permutations(list(details.items()))))
        elif kind == 1:
            usage[f"{prefix}_tokens_details"] = None
    if draw(st.integers(0, 3)) == 0:
        envelope: Json = {
            key: draw(_names)
            for key in draw(st.sets(st.sampled_from(["id", "model", "service_tier", "output", 'k"', "键", "object"])))
        }
        envelope["service_tier"] = draw(st.sampled_from(["default", "priority", "", "auto", "x" * 300]))
        if draw(st.integers(0, 5)) == 0:
            envelope["output"] = [{"type": "web_search_call"}]
        usage = {**envelope, "usage": usage}
    if draw(st.integers(0, 5)) == 0:
        target = draw(st.sampled_from([d for d in (usage, usage.get("usage")) if d]))
        target[draw(st.sampled_from([*target, "extra", "cost", "estimated"]))] = draw(
            st.one_of(_counts, _names, st.just([]), st.just({}))
        )
    return dict(draw(st.permutations(list(usage.items()))))


Layout = Callable[[Any], bytes]


@st.composite
def _records(draw: DrawFn) -> Json:
    """Draw the content of a line in any key order, usually a valid record."""
    data: Json = {
        "request_id": draw(_names),
        "at": draw(_times),
        "account": "acct",
        "group": "default",
        "model": "m",
        "usage": draw(_usage()),
    }
    if draw(st.booleans()):
        data["service_tier"] = draw(st.one_of(st.none(), st.sampled_from(["standard", "", "flex"]), _names))
    for name in draw(st.sets(st.sampled_from(["account", "group", "model"]), max_size=2)):
        data[name] = draw(_names)
    if draw(st.integers(0, 7)) == 0:
        unusual: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, True, [], {}, [[]], "x"])
        data[draw(st.sampled_from([*data, "service_tier", "more"]))] = draw(unusual)
    return dict(draw(st.permutations(list(data.items()))))


@st.composite
def _layouts(draw: DrawFn) -> Layout:
    """Draw a way to write lines."""
    ensure_ascii = draw(st.booleans())
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    has_escapes, escaped_a = draw(st.integers(0, 3)) == 0, draw(st.sampled_from([b"a", b"\\u0061"]))
    has_account_twice = draw(st.integers(0, 5)) == 0
    start = draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b" "]))

    def write(data: Any) -> bytes:
        line = json.dumps(data, ensure_ascii=ensure_ascii, separators=separators).encode("utf-8", "surrogatepass")
        if has_escapes:
            line = line.replace(b":b", b"\\u003Ab").replace(b"a", escaped_a)
        if has_account_twice:
            line = b'{"account":"other",' + line[1:]
        return start + line + b"\r\n"

    return write


@st.composite
def lines(draw: DrawFn) -> bytes:
    """Draw a line in any key order and spelling, usually a valid record."""
    return draw(_layouts())(draw(_records()))


_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\s{}\[\],:"]+')
_OTHER_TOKENS = (
    *(
        b"0",
        b"1",
        b"007",
        b"-1",
        b"-0",
        b"1.0",
        b"1e2",
        b"null",
        b"true",
        b"{}",
        b"[]",
        b"1000000000000",
        b"1000000000001",
    ),
    *(b'"a\tb"', b'"\x01"', b'"\\u0061"', b'"\\\\"', b'"%s"', b'" a"', b'"a "', b'"\xff"', b"9" * 13, b"9" * 14),
    *(b'"2026-10-20T24:00:00Z"', b'"2026-02-29T08:00:00Z"', b'"0000-01-01T00:00:00.123Z"'),
)
_other_tokens = st.one_of(
    st.sampled_from(_OTHER_TOKENS),
    _names.map(lambda name: json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.integers(0, 999).map(lambda count: b"%d" % count),
)


@st.composite
def similar_lines(draw: DrawFn) -> tuple[bytes, bytes]:
    """Draw a usual line, and one that is written like it but for some texts, numbers and literals."""
    data = record(draw(st.integers(0, 2)))
    usage = data["usage"].get("usage", data["usage"])
    for key in draw(st.sets(st.sampled_from([key for key in usage if key not in ("prompt_tokens", "input_tokens")]))):
        if key == "total_tokens" or key.endswith("_details"):
            usage[key] = None
    if draw(st.booleans()):
        usage.pop("total_tokens", None)
    if draw(st.integers(0, 2)) == 0:
        data["service_tier"] = None
    if draw(st.integers(0, 4)) == 0:
        draw(st.sampled_from([data, data["usage"], usage]))[draw(st.sampled_from(["100%", "数", "audio_tokens"]))] = 0
    data = dict(draw(st.permutations(list(data.items()))))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    first = second = json.dumps(data, ensure_ascii=False, separators=separators).encode()
    tokens = list(_TOKEN.finditer(first))
    values = [token for token in tokens if first[token.end() : token.end() + 1] != b":"]
    places = draw(st.lists(st.sampled_from(values if draw(st.integers(0, 4)) else tokens), min_size=1, max_size=3))
    for start, end in sorted({place.span() for place in places}, reverse=True):
        second = second[:start] + draw(_other_tokens) + second[end:]
    return first, second


@settings(max_examples=examples(700), deadline=None)
@given(lines())
@example(b'{"account":"x",' + json.dumps(record(request_id="a:b")).encode().replace(b"a:b", b"a\\u003ab")[1:])
@example(json.dumps(record(usage={"service_tier": "", "usage": body()})).encode())
@example(json.dumps(record(usage={"service_tier": "x" * 257, "usage": body()})).encode())
@example(json.dumps(record(usage={"model": "x" * 257, "usage": body()})).encode())
@example(json.dumps(record(usage={"model": "%s", "100%": "%d", "usage": body()})).encode())
@example(json.dumps(record(account=[])).encode())
@example(json.dumps(record(service_tier={})).encode())
def test_a_line_gives_the_same_record_again(line: bytes) -> None:
    """Any line gives the same record and the same leaf hash with a pattern that was made from it and without."""
    with learning_from(line):
        parsed = next(read_records([line]))
    assert comparable(parsed) == comparable(parse_in_full(line))
    if isinstance(parsed, Record):
        assert parsed.leaf == bill_oracle.leaf(json.loads(line))
        assert parsed.usage == Usage.from_response(json.loads(line)["usage"])
        assert parsed.at_text + "Z" == json.loads(line)["at"] or parsed.at_text[10:] != json.loads(line)["at"][10:-1]


@settings(max_examples=examples(2000), deadline=None)
@given(similar_lines())
def test_a_pattern_changes_no_result(pair: tuple[bytes, bytes]) -> None:
    """A line gives the same record or rejected record after a line that is written like it and without."""
    first, second = pair
    with learning_from(first):
        parsed = next(read_records([second]))
    assert comparable(parsed) == comparable(parse_in_full(second))
    if isinstance(parsed, Record):
        assert parsed.leaf == bill_oracle.leaf(json.loads(second))


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("changes", [{}, {"total_tokens": None, "service_tier": None}])
def test_another_value_after_a_usual_line(number: int, changes: Json) -> None:
    """Each text, number or literal in place of each value of a line gives what it gives without an earlier line."""
    data = {**record(number), **{key: changes[key] for key in changes.keys() & {"service_tier"}}}
    usage = data["usage"].get("usage", data["usage"])
    usage.update({key: changes[key] for key in changes.keys() & usage.keys()})
    line = json.dumps(data).encode()
    names = [json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass") for name in _NAMES]
    with learning_from(line):
        assert matches(line)
        for token in _TOKEN.finditer(line):
            for other in (*_OTHER_TOKENS, *names):
                changed = line[: token.start()] + other + line[token.end() :]
                parsed = next(read_records([changed]))
                assert comparable(parsed) == comparable(parse_in_full(changed)), changed


ENVELOPES: list[Json] = [
    {},
    {"id": "resp_1", "object": "response", "system_fingerprint": "fp_1"},
    {"id": 1, "created": 7},
    {"data": [{"url": "x"}]},
    {"data": [{"embedding": [1]}], "object": "list"},
    {"type": "image_generation.completed"},
    {"type": "message", "model": "m"},
    {"output": [{"type": "web_search_call", "action": {"type": "search"}}]},
    {"output": [{"type": "image_generation_call"}], "tool_usage": {"web_search": {"num_requests": 2}}},
    {"trace": {"x": 1}},
    {"candidates": []},
    {"status_code": 200, "body": {}},
    {"usage": None, **body()},
    {"usage": [], **body("responses")},
]


@pytest.mark.parametrize("envelope", ENVELOPES, ids=json.dumps)
@pytest.mark.parametrize("kind", ["chat", "responses"])
@pytest.mark.parametrize("details", [{}, {"output_tokens_details": None, "completion_tokens_details": None}])
def test_other_counts_after_a_response_of_any_kind(envelope: Json, kind: str, details: Json) -> None:
    """What else a response has means the same for other counts than those of an earlier response."""
    content = []
    for count, out in itertools.product((0, 7, 10**12, 10**12 + 1), (0, 3, 10**12)):
        usage = body(kind, count, min(count, 5), out)
        usage |= {key: details[key] for key in usage.keys() & details.keys()}
        content.append(json.dumps(record(usage={"usage": usage, **envelope})).encode())
    expected = [comparable(parse_in_full(line)) for line in content]
    for first in content:
        with learning_from(first):
            assert [comparable(parsed._replace(line=1)) for parsed in read_records(content)] == expected


def test_common_lines_match_patterns() -> None:
    """Lines of the example match patterns of other lines, so the comparison of both ways is effective."""
    content = (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines()
    with learning_from(*content[::2]):
        assert sum(map(matches, content[1::2])) > 0.999 * len(content[1::2])
    known = [record(number, **names) for names in ({}, {"account": "账"}) for number in range(3)]
    with learning_from(*(json.dumps(line).encode() for line in known)):
        for change in (
            {},
            {"account": "默认"},
            {"service_tier": "flex"},
            {"at": "2026-10-20T08:00:00Z"},
            {"model": "b"},
        ):
            assert all(matches(json.dumps(record(number, **change)).encode()) for number in range(3, 6)), change


def test_leaf_hashes_of_the_example_match_the_oracle() -> None:
    """Each leaf hash of the example file is that of the oracle: SHA-256 of 0x00 and the canonical JSON."""
    content = (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines()
    with learning_from():
        parsed = list(read_records(content))
    assert len(parsed) == 3000
    for line, row in zip(content, parsed, strict=True):
        assert isinstance(row, Record)
        assert row.leaf == bill_oracle.leaf(json.loads(line))
        assert comparable(row._replace(line=1)) == comparable(parse_in_full(line))


@pytest.mark.parametrize("key", [*record(), "prompt_tokens", "cached_tokens", "reasoning_tokens", "total_tokens"])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_duplicate_key_is_rejected(key: str, escaped: bool) -> None:
    """A duplicate key is rejected, also after lines that are the same without it."""
    data = record(3, request_id="a:b" if escaped else "a")
    line = json.dumps(data).replace("a:b", "a\\u003ab")
    assert data["usage"].keys() >= {"prompt_tokens", "total_tokens"}
    twice = line.replace(f'"{key}": ', f'"{key}": 7, "{key}": ', 1)
    assert twice.count(f'"{key}"') == 2
    with learning_from(line.encode()):
        parsed = next(read_records([twice.encode()]))
    assert isinstance(parsed, RejectedRecord)
    assert "twice" in parsed.message
    assert parsed.code == "invalid_record"


INVALID_RECORDS = {
    "float count": record(usage={"prompt_tokens": 1.5, "completion_tokens": 1}),
    "negative": record(usage={"prompt_tokens": -1, "completion_tokens": 1}),
    "10^13": record(usage={"prompt_tokens": 10**13, "completion_tokens": 1}),
    "200 digits": record(usage={"prompt_tokens": 10**200, "completion_tokens": 1}),
    "bool": record(usage={"prompt_tokens": True, "completion_tokens": 1}),
    "huge int in cost": record(usage={**body(), "cost": 2**60}),
    "cached 200 of 100": record(usage=body(tokens=100, cached=200)),
    "negative total": record(usage={**body(), "total_tokens": -1}),
    "no usage": {**record(), "usage": None},
    "usage a list": record(usage=[1]),
    "usage a text": record(usage="prompt_tokens"),
    "empty id": record(request_id=""),
    "long id": record(request_id="x" * 257),
    "escape in id": record(request_id="a\x1b[31m"),
    "newline in account": record(account="a\nb"),
    "right to left": record(account="a\u202eb"),
    "id a number": record(request_id=7),
    "no zone": record(at="2026-10-01T00:00:00"),
    "no time": record(at="now"),
    "time a number": record(at=1760000000),
    "tier empty": record(service_tier=""),
    "tier a list": record(service_tier=[]),
    "account an object": record(account={}),
    "group a list": record(group=[["x"]]),
}
INVALID_LINES = {
    "not JSON": b"hello",
    "NaN": json.dumps(record(usage={"prompt_tokens": float("nan"), "completion_tokens": 1})).encode(),
    "NaN in an unknown key": json.dumps(record(more=float("-inf"))).encode(),
    "1e999": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": 1e999'),
    "5000 digits": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": ' + b"9" * 5000),
    "lone surrogate": json.dumps(record(request_id="\ud83d")).encode(),
    "lone surrogate in an unknown key": json.dumps(record(more="\ud83d")).encode(),
    "lone surrogate as bytes": json.dumps(record(request_id="??")).encode().replace(b"??", b"\xed\xa0\x80"),
    "not UTF-8": json.dumps(record(request_id="??")).encode().replace(b"??", b"\xff\xfe"),
    "zero bytes": b"\0\0\0\0",
    "UTF-16": json.dumps(record()).encode("utf-16")[:-1],
    "2 MB": json.dumps(record(more="x" * 2 * MAX_LINE)).encode(),
    "a little over 1 MB": json.dumps(record()).encode().ljust(MAX_LINE + 1),
    "deep": b"[" * 100_000,
    "deep and valid": b"[" * 5000 + b"]" * 5000,
    "deep in a record": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": ' + b"[" * 90 + b"]" * 90),
    "a list": b"[]",
    "a text": b'"x"',
    "two objects": b"{}{}",
    "truncated": json.dumps(record()).encode()[:-20],
    "empty object": b"{}",
    "comment": b"# request_id",
}


@pytest.mark.parametrize("name", [*INVALID_RECORDS, *INVALID_LINES])
def test_an_invalid_line_is_rejected(name: str) -> None:
    """An invalid line gives a rejected record with a known code and a short printable message."""
    line = INVALID_LINES[name] if name in INVALID_LINES else json.dumps(INVALID_RECORDS[name]).encode()
    with learning_from(*(json.dumps(record(number)).encode() for number in range(3))):
        (parsed,) = read_records([line + b"\n"])
    assert isinstance(parsed, RejectedRecord), parsed
    assert parsed.code in CODES
    assert parsed.message.isprintable()
    assert len(parsed.message) < 700
    json.dumps(parsed.as_dict()).encode()
    if name in INVALID_RECORDS and parsed.request_id is not None:
        assert (parsed.request_id, parsed.line) == (INVALID_RECORDS[name]["request_id"], 1)


def test_a_rejected_record_keeps_its_identification() -> None:
    """A rejected record keeps its id, account and time, so that it can be found again."""
    (parsed,) = read_records([json.dumps(record(4, usage={"prompt_tokens": -1, "completion_tokens": 0})).encode()])
    assert isinstance(parsed, RejectedRecord)
    assert parsed.as_dict() == {
        "line": 1,
        "request_id": "req_4",
        "account": "acct_1",
        "at": "2026-10-02T04:00:00Z",
        "code": "invalid_usage",
        "message": parsed.message,
    }
    assert "-1" in parsed.message


VARIANTS = {
    "byte order mark": lambda line: b"\xef\xbb\xbf" + line,
    "spaces around": lambda line: b"  \t" + line + b"  ",
    "carriage return": lambda line: line + b"\r\n",
    "no end of line": lambda line: line,
    "exactly 1 MB": lambda line: line.ljust(MAX_LINE),
    "escapes": lambda line: line.replace(b"acct", b"\\u0061cct"),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_spelling_of_a_line_does_not_change_its_record(name: str) -> None:
    """A byte order mark, CRLF, spaces and escapes change neither the record nor its leaf hash."""
    line = json.dumps(record(5)).encode()
    with learning_from(line):
        (variant,) = read_records([VARIANTS[name](line)])
    assert isinstance(variant, Record)
    assert comparable(variant) == comparable(parse_in_full(line))


def test_text_is_read_like_bytes() -> None:
    """Lines of text and mutable bytes give the same records as bytes, also if a pattern matches the bytes."""
    line = json.dumps(record(5)).encode()
    with learning_from(line):
        for other in (line.decode(), bytearray(line), memoryview(line)):
            (parsed,) = read_records([other])  # type: ignore[list-item]  # what a file opened for text has
            assert comparable(parsed) == comparable(parse_in_full(line))


def test_blank_lines_are_skipped_but_counted() -> None:
    """Blank lines are skipped but counted, so that line numbers are those of the file."""
    file = io.BytesIO(b"\n  \r\n" + json.dumps(record()).encode() + b"\n\n\xff\n")
    assert [parsed.line for parsed in read_records(file)] == [3, 5]


@settings(max_examples=examples(300), deadline=None)
@given(st.binary(max_size=40).map(lambda data: data.replace(b"a", b"\n")), st.integers(1, 9), st.integers(1, 9))
@example(b"aaaa\nbbbb\n\n", 4, 3)
def test_blocks_have_the_lines_of_the_file(content: bytes, longest: int, block: int) -> None:
    """Lines that are read in blocks of any size are those of ``readline``, which has a limit as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_file, "_MAX_PIECE", longest)
        patch.setattr(record_file, "_BLOCK_BYTES", min(block, longest))
        file = io.BytesIO(content)
        assert list(record_file.bounded_lines(io.BytesIO(content))) == list(iter(lambda: file.readline(longest), b""))


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), lines()), max_size=6))
def test_every_line_gives_a_record_or_a_rejection(content: list[bytes]) -> None:
    """Every line that is not blank gives one record or rejected record, with its line number."""
    content = [line.replace(b"\n", b" ") for line in content]
    parsed = list(read_records(content))
    assert [row.line for row in parsed] == [n for n, line in enumerate(content, 1) if line.strip()]
    assert all(type(row) in (Record, RejectedRecord) for row in parsed)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from([*record(), "more"]), bodies)
def test_any_json_value_gives_the_same_result_after_usual_lines(key: str, value: Any) -> None:
    """Any JSON in place of a value of a record gives the same result after usual lines and without them."""
    line = json.dumps({**record(3), key: value}).encode()
    with learning_from(json.dumps(record(3)).encode(), json.dumps({**record(3), "more": 1}).encode()):
        parsed = next(read_records([line]))
    assert comparable(parsed) == comparable(parse_in_full(line))


def test_patterns_and_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and patterns are kept up to a bound, and records beyond it are the same."""
    monkeypatch.setattr(records, "_MAX_CACHED", 2)
    monkeypatch.setattr(line_patterns, "_MAX_PATTERNS", 3)
    monkeypatch.setattr(line_patterns, "_MAX_ALIKE", 2)
    details = [*({f"k{n}": 0} for n in range(6)), *({f"k{n}": 0, "b": 0} for n in range(6))]
    data = [
        record(n, account=f"a{n}", usage={**body(), "prompt_tokens_details": each}) for n, each in enumerate(details)
    ]
    content = [json.dumps(row).encode() for row in data]
    with learning_from(*content):
        parsed = list(read_records(content))
        assert [len(alike) for alike in line_patterns.PATTERNS._patterns.values()] == [2, 1]
    assert [row.origin.account for row in parsed if isinstance(row, Record)] == [row["account"] for row in data]
    assert [row.leaf for row in parsed if isinstance(row, Record)] == [bill_oracle.leaf(row) for row in data]


def test_unusual_lines_cost_no_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pattern is compiled for a line that could have none, because that would take longer than to parse it."""

    def fail(*_: object) -> None:
        raise AssertionError("a pattern is compiled")

    monkeypatch.setattr(line_patterns, "LinePattern", fail)
    unusual = (
        {"region": "eu"},
        {"tags": {"a": "b"}},
        {"at": "2026-10-20T08:00:00+08:00"},
        {"usage": {"data": [], **body()}},
    )
    with learning_from(*(json.dumps(record(1, **changes)).encode() for changes in unusual)):
        pass
    with pytest.raises(AssertionError, match="compiled"), learning_from(json.dumps(record(1)).encode()):
        pass


def test_no_pattern_is_made_from_a_long_line() -> None:
    """A long line is read, but no pattern is made from it, which would take long."""
    line = json.dumps(record(2, usage=body("whole", output=[{"type": "message", "text": "x" * 5000}]))).encode()
    with learning_from(line):
        assert isinstance(next(read_records([line])), Record)
        assert not matches(line)
