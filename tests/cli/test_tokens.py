"""The command that counts: texts, files and pipes, request bodies, and the most that a request can cost."""

from __future__ import annotations

import io
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from cli_kit import ESCAPES, Run
from samples import SHIPPED
from token_kit import bench, chat, counter, small_pairs

REQUEST = {"model": "gpt-5.4-mini", **chat("What is the capital of Mexico?", max_completion_tokens=100)}


def put(run: Run, content: object, name: str = "in.json") -> str:
    """Write a file: a text as it is, other content as JSON."""
    data = content if isinstance(content, bytes | str) else json.dumps(content)
    (run.folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return name


def test_a_text_prints_its_number(run: Run) -> None:
    """A file that is not a request is counted as a text, by o200k_base or the named model."""
    name = put(run, "What is the capital of Mexico?", "a.txt")
    assert run("tokens", name) == (0, "7\n", "")
    status, out, err = run("tokens", name, "--model", "gpt-4o", "--format", "json")
    assert (status, json.loads(out)) == (0, {"model": "gpt-4o", "encoding": "o200k_base", "tokens": 7})
    assert "gpt-4o is not in pricing.yaml; counted by its name" in err


def test_a_pipe_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file, or with -, stdin is counted."""
    for args in ((), ("-",)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello world")))
        assert run("tokens", *args) == (0, "2\n", "")


def test_a_request_is_counted_by_parts(run: Run) -> None:
    """A body is counted by parts; the total is what OpenAI reported, and the output states whether it is exact."""
    pair = next(
        pair
        for pair in small_pairs()
        if pair.kind == "tools" and "gpt-5.4" in pair.model and bench().count(pair, counter(pair.model)).exact
    )
    name = put(run, {**pair.request, "model": pair.model})
    status, out, _ = run("tokens", name, "--prices", str(SHIPPED))
    table, _, accuracy = out.partition("exact:")
    rows = dict(line.rsplit(None, 1) for line in table.splitlines()[3:])
    assert status == 0
    assert int(rows.pop("total")) == pair.reported == sum(map(int, rows.values()))
    assert set(rows) >= {"messages", "tools", "reply"}
    assert "every part follows a rule that recorded requests confirm" in accuracy
    found = json.loads(run("tokens", name, "--format", "json", "--prices", str(SHIPPED))[1])
    assert (found["tokens"], found["model"]) == (pair.reported, pair.model)


def test_an_estimate_says_why(run: Run) -> None:
    """Unknown fields are reported below the table, with the upper bound."""
    name = put(run, {"model": "gpt-5.4-mini", "input": "Hi", "previous_response_id": "r"})
    _, out, _ = run("tokens", name, "--prices", str(SHIPPED))
    assert "an estimate, at most 272000\n" in out
    assert "previous_response_id" in out


def test_the_bound_of_an_exact_count_is_printed_if_it_differs(run: Run) -> None:
    """An exact count whose bound is above it shows the bound and its reason; one whose bound it is does not."""
    name = put(run, {"model": "gpt-5.4-mini", "input": "word " * 200})
    _, out, _ = run("tokens", name, "--prices", str(SHIPPED))
    count = counter("gpt-5.4-mini").responses({"model": "gpt-5.4-mini", "input": "word " * 200})
    assert count.upper is not None
    assert count.exact
    assert count.upper > count
    assert f"upper bound {count.upper}\n  OpenAI may change a text before it counts it\n" in out
    name = put(run, {"model": "gpt-5.4-mini", "input": "Hi"})
    assert "upper bound" not in run("tokens", name, "--prices", str(SHIPPED))[1]


def test_the_most_that_it_can_cost(run: Run) -> None:
    """With a group, the worst case is printed in tokens and Credits; JSON has the whole charge."""
    name = put(run, REQUEST)
    args = ("tokens", name, "--group", "default", "--at", "2026-10-20", "--prices", str(SHIPPED))
    status, out, _ = run(*args)
    assert status == 0
    assert out.endswith("at most: 13 tokens in, 100 out: 0.00045975 Credits\n")
    found = json.loads(run(*args, "--format", "json")[1])["worst_case"]
    assert found["guaranteed"]
    assert Fraction(found["charge"]["credits"]) == (13 * Fraction(75, 100) + 100 * Fraction(45, 10)) / 10**6


def test_json_names_the_reasons(run: Run) -> None:
    """The JSON of an estimate lists its ``reasons``, and the worst case states whether it is ``guaranteed``."""
    name = put(run, {"model": "gpt-5.4-mini", "input": "Hi", "previous_response_id": "r", "max_output_tokens": 5})
    args = ("--group", "default", "--at", "2026-10-20", "--prices", str(SHIPPED), "--format", "json")
    found = json.loads(run("tokens", name, *args)[1])
    assert "previous_response_id" in found["reasons"][0]
    assert found["worst_case"]["reasons"] == found["reasons"]
    assert found["worst_case"]["guaranteed"] is False


@pytest.mark.parametrize(
    ("content", "args", "code"),
    [
        ({"messages": 5, "model": "gpt-5.4"}, (), "invalid_request"),
        ({"messages": []}, (), "unknown_model"),
        ({"messages": [], "model": 5}, (), "unknown_model"),
        ({"messages": [], "model": "nobody"}, (), "unknown_model"),
        ({"messages": [], "model": "gpt-4o"}, ("--group", "default"), "unknown_model"),
        ("no json", ("--as", "request"), "invalid_request"),
        ([1], ("--as", "request"), "invalid_request"),
        ('{"messages": [], "messages": [], "model": "gpt-5.4"}', (), "invalid_request"),
        ("[" * 100_000, ("--as", "request"), "invalid_request"),
        ("text", ("--group", "default"), "invalid_argument"),
        (REQUEST, ("--group", "nobody"), "unknown_group"),
        (REQUEST, ("--prices", "none.yaml"), "file_unreadable"),
        (REQUEST, ("--at", "yesterday", "--group", "default"), "invalid_time"),
    ],
)
def test_what_is_wrong_is_told(run: Run, content: Any, args: tuple[str, ...], code: str) -> None:
    """Each invalid input gives one line on stderr with its code, and exit status 2."""
    name = put(run, content)
    prices = () if "--prices" in args else ("--prices", str(SHIPPED))
    status, out, err = run("tokens", name, *args, *prices)
    assert (status, out) == (2, "")
    assert err.strip().splitlines()[-1].endswith(f"[{code}]")


def test_no_price_file_is_needed_to_count(run: Run) -> None:
    """Without pricing.yaml, a request is counted by the name of its model."""
    name = put(run, REQUEST)
    Path("pricing.yaml").unlink()
    status, out, err = run("tokens", name)
    assert (status, err) == (0, "")
    assert "total" in out


def test_control_characters_do_not_reach_the_terminal(run: Run) -> None:
    """A model's name with escape sequences is shown escaped."""
    name = put(run, {**REQUEST, "model": f"gpt-5{ESCAPES}"})
    _, out, err = run("tokens", name, "--prices", str(SHIPPED))
    assert not {c for c in out + err if not c.isprintable() and c != "\n"}


def test_any_bytes_are_a_text(run: Run) -> None:
    """Bytes that are not UTF-8 are counted, not rejected. Null bytes are in no text."""
    name = put(run, bytes(range(1, 256)) * 10, "bin")
    status, out, _ = run("tokens", name)
    assert status == 0
    assert int(out) > 0
