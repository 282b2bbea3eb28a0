"""Usage tables in data frames: each row priced, or exact sums, with the figures of ``PriceBook.rate``.

Frames are DuckDB relations, Polars data frames and lazy frames, pandas data frames, PyArrow tables and PySpark data
frames. DuckDB computes whole numbers; the core resolves and prices each rate card once. docs/frames.md explains the
columns. Needs the extra ``frames``.

>>> from brivionix_billing import PriceBook
>>> import pyarrow
>>> table = pyarrow.table({
...     "at": ["2026-10-20T08:00:00Z"], "group": ["default"], "model": ["gpt-5.4-mini"],
...     "input_tokens": [12_000], "cache_read_tokens": [10_000], "output_tokens": [800],
... })
>>> rate(table, PriceBook.load("pricing.yaml"))["credits"][0].as_py()
Decimal('0.005850000000000000')
"""

from brivionix_billing.frames.kinds import rate, totals

__all__ = ["rate", "totals"]
