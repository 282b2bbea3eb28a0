"""Function tools as the model is shown them: signatures in the manner of TypeScript, made from their JSON Schemas.

Two layouts are known. The *classic* one stands in a namespace block; the *namespaced* one (gpt-5 and later) has
headings instead of the block. Within them a tool is one signature::

    // Its description, every line stripped.
    type get_weather = (_: { city: string, unit?: "C" | "F" }) => any;

An object with nothing to say about its properties stands on one line, any other has a property a line, with comments
above. This was found from pairs of requests and usage. What no pair shows (numbers, enumerations, references, bounds)
follows the public captures of such prompts, and :class:`Written` names it as unproven.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, quoted

__all__ = ["Written", "write_tools"]

_MAX_DEPTH: Final = 24
_MAX_STEPS: Final = 50_000
"""Parts of one tool's schema that are looked at: references can make a small schema grow without end."""
_BOUNDS: Final = (
    "format",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minItems",
    "maxItems",
)


class Written(NamedTuple):
    """Tools written out."""

    text: str
    unproven: tuple[str, ...]
    """Features of their schemas that no pair shows."""


def write_tools(tools: Sequence[Mapping[str, Any]], layout: str, namespace: str = "functions") -> Written:
    """Function definitions (``name``, ``description``, ``parameters``) written out under their heading.

    Raises ``request_invalid`` for a tool with no name, and for a schema nested deeper than 24.

    >>> tool = {"name": "hi", "description": "Says hi.", "parameters": {"properties": {"to": {"type": "string"}}}}
    >>> print(write_tools([tool], "classic").text)
    ## functions
    <BLANKLINE>
    namespace functions {
    <BLANKLINE>
    // Says hi.
    type hi = (_: { to?: string }) => any;
    <BLANKLINE>
    } // namespace functions
    """
    writer = _Writer(layout)
    body = "\n\n".join([writer.tool(tool) for tool in tools])
    if layout == "classic":
        text = f"## {namespace}\n\nnamespace {namespace} {{\n\n{body}\n\n}} // namespace {namespace}"
    else:
        text = f"## Namespace: {namespace}\n\n### Target channel: commentary\n\n### Tool definitions\n{body}"
    return Written(text, tuple(sorted(writer.unproven)))


class _Writer:
    def __init__(self, layout: str) -> None:
        self.classic = layout == "classic"
        self.unproven: set[str] = set()
        self.steps = 0
        self.root: Mapping[str, Any] = {}

    def tool(self, tool: Mapping[str, Any]) -> str:
        """One signature, with its description above."""
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            raise BillingError("request_invalid", f"a tool's name is {quoted(name)}; a name is a string")
        schema = tool.get("parameters")
        self.root = schema if isinstance(schema, Mapping) else {}
        self.steps = 0
        head = _comment(tool.get("description"))
        if not _properties(self.root):
            return f"{head}type {name} = () => any;"
        return f"{head}type {name} = (_: {_comment(self.root.get('description'))}{self._object(self.root, 0)}) => any;"

    def _object(self, schema: Mapping[str, Any], depth: int) -> str:
        properties = _properties(schema)
        required = schema.get("required")
        needed = set(required) if isinstance(required, list) and all(isinstance(r, str) for r in required) else set()
        written = [
            (name if name in needed else f"{name}?", self._resolved(part, depth + 1))
            for name, part in properties.items()
        ]
        if not any(self._talks(part, depth + 1) for _, part in written):
            return "{ " + ", ".join([f"{name}: {self._type(part, depth + 1)}" for name, part in written]) + " }"
        return "{\n" + "".join([self._property(name, part, depth + 1) for name, part in written]) + "}"

    def _property(self, name: str, schema: Mapping[str, Any], depth: int) -> str:
        title, description = schema.get("title"), schema.get("description")
        lines = _comment(title)
        if title and description:
            lines += "//\n"
        lines += _comment(description)
        kind = self._type(schema, depth)
        notes = [f"default: {json.dumps(schema['default'], ensure_ascii=False)}"] if "default" in schema else []
        if "\n" in kind or kind.startswith("{"):
            # What takes more than a line has its default above.
            lines += "".join([f"// {note}\n" for note in notes])
            notes = []
        bounds = [f"{key}: {json.dumps(schema[key], ensure_ascii=False)}" for key in _BOUNDS if key in schema]
        if bounds or notes:
            self._unproven("a bound" if bounds else "a default")
        notes += bounds
        return f"{lines}{name}: {kind},{' // ' + ', '.join(notes) if notes else ''}\n"

    def _talks(self, schema: Mapping[str, Any], depth: int) -> bool:
        """Whether a comment belongs to the schema or stands somewhere in it: then it takes lines of its own."""
        if any(key in schema for key in ("title", "description", "default", *_BOUNDS)):
            return True
        inner = [*_properties(schema).values(), *_options(schema), schema.get("items")]
        return any(
            self._talks(self._resolved(part, depth + 1), depth + 1) for part in inner if isinstance(part, Mapping)
        )

    def _type(self, schema: Mapping[str, Any], depth: int) -> str:
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list):
            self._unproven("an enumeration")
            return " | ".join([json.dumps(value, ensure_ascii=False) for value in values])
        options = _options(schema)
        if options:
            return self._union([self._type(self._resolved(option, depth + 1), depth + 1) for option in options])
        kind = schema.get("type")
        if isinstance(kind, list):
            self._unproven("a list of types")
            return self._union([self._type({**schema, "type": one}, depth + 1) for one in kind])
        if kind == "object" or (kind is None and _properties(schema)):
            return self._object_type(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number", "boolean", "null"):
            self._unproven("a type other than text, list and object")
            return "number" if self.classic and kind == "integer" else str(kind)
        return kind if isinstance(kind, str) else "any"

    def _object_type(self, schema: Mapping[str, Any], depth: int) -> str:
        if _properties(schema):
            return self._object(schema, depth)
        self._unproven("an open object")
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping) and more:
            return f"{{ [key: string]: {self._type(self._resolved(more, depth + 1), depth + 1)} }}"
        return "object" if self.classic or more is False else "{ [key: string]: any }"

    def _array(self, schema: Mapping[str, Any], depth: int) -> str:
        items = schema.get("items")
        if not isinstance(items, Mapping) or not items:
            return "any[]"
        inner = self._resolved(items, depth + 1)
        kind = self._type(inner, depth + 1)
        if "\n" in kind or " | " in kind or kind.startswith("{"):
            self._unproven("a list of objects")
            return f"Array<\n{_comment(inner.get('description'))}{kind}\n>" if "\n" in kind else f"Array<{kind}>"
        return f"{kind}[]"

    def _union(self, kinds: list[str]) -> str:
        if any("\n" in kind for kind in kinds):
            self._unproven("a union of objects")
            return "".join([f"\n | {kind}" for kind in kinds]) + "\n"
        return " | ".join(kinds)

    def _resolved(self, schema: object, depth: int) -> Mapping[str, Any]:
        """The schema that a reference within the tool's own schema means, with what stands beside the reference."""
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise BillingError(
                "request_too_large", f"a tool's schema has more than {_MAX_STEPS} parts, references resolved"
            )
        if depth > _MAX_DEPTH:
            raise BillingError("request_invalid", f"a tool's schema is nested more than {_MAX_DEPTH} deep")
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        self._unproven("a reference")
        found: Any = self.root
        for step in reference.removeprefix("#").strip("/").split("/") if reference.startswith("#/") else ():
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or found is self.root:
            return {"type": "any"}
        return self._resolved({**found, **{k: v for k, v in schema.items() if k != "$ref"}}, depth + 1)

    def _unproven(self, feature: str) -> None:
        self.unproven.add(feature)


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _options(schema: Mapping[str, Any]) -> list[Any]:
    for key in ("anyOf", "oneOf"):
        found = schema.get(key)
        if isinstance(found, list) and found:
            return found
    return []


def _comment(text: object) -> str:
    """A description as comment lines. Each line loses the space around it; an empty one is two slashes."""
    if not isinstance(text, str) or not text:
        return ""
    lines = [line.strip() for line in text.split("\n")]
    return "".join([f"// {line}\n" if line else "//\n" for line in lines])
