"""Parses the billing expressions of new-api that are plain prices, with boundaries of input tokens.

``len <= 200000 ? tier("standard", p * 3 + c * 15 + cr * 0.3) : tier("long", p * 6 + c * 22.5 + cr * 0.6)`` is a price
set with one context tier. Coefficients are USD per 1 M tokens. Everything else that the language has, such as request
parameters and times of day, is rejected with what was found.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final, NamedTuple

from brivionix_billing.decimals import multiply
from brivionix_billing.importing.amounts import Row
from brivionix_billing.importing.catalog import PriceSet
from brivionix_billing.importing.price_sets import Boundary, build_set

__all__ = ["ExpressionError", "parse_expression"]

_VARIABLES: Final = {
    "p": "input",
    "c": "output",
    "cr": "cache_read",
    "cc": "cache_write",
    "cc1h": "cache_write_1h",
    "img": "image_input",
    "img_cr": "image_cache_read",
    "img_o": "image_output",
    "ai": "audio_input",
    "ao": "audio_output",
}
_MAX_LENGTH: Final = 4000
_MAX_DEPTH: Final = 20
_TOKEN: Final = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)|([A-Za-z_][A-Za-z0-9_]*)|\"([^\"\\]*)\"|'([^'\\]*)'|(<=|>=|&&|\|\||==|!=|[-+*/?:(),<>%]))",
    re.ASCII,
)
_INPUT_VARIABLES: Final = frozenset({"cr", "cc", "cc1h", "img", "img_cr", "ai"})


class ExpressionError(Exception):
    """An expression that is not a plain price."""


class _Leaf(NamedTuple):
    prices: dict[str, Decimal]
    per_request: Decimal | None


class _Branch(NamedTuple):
    boundary: Boundary
    low: _Leaf | _Branch
    """The prices below the boundary."""
    high: _Leaf | _Branch


def parse_expression(text: str, row: Row) -> PriceSet:
    """Return the price set that an expression means. Raises :class:`ExpressionError` and ``RowError``."""
    parser = _Parser(text, row)
    tree = parser.parse()
    if isinstance(tree, _Leaf) and tree.per_request is not None:
        return build_set({"request": tree.per_request, "input": Decimal(0), "output": Decimal(0)}, {})
    boundaries = sorted(set(_boundaries(tree)))
    if parser.uses_p_in_condition and parser.used & _INPUT_VARIABLES:
        raise ExpressionError("a condition on p, which is not the whole input when other inputs have their own prices")
    leaves = [_leaf_at(tree, 0), *(_leaf_at(tree, _first(boundary)) for boundary in boundaries)]
    if any(leaf.per_request is not None for leaf in leaves):
        raise ExpressionError("a price per request in only some of the tiers")
    names = {name for leaf in leaves for name in leaf.prices}
    sets = [{name: leaf.prices.get(name, _fallback(leaf, name)) for name in names} for leaf in leaves]
    return build_set(sets[0], dict(zip(boundaries, sets[1:], strict=True)))


def _fallback(leaf: _Leaf, name: str) -> Decimal:
    """Return the price of a kind of token that a tier does not name.

    It would be part of ``p`` or ``c`` only if no tier named it, so new-api bills nothing for it.
    """
    return Decimal(0)


def _first(boundary: Boundary) -> int:
    return boundary.tokens if boundary.inclusive else boundary.tokens + 1


def _boundaries(tree: _Leaf | _Branch) -> list[Boundary]:
    if isinstance(tree, _Leaf):
        return []
    return [tree.boundary, *_boundaries(tree.low), *_boundaries(tree.high)]


def _leaf_at(tree: _Leaf | _Branch, tokens: int) -> _Leaf:
    while isinstance(tree, _Branch):
        tree = tree.high if tokens >= _first(tree.boundary) else tree.low
    return tree


class _Parser:
    def __init__(self, text: str, row: Row) -> None:
        self.row = row
        self.used: set[str] = set()
        self.uses_p_in_condition = False
        body, bars, rules = text.strip().removeprefix("v1:").partition("|||")
        if bars and rules.strip():
            raise ExpressionError("multipliers that depend on the request")
        if not body.strip():
            raise ExpressionError("the expression is empty")
        self.tokens = _tokenize(body)
        self.position = 0

    def parse(self) -> _Leaf | _Branch:
        tree = self._choice(0)
        if self.position != len(self.tokens):
            raise ExpressionError(f"{self._peek()[:40]!r} after the price")
        return tree

    def _peek(self, ahead: int = 0) -> str:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else ""

    def _take(self, expected: str | None = None) -> str:
        token = self._peek()
        if not token or (expected is not None and token != expected):
            raise ExpressionError(f"{token[:40]!r} where {expected or 'more'!r} was expected")
        self.position += 1
        return token

    def _choice(self, depth: int) -> _Leaf | _Branch:
        if depth > _MAX_DEPTH:
            raise ExpressionError("too many conditions")
        if self._peek() == "(":
            self._take()
            inner = self._choice(depth + 1)
            self._take(")")
            return inner
        if self._peek() in ("len", "p") and self._peek(1) in ("<", "<=", ">", ">="):
            return self._condition(depth)
        return self._tier()

    def _condition(self, depth: int) -> _Branch:
        if self._take() == "p":
            self.uses_p_in_condition = True
        operator, number = self._take(), self._take()
        if not number.isdigit() or not 0 < int(number) <= 10**12:
            raise ExpressionError(f"{number[:40]!r} is not a number of tokens")
        self._take("?")
        first = self._choice(depth + 1)
        self._take(":")
        second = self._choice(depth + 1)
        boundary = Boundary(int(number), operator in ("<", ">="))
        return _Branch(boundary, first, second) if operator in ("<", "<=") else _Branch(boundary, second, first)

    def _tier(self) -> _Leaf:
        if self._take() != "tier":
            raise ExpressionError(f"{self._peek(-1)[:40]!r} is not a tier or a condition on len")
        self._take("(")
        self._take()
        self._take(",")
        leaf = self._fixed() if self._peek() == "fixed" else _Leaf(self._sum(), None)
        self._take(")")
        if self._peek() not in ("", ":", ")"):
            raise ExpressionError(f"{self._peek()[:40]!r} after a tier")
        return leaf

    def _fixed(self) -> _Leaf:
        self._take()
        self._take("(")
        price = self.row.price("billing_expr", self._take(), "request")
        self._take(")")
        return _Leaf({}, price)

    def _sum(self) -> dict[str, Decimal]:
        out: dict[str, Decimal] = {}
        while True:
            variable, coefficient = self._term()
            meter = _VARIABLES.get(variable)
            if meter is None:
                raise ExpressionError(f"{variable[:40]!r} is not a number of tokens")
            if meter in out:
                raise ExpressionError(f"{variable!r} twice in one sum")
            self.used.add(variable)
            price = self.row.price(f"billing_expr {variable}", coefficient, meter)
            out[meter] = price
            if self._peek() != "+":
                return out
            self._take("+")

    def _term(self) -> tuple[str, Decimal]:
        variable, coefficient = "", Decimal(1)
        while True:
            token = self._take()
            if token[:1].isdigit():
                coefficient = multiply(coefficient, Decimal(token))
            elif token.isidentifier() and not variable:
                variable = token
            else:
                raise ExpressionError(f"{token[:40]!r} in a price")
            if self._peek() != "*":
                break
            self._take("*")
        if not variable:
            raise ExpressionError("a constant in a price of tokens")
        return variable, coefficient


def _tokenize(text: str) -> list[str]:
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"more than {_MAX_LENGTH} characters")
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExpressionError(f"{text[position : position + 20]!r} is not part of a plain price")
        number, word, *_quoted, operator = match.groups()
        tokens.append(number or word or operator or "text")
        position = match.end()
    return tokens
