"""The sources: one module each, with a function ``read(data, file_name)`` that returns a catalog."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.importing.catalog import Catalog
from brivionix_billing.importing.reading import parse_source

__all__ = ["SOURCES", "read_catalog"]

SOURCES: Final[dict[str, str]] = {
    "litellm": "litellm",
    "genai-prices": "genai_prices",
    "models.dev": "models_dev",
    "openrouter": "openrouter",
    "portkey": "portkey",
    "new-api": "new_api",
}
"""Name of a source -> its module in this package."""


def read_catalog(source: str, content: bytes, file_name: str = "") -> Catalog:
    """Return the catalog of a file of a source. Raises ``source_unreadable`` and ``invalid_argument``."""
    module = SOURCES.get(source)
    if module is None:
        raise BillingError(
            "invalid_argument", f"there is no source {safe_repr(source)}; use one of {', '.join(SOURCES)}"
        )
    data = parse_source(content, source, toml=source == "models.dev" and file_name.endswith(".toml"))
    catalog: Catalog = import_module(f"{__name__}.{module}").read(data, file_name)
    return catalog
