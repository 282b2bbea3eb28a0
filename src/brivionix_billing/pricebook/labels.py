"""Collects the labels of a price file: display names, vendors, and its section ``labels``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from brivionix_billing.rating.labels import Labels, Texts, pick_text
from brivionix_billing.rating.messages import LOCALES

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = ["collect_labels"]


def collect_labels(file: schema.PriceFile) -> Labels:
    """Return the labels of a price file."""
    models = {name: _joined(model.vendor, model.display_name) for name, model in file.models.items()}
    return Labels(
        models={name: texts for name, texts in models.items() if texts},
        groups=_display_names(file.groups),
        channels=_display_names(file.channels),
        service_tiers=file.labels.service_tiers,
        regions=file.labels.regions,
        modes=file.labels.modes,
        windows=_display_names(file.calendars),
    )


def _display_names(parts: Mapping[str, schema.Group | schema.Channel | schema.Calendar]) -> dict[str, Texts]:
    return {name: part.display_name for name, part in parts.items() if part.display_name}


def _joined(vendor: Texts | None, display_name: Texts | None) -> dict[str, str]:
    """Return vendor and display name in one text for each language that one of them has."""
    stated = {*(vendor or {}), *(display_name or {})}
    languages = LOCALES if stated - {""} else stated
    texts = {
        language: " ".join(filter(None, [pick_text(vendor, language), pick_text(display_name, language)]))
        for language in languages
    }
    return {language: text for language, text in texts.items() if text}
