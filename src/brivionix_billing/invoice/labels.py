"""Labels on bills: what the price file called models, groups, channels and so on when the bill was made.

No figure depends on them, so verification does not compare them. The hash of the document covers them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating.labels import name_with_label, pick_text

__all__ = ["label_of", "labels_section", "named", "shown_labels"]

_LINE_KINDS: Final = {
    "model": "models",
    "router": "models",
    "group": "groups",
    "service_tier": "service_tiers",
    "region": "regions",
    "mode": "modes",
    "window": "windows",
    "meter": "meters",
}
"""Field of a line -> kind of its label."""
_Section = Mapping[str, Mapping[str, Mapping[str, str]]]


def labels_section(document: Mapping[str, Any], *sources: PriceBook | _Section | None) -> dict[str, Any]:
    """Return the key ``labels`` of a document, for the names that it has; nothing if none of them has a label.

    A source is a price book, or the labels of another document. The last one that has a label decides.
    """
    found: dict[str, dict[str, dict[str, str]]] = {}
    for source in sources:
        stated = _labels_of(source) if isinstance(source, PriceBook) else source or {}
        for kind, name in dict.fromkeys(_names(document)):
            texts = stated.get(kind, {}).get(name)
            if texts:
                found.setdefault(kind, {})[name] = dict(texts)
    return {"labels": found} if found else {}


def _labels_of(book: PriceBook) -> _Section:
    meters = {name: meter.labels for name, meter in book.meters.items() if meter.labels}
    return {**book.labels._asdict(), "meters": meters}


def _names(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (kind, name) of everything that a document names."""
    for line in document["lines"]:
        for key, kind in _LINE_KINDS.items():
            if line.get(key):
                yield kind, line[key]
    yield from (("models", day["model"]) for day in document["days"])
    yield from (("channels", name) for name in document["totals"]["channels"])
    if document["payment"]:
        yield "channels", document["payment"]["channel"]


def label_of(document: Mapping[str, Any], kind: str, name: str, locale: str) -> str:
    """Return the label that a document has for a name; empty if it has none."""
    return pick_text((document.get("labels") or {}).get(kind, {}).get(name), locale)


def named(document: Mapping[str, Any], kind: str, name: str, locale: str) -> str:
    """Return a name with its label in a document, such as ``rmb (WeChat Pay)``."""
    return name_with_label(name, label_of(document, kind, name, locale), locale)


def shown_labels(document: Mapping[str, Any], locale: str) -> list[tuple[str, str]]:
    """Return (kind and name, label) of every label of a document, such as ``("channel rmb", "WeChat Pay")``."""
    return [
        (f"{kind.removesuffix('s').replace('_', ' ')} {name}", pick_text(texts, locale))
        for kind, labels in (document.get("labels") or {}).items()
        for name, texts in labels.items()
    ]
