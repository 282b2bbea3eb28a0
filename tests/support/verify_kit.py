"""Bills to verify, and every change of a value in them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import bill_oracle
from bill_kit import OCTOBER, billed, body, record, verified, written
from brivionix_billing.invoice import Balance, VerificationReport, key_id

__all__ = [
    "BILL",
    "FIRST",
    "Json",
    "KEY",
    "LEFT",
    "MOVED",
    "NAMED",
    "PUBLIC",
    "Path_",
    "SECOND",
    "SIGNED",
    "USAGE",
    "put",
    "refused",
    "tampered",
    "walk",
]

Json = dict[str, Any]


Path_ = tuple[str | int, ...]


KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


PUBLIC = KEY.public_key()


USAGE = written(
    [
        *[record(n) for n in range(1, 40, 3)],
        record(2),
        record(2),
        record(3, group="half"),
        record(50, model="gone"),
        record(51, account="acct_2"),
        record(90, usage=body("whole", output=[{"type": "web_search_call"}])),
    ]
)


FIRST = billed(written([record(1)]))


NAMED: Json = {"customer": "Ms 李", "customer_details": ["1 Road"], "issuer_details": ["VAT 1"], "due": OCTOBER.end}


MOVED = ("Top-up", "50.25")


LEFT = bill_oracle.closing("100", [MOVED[1]], billed(USAGE)["totals"]["credits"])


NAMED |= {"issuer_tax_number": "DE 1", "customer_tax_number": "91310000", "channel": "rmb"}
NAMED |= {"balance": Balance("100", [MOVED], LEFT)}
BILL = billed(USAGE, **NAMED)


SECOND = billed(USAGE, number=2, previous=FIRST, **NAMED)


SIGNED = billed(USAGE, key=KEY, signing_key=key_id(PUBLIC), **NAMED)


def walk(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Yield every path of a JSON value, with the value there."""
    yield path, value
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from walk(inner, (*path, step))


def put(document: Json, path: Path_, value: Any) -> Json:
    """Return a copy with another value at a path; ``...`` removes it."""
    changed = copy.copy(document)
    *parents, last = path
    here: Any = changed
    for step in parents:
        here[step] = copy.copy(here[step])
        here = here[step]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return changed


def tampered(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield (description of the change, document) for every document with one change."""
    for path, value in walk(document):
        if not path:
            yield "added", {**document, "more": 1}
            continue
        if isinstance(value, str):
            replaced = "7" if value[-1:] != "7" else "8"
            changes: list[Any] = [value + "0", value[:-1] + replaced, "-" + value, None]
        elif isinstance(value, int):
            changes = [value + 1, float(value), str(value), None]
        elif value is None:
            changes = ["x", {}]
        elif isinstance(value, dict):
            changes = [{**value, "more": "1"}, None, []]
        else:
            changes = [[*value, *value[:1]] if value else ["x"], value[:-1] if value else {}, value[::-1], None]
        for change in [*changes, ...]:
            if change != value or type(change) is not type(value):
                yield f"{path} := {change!r:.60}", put(document, path, change)


def refused(document: Any, usage: bytes = USAGE, **how: Any) -> VerificationReport:
    """Return the report on a document that must not verify."""
    report = verified(document, usage, **how)
    assert not report.ok
    return report
