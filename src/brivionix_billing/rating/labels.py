"""Labels: the texts by which a price file presents its names to readers. No price depends on them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["NO_LABELS", "Labels", "Texts", "name_with_label", "pick_text"]

Texts = Mapping[str, str]
"""Language (``en``, ``zh_CN``; ``""`` for all) -> text."""
_NAMED: Final = {"en": "{name} ({label})", "zh_CN": "{name}（{label}）"}
_NONE: Final[Mapping[str, Texts]] = MappingProxyType({})


class Labels(NamedTuple):
    """What a price file calls its models, groups and so on: name -> text by language; names without one are absent."""

    models: Mapping[str, Texts] = _NONE
    """Vendor and display name."""
    groups: Mapping[str, Texts] = _NONE
    channels: Mapping[str, Texts] = _NONE
    service_tiers: Mapping[str, Texts] = _NONE
    regions: Mapping[str, Texts] = _NONE
    modes: Mapping[str, Texts] = _NONE
    windows: Mapping[str, Texts] = _NONE
    """By calendar."""

    def of(self, kind: str, name: str, locale: str) -> str:
        """Return the label of a name, ``kind`` being a field of this class; empty if it has none."""
        texts: Mapping[str, Texts] = getattr(self, kind)
        return pick_text(texts.get(name), locale)

    def named(self, kind: str, name: str, locale: str) -> str:
        """Return a name with its label, such as ``rmb (WeChat Pay)``; the name alone if it has none."""
        texts: Texts | None = getattr(self, kind).get(name)
        return name if texts is None else name_with_label(name, pick_text(texts, locale), locale)


NO_LABELS: Final = Labels()


def pick_text(texts: Texts | None, locale: str) -> str:
    """Return the text of a language, else the one for all languages, else any; empty if there is none."""
    if not texts:
        return ""
    return texts.get(locale) or texts.get("") or next(iter(texts.values()))


def name_with_label(name: str, label: str, locale: str) -> str:
    """Return ``name (label)``, or the name alone if the label is empty or the same.

    >>> name_with_label("rmb", "WeChat Pay", "en"), name_with_label("rmb", "", "en")
    ('rmb (WeChat Pay)', 'rmb')
    """
    return _NAMED[locale].format(name=name, label=label) if label and label != name else name
