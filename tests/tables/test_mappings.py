"""Claims about mappings of gateway logs, mapping files and database queries."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from brivionix_billing import Usage
from brivionix_billing.errors import BillingError
from brivionix_billing.tables import TableOptions, open_query, read_mappings, usage_lines
from brivionix_billing.tables.columns import parse_mapping

Json = dict[str, Any]

OTHER = {"model_ratio": 0.375, "cache_tokens": 10000, "cache_ratio": 0.1, "model_price": -1}
NEW_API: Json = {
    "id": 101,
    "user_id": 7,
    "created_at": 1790812800,
    "type": 2,
    "username": "acme",
    "token_name": "laptop",
    "model_name": "gpt-5.4-mini",
    "quota": 2925,
    "prompt_tokens": 12000,
    "completion_tokens": 800,
    "channel": 4,
    "group": "default",
    "request_id": "2026100100000000000001",
    "other": json.dumps(OTHER),
}
METADATA = {
    "usage_object": {
        "prompt_tokens": 12000,
        "completion_tokens": 800,
        "prompt_tokens_details": {"cached_tokens": 10000},
    }
}
LITELLM: Json = {
    "request_id": "chatcmpl-a1",
    "api_key": "88dc",
    "spend": 0.005849999999999999,
    "total_tokens": 12800,
    "prompt_tokens": 12000,
    "completion_tokens": 800,
    "startTime": "2026-10-01 00:00:00.120",
    "model": "openai/gpt-5.4-mini",
    "model_group": "gpt-5.4-mini",
    "custom_llm_provider": "openai",
    "user": "u-7",
    "metadata": json.dumps(METADATA),
    "cache_hit": "False",
    "request_tags": '["team:blue"]',
    "team_id": "t-1",
    "status": "success",
}


def as_csv(rows: Iterable[Json]) -> bytes:
    """Return rows as CSV."""
    out = io.StringIO()
    listed = list(rows)
    writer = csv.DictWriter(out, list(listed[0]))
    writer.writeheader()
    writer.writerows(listed)
    return out.getvalue().encode()


def records(content: bytes, *maps: str, sets: tuple[str, ...] = (), notes: list[str] | None = None) -> list[Json]:
    """Return the records of a table, without those of blank lines."""
    stated = read_mappings(maps, sets)
    note, zone = (notes or []).append, stated.naive_time_zone
    options = TableOptions(stated.mapping, stated.values, (), note, stated.preset, naive_time_zone=zone)
    lines = list(usage_lines(io.BytesIO(content), options))
    if notes is not None:
        notes.extend(f"{count} {reason}" for reason, count in options.skipped.items())
    return [json.loads(line) for line in lines if line.strip()]


def usage_of(**changes: Any) -> Usage:
    """Return the usage of a row of new-api."""
    (found,) = records(as_csv([{**NEW_API, **changes}]), "new-api")
    return Usage.from_response(found["usage"])


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_new_api_logs_are_records_with_their_cached_tokens(form: str) -> None:
    """A row of new-api becomes a record; cached tokens are read from the column other."""
    content = as_csv([NEW_API]) if form == "csv" else json.dumps(NEW_API).encode() + b"\n"
    (found,) = records(content, "new-api")
    assert {key: value for key, value in found.items() if key != "usage"} == {
        "request_id": "2026100100000000000001",
        "at": "2026-10-01T00:00:00+00:00",
        "account": "acme",
        "group": "default",
        "model": "gpt-5.4-mini",
        "token": "laptop",
    }
    assert Usage.from_response(found["usage"]) == Usage(
        input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800
    )


def test_new_api_prompts_of_claude_get_their_cached_tokens() -> None:
    """By Anthropic semantics the prompt has no cached and written tokens, so they are added."""
    other = {"claude": True, "cache_tokens": 500, "cache_creation_tokens": 300, "cache_creation_tokens_1h": 100}
    assert usage_of(prompt_tokens=100, other=json.dumps(other)) == Usage(
        input_tokens=900,
        cache_read_tokens=500,
        cache_write_tokens=200,
        cache_write_1h_tokens=100,
        output_tokens=800,
    )


def test_new_api_media_and_tools_are_read() -> None:
    """Audio and image tokens and calls of tools are read from other."""
    other = {"audio": True, "audio_input": 50, "audio_output": 20, "image": True, "image_output": 70}
    other["tool_surcharges"] = [{"name": "web_search_preview", "count": 2, "price": 10}]  # type: ignore[assignment]
    assert usage_of(other=json.dumps(other)) == Usage(
        input_tokens=12_000,
        audio_input_tokens=50,
        image_input_tokens=70,
        output_tokens=800,
        audio_output_tokens=20,
        web_search_calls=2,
    )


def test_rows_that_are_no_requests_are_counted_and_others_rejected() -> None:
    """Top-ups and refunds are skipped with a note; a charge without tokens, and broken JSON, have no usage."""
    notes: list[str] = []
    rows = [
        {**NEW_API, "type": 6},
        {**NEW_API, "type": 1},
        {**NEW_API, "type": 6},
        {**NEW_API, "request_id": "video", "prompt_tokens": 0, "completion_tokens": 0, "other": '{"task_id": "t"}'},
        {**NEW_API, "request_id": "broken", "other": '{"cache_tokens": '},
        {**NEW_API, "request_id": "call", "prompt_tokens": 0, "completion_tokens": 0, "other": '{"model_price": 0.1}'},
    ]
    found = records(as_csv(rows), "new-api", notes=notes)
    assert notes == ["2 type 6 (refund)", "1 type 1 (top-up)"]
    assert {row["request_id"]: row["usage"] for row in found} == {
        "video": None,
        "broken": None,
        "call": {"usage": {"counts": {"input_tokens": 0, "output_tokens": 0}}},
    }


def test_litellm_logs_are_records_with_the_usage_of_the_provider() -> None:
    """The usage object in metadata is read; the requested model, the tags and UTC times are those of the row."""
    notes: list[str] = []
    failed = {**LITELLM, "request_id": "f", "status": "failure", "total_tokens": 0, "spend": 0, "metadata": "{}"}
    hit = {**LITELLM, "request_id": "h", "cache_hit": "True"}
    (found,) = records(as_csv([LITELLM, failed, hit]), "litellm", sets=("group=default",), notes=notes)
    assert found == {
        "request_id": "chatcmpl-a1",
        "at": "2026-10-01T00:00:00.120000+00:00",
        "account": "u-7",
        "group": "default",
        "model": "gpt-5.4-mini",
        "token": "88dc",
        "tags": ["team:blue"],
        "usage": METADATA["usage_object"],
    }
    assert notes == ["1 failed", "1 answered from the cache of the gateway"]


def test_litellm_without_a_usage_object_reads_its_further_counts() -> None:
    """Without a usage object, cached tokens are those of additional_usage_values."""
    metadata = {"additional_usage_values": {"cache_read_input_tokens": 4000}}
    (found,) = records(as_csv([{**LITELLM, "metadata": json.dumps(metadata)}]), "litellm", sets=("group=default",))
    assert Usage.from_response(found["usage"]) == Usage(input_tokens=12_000, cache_read_tokens=4_000, output_tokens=800)


def test_a_pair_replaces_a_field_of_a_preset() -> None:
    """--map NAME=COLUMN beside a preset reads that field from another column."""
    (found,) = records(as_csv([LITELLM]), "litellm", "account=team_id", sets=("group=default",))
    assert found["account"] == "t-1"


def test_a_mapping_file_has_preset_names_and_values(tmp_path: Path) -> None:
    """A YAML file has what the options have; options replace its entries."""
    path = tmp_path / "mapping.yaml"
    path.write_text("preset: litellm\nmap: {account: team_id}\nset: {group: default}\n", encoding="utf-8")
    (found,) = records(as_csv([LITELLM]), str(path))
    assert (found["account"], found["group"]) == ("t-1", "default")
    (found,) = records(as_csv([LITELLM]), str(path), "account=api_key", sets=("group=other",))
    assert (found["account"], found["group"]) == ("88dc", "other")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("preset: x", "preset 'x' is unknown; use new-api, litellm"),
        ("[1]", "write an object with the keys preset, map, set, naive_time_zone"),
        ("map: [1]", "map: write NAME: COLUMN lines"),
        ("a: {", "not valid YAML"),
        ("naive_time_zone: [UTC]", "naive_time_zone: write a name such as Asia/Shanghai"),
        ("naive_time_zone: Mars", "'Mars' is not a time zone"),
    ],
)
def test_a_wrong_mapping_file_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    """A mapping file that is not one is an error that names the fix."""
    path = tmp_path / "mapping.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BillingError, match=message):
        read_mappings([str(path)], [])


def test_a_mapping_states_the_zone_of_times_without_an_offset(tmp_path: Path) -> None:
    """Times of a log are in UTC, or in the zone of the mapping; a zone beside the file replaces it."""
    path = tmp_path / "mapping.yaml"
    path.write_text("preset: litellm\nset: {group: g}\nnaive_time_zone: Asia/Shanghai", encoding="utf-8")
    row = {**LITELLM, "startTime": "2026-10-01 08:00:00.25"}
    assert [records(as_csv([row]), *maps, sets=("group=g",))[0]["at"] for maps in (["litellm"], [str(path)])] == [
        "2026-10-01T08:00:00.250000+00:00",
        "2026-10-01T00:00:00.250000+00:00",
    ]
    assert read_mappings([str(path)], [], "Europe/Berlin").naive_time_zone == "Europe/Berlin"


def test_a_mapping_that_does_not_exist_names_what_there_is() -> None:
    """A word that is neither a pair nor a preset nor a file is an error with the possible ones."""
    with pytest.raises(BillingError, match="use NAME=COLUMN, new-api, litellm, or a YAML file"):
        read_mappings(["one-api"], [])


def test_a_table_that_is_no_such_log_is_an_error() -> None:
    """A table without the columns of a preset is an error that names the first missing one."""
    with pytest.raises(BillingError, match="no column 'type', which the mapping new-api reads"):
        records(as_csv([LITELLM]), "new-api")
    with pytest.raises(BillingError, match="a log of litellm has no groups; add --set group=NAME"):
        records(as_csv([LITELLM]), "litellm")


def test_rows_of_a_database_are_those_of_a_table(tmp_path: Path) -> None:
    """A query gives the same lines as the table it came from."""
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "logs.db"
    with sqlite3.connect(path) as database:
        database.execute(f"CREATE TABLE logs ({', '.join(f'[{name}]' for name in NEW_API)})")
        database.execute(f"INSERT INTO logs VALUES ({', '.join('?' * len(NEW_API))})", list(NEW_API.values()))
    database.close()
    with open_query(f"sqlite:///{path}", "SELECT * FROM logs", TableOptions(preset="new-api")) as lines:
        assert [json.loads(line) for line in lines] == records(as_csv([NEW_API]), "new-api")
    for url, query, message in (
        (f"sqlite:///{path}", "SELECT * FROM none", "the query failed: no such table: none"),
        (f"sqlite:///{path}", "", "the query returns no rows; write a SELECT"),
        ("nosuch://x", "SELECT 1", "the database of --db cannot be used"),
    ):
        with pytest.raises(BillingError, match=message), open_query(url, query) as lines:
            list(lines)


def test_a_table_keeps_token_project_and_tags() -> None:
    """The columns by which reports and bills are split are in the records of a table."""
    row = {"request_id": "r", "at": "2026-10-01T00:00:00Z", "account": "a", "group": "g", "model": "m"}
    row |= {"input_tokens": 1, "token": "k", "project": "chat", "tags": "team=a"}  # type: ignore[dict-item]
    (found,) = records(as_csv([row]))
    assert (found["token"], found["project"], found["tags"]) == ("k", "chat", "team=a")


@pytest.mark.parametrize("levels", [0, 9])
def test_a_preset_that_is_no_text_is_rejected(tmp_path: Path, levels: int) -> None:
    """A preset that is a list is rejected, also one that aliases of YAML make as large as no memory."""
    anchors = "".join(f", &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels + 1))
    path = tmp_path / "map.yaml"
    path.write_text(f"preset: [&a0 [x]{anchors}]", encoding="utf-8")
    with pytest.raises(BillingError, match="that is no text"):
        read_mappings([str(path)], [])


def test_a_mapping_of_many_names_is_read_in_linear_time() -> None:
    """50,000 names are mapped without comparing each with each."""
    pairs = [f"k{number}=v{number}" for number in range(50_000)]
    assert len(parse_mapping(pairs)) == 50_000


@pytest.mark.parametrize("label", [":late", "at 01:02:03", "a::b", r"\:x", "100 % :y"])
def test_a_colon_in_a_query_is_a_colon(tmp_path: Path, label: str) -> None:
    """A text or a time with a colon in a query is no parameter."""
    pytest.importorskip("sqlalchemy")
    values = "'r' AS request_id, '2026-10-01T00:00:00Z' AS at, 'g' AS \"group\", 'm' AS model, 1 AS input_tokens"
    sqlite3.connect(tmp_path / "usage.db").close()
    with open_query(f"sqlite:///{tmp_path}/usage.db", f"SELECT {values}, '{label}' AS account") as lines:
        assert [json.loads(line)["account"] for line in lines] == [label]


def test_a_query_changes_no_table(tmp_path: Path) -> None:
    """A statement that drops a table of SQLite is rejected, and the table stays."""
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "usage.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE logs (id)")
    with pytest.raises(BillingError, match="query failed"), open_query(f"sqlite:///{path}", "DROP TABLE logs") as lines:
        list(lines)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("logs",)]
