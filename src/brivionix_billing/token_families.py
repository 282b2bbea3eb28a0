"""Token families: how the models of one family turn a request into tokens. Data only; ``tokens`` applies it.

OpenAI publishes neither the text that a model is shown for a request nor a way to count it. The rules here were found
by comparing real requests with the usage that OpenAI reported for them, so each says by how many such pairs it is borne
out (:attr:`Rule.pairs`). A rule with no pair is an estimate, and a count that needs it says so.

The pairs are recorded requests of the pydantic-ai tests; ``benchmarks/tokens.py`` holds every rule against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from brivionix_billing.errors import BillingError, safe_repr

__all__ = [
    "FAMILIES",
    "ChatTemplate",
    "Family",
    "Images",
    "PatchRule",
    "Rule",
    "TileRule",
    "get_family",
    "family_for_model",
]


class Rule(NamedTuple):
    """A number of tokens, and how well it is known."""

    tokens: int
    samples: int = 0
    """So many recorded requests need this rule and are counted exactly with it; 0: an estimate."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What stands around the texts of a request. Every text itself is tokenised; these are the tokens beside it."""

    name: str
    layout: Literal["classic", "namespaced"]
    """How function tools are written out, see ``tokens.typescript``."""
    message: Rule
    """Around each message: its begin, its role, the begin of its text, its end."""
    reply_primer: Rule
    """Once: the opening of the reply, which belongs to the input."""
    final_message: Rule
    """More for a message of the assistant: the channel that it was said in."""
    commentary_message: Rule
    """More for a message of the assistant that a tool call follows: the channel for remarks, not for answers."""
    tools_chat: Rule
    """Once, chat completions with tools: the words that introduce them."""
    tools_chat_alone: Rule
    """More where no system message is there for the tools to stand in."""
    call: Rule
    """Around a tool call, beside its name and arguments."""
    result_chat: Rule
    """Around a tool's result in chat completions, beside the name and the text."""
    result_responses: Rule
    """The same in Responses."""
    result_full_name: bool
    """Whether a result names its tool as a call does (``functions.name``) or plainly."""
    parallel_chat: Rule
    """Chat completions: more for each further call in one message of the assistant."""
    parallel_responses: Rule
    """Responses: the same, for calls that follow each other with no result between."""
    added_tools: Rule
    """Around tools that are added in the middle of a conversation: a message with an introduction of its own."""
    tool_search: Rule
    """Around a search for tools and what it found, beside the query and the tools."""
    custom_tool_search: Rule
    """More for a search by a tool that the request describes itself."""
    deferred_tools_notice: Rule
    """The provider's own description of the tool search, shown while there are tools that were not loaded."""
    schema: Rule
    """Around the JSON Schema of a structured output."""
    name_field: Rule
    """Around a participant's name, beside the name."""
    hosted_tools: Mapping[str, Rule] = field(default_factory=dict)
    """The tools that the provider runs, by type: their description, and what a usual run puts into the input."""


@dataclass(frozen=True, slots=True)
class TileRule:
    """An image costs ``base``, and ``tile`` for each 512 px square once it is fitted; at low detail only ``base``."""

    base: int
    tile: int


@dataclass(frozen=True, slots=True)
class PatchRule:
    """An image costs its 32 px squares x ``hundredths`` / 100, rounded up, once it is fitted into ``budget``."""

    percent: int
    max_patches: int = 1_536
    """Most squares at high detail."""
    side: int = 2_048
    """Longest side at high detail, in pixels."""
    original: tuple[int, int] | None = None
    """Most squares and longest side at detail ``original``; ``None``: there is no such detail."""
    auto: Literal["high", "original"] = "high"
    documented: int | None = None
    """Hundredths as OpenAI documents them, where its usage says otherwise; a bound uses the larger."""


Images = TileRule | PatchRule


@dataclass(frozen=True, slots=True)
class Family:
    """Models that count alike."""

    name: str
    prefixes: tuple[str, ...]
    """A model whose name begins so belongs here; of several that fit, the longest decides."""
    encoding: str
    dialect: ChatTemplate
    images: Images | None = None
    """``None``: its models read no images, as far as is known."""
    vocabulary_unknown: bool = False
    """Whether its models are not known to use this vocabulary: then even a text's tokens are an estimate."""


_CLASSIC: Final = ChatTemplate(
    name="classic",
    layout="classic",
    message=Rule(4, 42),
    reply_primer=Rule(3, 42),
    final_message=Rule(0, 3),
    commentary_message=Rule(0, 3),
    tools_chat=Rule(2, 15),
    tools_chat_alone=Rule(4, 9),
    call=Rule(7, 13),
    result_chat=Rule(5, 8),
    result_responses=Rule(3, 5),
    result_full_name=False,
    parallel_chat=Rule(13, 3),
    parallel_responses=Rule(16),
    added_tools=Rule(10),
    tool_search=Rule(39),
    custom_tool_search=Rule(5),
    deferred_tools_notice=Rule(377),
    schema=Rule(12),
    name_field=Rule(1),
    hosted_tools=MappingProxyType({"web_search": Rule(285), "file_search": Rule(300)}),
)
_HARMONY: Final = ChatTemplate(
    name="harmony",
    layout="namespaced",
    message=Rule(4, 78),
    reply_primer=Rule(2, 78),
    final_message=Rule(2, 2),
    commentary_message=Rule(3),
    tools_chat=Rule(82, 24),
    tools_chat_alone=Rule(0, 23),
    call=Rule(9, 14),
    result_chat=Rule(8, 9),
    result_responses=Rule(6, 5),
    result_full_name=True,
    parallel_chat=Rule(0),
    parallel_responses=Rule(0),
    added_tools=Rule(82, 4),
    tool_search=Rule(39),
    custom_tool_search=Rule(5),
    deferred_tools_notice=Rule(377),
    schema=Rule(12),
    name_field=Rule(1),
    hosted_tools=MappingProxyType(
        {
            "web_search": Rule(9_000),
            "image_generation": Rule(340),
            "code_interpreter": Rule(750),
            "mcp": Rule(1_000),
        }
    ),
)
_HARMONY_5_4: Final = replace(
    _HARMONY,
    name="harmony-5.4",
    message=Rule(4, 22),
    reply_primer=Rule(2, 22),
    final_message=Rule(2, 5),
    commentary_message=Rule(3, 3),
    tools_chat=Rule(82, 8),
    tools_chat_alone=Rule(0, 8),
    call=Rule(9, 13),
    result_chat=Rule(8, 4),
    result_responses=Rule(9, 9),
    added_tools=Rule(82, 11),
    tool_search=Rule(39, 3),
    custom_tool_search=Rule(5, 1),
    deferred_tools_notice=Rule(377, 1),
)


# gpt-5.6 introduces tools with other words. What no request to it shows is as in gpt-5.4.
def _without_evidence(dialect: ChatTemplate) -> ChatTemplate:
    """The same numbers, borne out by nothing: for models that no pair is of."""
    fields = {name: getattr(dialect, name) for name in dialect.__slots__}
    unverified: dict[str, Any] = {n: rule._replace(samples=0) for n, rule in fields.items() if isinstance(rule, Rule)}
    return replace(dialect, name=f"{dialect.name}, guessed", **unverified)


# What no pair of gpt-5.6 shows is taken from gpt-5.4, and stays a guess.
_HARMONY_5_6: Final = replace(
    _without_evidence(_HARMONY_5_4),
    name="harmony-5.6",
    message=Rule(4, 7),
    reply_primer=Rule(2, 7),
    result_responses=Rule(9, 1),
    added_tools=Rule(80, 3),
    tool_search=Rule(39, 3),
    deferred_tools_notice=Rule(352, 1),
)


_TABLE: Final = (
    Family("gpt-4o", ("gpt-4o", "chatgpt-4o", "gpt-4.5"), "o200k_base", _CLASSIC, TileRule(85, 170)),
    Family("gpt-4o-mini", ("gpt-4o-mini",), "o200k_base", _CLASSIC, TileRule(2_833, 5_667)),
    Family("gpt-4.1", ("gpt-4.1",), "o200k_base", _CLASSIC, TileRule(85, 170)),
    Family("gpt-4.1-mini", ("gpt-4.1-mini",), "o200k_base", _CLASSIC, PatchRule(162)),
    Family("gpt-4.1-nano", ("gpt-4.1-nano",), "o200k_base", _without_evidence(_CLASSIC), PatchRule(246)),
    Family("gpt-4", ("gpt-4", "gpt-3.5"), "cl100k_base", _without_evidence(_CLASSIC), TileRule(85, 170)),
    Family("o-series", ("o1", "o3", "o4"), "o200k_base", _HARMONY, TileRule(75, 150)),
    Family("o4-mini", ("o4-mini",), "o200k_base", _without_evidence(_HARMONY), PatchRule(172)),
    Family("computer-use", ("computer-use",), "o200k_base", _HARMONY, TileRule(65, 129)),
    Family("gpt-5", ("gpt-5",), "o200k_base", _HARMONY, TileRule(70, 140)),
    # OpenAI documents 1.62 tokens a patch; its usage says 1.20, in the pairs and in others' measurements.
    Family("gpt-5-mini", ("gpt-5-mini",), "o200k_base", _HARMONY, PatchRule(120, documented=162)),
    Family("gpt-5-nano", ("gpt-5-nano",), "o200k_base", _without_evidence(_HARMONY), PatchRule(246)),
    Family("gpt-5.2", ("gpt-5.1", "gpt-5.2", "gpt-5.3"), "o200k_base", _HARMONY, PatchRule(120, documented=162)),
    Family(
        "gpt-5.4",
        ("gpt-5.4",),
        "o200k_base",
        _HARMONY_5_4,
        PatchRule(120, 2_500, original=(10_000, 6_000), documented=162),
    ),
    Family("gpt-5.4-mini", ("gpt-5.4-mini",), "o200k_base", _HARMONY_5_4, PatchRule(120, documented=162)),
    Family("gpt-5.4-nano", ("gpt-5.4-nano",), "o200k_base", _without_evidence(_HARMONY_5_4), PatchRule(246)),
    Family(
        "gpt-5.5",
        ("gpt-5.5",),
        "o200k_base",
        _HARMONY_5_4,
        PatchRule(120, 2_500, original=(10_000, 6_000), auto="original", documented=162),
    ),
    # Models that came after the rules were found: as their nearest neighbour, and an estimate.
    Family(
        "gpt-next",
        ("gpt-5.", "gpt-6", "gpt-7"),
        "o200k_base",
        _without_evidence(_HARMONY_5_6),
        PatchRule(120, 2_500, original=(30_000, 65_535), auto="original", documented=162),
    ),
    Family(
        "gpt-5.6",
        ("gpt-5.6",),
        "o200k_base",
        _HARMONY_5_6,
        PatchRule(120, 2_500, original=(30_000, 65_535), auto="original", documented=162),
    ),
)
FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({entry.name: entry for entry in _TABLE})
_UNKNOWN: Final = "unknown"


def get_family(name: str, encoding: str = "o200k_base") -> Family:
    """The family of a name; ``unknown`` is one of its own, in which every rule, and the vocabulary, is a guess.

    Raises ``unknown_token_family``.
    """
    if name == _UNKNOWN:
        return Family(_UNKNOWN, (), encoding, _without_evidence(_HARMONY), vocabulary_unknown=True)
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise BillingError(
            "unknown_token_family", f"no token family {safe_repr(name)}; there are: {', '.join(FAMILIES)}, unknown"
        )
    return family


def family_for_model(model: str) -> Family | None:
    """The family that a model's name belongs to, by its longest prefix; a provider before a slash is passed over.

    >>> family_for_model("openai/gpt-5-mini-2025-08-07").name
    'gpt-5-mini'
    """
    name = model.rpartition("/")[2].lower()
    matches = [
        (len(prefix), entry)
        for entry in _TABLE
        for prefix in entry.prefixes
        # gpt-5.10 is not a gpt-5.1: a number ends where its digits do
        if name.startswith(prefix) and not (prefix[-1].isdigit() and name[len(prefix) : len(prefix) + 1].isdigit())
    ]
    return max(matches, key=lambda pair: pair[0])[1] if matches else None
