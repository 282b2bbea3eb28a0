"""Bounded reading of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from brivionix_billing import BillingError
from brivionix_billing.files import read_bounded


def test_a_file_of_the_limit_is_read(tmp_path: Path) -> None:
    """A file with exactly as many bytes as the limit is read."""
    path = tmp_path / "a.json"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"


def test_a_larger_file_is_rejected(tmp_path: Path) -> None:
    """One byte more than the limit is an error with the code that the caller gives."""
    path = tmp_path / "a.json"
    path.write_bytes(b"123456")
    with pytest.raises(BillingError, match=r"^the key .*: the file has more than 5 bytes$") as caught:
        read_bounded(path, 5, "the key", too_large="invalid_key")
    assert caught.value.code == "invalid_key"


@pytest.mark.parametrize("name", ["missing", "", "nul\0"])
def test_an_unreadable_file(tmp_path: Path, name: str) -> None:
    """A missing file, a folder and an impossible name are unreadable."""
    with pytest.raises(BillingError, match=r"^cannot read the checkpoint '") as caught:
        read_bounded(f"{tmp_path}/{name}", 5, "the checkpoint")
    assert caught.value.code == "file_unreadable"
