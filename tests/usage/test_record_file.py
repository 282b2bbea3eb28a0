"""Reading usage files: the fast way and the slow way say the same, and nothing is dropped or raised."""

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


def both(line: bytes) -> tuple[Record | RejectedRecord | None, Record | RejectedRecord | None]:
    """What a line is by the usual way, and by the slow one."""
    usual = next(read_records([line]), None)
    return usual, record_file._parse_strict(1, line, {})


def plain(found: Record | RejectedRecord | None) -> Any:
    """The same with origins that can be compared."""
    if not isinstance(found, Record):
        return found
    origin = found.origin
    names = (origin.account, origin.group, origin.model, origin.service_tier)
    return found._replace(origin=names), found.usage  # type: ignore[arg-type]  # only to be compared


def fast(line: bytes) -> bool:
    """Whether a line is read without the slow way."""
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
_ats = st.one_of(
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
    out = draw(st.integers(0, 500))
    chat = draw(st.booleans())
    a, b = ("prompt", "completion") if chat else ("input", "output")
    usage: Json = {f"{a}_tokens": prompt, f"{b}_tokens": out}
    if draw(st.booleans()):
        usage["total_tokens"] = draw(st.sampled_from([prompt + out, prompt + out, prompt + out, None, prompt]))
    idle = ["audio_tokens", "zz", 'a"cached_tokens', 'a"reasoning_tokens', "数", "cached_tokens:", "text_tokens"]
    for side, key, most in ((a, "cached_tokens", prompt), (b, "reasoning_tokens", out)):
        kind = draw(st.integers(0, 5))
        if kind > 1:
            details = dict.fromkeys(draw(st.lists(st.sampled_from(idle), unique=True, max_size=3)), 0)
            if kind > 2:
                details[key] = draw(st.integers(0, most))
            usage[f"{side}_tokens_details"] = dict(draw(st.permutations(list(details.items()))))
        elif kind == 1:
            usage[f"{side}_tokens_details"] = None
    if draw(st.integers(0, 3)) == 0:
        around: Json = {
            key: draw(_names)
            for key in draw(st.sets(st.sampled_from(["id", "model", "service_tier", "output", 'k"', "键", "object"])))
        }
        around["service_tier"] = draw(st.sampled_from(["default", "priority", "", "auto", "x" * 300]))
        if draw(st.integers(0, 5)) == 0:
            around["output"] = [{"type": "web_search_call"}]
        usage = {**around, "usage": usage}
    if draw(st.integers(0, 5)) == 0:
        where = draw(st.sampled_from([d for d in (usage, usage.get("usage")) if d]))
        where[draw(st.sampled_from([*where, "extra", "cost", "estimated"]))] = draw(
            st.one_of(_counts, _names, st.just([]), st.just({}))
        )
    return dict(draw(st.permutations(list(usage.items()))))


@st.composite
def lines(draw: DrawFn) -> bytes:
    """A line in any key order and any spelling; mostly a record."""
    data: Json = {
        "request_id": draw(_names),
        "at": draw(_ats),
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
        odd: st.SearchStrategy[Any] = st.sampled_from([None, 1, 1.5, True, [], {}, [[]], "x"])
        data[draw(st.sampled_from([*data, "service_tier", "more"]))] = draw(odd)
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
def test_both_ways_agree(line: bytes) -> None:
    """However a line is written, the fast way says of it what the slow way says: the same record and the same leaf."""
    usual, slow = both(line)
    assert usual is not None
    assert plain(usual) == plain(slow)
    if isinstance(usual, Record):
        assert usual.leaf == bill_oracle.leaf(json.loads(line))
        assert usual.usage == Usage.from_response(json.loads(line)["usage"])
        assert usual.at_text + "Z" == json.loads(line)["at"] or usual.at_text[10:] != json.loads(line)["at"][10:-1]


def test_the_fast_way_is_taken() -> None:
    """The usual line of each body shape is read the fast way, or the tests of both ways would prove nothing."""
    for line in (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines():
        assert fast(line) != (b'"output":[' in line), line
    for number in range(6):
        assert fast(json.dumps(record(number)).encode())


def test_leaves_of_the_example() -> None:
    """Each leaf of the example file is SHA-256 of 0x00 and the line's canonical JSON, by our own canonicalizer."""
    content = (ROOT / "examples" / "usage.jsonl").read_bytes().splitlines()
    found = list(read_records(content))
    assert len(found) == 3000
    for line, one in zip(content, found, strict=True):
        assert isinstance(one, Record)
        assert one.leaf == bill_oracle.leaf(json.loads(line))
        assert plain(one._replace(line=1)) == plain(record_file._parse_strict(1, line, {}))


@pytest.mark.parametrize("key", [*record(), "prompt_tokens", "cached_tokens", "reasoning_tokens", "total_tokens"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_key_twice_is_refused(key: str, hidden: bool) -> None:
    """A key that stands twice is refused, equal or not, also where an escaped colon makes up for its colon."""
    data = record(3, request_id="a:b" if hidden else "a")
    line = json.dumps(data).replace("a:b", "a\\u003ab")
    assert data["usage"].keys() >= {"prompt_tokens", "total_tokens"}
    twice = line.replace(f'"{key}": ', f'"{key}": 7, "{key}": ', 1)
    assert twice.count(f'"{key}"') == 2
    found = next(read_records([twice.encode()]))
    assert isinstance(found, RejectedRecord)
    assert "twice" in found.message
    assert found.code == "invalid_record"


BAD = {
    "float count": record(usage={"prompt_tokens": 1.0, "completion_tokens": 1}),
    "negative": record(usage={"prompt_tokens": -1, "completion_tokens": 1}),
    "10^13": record(usage={"prompt_tokens": 10**13, "completion_tokens": 1}),
    "200 digits": record(usage={"prompt_tokens": 10**200, "completion_tokens": 1}),
    "bool": record(usage={"prompt_tokens": True, "completion_tokens": 1}),
    "huge int beside": record(usage={**body(), "cost": 2**60}),
    "cached 200 of 100": record(usage=body(tokens=100, cached=200)),
    "reasoning 80 of 10": record(usage={**body(out=10), "completion_tokens_details": {"reasoning_tokens": 80}}),
    "wrong total": record(usage={**body(), "total_tokens": 1}),
    "unknown count": record(usage={**body(), "magic_tokens": 3}),
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
RAW = {
    "not JSON": b"hello",
    "NaN": json.dumps(record(usage={"prompt_tokens": float("nan"), "completion_tokens": 1})).encode(),
    "NaN beside": json.dumps(record(more=float("-inf"))).encode(),
    "1e999": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": 1e999'),
    "5000 digits": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": ' + b"9" * 5000),
    "half a pair": json.dumps(record(request_id="\ud83d")).encode(),
    "half a pair beside": json.dumps(record(more="\ud83d")).encode(),
    "half a pair raw": json.dumps(record(request_id="??")).encode().replace(b"??", b"\xed\xa0\x80"),
    "not UTF-8": json.dumps(record(request_id="??")).encode().replace(b"??", b"\xff\xfe"),
    "zero bytes": b"\0\0\0\0",
    "UTF-16": json.dumps(record()).encode("utf-16")[:-1],
    "2 MB": json.dumps(record(more="x" * 2 * MAX_LINE)).encode(),
    "a little over 1 MB": json.dumps(record()).encode().ljust(MAX_LINE + 1),
    "deep": b"[" * 100_000,
    "deep and sound": b"[" * 5000 + b"]" * 5000,
    "deep in a record": json.dumps(record(more=0)).encode().replace(b'"more": 0', b'"more": ' + b"[" * 90 + b"]" * 90),
    "a list": b"[]",
    "a text": b'"x"',
    "two objects": b"{}{}",
    "cut": json.dumps(record()).encode()[:-20],
    "empty object": b"{}",
    "comment": b"# request_id",
}


@pytest.mark.parametrize("what", [*BAD, *RAW])
def test_bad_lines_are_set_aside(what: str) -> None:
    """A line that cannot be billed is set aside with a known code and printable words, never raised."""
    line = RAW[what] if what in RAW else json.dumps(BAD[what]).encode()
    (found,) = read_records([line + b"\n"])
    assert isinstance(found, RejectedRecord), found
    assert found.code in CODES
    assert found.message.isprintable()
    assert len(found.message) < 700
    json.dumps(found.as_dict()).encode()
    if what in BAD and found.request_id is not None:
        assert (found.request_id, found.line) == (BAD[what]["request_id"], 1)


def test_what_could_be_read_is_kept() -> None:
    """A record set aside keeps its id, account and time, so that it can be found and asked for."""
    (found,) = read_records([json.dumps(record(4, usage={"prompt_tokens": -1, "completion_tokens": 0})).encode()])
    assert isinstance(found, RejectedRecord)
    assert found.as_dict() == {
        "line": 1,
        "request_id": "req_4",
        "account": "acct_1",
        "at": "2026-10-02T04:00:00Z",
        "code": "invalid_usage",
        "message": found.message,
    }
    assert "-1" in found.message


GOOD = {
    "byte order mark": lambda line: b"\xef\xbb\xbf" + line,
    "spaces around": lambda line: b"  \t" + line + b"  ",
    "carriage return": lambda line: line + b"\r\n",
    "no end of line": lambda line: line,
    "exactly 1 MB": lambda line: line.ljust(MAX_LINE),
    "escapes": lambda line: line.replace(b"acct", b"\\u0061cct"),
}


@pytest.mark.parametrize("how", GOOD)
def test_spelling_does_not_matter(how: str) -> None:
    """A byte order mark, CRLF, spaces and escapes change neither the record nor its leaf."""
    line = json.dumps(record(5)).encode()
    (straight,), (other,) = read_records([line]), read_records([GOOD[how](line)])
    assert isinstance(other, Record)
    assert plain(other) == plain(straight)


def test_blank_lines_and_line_numbers() -> None:
    """Blank lines are passed over and counted, so that line numbers are those of the file."""
    file = io.BytesIO(b"\n  \r\n" + json.dumps(record()).encode() + b"\n\n\xff\n")
    assert [found.line for found in read_records(file)] == [3, 5]


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), lines()), max_size=6))
def test_nothing_is_dropped(given_lines: list[bytes]) -> None:
    """As many records and lines set aside come out as lines that are not blank went in, each with its number."""
    given_lines = [line.replace(b"\n", b" ") for line in given_lines]
    found = list(read_records(given_lines))
    assert [one.line for one in found] == [n for n, line in enumerate(given_lines, 1) if line.strip()]
    assert all(type(one) in (Record, RejectedRecord) for one in found)


@settings(max_examples=examples(300), deadline=None)
@given(st.sampled_from([*record(), "more"]), bodies)
def test_any_json_anywhere(key: str, value: Any) -> None:
    """Any JSON in place of any value of a record gives a record or a line set aside, by both ways the same."""
    usual, slow = both(json.dumps({**record(3), key: value}).encode())
    assert plain(usual) == plain(slow)


def test_names_that_a_file_makes_up_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Origins and shapes of details are kept up to a bound; beyond it the same records come out."""
    monkeypatch.setattr(record_file, "_MAX_CACHED", 2)
    monkeypatch.setattr(record_file, "_INPUT_TEMPLATES", {})
    data = [record(n, account=f"a{n}", usage={**body(), "prompt_tokens_details": {f"k{n}": 0}}) for n in range(9)]
    found = list(read_records(json.dumps(one).encode() for one in data))
    assert [one.origin.account for one in found if isinstance(one, Record)] == [f"a{n}" for n in range(9)]
    assert [one.leaf for one in found if isinstance(one, Record)] == [bill_oracle.leaf(one) for one in data]
    assert len(record_file._INPUT_TEMPLATES) <= 3
