"""Names that a price file accepts."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from brivionix_billing.errors import safe_repr

__all__ = ["clean_text", "meter_word", "name_problem", "qualified_names"]

_MAX_NAME_LENGTH: Final = 128
_FORBIDDEN: Final = frozenset("\"'`<>&\\{}")
_NOT_WORD: Final = re.compile(r"[^a-z0-9]+")


def name_problem(name: object) -> str | None:
    """Return why a price file does not accept a name, or ``None`` if it does."""
    if not isinstance(name, str):
        return f"{safe_repr(name)} is not a name"
    if not 0 < len(name) <= _MAX_NAME_LENGTH or name != name.strip():
        return "a name has 1 to 128 characters, and no space at either end"
    if not name.isprintable() or _FORBIDDEN & set(name):
        return f"the name {safe_repr(name)} has a character that is not allowed"
    return None


def clean_text(value: object) -> str | None:
    """Return a display text if it is a printable one of reasonable length, else ``None``."""
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable() and value == value.strip():
        return value
    return None


def meter_word(text: str) -> str:
    """Return the name of a meter made of a text.

    >>> meter_word("output_images_0.5K")
    'output_images_0_5k'
    """
    word = _NOT_WORD.sub("_", text.lower()).strip("_")
    return word[:64].strip("_") if word[:1].isalpha() else f"meter_{word}"[:64].strip("_")


def qualified_names(providers_of: dict[str, list[str]], owner_of: dict[str, str]) -> dict[tuple[str, str], str]:
    """Return the name of each (provider, model id).

    An id that only one provider has is the name. Otherwise the names are ``provider/id``, and only the provider in
    ``owner_of`` keeps the id as the name. An id that is also such a name gets its provider, too.
    """
    names = {}
    for model, providers in providers_of.items():
        for provider in providers:
            plain = len(providers) == 1 or owner_of.get(model) == provider
            names[provider, model] = model if plain else f"{provider}/{model}"
    uses = Counter(names.values())
    for (provider, model), name in names.items():
        if uses[name] > 1 and name == model:
            names[provider, model] = f"{provider}/{model}"
    return names
