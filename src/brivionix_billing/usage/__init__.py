"""Usage: how many of each meter one request used, and how to read it from what a provider sends."""

from typing import Any

from brivionix_billing.usage.usage import MAX_COUNT, Usage

__all__ = ["MAX_COUNT", "Usage", "billable_body"]


def billable_body(body: object) -> dict[str, Any]:
    """The part of a response that a usage file should keep: plain JSON data, small, without any text of it.

    That is the usage object exactly as it was, the served tier and model under the keys that the shape has for them,
    and the output items that cost a fee. ``Usage.from_response`` reads the same usage from it as from the response.
    Counts are not checked here: a line of a usage file keeps a wrong body as well, and is set aside with the reason.
    Raises ``unknown_usage_format`` for a body in which no usage object of a known shape is found.

    >>> billable_body({
    ...     "model": "gpt-5.4", "output": [{"type": "web_search_call", "action": {"type": "search", "query": "rain"}}],
    ...     "usage": {"input_tokens": 9, "output_tokens": 5},
    ... })
    {'model': 'gpt-5.4', 'output': [{'type': 'web_search_call', 'action': {'type': 'search'}}], \
'usage': {'input_tokens': 9, 'output_tokens': 5}}
    """
    from brivionix_billing.usage import extraction  # the readers are fetched when they are needed, and only then

    return extraction.billable_body(body)
