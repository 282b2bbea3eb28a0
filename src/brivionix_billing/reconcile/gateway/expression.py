"""Evaluates the billing expressions of new-api exactly: prices that depend on tokens, tiers and times.

``len > 272000 ? tier("long", p * 10 + c * 45) : tier("base", p * 5 + c * 30)``: variables are numbers of tokens, and
coefficients are USD per 1 M tokens. What depends on the request itself, such as ``param`` and ``header``, is not in a
log; an expression with it cannot be evaluated, and the error names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError
from brivionix_billing.times import load_zone

__all__ = ["Expression", "ExpressionError", "Outcome", "parse"]

VARIABLES: Final = ("p", "c", "len", "cr", "cc", "cc1h", "img", "img_cr", "img_o", "ai", "ao", "image_count")
_MAX_LENGTH: Final = 10_000
_MAX_DEPTH: Final = 60
_MAX_OPERATORS: Final = 500
"""Binary operators of an expression: the evaluation of a chain of them is as deep as the chain."""
_TOKEN: Final = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?|\.[0-9]+)|([A-Za-z_][A-Za-z0-9_]*)"
    r"|\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|(<=|>=|&&|\|\||==|!=|[-+*/?:(),<>%!]))",
    re.ASCII,
)
_WORDS: Final = {"and": "&&", "or": "||", "not": "!"}
_REQUEST_FUNCTIONS: Final = frozenset({"param", "header", "has", "u"})
_PRIORITIES: Final = {
    "||": 1,
    "&&": 2,
    "==": 3,
    "!=": 3,
    **dict.fromkeys(("<", "<=", ">", ">="), 4),
    **dict.fromkeys("+-", 5),
    **dict.fromkeys("*/%", 6),
}

Value = Fraction | bool | str
_Node = Callable[["_Scope"], Value]


class ExpressionError(Exception):
    """An expression that cannot be evaluated, with what is in the way."""


class Outcome(NamedTuple):
    """The value of an expression for one request."""

    value: Fraction
    """USD x 1 000 000."""
    tier: str
    """The name of the tier that was chosen, or empty."""
    is_fixed: bool
    """Whether the price is one per request, by ``fixed``."""


class _Scope:
    """The variables of one request, and what the evaluation found."""

    __slots__ = ("at", "is_fixed", "tier", "values")

    def __init__(self, values: Mapping[str, Fraction], at: datetime) -> None:
        self.values, self.at = values, at
        self.tier, self.is_fixed = "", False


class Expression(NamedTuple):
    """A parsed expression."""

    node: _Node
    names: frozenset[str]
    """The variables that it uses. ``p`` and ``c`` leave out only the kinds of tokens that it names."""
    tiers: tuple[tuple[str, _Node], ...]
    """The tiers by name, in the order of the text."""

    def evaluate(self, values: Mapping[str, Fraction], at: datetime) -> Outcome:
        """Return the price of a request. Raises :class:`ExpressionError`."""
        return _run(self.node, values, at)

    def evaluate_tiers(self, values: Mapping[str, Fraction], at: datetime) -> list[Outcome]:
        """Return the price of a request in each tier, whatever its condition is."""
        return [_run(node, values, at) for _, node in self.tiers]


def _run(node: _Node, values: Mapping[str, Fraction], at: datetime) -> Outcome:
    scope = _Scope(values, at)
    try:
        value = node(scope)
    except ZeroDivisionError:
        raise ExpressionError("a division by zero") from None
    return Outcome(_number(value), scope.tier, scope.is_fixed)


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Return the price part of an expression, without its request rules. Raises :class:`ExpressionError`."""
    body = text.strip().removeprefix("v1:").partition("|||")[0]
    if len(body) > _MAX_LENGTH:
        raise ExpressionError(f"more than {_MAX_LENGTH} characters")
    parser = _Parser(_tokenize(body))
    node = parser.parse()
    return Expression(node, frozenset(parser.names), tuple(parser.tiers))


def _tokenize(text: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    text = text.strip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ExpressionError(f"{text[position : position + 20]!r}")
        number, word, double, single, operator = found.groups()
        if number is not None:
            tokens.append(("number", number))
        elif word is not None:
            tokens.append(("operator", _WORDS[word]) if word in _WORDS else ("word", word))
        elif operator is not None:
            tokens.append(("operator", operator))
        else:
            tokens.append(("text", double if double is not None else single))
        position = found.end()
    if not tokens:
        raise ExpressionError("an empty expression")
    return tokens


def _number(value: Value) -> Fraction:
    if isinstance(value, Fraction):
        return value
    raise ExpressionError(f"{value!r} where a number was expected")


def _truth(value: Value) -> bool:
    if isinstance(value, bool):
        return value
    raise ExpressionError(f"{value!r} where a condition was expected")


def _time_function(pick: Callable[[datetime], int]) -> Callable[..., _Node]:
    def make(zone: _Node | None = None) -> _Node:
        def run(scope: _Scope) -> Value:
            name = "UTC" if zone is None else str(zone(scope))
            try:
                return Fraction(pick(scope.at.astimezone(load_zone(name))))
            except BillingError:
                raise ExpressionError(f"the time zone {name!r}") from None

        return run

    return make


def _fold(combine: Callable[..., Fraction]) -> Callable[..., _Node]:
    return lambda *nodes: lambda scope: combine(*(_number(node(scope)) for node in nodes))


def _ceiling(value: Fraction) -> Fraction:
    return Fraction(-(-value // 1))


def _floor(value: Fraction) -> Fraction:
    return Fraction(value // 1)


def _tier(name: _Node, value: _Node) -> _Node:
    def run(scope: _Scope) -> Value:
        scope.tier = str(name(scope))
        return value(scope)

    return run


def _fixed(value: _Node) -> _Node:
    def run(scope: _Scope) -> Value:
        scope.is_fixed = True
        return _number(value(scope)) * 1_000_000

    return run


_FUNCTIONS: Final[Mapping[str, tuple[Callable[..., _Node], int, int]]] = {
    "tier": (_tier, 2, 2),
    "fixed": (_fixed, 1, 1),
    "max": (_fold(max), 2, 9),
    "min": (_fold(min), 2, 9),
    "abs": (_fold(abs), 1, 1),
    "ceil": (_fold(_ceiling), 1, 1),
    "floor": (_fold(_floor), 1, 1),
    "hour": (_time_function(lambda at: at.hour), 0, 1),
    "minute": (_time_function(lambda at: at.minute), 0, 1),
    "weekday": (_time_function(lambda at: at.isoweekday() % 7), 0, 1),  # Sunday is 0, as in Go
    "month": (_time_function(lambda at: at.month), 0, 1),
    "day": (_time_function(lambda at: at.day), 0, 1),
}
"""Name -> how it is made, and its least and greatest number of arguments."""


def _modulo(left: Fraction, right: Fraction) -> Fraction:
    return left - int(left / right) * right  # towards zero, as in Go


_ARITHMETIC: Final[Mapping[str, Callable[[Fraction, Fraction], Value]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": _modulo,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


def _binary(operator: str, left: _Node, right: _Node) -> _Node:
    if operator == "&&":
        return lambda scope: _truth(left(scope)) and _truth(right(scope))
    if operator == "||":
        return lambda scope: _truth(left(scope)) or _truth(right(scope))
    if operator == "==":
        return lambda scope: left(scope) == right(scope)
    if operator == "!=":
        return lambda scope: left(scope) != right(scope)
    compute = _ARITHMETIC[operator]
    return lambda scope: compute(_number(left(scope)), _number(right(scope)))


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.position = tokens, 0
        self.names: set[str] = set()
        self.tiers: list[tuple[str, _Node]] = []
        self.operators = 0

    def parse(self) -> _Node:
        node = self._choice(0)
        if self.position != len(self.tokens):
            raise ExpressionError(f"{self._peek()[1][:40]!r} after the price")
        return node

    def _peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "the end")

    def _take(self, operator: str | None = None) -> tuple[str, str]:
        token = self._peek()
        if token[0] == "end" or (operator is not None and token != ("operator", operator)):
            raise ExpressionError(f"{token[1][:40]!r} where {operator or 'more'!r} was expected")
        self.position += 1
        return token

    def _choice(self, depth: int) -> _Node:
        if depth > _MAX_DEPTH:
            raise ExpressionError("too many levels")
        condition = self._operation(0, depth)
        if self._peek() != ("operator", "?"):
            return condition
        self._take()
        first = self._choice(depth + 1)
        self._take(":")
        second = self._choice(depth + 1)
        return lambda scope: first(scope) if _truth(condition(scope)) else second(scope)

    def _operation(self, priority: int, depth: int) -> _Node:
        left = self._unary(depth)
        while True:
            kind, operator = self._peek()
            rank = _PRIORITIES.get(operator, 0) if kind == "operator" else 0
            if not rank or rank <= priority:
                return left
            self._take()
            self.operators += 1
            if self.operators > _MAX_OPERATORS:
                raise ExpressionError(f"more than {_MAX_OPERATORS} operators")
            left = _binary(operator, left, self._operation(rank, depth + 1))

    def _unary(self, depth: int) -> _Node:
        if depth > _MAX_DEPTH:
            raise ExpressionError("too many levels")
        if self._peek() == ("operator", "-"):
            self._take()
            inner = self._unary(depth + 1)
            return lambda scope: -_number(inner(scope))
        if self._peek() == ("operator", "!"):
            self._take()
            inner = self._unary(depth + 1)
            return lambda scope: not _truth(inner(scope))
        return self._primary(depth)

    def _primary(self, depth: int) -> _Node:
        kind, text = self._take()
        if kind == "number":
            number = Fraction(text)
            return lambda scope: number
        if kind == "text":
            return lambda scope: text
        if (kind, text) == ("operator", "("):
            inner = self._choice(depth + 1)
            self._take(")")
            return inner
        if kind != "word":
            raise ExpressionError(f"{text!r}")
        if self._peek() == ("operator", "("):
            return self._call(text, depth)
        if text in ("true", "false"):
            truth = text == "true"
            return lambda scope: truth
        if text not in VARIABLES:
            raise ExpressionError(f"the name {text[:40]!r}")
        self.names.add(text)
        return lambda scope: scope.values[text]

    def _call(self, name: str, depth: int) -> _Node:
        if name in _REQUEST_FUNCTIONS:
            raise ExpressionError(f"{name}(), which depends on the request")
        if name not in _FUNCTIONS:
            raise ExpressionError(f"the function {name[:40]!r}")
        make, least, most = _FUNCTIONS[name]
        self._take("(")
        arguments: list[Any] = []
        start = self.position
        while self._peek() != ("operator", ")"):
            if arguments:
                self._take(",")
            arguments.append(self._choice(depth + 1))
        self._take(")")
        if not least <= len(arguments) <= most:
            raise ExpressionError(f"{name}() with {len(arguments)} arguments")
        node = make(*arguments)
        if name == "tier":
            self.tiers.append((self.tokens[start][1], node))
        return node
