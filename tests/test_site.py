"""The site of the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paths import ROOT


def test_the_site_has_every_page_and_a_reference_made_of_docstrings(tmp_path: Path) -> None:
    """The site is built without a warning: all pages from the first one, linked classes, and an index to search.

    One test, because a build takes ten seconds; a simple theme halves them.
    """
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "docs/site", "-D", "html_theme=alabaster"]
    command += ["-d", str(tmp_path / "trees"), "."]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]

    first = (tmp_path / "docs" / "README.html").read_text("utf-8")
    pages = [f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md") if path.name != "README.md"]
    pages += [f"../{path.stem}.html" for path in ROOT.glob("README*.md")]
    assert len(pages) >= 20
    assert [page for page in pages if f'href="{page}"' not in first] == []
    assert "url=docs/README.html" in (tmp_path / "index.html").read_text("utf-8")

    reference = (tmp_path / "docs" / "site" / "api" / "brivionix_billing.html").read_text("utf-8")
    assert 'id="brivionix_billing.PriceBook.rate"' in reference
    assert 'href="brivionix_billing.rating.html#brivionix_billing.rating.Charge"' in reference
    assert "chargeback" in (tmp_path / "searchindex.js").read_text("utf-8")
