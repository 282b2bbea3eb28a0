"""Usage: the quantity of each meter that one request consumed, and readers for the bodies of providers."""

from typing import Any

from brivionix_billing.usage.conventions import Conventions
from brivionix_billing.usage.usage import MAX_COUNT, Usage

__all__ = ["MAX_COUNT", "Conventions", "Usage", "billable_body"]


def billable_body(body: object) -> dict[str, Any]:
    """Return the part of a response that a usage file should keep: plain JSON data, small, without any text.

    That is the usage object unchanged, the served tier and model under the keys of their format, and the output items
    with a fee. ``Usage.from_response`` reads the same usage from it as from the response. Counts are not validated
    here: a usage file keeps a wrong body too, and its line is rejected with the reason. Raises
    ``unknown_usage_format`` if the body has no usage object of a known format.

    >>> billable_body({
    ...     "model": "gpt-5.4", "output": [{"type": "web_search_call", "action": {"type": "search", "query": "rain"}}],
    ...     "usage": {"input_tokens": 9, "output_tokens": 5},
    ... })
    {'model': 'gpt-5.4', 'output': [{'type': 'web_search_call', 'action': {'type': 'search'}}], \
'usage': {'input_tokens': 9, 'output_tokens': 5}}
    """
    from brivionix_billing.usage import extraction  # imported at the first call

    return extraction.billable_body(body)
