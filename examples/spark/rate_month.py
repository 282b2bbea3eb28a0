"""A Spark job: rates a folder of Parquet and writes each row with its price, and the totals.

Run it on this machine, or submit it to a cluster whose workers have ``brivionix-billing[spark]``:

    python -m examples.spark.rate_month --prices pricing.yaml --usage usage/ --rated rated/ --totals totals/
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.frames import rate, totals

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(
    spark: SparkSession, book: PriceBook, usage: str, rated: str, summed: str, by: tuple[str, ...], zone: str
) -> int:
    """Rate the usage of a folder, and write two folders of Parquet. Returns the requests without a price."""
    rows = spark.read.parquet(usage)
    rate(rows, book).write.parquet(rated)
    totals(rows, book, by, time_zone=zone).coalesce(1).write.parquet(summed)
    problems = spark.read.parquet(summed).where("problem IS NOT NULL").groupBy("problem").sum("requests").collect()
    for code, requests in problems:
        print(f"{requests} requests have no price: {code}", file=sys.stderr)
    return sum(requests for _, requests in problems)


def main() -> int:
    parser = argparse.ArgumentParser(description="Rates a folder of Parquet with Spark.")
    parser.add_argument("--prices", default="pricing.yaml", help="the price file")
    parser.add_argument("--usage", required=True, help="folder of Parquet with the usage table")
    parser.add_argument("--rated", required=True, help="new folder for the rows with their prices")
    parser.add_argument("--totals", required=True, help="new folder for the totals")
    parser.add_argument("--by", default="account,model,day", help="what totals are grouped by")
    parser.add_argument("--zone", default="UTC", help="time zone of days, hours and months")
    arguments = parser.parse_args()
    try:
        book = PriceBook.load(arguments.prices)
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.appName("rate_month").getOrCreate()
        by = tuple(arguments.by.split(","))
        problems = run(spark, book, arguments.usage, arguments.rated, arguments.totals, by, arguments.zone)
    except BillingError as error:
        print(f"error: {error} [{error.code}]", file=sys.stderr)
        return 2
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
