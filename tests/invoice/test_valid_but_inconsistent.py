"""Documents that match the schema but not themselves: every rendering is made or is a ``BillingError``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from brivionix_billing import BillingError
from brivionix_billing.invoice import document_hash, lines_csv, render_text
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.pages import bill_page
from profiles import sampled
from verify_kit import BILL, put, walk

TEXTS = ("", "-1", "0", "9" * 60, "0." + "1" * 40, "x", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "XXX", "../x")


def variants() -> Iterator[Any]:
    """Yield documents with one value that is removed, added, repeated or replaced, as far as the schema allows."""
    for path, value in walk(BILL):
        changes: list[Any] = [..., None] if path else []
        if isinstance(value, dict) and value:
            first, *others = value
            changes += [{**value, "other": value[first]}, {name: value[name] for name in others}, {}]
        elif isinstance(value, list):
            changes += [[], value + value]
        elif isinstance(value, str):
            changes += TEXTS
        elif isinstance(value, int):
            changes += [-1, 0, 10**18, 2**70]
        for change in changes if path else ():
            changed = put(BILL, path, change)
            if not schema_errors(changed):
                yield {**changed, "hash": document_hash(changed)}


@pytest.mark.parametrize("rendering", [render_text, lines_csv, bill_page])
def test_a_valid_document_is_rendered_or_refused(rendering: Any) -> None:
    """No change that the schema allows raises anything but a ``BillingError``. A quick run tries an eighth of them."""
    rendered = refused = 0
    for document in sampled(variants()):
        try:
            rendering(document)
            rendered += 1
        except BillingError:
            refused += 1
    assert min(rendered, refused) > 1


def test_a_missing_channel_is_named() -> None:
    """A line without the cost through a channel of the document is an error that names the document and the channel."""
    for path in (("lines", 0, "rounded", "channels", "rmb"), ("totals", "rounded", "channels", "rmb")):
        with pytest.raises(BillingError, match=r"'INV-000001': an amount has no cost through channel 'rmb'; use the"):
            render_text(put(BILL, path, ...))
