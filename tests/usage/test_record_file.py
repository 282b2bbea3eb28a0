"""Reading usage files: fast path and slow path agree, and every line gives a record or a rejection."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

import bill_oracle
from bill_kit import ROOT, body, record
from brivionix_billing.errors import CODES
from brivionix_billing.usage import Usage, record_file
from brivionix_billing.usage.record_file import MAX_LINE, Record, RejectedRecord, read_records
from profiles import examples
from strategies import bodies

Json = dict[str, Any]


def parse_both_ways(line: bytes) -> tuple[Record | RejectedRecord | None, Record | RejectedRecord | None]:
    """Parse a line with the reader, and on the slow path only."""
    parsed = next(read_records([line]), None)
    return parsed, record_file._parse_strict(1, line, {})


def comparable(parsed: Record | RejectedRecord | None) -> Any:
    """Return a record in which the origin is a tuple, which can be compared."""
    if not isinstance(parsed, Record):
        return parsed
    origin = parsed.origin
    names = (origin.account, origin.group, origin.model, origin.service_tier)
    return parsed._replace(origin=names), parsed.usage  # type: ignore[arg-type]  # only compared


def takes_fast_path(line: bytes) -> bool:
    """Return whether a line is parsed without the slow path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_file, "_parse_strict", lambda *_: None)
        return next(read_records([line]), None) is not None


# --- generated lines ---

_names = st.one_of(
    st.sampled_from(["a", "默认", "é:", '"', "\\", "a:b", "/", "😀", "\x7f", "\n", "", "x" * 256, "x" * 257, "\ud800"]),
    st.text(max_size=4),
)
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


@st.composite
def lines(draw: DrawFn) -> bytes:
    """Draw a line in any key order and spelling, usually a valid record."""
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
    text = json.dumps(
        dict(draw(st.permutations(list(data.items())))),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")])),
    )
    line = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        line = line.replace(b":b", b"\\u003Ab").replace(b"a", draw(st.sampled_from([b"a", b"\\u0061"])))
    if draw(st.integers(0, 5)) == 0:
        line = b'{"account":"other",' + line[1:]
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b" "])) * draw(st.integers(0, 1)) + line + b"\r\n"


@settings(max_examples=examples(700), deadline=None)
@given(lines())
@example(b'{"account":"x",' + json.dumps(record(request_id="a:b")).encode().replace(b"a:b", b"a\\u003ab")[1:])
@example(json.dumps(record(usage={"service_tier": "", "usage": body()})).encode())
@example(json.dumps(record(usage={"service_tier": "x" * 257, "usage": body()})).encode())
@example(json.dumps(record(usage={"model": "x" * 257, "usage": body()})).encode())
@example(json.dumps(record(account=[])).encode())
@example(json.dumps(record(service_tier={})).encode())
def test_fast_path_and_slow_path_agree(line: bytes) -> None:
    """Any line gives the same record and the same leaf hash on the fast path and on the slow path."""
    parsed, slow = parse_both_ways(line)
    assert parsed is not None
    assert comparable(parsed) == comparable(slow)
    if isinstance(parsed, Record):
        assert parsed.leaf == bill_oracle.leaf(json.loads(line))
        assert parsed.usage == Usage.from_response(json.loads(line)["usage"])
        assert parsed.at_text + "Z" == json.loads(line)["at"] or parsed.at_text[10:] != json.loads(line)["at"][10:-1]


def test_common_lines_take_the_fast_path() -> None:
    """Common lines of each body format take the fast path, so the comparison of both paths is effective."""
    for line in (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines():
        assert takes_fast_path(line) != (b'"output":[' in line), line
    for number in range(6):
        assert takes_fast_path(json.dumps(record(number)).encode())


def test_leaf_hashes_of_the_example_match_the_oracle() -> None:
    """Each leaf hash of the example file is that of the oracle: SHA-256 of 0x00 and the canonical JSON."""
    content = (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines()
    parsed = list(read_records(content))
    assert len(parsed) == 3000
    for line, row in zip(content, parsed, strict=True):
        assert isinstance(row, Record)
        assert row.leaf == bill_oracle.leaf(json.loads(line))
        assert comparable(row._replace(line=1)) == comparable(record_file._parse_strict(1, line, {}))


@pytest.mark.parametrize("key", [*record(), "prompt_tokens", "cached_tokens", "reasoning_tokens", "total_tokens"])
@pytest.mark.parametrize("escaped", [False, True])
def test_a_duplicate_key_is_rejected(key: str, escaped: bool) -> None:
    """A duplicate key is rejected, even if an escaped colon in a value makes the number of colons match."""
    data = record(3, request_id="a:b" if escaped else "a")
    line = json.dumps(data).replace("a:b", "a\\u003ab")
    assert data["usage"].keys() >= {"prompt_tokens", "total_tokens"}
    twice = line.replace(f'"{key}": ', f'"{key}": 7, "{key}": ', 1)
    assert twice.count(f'"{key}"') == 2
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
    (expected,), (variant,) = read_records([line]), read_records([VARIANTS[name](line)])
    assert isinstance(variant, Record)
    assert comparable(variant) == comparable(expected)


def test_blank_lines_are_skipped_but_counted() -> None:
    """Blank lines are skipped but counted, so that line numbers are those of the file."""
    file = io.BytesIO(b"\n  \r\n" + json.dumps(record()).encode() + b"\n\n\xff\n")
    assert [parsed.line for parsed in read_records(file)] == [3, 5]


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
def test_any_json_value_gives_the_same_result_on_both_paths(key: str, value: Any) -> None:
    """Any JSON in place of a value of a record gives the same record or rejected record on both paths."""
    parsed, slow = parse_both_ways(json.dumps({**record(3), key: value}).encode())
    assert comparable(parsed) == comparable(slow)


def test_caches_of_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins and templates of details are cached up to a bound, and records beyond it are the same."""
    monkeypatch.setattr(record_file, "_MAX_CACHED", 2)
    monkeypatch.setattr(record_file, "_INPUT_TEMPLATES", {})
    data = [record(n, account=f"a{n}", usage={**body(), "prompt_tokens_details": {f"k{n}": 0}}) for n in range(9)]
    parsed = list(read_records(json.dumps(row).encode() for row in data))
    assert [row.origin.account for row in parsed if isinstance(row, Record)] == [f"a{n}" for n in range(9)]
    assert [row.leaf for row in parsed if isinstance(row, Record)] == [bill_oracle.leaf(row) for row in data]
    assert len(record_file._INPUT_TEMPLATES) <= 3
