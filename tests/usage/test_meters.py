"""The table of meters: one row is sufficient for usage, prices and labels."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import PriceBook, Usage
from brivionix_billing.meters import METERS, REQUEST_METERS, Meter
from brivionix_billing.pricebook.schema import json_schema
from brivionix_billing.rating.messages import LOCALES, METER_LABELS, quantity_label
from request_strategies import RatingRequest, book_settings, books_with_requests, priced_requests
from strategies import Data, containing_arguments, counts, render

QUANTITY = 7
duplicates = pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, *(lambda value, n=n: pickle.loads(pickle.dumps(value, n)) for n in (2, 5))],
    ids=["copy", "deepcopy", "pickle 2", "pickle 5"],
)
each_meter = pytest.mark.parametrize("meter", METERS.values(), ids=METERS)


def arguments_of(meter: Meter) -> dict[str, int]:
    """Return the argument of a meter and all arguments that contain it."""
    arguments = {meter.argument: QUANTITY}
    for parent in meter.parents:
        arguments |= arguments_of(METERS[parent])
    return arguments


# --- one row per meter ---


@each_meter
def test_an_argument_and_its_containing_arguments_give_one_meter(meter: Meter) -> None:
    """The argument of a meter, with all arguments that contain it, gives a quantity of exactly this meter."""
    assert Usage(**arguments_of(meter)).meters == {meter.name: QUANTITY}  # type: ignore[arg-type]  # all are counts


@each_meter
def test_the_parents_of_a_meter_are_those_of_the_oracle(meter: Meter) -> None:
    """The arguments that contain the argument of a meter are those that the oracle of the tests lists."""
    assert arguments_of(meter) == containing_arguments({meter.name: QUANTITY})


@each_meter
def test_the_schema_has_a_price_field_for_each_meter(meter: Meter) -> None:
    """Prices have a key for each meter, and the default fees have one for each tool and none for any other meter."""
    definitions = json_schema()["$defs"]
    for name in ("PriceSet", "ContextPrices", "VariantPrices"):
        assert meter.name in definitions[name]["properties"]
    assert (meter.name in definitions["Tools"]["properties"]) == (meter.unit in ("call", "session"))


@pytest.mark.parametrize("locale", LOCALES)
def test_each_language_has_the_labels_of_all_meters(locale: str) -> None:
    """Each language has one label for each meter and no others."""
    assert METER_LABELS[locale].keys() == {*METERS, *REQUEST_METERS}


@each_meter
@pytest.mark.parametrize("locale", LOCALES)
def test_labels_are_unique_in_a_language(meter: Meter, locale: str) -> None:
    """The label of a meter with its unit is not empty and is not that of another meter."""
    labels = [quantity_label(locale, other) for other in (*METERS.values(), *REQUEST_METERS.values())]
    assert METER_LABELS[locale][meter.name].strip()
    assert labels.count(quantity_label(locale, meter)) == 1


# --- unknown arguments ---


@each_meter
def test_a_misspelled_argument_is_rejected_with_a_suggestion(meter: Meter) -> None:
    """An argument without its last letter raises ``TypeError`` with the correct argument as a suggestion."""
    misspelled: dict[str, Any] = {meter.argument[:-1]: 1}
    with pytest.raises(
        TypeError, match=rf"^Usage has no argument '{meter.argument[:-1]}'; did you mean '(\w+)'\?$"
    ) as error:
        Usage(**misspelled)
    assert f"'{meter.argument}'?" in str(error.value)


def test_an_unrelated_argument_is_rejected_with_all_arguments() -> None:
    """An argument that resembles none raises ``TypeError`` with a list of all arguments of meters."""
    with pytest.raises(TypeError, match="no argument 'banana'; use one of ") as error:
        Usage(banana=1)
    listed = str(error.value).partition("use one of ")[2].split(", ")
    assert set(listed) == {meter.argument for meter in METERS.values()}


# --- copies ---


@duplicates
@given(counts(), st.sampled_from([None, "flex"]), st.sampled_from([None, "gpt-5.4"]), st.booleans())
def test_a_copied_usage_is_equal(
    duplicate: Any, arguments: dict[str, int], tier: str | None, model: str | None, estimated: bool
) -> None:
    """A copied or pickled usage is equal to the original and has the same hash, meters and repr."""
    usage = Usage(**arguments, service_tier=tier, model=model, estimated=estimated)  # type: ignore[arg-type]
    copied = duplicate(usage)
    assert type(copied) is Usage
    assert copied == usage
    assert (hash(copied), copied.meters, repr(copied)) == (hash(usage), usage.meters, repr(usage))


@duplicates
@book_settings
@given(books_with_requests(3))
def test_a_copied_charge_is_equal(duplicate: Any, case: tuple[Data, list[RatingRequest]]) -> None:
    """A copied or pickled charge is equal to the original and has the same hash and content."""
    data, requests = case
    for _, charge, _ in priced_requests(data, PriceBook.loads(render(data)), requests):
        copied = duplicate(charge)
        assert type(copied) is type(charge)
        assert copied == charge
        assert (hash(copied), copied.as_dict()) == (hash(charge), charge.as_dict())
