"""PySpark data frames have the figures of ``PriceBook.rate``, from several workers."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.frames import rate, totals
from examples.spark.rate_month import run
from frame_kit import Row, day_of, expected_rates, expected_totals, rows_of, table_of
from paths import ROOT
from samples import code_of, utc

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pyspark = pytest.importorskip("pyspark")
# PySpark warns of versions of pandas that it does not use here.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning", "ignore::DeprecationWarning"),
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine (Debian: default-jre-headless)"),
]
BOOK = PriceBook.load(ROOT / "pricing.yaml")


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """Yield a session with two workers on this machine."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyspark.sql import SparkSession

        settings = {
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.session.timeZone": "Asia/Shanghai",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # For jobs of a second, compiling costs more than it saves.
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.sql.codegen.wholeStage": "false",
            "spark.sql.adaptive.enabled": "false",
        }
        builder = SparkSession.builder.master("local[2]")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def sample_rows() -> list[Row]:
    """Return rows on both sides of boundaries, up to 10^12 tokens, and rows with errors."""
    rows: list[Row] = []
    for index, at in enumerate(("2026-10-11T23:59:59.999999", "2026-10-12T00:00:00", "2026-10-14T00:00:00")):
        for model in ("gpt-5.4", "gpt-5.4-mini", "gpt-9"):
            for tier in ("standard", "flex", "batch"):
                for tokens in (272_000, 272_001, 10**12, 10**12 + 1):
                    attributes = {"at": utc(at) + timedelta(days=index), "account": f"acct_{len(rows) % 3}"}
                    attributes |= {"group": "default", "model": model, "service_tier": tier}
                    rows.append(Row(attributes, {"input_tokens": tokens, "output_tokens": 10**12 - tokens % 7}))
    return rows


def test_a_job_on_several_workers_has_the_figures_of_the_book(spark: SparkSession, tmp_path: Path) -> None:
    """The example job rates a folder of Parquet on two workers: rows and totals are those of ``book.rate``."""
    rows = sample_rows()
    usage = tmp_path / "usage"
    usage.mkdir()
    for part in range(2):
        pq.write_table(table_of(rows[part::2]), usage / f"{part}.parquet")
    rated, summed = str(tmp_path / "rated"), str(tmp_path / "totals")
    frame = spark.read.parquet(str(usage))
    assert frame.rdd.getNumPartitions() == 2
    expected = expected_rates(BOOK, rows)
    problems = run(spark, BOOK, str(usage), rated, summed, ("account", "day"), "UTC")
    assert problems == sum(row["problem"] is not None for row in expected)

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(map(repr, row.values()))

    found = [{name: row[name] for name in expected[0]} for row in pq.read_table(rated).to_pylist()]
    assert sorted(found, key=key) == sorted(expected, key=key)
    by = {"account": lambda row: row.attributes["account"], "day": day_of}
    totals_found = {tuple(row.pop(name) for name in (*by, "problem")): row for row in pq.read_table(summed).to_pylist()}
    assert totals_found == expected_totals(BOOK, rows, by)


def test_errors_of_arguments_are_raised_before_a_job_runs(spark: SparkSession) -> None:
    """A frame that is no usage table, a naive timestamp, and a wrong name are errors where the frame is made."""
    frame = spark.createDataFrame([("m", 1)], "model string, input_tokens long")
    naive = spark.sql("SELECT TIMESTAMP_NTZ '2026-10-20 08:00:00' AS at, 'g' AS group, 'm' AS model, 1 AS input_tokens")
    attempts: list[tuple[str, Any]] = [
        ("invalid_argument", lambda: rate(frame, BOOK)),
        ("invalid_time", lambda: rate(naive, BOOK)),
        ("invalid_argument", lambda: totals(naive, BOOK, ("acount",), naive_time_zone="UTC")),
        ("invalid_period", lambda: totals(naive, BOOK, ("day",), naive_time_zone="UTC", time_zone="Mars")),
    ]
    for code, attempt in attempts:
        with pytest.raises(BillingError) as caught:
            attempt()
        assert code_of(caught) == code
    (total,) = rows_of(totals(naive, BOOK, ("hour",), naive_time_zone="Asia/Shanghai"))
    assert (total["hour"], total["problem"]) == ("2026-10-20T00:00+00:00", "unknown_model")
