"""Random mutations of receipts, as an attacker without the issuer's key can make them.

A mutation changes bytes, JSON structure, numbers, Unicode or the signature, mixes two receipts, or offers another key
or another price file.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final, NamedTuple

from brivionix_billing.canonical_json import canonical_json
from brivionix_billing.invoice import document_hash
from brivionix_billing.invoice.receipts import ReceiptReport, verify_receipt
from receipt_kit import KEY, OTHER_KEY, Json, Sample, book, forge

__all__ = ["KINDS", "Attack", "attack", "outcome"]

_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""The order of the group of Ed25519. A signature with S + order is valid for careless implementations."""


class Attack(NamedTuple):
    """Bytes that must not be accepted as the receipt of a request, by a key and a price file."""

    kind: str
    sample: Sample
    content: bytes
    other_key: bool = False
    other_book: bool = False


def outcome(given: Attack) -> ReceiptReport:
    """Verify an attack as a customer does who expects the receipt of his request."""
    return verify_receipt(
        given.content,
        key=(OTHER_KEY if given.other_key else KEY).public_key(),
        book=book(given.sample.book, altered=given.other_book),
        request_id=given.sample.request_id,
        account=given.sample.account,
    )


def attack(random: Random, samples: Sequence[Sample]) -> Attack:
    """Return a random attack on one of some receipts."""
    while True:
        sample, other = random.choice(samples), random.choice(samples)
        (kind,) = random.choices(list(KINDS), _WEIGHTS)
        made = KINDS[kind](random, sample, other)
        if made is not None and (made.content != sample.receipt or made.other_key or made.other_book):
            return made._replace(kind=kind)


def _document(sample: Sample) -> Json:
    document: Json = json.loads(sample.receipt)
    return document


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values below a value."""
    found = []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in items:
        found += [(*path, step), *_places(inner, (*path, step))]
    return found


def _at(document: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the container of a path, and its last step."""
    for step in path[:-1]:
        document = document[step]
    return document, path[-1]


def _sealed(random: Random, document: Json) -> bytes:
    """Return the document with a hash that matches, sometimes: whoever changes it can compute the hash."""
    if random.random() < 0.5:
        document["hash"] = document_hash(document)
    return canonical_json(document)


def _bytes(random: Random, sample: Sample, other: Sample) -> Attack:
    content = bytearray(sample.receipt)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        place = random.randrange(len(content))
        change = random.randrange(6)
        if change == 0:
            content[place] ^= 1 << random.randrange(8)
        elif change == 1:
            content[place] = random.randrange(256)
        elif change == 2:
            del content[place : place + random.choice([1, 1, 2, 20])]
        elif change == 3:
            content[place:place] = random.randbytes(random.choice([1, 2, 8]))
        elif change == 4:
            content[place:place] = content[place : place + 12]
        else:
            content = content[: max(1, place)]
    return Attack("", sample, bytes(content))


def _spaces(random: Random, sample: Sample, _: Sample) -> Attack:
    content = sample.receipt
    place = random.choice([0, len(content), *(i for i, byte in enumerate(content) if byte in b',:{}[]"')])
    return Attack("", sample, content[:place] + random.choice([b" ", b"\n", b"\t", b"\r\n"]) + content[place:])


def _structure(random: Random, sample: Sample, _: Sample) -> Attack:
    document = _document(sample)
    target, step = _at(document, random.choice(_places(document)))
    change = random.randrange(7)
    if change == 0:
        del target[step]
    elif change == 1:
        target[step] = None
    elif change == 2:
        target[step] = [target[step]]
    elif change == 3:
        target[step] = random.choice([{}, [], "", True, 0, 1, -1, 1.5, 10**15, "x", {"a": target[step]}])
    elif change == 4 and isinstance(target, list):
        target.insert(step, target[random.randrange(len(target))])
    elif change == 5 and isinstance(target, list):
        random.shuffle(target)
    elif isinstance(target, dict):
        target[random.choice(["account", "window", "minimum", "more", "unaccounted", "router", "__proto__"])] = "1"
    return Attack("", sample, _sealed(random, document))


def _duplicate_key(random: Random, sample: Sample, _: Sample) -> Attack:
    text = sample.receipt.decode()
    name = random.choice(["credits", "schema", "request_id", "lines", "model", "hash", "signature", "at"])
    values = ['"0"', '"1"', "[]", '"x"', text[text.index('"credits":') + 10 :].split(",")[0]]
    place = random.choice([text.index(f'"{name}":'), text.rindex(f'"{name}":')])
    return Attack("", sample, f'{text[:place]}"{name}":{random.choice(values)},{text[place:]}'.encode())


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "").isdigit() and value.isascii()


def _number(random: Random, sample: Sample, _: Sample) -> Attack:
    document = _document(sample)
    paths = [path for path in _places(document) if _is_number(_at(document, path)[0][path[-1]])]
    target, step = _at(document, random.choice(paths))
    value = target[step]
    whole, _, decimals = value.partition(".")
    target[step] = random.choice(
        [
            str(int(whole) + 1) + (f".{decimals}" if decimals else ""),
            value[:-1] + ("7" if value[-1] != "7" else "8"),
            f"{value}0",
            f"0{value}",
            f"+{value}",
            f"-{value}",
            f"{value}e0",
            f"{value}." if not decimals else f"{value}0",
            f"{value}.0",
            f"{value}1",
            f" {value}",
            f"{value}\n",
            f"{whole},{decimals}",
            "".join(chr(ord(digit) + 0xFEE0) for digit in value),  # full-width digits
            "".join(chr(ord(digit) - 48 + 0x0660) if digit != "." else digit for digit in value),  # Arabic digits
            "1e999",
            "NaN",
            "Infinity",
            "",
            float(value),
            int(whole),
            "9" * random.choice([20, 400]),
        ]
    )
    return Attack("", sample, _sealed(random, document))


_LETTERS: Final = {
    "a": "а",
    "e": "е",
    "o": "о",
    "p": "р",
    "c": "с",
    "-": "\u2010",
    "r": "r\u0301",
    "é": "e\u0301",
}
"""Letter -> one that looks alike, or the same in another form."""


def _unicode(random: Random, sample: Sample, _: Sample) -> Attack | None:
    if random.random() < 0.3:  # other ways to write the same text
        text = sample.receipt.decode()
        place = random.randrange(len(text))
        character = text[place]
        if character in '\\"' or text[place - 1] == "\\":
            return None
        escape = f"\\u{ord(character):04x}" if ord(character) < 0x10000 else character
        written = random.choice([escape, escape.upper().replace("U", "u"), f"\\{character}", "\\/"])
        content = random.choice([text[:place] + written + text[place + 1 :], "\ufeff" + text])
        return Attack("", sample, random.choice([content.encode(), content.encode("utf-16")]))
    document = _document(sample)
    paths = [path for path in _places(document) if isinstance(_at(document, path)[0][path[-1]], str)]
    target, step = _at(document, random.choice(paths))
    value = target[step]
    place = random.randrange(len(value) + 1)
    inserted = (
        value[:place] + random.choice(["\u200b", "\u202e", "\0", "\x1b", "\u00a0", "\u0301", "😀"]) + value[place:]
    )
    alike = "".join(_LETTERS.get(character, character) for character in value)
    forms = [unicodedata.normalize(form, value) for form in ("NFD", "NFKC")]
    target[step] = random.choice([inserted, alike, value.upper(), value.swapcase(), value + " ", *forms])
    return Attack("", sample, _sealed(random, document))


def _surrogate(random: Random, sample: Sample, _: Sample) -> Attack:
    half = random.choice([b"\\ud83d", b"\\ude00", b"\xed\xa0\xbd", b"\xc0\xaf", b"\xf5\x80\x80\x80"])
    return Attack("", sample, sample.receipt.replace(b'"request_id":"', b'"request_id":"' + half, 1))


def _signature(random: Random, sample: Sample, other: Sample) -> Attack:
    document = _document(sample)
    text = document["signature"]
    raw = bytearray(base64.b64decode(text))
    high = (int.from_bytes(raw[32:], "little") + _ORDER).to_bytes(32, "little")
    flipped = bytearray(raw)
    flipped[random.randrange(64)] ^= 1 << random.randrange(8)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    document["signature"] = random.choice(
        [
            base64.b64encode(raw[:32] + high).decode(),  # malleable
            base64.b64encode(flipped).decode(),
            base64.b64encode(raw[32:] + raw[:32]).decode(),
            base64.b64encode(bytes(64)).decode(),
            base64.b64encode(bytes([1]) + bytes(63)).decode(),  # the neutral element
            text[:85] + last[last.index(text[85]) + random.randrange(1, 16)] + "==",  # other bits behind the last byte
            text.rstrip("="),
            text + "\n",
            text.replace("+", "-").replace("/", "_").rstrip("="),
            _document(other)["signature"],
            json.loads(forge(sample.receipt, lambda _: None, OTHER_KEY))["signature"],
            "",
            None,
        ]
    )
    return Attack("", sample, canonical_json(document))


def _other_issuer(random: Random, sample: Sample, other: Sample) -> Attack:
    return Attack("", sample, forge(sample.receipt, lambda _: None, OTHER_KEY))


def _unsigned(random: Random, sample: Sample, _: Sample) -> Attack:
    document = _document(sample)
    del document["signature"]
    if random.random() < 0.5:
        document["signing_key"] = None
    else:
        del document["signing_key"]
    document["hash"] = document_hash(document)
    return Attack("", sample, canonical_json(document))


def _other_key(random: Random, sample: Sample, _: Sample) -> Attack:
    return Attack("", sample, sample.receipt, other_key=True)


def _other_book(random: Random, sample: Sample, _: Sample) -> Attack:
    return Attack("", sample, sample.receipt, other_book=True)


def _swapped(random: Random, sample: Sample, other: Sample) -> Attack | None:
    if (other.request_id, other.account) == (sample.request_id, sample.account):
        return None
    if sample.account is None and other.request_id == sample.request_id:
        return None
    return Attack("", sample, other.receipt)


def _mixed(random: Random, sample: Sample, other: Sample) -> Attack:
    document, source = _document(sample), _document(other)
    for name in random.sample(sorted(source), random.choice([1, 2, 3, len(source) - 1])):
        document[name] = source[name]
    content = _sealed(random, document)
    # A mixture that happens to be the other receipt as a whole is another attack.
    return Attack("", sample, content if content != other.receipt else content + b" ")


KINDS: Final[dict[str, Callable[[Random, Sample, Sample], Attack | None]]] = {
    "bytes": _bytes,
    "spaces": _spaces,
    "structure": _structure,
    "duplicate key": _duplicate_key,
    "number": _number,
    "unicode": _unicode,
    "surrogate": _surrogate,
    "signature": _signature,
    "other issuer": _other_issuer,
    "unsigned": _unsigned,
    "other key": _other_key,
    "other book": _other_book,
    "swapped": _swapped,
    "mixed": _mixed,
}
"""Kind of an attack -> how it is made. ``None`` if two receipts cannot be attacked so."""
_VARIED: Final = frozenset({"bytes", "structure", "number", "unicode", "signature", "mixed"})
_WEIGHTS: Final = [4 if kind in _VARIED else 1 for kind in KINDS]
"""Kinds with many different attacks are drawn more often."""
