"""Buckets: the records that share a rate card, an account, a day and what else a bill lists apart."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, NamedTuple

from brivionix_billing.rating import RateCard
from brivionix_billing.usage import Usage

__all__ = [
    "LIST_SUPPLEMENT",
    "UNCACHED_SUPPLEMENT",
    "BucketKey",
    "bill_quantities",
    "bucket_number",
    "stable_number",
]

LIST_SUPPLEMENT: Final = "minimum_charge at list price"
UNCACHED_SUPPLEMENT: Final = "minimum_charge at list price without cache"
"""Keys beside the meters of a row, with spaces, which no meter has. See ``RateCard.list_supplements``."""


class BucketKey(NamedTuple):
    """The properties that all requests of one bucket share."""

    account: str
    card: RateCard
    estimated: bool
    day: str
    """Calendar day in the zone of the period, such as ``2026-10-25``."""
    split: tuple[str, ...] = ()
    """The values of the dimensions by which the usage is split."""
    role: str = ""
    """Empty for what is billed; otherwise that of a :class:`Comparison`, such as ``cost``."""


def bill_quantities(card: RateCard, usage: Usage) -> dict[str, int]:
    """Return the billed quantity of each meter, and of a model with a minimum charge the supplements at list price."""
    billed = dict(card.billed_quantities(usage))
    if card.list_minimum_units:
        billed[LIST_SUPPLEMENT], billed[UNCACHED_SUPPLEMENT] = card.list_supplements(billed.items())
    return billed


def bucket_number(key: BucketKey) -> int:
    """Return the number of a bucket."""
    card = key.card
    conditions = (str(card.context), *map(str, card.variation), str(card.router))
    name = "\0".join((key.account, card.model, card.group, card.service_tier, *conditions, key.day))
    name += "".join(f"\0{len(value)}:{value}" for value in (key.role, *key.split)) if key.role or key.split else ""
    name += f"\0{card.start.isoformat()}\0{'estimated' if key.estimated else ''}"
    return stable_number(name)


def stable_number(name: str) -> int:
    """Return a number of 56 bits for a name, such as of an account, that is the same in every process."""
    return int.from_bytes(sha256(name.encode()).digest()[:7])
