"""The JSON text of a charge, and the labels of meters."""

from __future__ import annotations

import json

from hypothesis import given, settings

from brivionix_billing import PriceBook
from brivionix_billing.meters import METERS
from brivionix_billing.rating.messages import EXPLANATION_MESSAGES, LOCALES, METER_LABELS
from profiles import examples
from request_strategies import RatingRequest, books_with_requests, priced_requests
from strategies import Data, render


@settings(max_examples=examples(200), deadline=None)
@given(books_with_requests(4))
def test_as_json_is_the_text_of_as_dict(case: tuple[Data, list[RatingRequest]]) -> None:
    """``as_json`` is the compact JSON text of ``as_dict``, for every charge."""
    data, requests = case
    for _, charge, _ in priced_requests(data, PriceBook.loads(render(data)), requests):
        compact = json.dumps(charge.as_dict(), ensure_ascii=False, separators=(",", ":"))
        assert charge.as_json() == compact


def test_each_language_has_exactly_the_labels_of_the_meters() -> None:
    """Each language has one label per meter and the same set of messages."""
    for locale in LOCALES:
        assert set(METER_LABELS[locale]) == {meter.name for meter in METERS}
        assert set(EXPLANATION_MESSAGES[locale]) == set(EXPLANATION_MESSAGES["en"])
