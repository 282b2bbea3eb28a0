"""The record of a charge as JSON text, and what depends on the table of meters."""

from __future__ import annotations

import json

from hypothesis import given, settings

from brivionix_billing import PriceBook
from brivionix_billing.meters import METERS
from brivionix_billing.rating.messages import EXPLANATION_MESSAGES, LOCALES, METER_LABELS
from profiles import examples
from request_strategies import Ask, priced, questions
from strategies import Data, render


@settings(max_examples=examples(200), deadline=None)
@given(questions(4))
def test_the_json_text_of_a_charge_is_its_record(asked: tuple[Data, list[Ask]]) -> None:
    """``as_json`` is the compact JSON text of ``as_dict``, for every charge."""
    data, asks = asked
    for _, charge, _ in priced(data, PriceBook.loads(render(data)), asks):
        compact = json.dumps(charge.as_dict(), ensure_ascii=False, separators=(",", ":"))
        assert charge.as_json() == compact


def test_every_meter_has_a_label_in_each_language() -> None:
    """A row in the table of meters needs exactly its labels."""
    for locale in LOCALES:
        assert set(METER_LABELS[locale]) == {meter.name for meter in METERS}
        assert set(EXPLANATION_MESSAGES[locale]) == set(EXPLANATION_MESSAGES["en"])
