"""Usage: how many of each meter one request used, and how to read it from what a provider sends."""

from brivionix_billing.usage.model import MAX_COUNT, Usage

__all__ = ["MAX_COUNT", "Usage"]
