"""A page as PDF, by WeasyPrint: the same page, as it is printed. A letter that no font here has is an error."""

from __future__ import annotations

import logging
from typing import Any

from brivionix_billing.errors import BillingError

__all__ = ["render_pdf", "require_pdf_extra"]


class _MissingGlyphs(logging.Handler):
    """WeasyPrint only logs that a font lacks a letter, and draws a box; a bill with boxes is no bill."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.letters: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        if "notdef" in record.msg and isinstance(record.args, tuple) and record.args:
            self.letters.add(str(record.args[0]))


def render_pdf(html: str) -> bytes:
    """The PDF of a page made here, A4. Raises ``missing_extra``, and ``missing_font`` where letters would be boxes."""
    weasyprint = _weasyprint()
    logger = logging.getLogger("weasyprint")
    missing, level, spread = _MissingGlyphs(), logger.level, logger.propagate
    logger.addHandler(missing)
    logger.setLevel(logging.WARNING)
    logger.propagate = False  # it warns of rules for screens that paper does not know
    try:
        # The page holds all that it needs; whatever it might ask for, it does not get.
        nothing = weasyprint.urls.URLFetcher(allowed_protocols=())
        made: bytes = weasyprint.HTML(string=html, url_fetcher=nothing).write_pdf()
    finally:
        logger.removeHandler(missing)
        logger.setLevel(level)
        logger.propagate = spread
    if missing.letters:
        some = " ".join(f"U+{ord(letter[0]):04X}" for letter in sorted(missing.letters)[:8])
        raise BillingError(
            "missing_font",
            f"no font on this machine has {len(missing.letters)} of the letters ({some}); install one, "
            "for Chinese fonts-noto-cjk (Debian, Ubuntu) or google-noto-sans-cjk-fonts (Fedora)",
        )
    return made


def require_pdf_extra() -> None:
    """Nothing, or ``missing_extra`` where no PDF can be made here."""
    _weasyprint()


def _weasyprint() -> Any:
    try:
        import weasyprint
    except ImportError:
        raise BillingError(
            "missing_extra",
            "PDF needs an extra: pip install 'brivionix-billing[pdf]', or in a clone: pip install -e '.[pdf]'",
        ) from None
    except OSError as error:
        raise BillingError(
            "missing_extra",
            "PDF needs Pango, a library of the system: install libpango-1.0-0 and libpangoft2-1.0-0 (Debian, Ubuntu) "
            f"or pango (Fedora, Homebrew): {str(error).splitlines()[0][:200]}",
        ) from None
    return weasyprint
