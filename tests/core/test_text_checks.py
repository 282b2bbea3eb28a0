"""Checks of short texts."""

from __future__ import annotations

import pytest

from brivionix_billing import BillingError
from brivionix_billing.text_checks import require_text


@pytest.mark.parametrize("text", ["a", "a" * 256, "名前 1"])
def test_a_printable_text_is_returned(text: str) -> None:
    """A text of 1 to 256 printable characters is returned."""
    assert require_text("the name", text) == text


@pytest.mark.parametrize("value", ["", "a" * 257, "a\n", "\x1b[31m", "\ud800", None, 5, b"a"])
def test_another_value_is_rejected(value: object) -> None:
    """An empty, long or unprintable text and a value of another type are rejected."""
    with pytest.raises(BillingError, match=r"^the name is .*; use 1 to 256 printable characters$") as caught:
        require_text("the name", value)
    assert caught.value.code == "invalid_argument"


def test_the_caller_sets_limit_and_code() -> None:
    """The limit and the error code are those of the caller."""
    with pytest.raises(BillingError, match="use 1 to 3 printable characters") as caught:
        require_text("the name", "abcd", limit=3, code="invalid_record")
    assert caught.value.code == "invalid_record"
