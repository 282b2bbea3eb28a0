"""Renders function tools as the model receives them: signatures in the style of TypeScript, from their JSON Schemas.

Two layouts are known. The *classic* one is a namespace block. The *namespaced* one (gpt-5 and later) has headings
instead of the block. Within them a tool is one signature::

    // Its description, every line stripped.
    type get_weather = (_: { city: string, unit?: "C" | "F" }) => any;

An object is on one line if no property has a comment. Otherwise each property has its own line, with comments above.
This follows from recorded requests and their usage. Features that no recorded request shows (numbers, enumerations,
references, bounds) follow public captures of such prompts. :class:`RenderedTools` lists them as unverified.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr

__all__ = ["MAX_RENDERED_CHARACTERS", "RenderedTools", "tools_too_large_error", "render_tools"]

_MAX_DEPTH: Final = 24
_NODE_COST: Final = 64
"""Cost of visiting a part of a schema, in characters of rendered text."""
MAX_RENDERED_CHARACTERS: Final = 6_400_000
"""Budget of the tools of one request, in characters. References can expand a small schema without limit."""
_TOOL_KEYS: Final = frozenset({"type", "name", "description", "parameters", "strict", "defer_loading", "execution"})
_COUNTED_TOOL_KEYS: Final = _TOOL_KEYS | {"format", "cache_control"}
"""Keys of a tool whose effect is bounded: the format of a custom tool is shown as a text."""
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
_SCHEMA_CONTENT_KEYS: Final = ("anyOf", "oneOf", "items", "enum", "const", "additionalProperties", "description")
"""Keys of a schema without properties whose content is not rendered."""
_RENDERED_KEYS: Final = frozenset(
    {
        *("type", "properties", "required", "title", "description", "default", "items", "anyOf", "oneOf", "enum"),
        *(
            "const",
            "additionalProperties",
            "$ref",
            "$defs",
            "definitions",
            "$schema",
            "$id",
            "$comment",
            "strict",
            *_BOUNDS,
        ),
    }
)


_VERIFIED: Final = {
    "classic": frozenset({"the type integer", "the type number", "the type boolean", "a default", "a reference"}),
    "namespaced": frozenset({"the type integer", "the type number"}),
}
"""Features that recorded requests confirm, by layout."""


class RenderedTools(NamedTuple):
    """Rendered tools."""

    text: str
    unverified: tuple[str, ...]
    """Features of the schemas that no recorded request shows."""
    unknown: str
    """An unknown key of a tool besides its schema, whose effect is unknown; else empty."""
    has_omissions: bool
    """Whether parts were not rendered that the model may still receive."""
    cost: int
    """Cost of the rendering, in characters."""


def render_tools(
    tools: Sequence[Mapping[str, Any]], layout: str, namespace: str = "functions", budget: int = MAX_RENDERED_CHARACTERS
) -> RenderedTools:
    """Render function definitions (``name``, ``description``, ``parameters``) under their heading.

    Raises ``invalid_request`` if a tool has no name or a schema is not JSON, and ``request_too_large`` beyond
    ``budget``. All tools of a request share one budget.

    >>> tool = {"name": "hi", "description": "Says hi.", "parameters": {"properties": {"to": {"type": "string"}}}}
    >>> print(render_tools([tool], "classic").text)
    ## functions
    <BLANKLINE>
    namespace functions {
    <BLANKLINE>
    // Says hi.
    type hi = (_: { to?: string }) => any;
    <BLANKLINE>
    } // namespace functions
    """
    renderer = _SignatureRenderer(layout, budget)
    body = "\n\n".join([renderer.render_tool(tool) for tool in tools])
    if layout == "classic":
        text = f"## {namespace}\n\nnamespace {namespace} {{\n\n{body}\n\n}} // namespace {namespace}"
    else:
        text = f"## Namespace: {namespace}\n\n### Target channel: commentary\n\n### Tool definitions\n{body}"
    return RenderedTools(
        text, tuple(sorted(renderer.unverified)), renderer.unknown, renderer.has_omissions, budget - renderer.budget
    )


class _SignatureRenderer:
    def __init__(self, layout: str, budget: int) -> None:
        self.classic = layout == "classic"
        self.verified = _VERIFIED.get(layout, frozenset())
        self.budget = budget
        self.unverified: set[str] = set()
        self.has_omissions = False
        self.unknown = ""
        self.root: Mapping[str, Any] = {}
        self.references: set[str] = set()  # of the current tool

    def render_tool(self, tool: Mapping[str, Any]) -> str:
        """Render one signature, with its description above."""
        name = tool.get("name")
        if not isinstance(name, str) or not name:
            raise BillingError("invalid_request", f"a tool's name is {safe_repr(name)}; use a non-empty string")
        schema = tool.get("parameters")
        self.root = schema if isinstance(schema, Mapping) else {}
        self._charge(len(name))
        self._note_unknown_keys(tool, _TOOL_KEYS)
        unknown = [str(key) for key in tool.keys() - _COUNTED_TOOL_KEYS if tool[key] is not None]
        if unknown:
            self.unknown = safe_repr(min(unknown), 40)
        if schema is not None and not isinstance(schema, Mapping):
            self._note_omission("a schema that is no object")
        self.references.clear()
        resolved = self._resolve(self.root, ())
        definitions = self.root.get("$defs")
        if isinstance(definitions, Mapping) and any(f"#/$defs/{key}" not in self.references for key in definitions):
            self._note_omission("a definition that nothing refers to")
        head = self._render_comment(tool.get("description"))
        if not _properties(resolved):
            if any(resolved.get(key) for key in _SCHEMA_CONTENT_KEYS):
                self._note_omission("a schema without properties")
            return f"{head}type {name} = () => any;"
        comment = self._render_title_and_description(resolved)
        return f"{head}type {name} = (_: {comment}{self._render_object(resolved)}) => any;"

    def _resolve(self, schema: object, open_refs: tuple[str, ...], depth: int = 0) -> Mapping[str, Any]:
        """Return the schema with its references resolved. A recursive reference becomes a name."""
        if not isinstance(schema, Mapping):
            return {}
        self._charge(_NODE_COST + len(schema))
        if depth > _MAX_DEPTH:
            self._note_omission(f"a part deeper than {_MAX_DEPTH}")
            return {"type": "any"}
        self._note_unknown_keys(schema, _RENDERED_KEYS)
        reference = schema.get("$ref")
        if isinstance(reference, str):
            self._note_unverified("a reference")
            self._charge(len(reference))
            self.references.add(reference)
            target = None if reference in open_refs else self._resolve_ref(reference)
            if target is None:
                self._note_omission("a recursive or external reference")
                return {"type": reference.rpartition("/")[2].strip("#") or "any"}
            self._charge(len(target))
            siblings = {key: value for key, value in schema.items() if key != "$ref"}
            return self._resolve({**target, **siblings}, (*open_refs, reference), depth + 1)
        inner: dict[str, Any] = {}
        if _properties(schema):
            inner["properties"] = {
                name: self._resolve(part, open_refs, depth + 1) for name, part in _properties(schema).items()
            }
        for key in ("anyOf", "oneOf"):
            options = schema.get(key)
            if isinstance(options, list):
                inner[key] = [self._resolve(option, open_refs, depth + 1) for option in options]
        for key in ("items", "additionalProperties"):
            if isinstance(schema.get(key), Mapping):
                inner[key] = self._resolve(schema[key], open_refs, depth + 1)
        return {**schema, **inner}

    def _note_unknown_keys(self, value: Mapping[str, Any], known_keys: frozenset[str]) -> None:
        """Note the unknown keys of a value, which are not rendered."""
        for key in sorted(map(str, value.keys() - known_keys)):
            if value.get(key) is not None:
                self._note_omission(safe_repr(key, 40))

    def _resolve_ref(self, reference: str) -> Mapping[str, Any] | None:
        """Return the target of a reference within the tool's own schema, if it exists."""
        if not reference.startswith("#/"):
            return None
        target: Any = self.root
        for step in reference[2:].split("/"):
            target = target.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        return target if isinstance(target, Mapping) else None

    def _render_object(self, schema: Mapping[str, Any]) -> str:
        if isinstance(schema.get("additionalProperties"), Mapping) and schema["additionalProperties"]:
            self._note_omission("additionalProperties beside properties")
        properties = _properties(schema)
        required = schema.get("required")
        self._charge(len(required) if isinstance(required, list) else 0)
        required_names = (
            set(required) if isinstance(required, list) and all(isinstance(r, str) for r in required) else set()
        )
        fields = [(name if name in required_names else f"{name}?", part) for name, part in properties.items()]
        if not any(self._needs_lines(part) for _, part in fields):
            return "{ " + ", ".join([f"{name}: {self._render_type(part)}" for name, part in fields]) + " }"
        return "{\n" + "".join([self._render_property(name, part) for name, part in fields]) + "}"

    def _render_property(self, name: str, schema: Mapping[str, Any]) -> str:
        self._charge(len(name))
        lines = self._render_title_and_description(schema)
        kind = self._render_type(schema)
        notes = [f"default: {self._render_json(schema['default'])}"] if "default" in schema else []
        if "\n" in kind or kind.startswith("{"):
            # The default of a multi-line type is above it.
            lines += "".join([f"// {note}\n" for note in notes])
            notes = []
        bounds = [f"{key}: {self._render_json(schema[key])}" for key in _BOUNDS if key in schema]
        if bounds or notes:
            self._note_unverified("a bound" if bounds else "a default")
        notes += bounds
        return f"{lines}{name}: {kind},{' // ' + ', '.join(notes) if notes else ''}\n"

    def _needs_lines(self, schema: Mapping[str, Any]) -> bool:
        """Return whether the schema or a part of it has a comment, which requires lines of its own."""
        self._charge(_NODE_COST // 4)
        if any(key in schema for key in ("title", "description", "default", *_BOUNDS)):
            return True
        inner = [*_properties(schema).values(), *_options(schema), schema.get("items")]
        return any(self._needs_lines(part) for part in inner if isinstance(part, Mapping))

    def _render_type(self, schema: Mapping[str, Any]) -> str:
        values = schema.get("enum", [schema["const"]] if "const" in schema else None)
        if isinstance(values, list):
            self._note_unverified("an enumeration")
            return " | ".join([self._render_json(value) for value in values])
        options = _options(schema)
        if options:
            if any(option.get("description") for option in options):
                self._note_omission("a description within anyOf")
            if any(option.get("type") in ("array", "object") or _properties(option) for option in options):
                self._note_unverified("a union with an array or an object")
            return self._render_union([self._render_type(option) for option in options])
        kind = schema.get("type")
        if isinstance(kind, list):
            self._note_unverified("a list of types")
            self._charge((_NODE_COST + len(schema)) * len(kind))
            return self._render_union([self._render_type({**schema, "type": name}) for name in kind])
        if kind == "object" or (kind is None and _properties(schema)):
            return self._render_object_type(schema)
        if kind == "array":
            return self._render_array(schema)
        if kind in ("integer", "number", "boolean", "null"):
            self._note_unverified(f"the type {kind}")
            return "number" if self.classic and kind == "integer" else str(kind)
        return kind if isinstance(kind, str) else "any"

    def _render_object_type(self, schema: Mapping[str, Any]) -> str:
        if _properties(schema):
            return self._render_object(schema)
        self._note_unverified("an open object")
        additional = schema.get("additionalProperties")
        if isinstance(additional, Mapping) and additional:
            return f"{{ [key: string]: {self._render_type(additional)} }}"
        return "object" if self.classic or additional is False else "{ [key: string]: any }"

    def _render_array(self, schema: Mapping[str, Any]) -> str:
        items = schema.get("items")
        if not isinstance(items, Mapping) or not items:
            return "any[]"
        kind = self._render_type(items)
        if "\n" not in kind and any(key in items for key in ("description", "default", *_BOUNDS)):
            self._note_omission("a description of the items of an array")
        if "\n" in kind or " | " in kind or kind.startswith("{"):
            self._note_unverified("an array of objects")
            return (
                f"Array<\n{self._render_comment(items.get('description'))}{kind}\n>"
                if "\n" in kind
                else f"Array<{kind}>"
            )
        return f"{kind}[]"

    def _render_union(self, kinds: list[str]) -> str:
        if any("\n" in kind for kind in kinds):
            self._note_unverified("a union of objects")
            return "".join([f"\n | {kind}" for kind in kinds]) + "\n"
        return " | ".join(kinds)

    def _render_title_and_description(self, schema: Mapping[str, Any]) -> str:
        """Render the title and the description of a schema as comment lines, with an empty one between them."""
        title, description = self._render_comment(schema.get("title")), self._render_comment(schema.get("description"))
        return f"{title}//\n{description}" if title and description else title + description

    def _render_comment(self, text: object) -> str:
        """Render a text as comment lines. The text and each line are stripped; an empty line is two slashes."""
        if not isinstance(text, str) or not text:
            return ""
        self._charge(len(text))
        lines = [line.strip() for line in text.strip().split("\n")]
        return "".join([f"// {line}\n" if line else "//\n" for line in lines])

    def _render_json(self, value: object) -> str:
        try:
            text = json.dumps(value, ensure_ascii=False, default=dict)
        except (RecursionError, TypeError, ValueError) as error:
            raise BillingError("invalid_request", f"a part of a tool's schema is not JSON: {error}") from None
        self._charge(len(text))
        return text

    def _charge(self, characters: int) -> None:
        self.budget -= characters
        if self.budget < 0:
            raise tools_too_large_error()

    def _note_omission(self, feature: str) -> None:
        self.has_omissions = True
        self.unverified.add(feature)

    def _note_unverified(self, feature: str) -> None:
        if feature not in self.verified:
            self.unverified.add(feature)


def tools_too_large_error() -> BillingError:
    """Return the error for tools that exceed the budget of one request."""
    return BillingError(
        "request_too_large",
        f"the tools of the request exceed {MAX_RENDERED_CHARACTERS} characters when rendered; send fewer",
    )


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties")
    return properties if isinstance(properties, Mapping) else {}


def _options(schema: Mapping[str, Any]) -> list[Any]:
    for key in ("anyOf", "oneOf"):
        options = schema.get(key)
        if isinstance(options, list) and options:
            return options
    return []
