"""Token counts before a call: of texts, of whole requests, and the most that a request can cost.

>>> from brivionix_billing.tokens import TokenCounter
>>> request = {"messages": [{"role": "user", "content": "What is the capital of Mexico?"}]}
>>> TokenCounter("gpt-4o").chat(request)
14
"""

from brivionix_billing.tokens.cache import CacheInfo
from brivionix_billing.tokens.counter import TokenCounter
from brivionix_billing.tokens.token_count import CountPart, TokenCount
from brivionix_billing.tokens.worst_case import WorstCase

__all__ = ["CacheInfo", "CountPart", "TokenCount", "TokenCounter", "WorstCase"]
