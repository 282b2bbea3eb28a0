"""The importer's table of meters agrees with that of the library."""

from __future__ import annotations

from brivionix_billing.importing.units import PER, TOKEN_METERS, TOOL_METERS, steps_per_price
from brivionix_billing.meters import METERS, REQUEST_METERS


def test_every_meter_is_known_with_its_unit() -> None:
    """Prices are quoted for the same quantities, and counted in the same smallest steps."""
    known = {**METERS, **REQUEST_METERS}
    assert known.keys() - PER.keys() == {"minimum_charge"}
    for name, per in PER.items():
        assert known[name].per == per
        assert steps_per_price(name) == per * 10 ** known[name].places


def test_tokens_and_tools_are_the_same() -> None:
    """Inner price sets must price the same meters, and factors leave the same ones alone."""
    known = {**METERS, **REQUEST_METERS}
    assert {name for name in PER if known[name].is_tool} == TOOL_METERS
    assert {name for name in PER if known[name].is_token} == TOKEN_METERS
