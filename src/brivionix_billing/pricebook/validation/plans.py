"""Checks the plans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from brivionix_billing.decimals import decimal_places
from brivionix_billing.errors import safe_repr
from brivionix_billing.money import minor_digits
from brivionix_billing.pricebook import schema
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.validation.findings import (
    ParsedSections,
    Path,
    UnlocatedFinding,
    check_dates,
    suggest,
)
from brivionix_billing.topup import CREDIT_PLACES

__all__ = ["check_plan"]


def check_plan(path: Path, plan: schema.Plan, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    """Check the dated terms of a plan."""
    yield from check_dates((*path, "terms"), plan.terms)
    for index, terms in enumerate(plan.terms):
        here = (*path, "terms", index)
        if decimal_places(terms.credits) > CREDIT_PLACES:
            yield UnlocatedFinding(
                (*here, "credits"), "has more than 6 decimal places", "Credits are sold in steps of 0.000001"
            )
        yield from _check_prices((*here, "prices"), terms, file)
        if terms.rollover and not terms.prices:
            yield UnlocatedFinding(
                (*here, "rollover"), "lets the Credits of a free plan grow without a limit", "add prices, or remove it"
            )
        for kind, names, known in (("models", terms.models, file.names), ("groups", terms.groups, [*file.groups])):
            yield from _check_names((*here, kind), kind[:-1], names, known)


def _check_prices(path: Path, terms: schema.PlanTerms, file: ParsedSections) -> Iterator[UnlocatedFinding]:
    for name, price in terms.prices.items():
        channel = file.channels.get(name)
        if channel is None:
            hint = suggest(name, file.channels, "write the name of a channel")
            yield UnlocatedFinding((*path, name), f"no channel {safe_repr(name)} in this file", hint, at_key=True)
        elif decimal_places(price) > minor_digits(channel.currency):
            yield UnlocatedFinding(
                (*path, name),
                f"has more decimal places than {channel.currency}",
                f"write at most {minor_digits(channel.currency)}",
            )


def _check_names(path: Path, kind: str, names: Iterable[str], known: Sequence[str]) -> Iterator[UnlocatedFinding]:
    for place, name in enumerate(names):
        if known and not any(map(matcher([name]), known)):
            hint = suggest(name, known, f"write a {kind}'s name, or a pattern that matches one")
            yield UnlocatedFinding((*path, place), f"no {kind} {safe_repr(name)} in this file", hint)
