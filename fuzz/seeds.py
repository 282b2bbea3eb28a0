"""Seeds of each reader, taken from the data of the tests, and the words of its dictionary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from brivionix_billing.importing.sources import SOURCES
from fuzz.readers import REFERENCE

__all__ = ["dictionary", "seeds"]

_DATA: Final = REFERENCE.parent
_MAX_SEED: Final = 12 * 1024
"""Maximum length of a seed, in bytes. Longer ones make each execution slow."""
_WORDS: Final = re.compile(r'"([A-Za-z_][\w.-]{1,40})"|^ *([a-z_0-9]{2,40}):', re.MULTILINE)
_YAML_EXAMPLE: Final = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SMALL_PRICE_FILE: Final = """\
version: 1
credit: {currency: USD, nominal_per_credit: 1}
channels:
  rmb: {currency: CNY, prices: [{from: 2026-01-01, price_per_credit: 0.85}]}
models:
  m:
    released: 2026-01-01
    prices:
      - {from: 2026-01-01, standard: {input: 2.5, cache_read: 0.25, output: 15}, batch: {input: 1, output: 5}}
groups:
  default: {terms: [{from: 2026-01-01, ratio: 0.5, models: ["*"]}]}
"""
_SYNTAX: Final = ('"', "\\", "\\u0000", "\\ud800", "\ufeff", "\u202e", "\0", "\r\n\r\n", "1e999", "-0", "1e-400", "NaN")
_SYNTAX_YAML: Final = (
    "&a",
    "*a",
    "<<: *a",
    "!!python/object",
    "0x1F",
    "1_000",
    "1:30",
    "2026-13-01",
    "{",
    "|\n ",
    "---",
)
_CATALOGS: Final = {
    "litellm": "litellm.json",
    "genai-prices": "genai_prices.json",
    "models.dev": "models_dev.json",
    "openrouter": "openrouter.json",
    "portkey": "portkey_openai.json",
    "new-api": "new_api_pricing.json",
}


def seeds(name: str) -> list[bytes]:
    """Return the seeds of a reader."""
    return [seed for seed in _SEEDS[name]() if len(seed) <= _MAX_SEED]


def dictionary(name: str) -> str:
    """Return a libFuzzer dictionary of the keys and names in the seeds of a reader."""
    words = {word for seed in seeds(name) for pair in _WORDS.findall(seed.decode("utf-8", "replace")) for word in pair}
    tokens = sorted(filter(None, words)) + list(_SYNTAX) + (list(_SYNTAX_YAML) if name == "price_file" else [])
    return "".join(f'"{_escape(token)}"\n' for token in tokens)


def _escape(token: str) -> str:
    """Return the bytes of a token as a libFuzzer dictionary writes them."""
    return "".join(f"\\x{byte:02x}" for byte in token.encode("utf-8", "surrogatepass"))


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _dump(values: Iterable[Any]) -> Iterator[bytes]:
    return (json.dumps(value, ensure_ascii=False).encode() for value in values)


def _usage() -> Iterator[bytes]:
    yield from _dump(_lines(_DATA / "openai_responses.jsonl"))
    yield from _dump(line["body"] for line in _lines(_DATA / "provider_responses.jsonl"))
    yield from _dump(_lines(REFERENCE / "inputs" / "bodies.jsonl"))


def _stream() -> Iterator[bytes]:
    for sample in (*_lines(_DATA / "streams.jsonl"), *_lines(_DATA / "streams_made.jsonl")):
        yield b"\x07\x01" + sample["sse"].encode()[:_MAX_SEED]
    for body in _usage():
        yield b"\x20\0data: " + body + b"\n\n"


def _price_file() -> Iterator[bytes]:
    for path in (*sorted(_DATA.glob("*.yaml")), *sorted((REFERENCE / "inputs").glob("*.yaml"))):
        yield path.read_bytes()
    yield _SMALL_PRICE_FILE.encode()
    for page in ("pricing-yaml.md", "recipes.md"):
        text = (_DATA.parents[1] / "docs" / page).read_text(encoding="utf-8")
        for example in _YAML_EXAMPLE.findall(text):
            sections = _sections(_SMALL_PRICE_FILE) | _sections(example)
            yield "".join(sections.values()).encode()


def _sections(text: str) -> dict[str, str]:
    """Return the text of each top-level key."""
    parts = re.split(r"^(?=[a-z_]+:)", text, flags=re.MULTILINE)
    return {part.partition(":")[0]: part for part in parts if part}


def _usage_file() -> Iterator[bytes]:
    lines = (REFERENCE / "inputs" / "usage.jsonl").read_bytes().splitlines(keepends=True)
    yield from (b"".join(lines[start : start + 3]) for start in range(0, len(lines), 3))


def _document() -> Iterator[bytes]:
    for path in (*sorted((REFERENCE / "bills").rglob("*/invoice.json")), REFERENCE / "bills" / "proof.json"):
        yield path.read_bytes()


def _catalog() -> Iterator[bytes]:
    for number, source in enumerate(SOURCES):
        content = json.loads((_DATA / "prices" / _CATALOGS[source]).read_bytes())
        for part in _parts(content):
            yield bytes([number]) + json.dumps(part, ensure_ascii=False).encode()


def _parts(value: Any) -> Iterator[Any]:
    """Yield the value with few members in each of its containers, from the first to the last member."""
    if isinstance(value, list) and len(value) > 3:
        yield from (value[start : start + 3] for start in range(0, len(value), 3))
    elif isinstance(value, dict) and len(value) > 6:
        items = list(value.items())
        yield from (dict(items[start : start + 6]) for start in range(0, len(items), 6))
    elif isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list):
                yield from ({**value, key: part} for part in _parts(inner))
    else:
        yield value


_SEEDS: Final = {
    "usage": _usage,
    "stream": _stream,
    "price_file": _price_file,
    "usage_file": _usage_file,
    "document": _document,
    "catalog": _catalog,
}
