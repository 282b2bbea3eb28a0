"""Usage in other forms than JSON Lines: JSON, CSV, TSV and Parquet, compressed, in folders; read as JSON Lines.

The content decides the form, never the name. Every row becomes one line of a usage file, so prices, bills and evidence
are those of that line. A row that cannot be billed is a line that is rejected with its number and reason.

>>> import io, json
>>> from brivionix_billing.tables import usage_lines
>>> table = b'''request_id,at,account,group,model,input_tokens
... req_1,2026-10-01T00:00:00Z,acct_7,default,gpt-5.4,9'''
>>> (line,) = usage_lines(io.BytesIO(table))
>>> json.loads(line)["usage"]
{'usage': {'counts': {'input_tokens': 9}}}
"""

from brivionix_billing.tables.columns import Columns, SourcePosition, TableOptions, parse_mapping, parse_values
from brivionix_billing.tables.content import usage_lines
from brivionix_billing.tables.files import UsageLines, find_files, open_usage
from brivionix_billing.tables.mappings import ColumnMapping, read_mappings
from brivionix_billing.tables.sql import open_query

__all__ = [
    "ColumnMapping",
    "Columns",
    "SourcePosition",
    "TableOptions",
    "UsageLines",
    "find_files",
    "open_query",
    "open_usage",
    "parse_mapping",
    "parse_values",
    "read_mappings",
    "usage_lines",
]
