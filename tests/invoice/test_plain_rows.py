"""Bills of Parquet files, which DuckDB adds up, are byte for byte those of the same rows read one by one."""

from __future__ import annotations

import sys
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brivionix_billing import PriceBook
from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.errors import BillingError
from brivionix_billing.invoice import Header, aggregate_usage, build_inclusion_proof, build_invoice, seal
from brivionix_billing.invoice.aggregation import sorted_leaves
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.aggregation.reader import ChunkReader
from brivionix_billing.merkle import hash_pairs
from brivionix_billing.tables import TableOptions, open_usage
from brivionix_billing.tables.queries import Queries
from brivionix_billing.times import Period
from model_books import model_books_with_requests
from model_oracle import ModelRequest
from paths import ROOT
from profiles import examples
from request_strategies import book_settings
from samples import utc
from strategies import Data, render

pa = pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

from frame_kit import row_of_model_request, table_of  # noqa: E402  # it needs both

PERIODS = [None, Period.parse("2026-01-02/2026-04-01", "Asia/Shanghai"), Period.parse("2026-02", "Europe/Berlin")]
OCTOBER = Period.parse("2026-10", "Asia/Shanghai")
IDS = ["req_1", "req_2", "req 3", 'a"b', "ä", "", None, "x" * 257, *(f"other_{index}" for index in range(30))]


def summary(
    path: Path, book: PriceBook, period: Period | None, split: str | None, *, by_line: bool, zone: str | None = None
) -> dict[str, Any]:
    """Return all that a run of ``invoice`` finds: bills with evidence, lists of records, and what is not billed."""
    rejected: list[Any] = []
    lists: dict[str, list[Any]] = {}
    texts: dict[str, bytes] = {}
    dimensions = None if split is None else Dimensions([split])

    def collect(account: str, leaves: list[bytes], ids: list[str]) -> None:
        lists.setdefault(account, []).extend(zip(leaves, ids, strict=True))

    def write(account: str, lines: bytes | memoryview) -> None:
        texts[account] = texts.get(account, b"") + bytes(lines)

    with open_usage(str(path), TableOptions(meters=book.resolver.meters, naive_time_zone=zone)) as lines:
        usage = aggregate_usage(
            iter(list(lines)) if by_line else lines,
            book,
            period,
            on_rejected=rejected.append,
            on_leaves=collect,
            on_lines=write,
            dimensions=dimensions,
        )
    shown = period or Period.parse("2020-01-01/2030-01-01")
    bills = {}
    for name, account in usage.accounts.items():
        header = Header(
            account=name, period=shown, period_name="p", issued=shown.end, series="S", number=1, issuer="I", split=split
        )
        bill = canonical_json(build_invoice(account, header, book)) if account.requests else b""
        bills[name] = bill, account.rejected, account.duplicates
    counts = usage.lines, usage.out_of_scope, usage.rejected, usage.duplicate_count, usage.found
    return {
        "bills": bills,
        "lists": lists,
        "texts": texts,
        "rejected": sorted(rejected, key=str),
        "duplicates": usage.duplicates,
        "counts": counts,
    }


@settings(book_settings, max_examples=examples(40))
@given(
    model_books_with_requests(most=4),
    st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(["a", "b", " c", 'd"'])), min_size=12, max_size=12),
    st.sampled_from(PERIODS),
    st.sampled_from([None, "token", "region", "tag:team"]),
    st.sampled_from([["t1", None], ["t1", "t\u00e9", ""], [None]]),
)
def test_same_bills(
    case: tuple[Data, list[ModelRequest]],
    names: list[tuple[str | None, str]],
    period: Period | None,
    split: str | None,
    tokens: list[str | None],
) -> None:
    """Generated tables with rejected and repeated records have the same bills, evidence and lists on both paths."""
    data, requests = case
    book = PriceBook.loads(render(data))
    rows = [row_of_model_request(requests[index % len(requests)], name, 1) for index, (_, name) in enumerate(names)]
    table = table_of(rows)
    table = table.append_column("request_id", pa.array([each for each, _ in names], pa.string()))
    table = table.append_column("token", pa.array([tokens[i % len(tokens)] for i in range(len(rows))], pa.string()))
    table = table.append_column("tags", pa.array(["team:x;a=b" if i % 3 else None for i in range(len(rows))]))
    table = table.append_column("estimated", pa.array([None if i % 2 else i % 4 == 0 for i in range(len(rows))]))
    with TemporaryDirectory() as folder:
        path = Path(folder, "usage.parquet")
        write(table, path)
        slow = summary(path, book, period, split, by_line=True)
        event(f"bills: {any(bill for bill, *_ in slow['bills'].values())}")
        assert summary(path, book, period, split, by_line=False) == slow


def write(table: Any, path: Path) -> None:
    import duckdb

    duckdb.connect().from_arrow(table).write_parquet(str(path))


def plain_table(count: int) -> Any:
    return pa.table(
        {
            "request_id": [f"req_{index}" for index in range(count)],
            "at": [
                utc("2026-10-01T00:00:00") if index % 2 else utc("2026-10-31T23:59:59.000120") for index in range(count)
            ],
            "account": ["a" if index % 3 else "b" for index in range(count)],
            "group": ["default"] * count,
            "model": ["gpt-5.4"] * count,
            "input_tokens": list(range(count)),
            "output_tokens": [None if index % 5 else 7 for index in range(count)],
        }
    )


@pytest.mark.parametrize("kind", ["text", "timestamp", "date"])
def test_times_without_a_zone_have_the_same_bills(tmp_path: Path, kind: str) -> None:
    """Times of a stated zone, as texts, timestamps or dates, have the same bills on both paths."""
    book, path, table = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet", plain_table(40)
    local = [
        (utc("2026-10-25T02:00:00") + index * timedelta(minutes=20)).replace(tzinfo=None) for index in range(-20, 20)
    ]
    times = {
        "text": pa.array([each.isoformat() if each.minute else f"{each.isoformat()}Z" for each in local]),
        "timestamp": pa.array(local, pa.timestamp("us")),
        "date": pa.array([each.date() for each in local]),
    }
    write(table.set_column(1, "at", times[kind]), path)
    slow = summary(path, book, OCTOBER, None, by_line=True, zone="Europe/Berlin")
    assert slow["bills"]
    assert summary(path, book, OCTOBER, None, by_line=False, zone="Europe/Berlin") == slow


def test_usual_rows_are_not_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of an ordinary table are added up by DuckDB alone, with the bills of the usual path."""
    book, path = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet"
    write(plain_table(1000), path)
    slow = summary(path, book, OCTOBER, None, by_line=True)
    monkeypatch.setattr(ChunkReader, "read", None)
    assert summary(path, book, OCTOBER, None, by_line=False) == slow


def test_the_progress_of_all_steps_is_reported(tmp_path: Path) -> None:
    """Scans, rows that are read one by one, and trees are reported as parts of the work, from the first scan on."""
    book, path = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet"
    table = plain_table(100)
    write(pa.concat_tables([table, table.slice(0, 1)]), path)
    options, reports = TableOptions(), []
    with open_usage(str(path), options) as lines:
        aggregate_usage(lines, book, progress=lambda *done: reports.append((*done, options.position.fraction)))
    fractions = [fraction for *_, fraction in reports]
    assert reports[-1] == (101, 0, 1.0)
    assert fractions == sorted(fractions)
    assert len(set(fractions)) == 7  # repeated ids, sums, two rows as lines, ends, sorted leaves, trees, all
    assert 0 < min(fractions) < 0.1


def test_duplicates_at_any_distance(tmp_path: Path) -> None:
    """A repeated and a conflicting id in different files are found, with the numbers of their lines."""
    book, table = PriceBook.load(ROOT / "pricing.yaml"), plain_table(1000)
    write(table, tmp_path / "1.parquet")
    write(table.slice(0, 1), tmp_path / "2.parquet")
    altered = table.slice(999, 1).set_column(5, "input_tokens", pa.array([1]))
    write(altered, tmp_path / "3.parquet")
    found = summary(tmp_path, book, None, None, by_line=False)
    assert found == summary(tmp_path, book, None, None, by_line=True)
    assert [each.line for each in found["duplicates"]] == [1001]
    assert [each.line for each in found["rejected"]] == [1000, 1002]


@pytest.mark.parametrize("request_id", ["req_7", "missing", "\udc80"])
def test_proofs_of_tables(request_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof from a Parquet file is that of the same rows read one by one, and reads no row by itself."""
    book, path = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet"
    write(plain_table(100), path)
    with open_usage(str(path), TableOptions()) as lines:
        account = aggregate_usage(lines, book, OCTOBER).accounts["a"]
    header = Header(
        account="a", period=OCTOBER, period_name="2026-10", issued=OCTOBER.end, series="S", number=1, issuer="I"
    )
    bill = seal(build_invoice(account, header, book))
    slow = proof(bill, path, book, request_id, by_line=True)
    assert isinstance(slow, dict) is (request_id == "req_7")
    monkeypatch.setattr(ChunkReader, "read", None)
    assert proof(bill, path, book, request_id, by_line=False) == slow


def proof(bill: dict[str, Any], path: Path, book: PriceBook, request_id: str, *, by_line: bool) -> Any:
    """Return a proof, or the message of the error."""
    with open_usage(str(path), TableOptions()) as lines:
        try:
            return build_inclusion_proof(bill, iter(list(lines)) if by_line else lines, book, request_id)
        except BillingError as error:
            return error.message


def test_nodes_that_duckdb_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB hashes many pairs of nodes in their order, with several threads, to the nodes of the core."""
    import duckdb

    monkeypatch.setattr(sorted_leaves, "_MIN_PAIRS", 1)
    monkeypatch.setattr(sorted_leaves, "_TASK_PAIRS", 2048)
    pairs = b"".join(sha256(b"%d" % number).digest() for number in range(2 * 20_000))
    with duckdb.connect() as connection:
        hash_level = sorted_leaves.node_hasher(connection, Queries(connection))
        assert hash_level(pairs) == hash_pairs(pairs)
        assert hash_level(pairs[:64]) == hash_pairs(pairs[:64])


def test_accounts_and_counts_that_begin_with_nothing(tmp_path: Path) -> None:
    """Rows without their first count, and others with it, have the records of the usual path."""
    book, path = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet"
    table = plain_table(60)
    counts = pa.array([None if index % 3 else index for index in range(60)], pa.int64())
    write(table.append_column("cache_read_tokens", counts), path)
    assert summary(path, book, None, None, by_line=False) == summary(path, book, None, None, by_line=True)


def test_without_pyarrow_rows_are_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB alone reads Parquet, so bills need no PyArrow."""
    book, path = PriceBook.load(ROOT / "pricing.yaml"), tmp_path / "usage.parquet"
    write(plain_table(20), path)
    fast = summary(path, book, None, None, by_line=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert summary(path, book, None, None, by_line=False) == fast
