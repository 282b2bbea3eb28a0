"""Hostile texts in every field: pages keep their structure, and terminals get no control characters."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.invoice import document_hash, lines_csv, render_text
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.pages import bill_page, pricing_page
from brivionix_billing.tabular import format_csv
from paths import DATA
from samples import AUTUMN
from verify_kit import BILL, Path_, put, walk

HOSTILE = [
    "\"'><script>alert(1)</script><img src=//x onerror=alert(1)><!--",
    "</script></style></title><script>alert(1)//",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}${7*7}",
    "\x1b[31m\x9b2J\x07\r\n\u202e\u2028\ufeff\u200b",
    "＝cmd|' /C calc'!A0",
]
FREE_KEYS = ("description", "display_name", "labels", "vendor")
LOADING = ("src", "href", "action", "formaction", "data", "poster", "background", "srcset", "style")


class Structure(HTMLParser):
    """The elements of a page with the names of their attributes, and the addresses in them."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.addresses: set[str | None] = set()
        self.comments = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))
        self.addresses |= {value for name, value in attrs if name in LOADING or name.startswith("on")}

    def handle_comment(self, data: str) -> None:
        self.comments += 1


def kind_of(path: Path_) -> str:
    """Return a path without its indexes: one field of all lines."""
    return ".".join("*" if isinstance(step, int) else step for step in path)


def rehashed(document: Any) -> Any:
    """Return the document with the hash of its content: anyone who can write a bill can do this."""
    return {**document, "hash": document_hash(document)}


def bills_with(text: str) -> dict[str, Any]:
    """Return the bill with the text in each field that may have it, by field."""
    found: dict[str, Any] = {}
    for path, value in walk(BILL):
        if isinstance(value, str) and kind_of(path) not in found:
            changed = put(BILL, path, text)
            if not schema_errors(changed):
                found[kind_of(path)] = rehashed(changed)
    return found


def test_the_free_texts_of_a_bill_are_known() -> None:
    """The fields that may have any text are the ones that these tests fill, and no amount or time is one of them."""
    free = set(bills_with(HOSTILE[0]))
    assert {"customer.name", "customer.details.*", "issuer.name", "lines.*.model", "balance.movements.*.label"} <= free
    assert not [field for field in free if field.endswith(("credits", "amount", "price", "at", "from", "to", "hash"))]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("locale", ["en", "zh_CN"])
def test_a_bill_keeps_its_structure(text: str, locale: str) -> None:
    """A hostile text in a field of a bill adds no element, attribute or address to the page."""
    shown = 0
    for field, document in bills_with(text).items():
        benign = rehashed(put_text(document, text, "plain"))
        try:
            expected = Structure(bill_page(benign, locale=locale))
        except BillingError:  # this field must be consistent with another one
            continue
        shown += 1
        page = Structure(bill_page(document, locale=locale))
        assert (page.elements, page.comments) == (expected.elements, 0), field
        assert page.addresses <= {"data:,", None}, field
    assert shown >= 12


def put_text(value: Any, old: str, new: str) -> Any:
    """Return the value with each text ``old`` replaced."""
    if isinstance(value, dict):
        return {key: put_text(inner, old, new) for key, inner in value.items()}
    if isinstance(value, list):
        return [put_text(inner, old, new) for inner in value]
    return new if value == old else value


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_and_tables_of_a_bill_are_harmless(text: str) -> None:
    """The text of a bill has printable characters only, and no cell of its table is a formula."""
    for document in bills_with(text).values():
        try:
            shown, table = render_text(document), lines_csv(document)
        except (BillingError, KeyError):  # this field must be consistent with another one
            continue
        assert shown.replace("\n", "").isprintable()
        rows = list(csv.reader(io.StringIO(table, newline="")))
        assert len(rows) == len(document["lines"]) + 1
        assert not any(cell.startswith("＝") for row in rows for cell in row)


def free_texts(node: yaml.Node, key: str = "") -> Iterator[yaml.ScalarNode]:
    """Yield the free texts of a price file: descriptions, display names, vendors and labels."""
    if isinstance(node, yaml.ScalarNode):
        if key in FREE_KEYS:
            yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from free_texts(item, key)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from free_texts(value, key if key in FREE_KEYS else name.value)


def priced(text: str) -> PriceBook | None:
    """Return a price book with the text in all free texts, or ``None`` if it is rejected."""
    root = yaml.compose((DATA / "everything.yaml").read_text(encoding="utf-8"))
    assert root is not None
    nodes = list(free_texts(root))
    assert len(nodes) >= 8
    for node in nodes:
        node.value, node.style = text, '"'
    try:
        return PriceBook.loads(yaml.serialize(root, allow_unicode=True))
    except BillingError:
        return None


@pytest.mark.parametrize("text", HOSTILE)
def test_a_pricing_page_keeps_its_structure(text: str) -> None:
    """Hostile descriptions, display names, vendors and labels add no element, attribute or address to the page."""
    book, plain = priced(text), priced("plain")
    assert plain is not None
    if book is None:
        assert not text.isprintable()
        return
    page, expected = (Structure(pricing_page(each, at=AUTUMN, title=text, notes=[text])) for each in (book, plain))
    assert (page.elements, page.comments) == (expected.elements, 0)
    assert page.addresses <= {"data:,", None}


def test_a_cell_of_a_row_of_another_writer_is_no_formula() -> None:
    """Lists of tables that the commands print go through the same function."""
    assert format_csv([{"account": HOSTILE[-1]}]).splitlines()[1] == "'" + HOSTILE[-1]
