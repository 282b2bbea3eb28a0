"""The operator's logo, links, previews and texts on the pricing page.

Images become data addresses, because a page loads nothing. A browser runs no script of an image, but people open the
image itself, so an SVG must have none either.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.files import read_bounded
from brivionix_billing.rating.labels import Texts
from brivionix_billing.rating.messages import resolve_locale
from brivionix_billing.text_checks import require_text

__all__ = [
    "NO_BRANDING",
    "Branding",
    "branding_values",
    "image_address",
    "load_image",
    "localized_texts",
    "notes_by_language",
]

_MAX_IMAGE_BYTES: Final = 128 * 1024
_MAX_TEXT_LENGTH: Final = 2_000
"""Maximum length of a title, note, description or address, in characters."""
_SVG: Final = "{http://www.w3.org/2000/svg}"
_LINKS: Final = frozenset({"href", "src"})
_UNSAFE_ELEMENTS: Final = frozenset({"script", "foreignobject", "iframe", "embed", "object", "handler", "listener"})
_LOADING_STYLE: Final = re.compile(r"url\((?!\s*['\"]?#)|@import|(image-set|src)\(|\\|javascript:", re.IGNORECASE)


class Branding(NamedTuple):
    """What shows whose page it is. Everything is optional."""

    home: str | None = None
    """The address that the logo links to: http or https."""
    logo: bytes | None = None
    """PNG, JPEG or SVG, at most 128 KiB."""
    favicon: bytes | None = None
    """PNG, JPEG or SVG, at most 128 KiB."""
    description: str | Texts | None = None
    """For search engines and previews: one text, or a text per language. A page has that of its initial language."""
    url: str | None = None
    """The public address of the page, for previews and search engines."""
    preview_image: str | None = None
    """The address of an image for previews. It is not loaded by the page, so it may be on any server."""


NO_BRANDING: Final = Branding()


def load_image(path: str | Path) -> bytes:
    """Read a logo or favicon. Raises ``file_unreadable``, and ``invalid_argument`` for anything but a safe image."""
    content = read_bounded(path, _MAX_IMAGE_BYTES, too_large="invalid_argument")
    image_address(content, str(path))
    return content


def image_address(content: bytes, name: str = "image") -> str:
    """Return the data address of a PNG, JPEG or SVG image. Raises ``invalid_argument`` for anything else."""
    if not isinstance(content, bytes) or len(content) > _MAX_IMAGE_BYTES:
        raise BillingError("invalid_argument", f"{name}: not an image of at most {_MAX_IMAGE_BYTES} bytes")
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR" and b"IEND" in content[-12:]:
        kind = "png"
    elif content.startswith(b"\xff\xd8\xff") and content.rstrip(b"\0").endswith(b"\xff\xd9"):
        kind = "jpeg"
    else:
        _check_svg(content, name)
        kind = "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _check_svg(content: bytes, name: str) -> None:
    def reject(problem: str, fix: str) -> BillingError:
        return BillingError("invalid_argument", f"{name}: {problem}; {fix}")

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise reject("not a PNG, JPEG or SVG image", "convert it") from None
    if "<!doctype" in text.lower() or "<!entity" in text.lower():  # an entity could expand without limit
        raise reject("the SVG has a document type", "remove <!DOCTYPE ...>")
    try:
        root = ET.fromstring(text)  # noqa: S314  # without a document type there are no entities
    except (ET.ParseError, ValueError, RecursionError):
        raise reject("not a PNG, JPEG or SVG image", "convert it") from None
    if root.tag != f"{_SVG}svg":
        raise reject("not an SVG image", 'start it with <svg xmlns="http://www.w3.org/2000/svg">')
    if "<?xml-stylesheet" in text.lower():
        raise reject("the SVG loads a style sheet", "remove <?xml-stylesheet ...?>")
    for element in root.iter():
        tag = str(element.tag).rpartition("}")[2].lower()
        if tag in _UNSAFE_ELEMENTS:
            raise reject(f"the SVG has the element {safe_repr(tag)}", "remove it")
        for key, value in element.attrib.items():
            attribute = key.rpartition("}")[2].lower()
            if attribute.startswith("on"):
                raise reject(f"the SVG has a script in {safe_repr(attribute)}", "remove it")
            is_image = re.match(r"data:image/(png|jpeg);", value) is not None
            if attribute in _LINKS and not (value.startswith("#") or is_image):
                raise reject(f"the SVG refers to {safe_repr(value[:80])}", "use only references to its own parts")
            if attribute not in _LINKS and _LOADING_STYLE.search(value):
                raise reject(f"the SVG loads something in {safe_repr(attribute)}", "remove it")
        if tag == "style" and _LOADING_STYLE.search("".join(element.itertext())):
            raise reject("the SVG loads something in its style", "remove url() and @import")


def _require_web_address(what: str, value: str) -> str:
    """Return an http or https address. Raises ``invalid_argument`` for any other."""
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        is_valid = parts is not None and parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid or len(value) > _MAX_TEXT_LENGTH or not value.isprintable() or re.search(r"[\s\"'<>\\]", value):
        raise BillingError("invalid_argument", f"{what} is {safe_repr(value)}; use an address with https:// or http://")
    return value


def localized_texts(what: str, value: str | Texts | None) -> dict[str, str]:
    """Return a text by language; under ``""``, the one for all languages. Raises ``invalid_argument``."""
    if value is None:
        return {}
    texts = value if isinstance(value, Mapping) else {"": value}
    return {
        name and resolve_locale(name): require_text(f"the {what}", text, limit=_MAX_TEXT_LENGTH)
        for name, text in texts.items()
    }


def notes_by_language(notes: Sequence[str | Texts], language: str) -> list[str]:
    """Return the paragraphs of one language. A note that has no text in it is left out."""
    texts = [localized_texts("note", note) for note in notes]
    return [text for note in texts if (text := note.get(language) or note.get("") or "")]


def branding_values(branding: Branding, language: str) -> dict[str, str]:
    """Return what the template shows, in one language; absent parts are empty. Raises ``invalid_argument``."""
    if not isinstance(branding, Branding):
        raise BillingError("invalid_argument", f"branding is {safe_repr(branding)}; use Branding(home=...)")
    description = localized_texts("description", branding.description)
    home = "" if branding.home is None else _require_web_address("home", branding.home)
    return {
        "home": home,
        "home_name": urlsplit(home).hostname or "",
        "logo": "" if branding.logo is None else image_address(branding.logo, "logo"),
        "favicon": "" if branding.favicon is None else image_address(branding.favicon, "favicon"),
        "description": description.get(language) or description.get("") or next(iter(description.values()), ""),
        "url": "" if branding.url is None else _require_web_address("url", branding.url),
        "preview_image": (
            "" if branding.preview_image is None else _require_web_address("preview_image", branding.preview_image)
        ),
    }
