"""The JSON text of a charge, and the languages of its explanation."""

from __future__ import annotations

import json

from hypothesis import given, settings

from brivionix_billing import PriceBook
from brivionix_billing.rating.messages import EXPLANATION_MESSAGES, LOCALES
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


def test_each_language_has_the_same_messages() -> None:
    """Explanations have the same set of messages in each language."""
    for locale in LOCALES:
        assert set(EXPLANATION_MESSAGES[locale]) == set(EXPLANATION_MESSAGES["en"])
