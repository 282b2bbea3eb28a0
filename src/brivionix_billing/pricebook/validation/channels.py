"""Checks payment channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from brivionix_billing.decimals import decimal_places, format_plain
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.validation.findings import Path, UnlocatedFinding, check_dates
from brivionix_billing.topup import CREDIT_PLACES

__all__ = ["check_channel"]


def check_channel(path: Path, channel: schema.Channel) -> Iterator[UnlocatedFinding]:
    """Check dates, limits and volume discounts of a channel."""
    yield from check_dates((*path, "prices"), channel.prices)
    yield from check_dates((*path, "volume_discounts"), channel.volume_discounts)
    if (
        channel.min_payment is not None
        and channel.max_payment is not None
        and channel.min_payment > channel.max_payment
    ):
        yield UnlocatedFinding((*path, "min_payment"), "is more than max_payment", "write a smaller amount")
    for index, volume in enumerate(channel.volume_discounts):
        for place, (before, here) in enumerate(pairwise(volume.tiers), 1):
            for name in ("at_least", "discount"):
                if getattr(here, name) <= getattr(before, name):
                    yield UnlocatedFinding(
                        (*path, "volume_discounts", index, "tiers", place, name),
                        f"is not more than in the tier before ({format_plain(getattr(before, name))})",
                        "thresholds and discounts rise from tier to tier",
                    )
        for place, tier in enumerate(volume.tiers):
            if decimal_places(tier.at_least) > CREDIT_PLACES:
                yield UnlocatedFinding(
                    (*path, "volume_discounts", index, "tiers", place, "at_least"),
                    "has more than 6 decimal places",
                    "Credits are sold in steps of 0.000001",
                )
