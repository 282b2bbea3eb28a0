"""Usage from streams: the usage that the provider reports, or else a marked estimate."""

from brivionix_billing.streams.fallback_counter import CounterProtocol
from brivionix_billing.streams.stream import StreamResult, StreamUsage

__all__ = ["CounterProtocol", "StreamResult", "StreamUsage"]
