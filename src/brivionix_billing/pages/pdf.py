"""Converts pages to PDF with WeasyPrint. A character that no installed font has is an error."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from brivionix_billing.errors import BillingError, missing_extra

__all__ = ["render_pdf", "require_pdf_extra"]


class _MissingGlyphs(logging.Handler):
    """Collects missing glyphs. WeasyPrint only logs them and draws a box."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.characters: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if "notdef" in record.msg and isinstance(record.args, tuple) and record.args:
            self.characters.add(str(record.args[0]))


def render_pdf(html: str) -> bytes:
    """Convert a page of this package to an A4 PDF.

    Raises ``missing_extra``, and ``missing_font`` if no installed font has some of its characters.
    """
    weasyprint = _weasyprint()
    logger = logging.getLogger("weasyprint")
    missing, level, propagate = _MissingGlyphs(), logger.level, logger.propagate
    logger.addHandler(missing)
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # WeasyPrint warns about style rules that only apply to screens
    try:
        # A page is self-contained, so it must not load anything but the images within it.
        no_fetcher = weasyprint.urls.URLFetcher(allowed_protocols=("data",))
        with _without_collector():
            pdf: bytes = weasyprint.HTML(string=html, url_fetcher=no_fetcher).write_pdf()
    finally:
        logger.removeHandler(missing)
        logger.setLevel(level)
        logger.propagate = propagate
    if missing.characters:
        examples = " ".join(f"U+{ord(character[0]):04X}" for character in sorted(missing.characters)[:8])
        raise BillingError(
            "missing_font",
            f"no installed font has {len(missing.characters)} of the characters ({examples}); install a font, "
            "for Chinese fonts-noto-cjk (Debian, Ubuntu) or google-noto-sans-cjk-fonts (Fedora)",
        )
    return pdf


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pause the garbage collector, which takes a third of the time of a long bill: every object of it is in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def require_pdf_extra() -> None:
    """Raise ``missing_extra`` if the ``pdf`` extra or Pango is not installed."""
    _weasyprint()


def _weasyprint() -> Any:
    try:
        import weasyprint
    except ImportError:
        raise missing_extra("a PDF", "pdf") from None
    except OSError as error:
        raise BillingError(
            "missing_extra",
            "PDF requires the system library Pango; install libpango-1.0-0 and libpangoft2-1.0-0 (Debian, Ubuntu) "
            f"or pango (Fedora, Homebrew): {str(error).splitlines()[0][:200]}",
        ) from None
    return weasyprint
