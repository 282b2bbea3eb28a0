"""Usage from streams: what the provider states at the end, and a marked estimate where it never came to that."""

from brivionix_billing.streams.fallback_counter import CounterProtocol
from brivionix_billing.streams.stream import StreamResult, StreamUsage

__all__ = ["CounterProtocol", "StreamResult", "StreamUsage"]
