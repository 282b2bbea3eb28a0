"""Token families: how the models of one family turn a request into tokens. Data only; ``tokens`` applies it.

OpenAI publishes neither the text that a model receives for a request nor a way to count it. The rules here come from
comparing real requests with the usage that OpenAI reported for them. Each rule states how many recorded requests
confirm it (:attr:`Rule.samples`). A rule with no sample is an estimate, and so is a count that uses it.

The samples are recorded requests of the tests of 17 public projects. ``benchmarks/tokens.py`` and
``benchmarks/token_bounds.py`` compare every rule with them.
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
    """A number of tokens, and the evidence for it."""

    tokens: int
    samples: int = 0
    """Number of recorded requests that use this rule and are counted exactly; 0 for an estimate."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """The tokens around the texts of a request. The texts themselves are tokenised."""

    name: str
    layout: Literal["classic", "namespaced"]
    """Layout of rendered function tools, see ``tokens.tool_signatures``."""
    message: Rule
    """Around each message: its start, its role, the start of its text, its end."""
    reply_primer: Rule
    """Once: the start of the reply, which belongs to the input."""
    final_message: Rule
    """Additional tokens of a message of the assistant: its channel, ``final``."""
    commentary_message: Rule
    """Additional tokens of a message of the assistant before a tool call: its channel, ``commentary``."""
    tools_chat: Rule
    """Once for chat completions with tools: their introduction."""
    tools_chat_alone: Rule
    """Additional tokens of tools without a system message."""
    call: Rule
    """Around a tool call, besides its name and arguments."""
    result_chat: Rule
    """Around a tool's result in chat completions, besides the name and the text."""
    result_responses: Rule
    """The same in Responses."""
    result_full_name: bool
    """Whether a result contains the full name of its tool, as a call does (``functions.name``)."""
    parallel_chat: Rule
    """Chat completions: additional tokens of each further call in one message of the assistant."""
    parallel_wrapper: Rule
    """Chat completions: around several calls in one message and their results, besides one JSON text of all calls and
    the texts of the results. Without samples the calls are counted one by one, with ``parallel_chat``."""
    parallel_responses: Rule
    """The same as ``parallel_chat`` in Responses, for consecutive calls without a result between them."""
    stored_call: Rule
    """Responses: additional tokens of a single call with an ``id``. The provider shows the call as it stored it."""
    forced_tool: Rule
    """Around the name of a tool that ``tool_choice`` forces, at the start of the reply."""
    added_tools: Rule
    """Around tools that are added during a conversation: a message with its own introduction."""
    tool_search: Rule
    """Around a search for tools and its results, besides the query and the tools."""
    custom_tool_search: Rule
    """Additional tokens of a search by a tool that the request itself describes."""
    deferred_tools_notice: Rule
    """The provider's description of the tool search, present while tools are deferred."""
    schema: Rule
    """Around the JSON Schema of a structured output, besides its text."""
    schema_chat: Rule
    """Chat completions: around the name of a structured output, which is repeated if there are no tools."""
    schema_chat_alone: Rule
    """Chat completions: additional tokens of a structured output without tools and without a system message."""
    name_field: Rule
    """Around a participant's name, besides the name. Not if it equals the role."""
    hosted_tools: Mapping[str, Rule] = field(default_factory=dict)
    """Tools that the provider runs, by type: their description and the input that a typical run adds."""


@dataclass(frozen=True, slots=True)
class TileRule:
    """An image costs ``base``, plus ``tile`` for each 512 px square after scaling. At low detail it costs ``base``."""

    base: int
    tile: int


@dataclass(frozen=True, slots=True)
class PatchRule:
    """An image costs its 32 px patches x ``percent`` / 100, rounded up, after scaling to ``max_patches``."""

    percent: int
    max_patches: int = 1_536
    """Maximum number of patches at high detail."""
    side: int = 2_048
    """Maximum length of the longer side at high detail, in pixels."""
    original: tuple[int, int] | None = None
    """Maximum number of patches and length of the longer side at detail ``original``; ``None`` if it does not exist."""
    auto: Literal["high", "original"] = "high"
    documented: int | None = None
    """Percentage that OpenAI documents, if its usage differs. An upper bound uses the larger one."""


Images = TileRule | PatchRule


@dataclass(frozen=True, slots=True)
class Family:
    """Models with the same rules."""

    name: str
    prefixes: tuple[str, ...]
    """Prefixes of model names. The longest matching prefix of all families decides."""
    encoding: str
    dialect: ChatTemplate
    images: Images | None = None
    """``None`` if its models accept no images, as far as is known."""
    tools_margin: int = 0
    """Additional tokens of the bound of a request with ``tools`` to Responses. Until some date between March and June
    2025, OpenAI counted up to 216 tokens more for them, and 18 for an empty list."""
    vocabulary_unknown: bool = False
    """Whether the vocabulary of its models is unknown. Then even a text's tokens are an estimate."""


_CLASSIC: Final = ChatTemplate(
    name="classic",
    layout="classic",
    message=Rule(4, 394),
    reply_primer=Rule(3, 394),
    final_message=Rule(0, 39),
    commentary_message=Rule(0, 3),
    tools_chat=Rule(2, 111),
    tools_chat_alone=Rule(4, 53),
    call=Rule(7, 81),
    result_chat=Rule(5, 37),
    result_responses=Rule(3, 44),
    result_full_name=False,
    parallel_chat=Rule(13),
    parallel_wrapper=Rule(23, 10),
    parallel_responses=Rule(0, 6),
    stored_call=Rule(3, 32),
    forced_tool=Rule(6, 22),
    added_tools=Rule(10),
    tool_search=Rule(39),
    custom_tool_search=Rule(5),
    deferred_tools_notice=Rule(377),
    schema=Rule(1, 52),
    schema_chat=Rule(1, 13),
    schema_chat_alone=Rule(4, 11),
    name_field=Rule(1, 2),
    hosted_tools=MappingProxyType({"web_search": Rule(285), "file_search": Rule(300)}),
)
_HARMONY: Final = ChatTemplate(
    name="harmony",
    layout="namespaced",
    message=Rule(4, 172),
    reply_primer=Rule(2, 172),
    final_message=Rule(2, 18),
    commentary_message=Rule(3),
    tools_chat=Rule(81, 30),
    tools_chat_alone=Rule(1, 23),
    call=Rule(9, 19),
    result_chat=Rule(8, 11),
    result_responses=Rule(6, 8),
    result_full_name=True,
    parallel_chat=Rule(0),
    parallel_wrapper=Rule(0),
    parallel_responses=Rule(0),
    stored_call=Rule(0, 1),
    forced_tool=Rule(0, 7),
    added_tools=Rule(82, 4),
    tool_search=Rule(39),
    custom_tool_search=Rule(5),
    deferred_tools_notice=Rule(377),
    schema=Rule(1),
    schema_chat=Rule(1),
    schema_chat_alone=Rule(4),
    name_field=Rule(0, 2),
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
    message=Rule(4, 28),
    reply_primer=Rule(2, 28),
    final_message=Rule(2, 5),
    commentary_message=Rule(3, 3),
    tools_chat=Rule(81, 8),
    tools_chat_alone=Rule(1, 8),
    call=Rule(9, 14),
    result_chat=Rule(8, 4),
    result_responses=Rule(9, 10),
    added_tools=Rule(82, 11),
    tool_search=Rule(39, 3),
    custom_tool_search=Rule(5, 1),
    deferred_tools_notice=Rule(377, 1),
    stored_call=Rule(0, 6),
)


def _without_evidence(dialect: ChatTemplate) -> ChatTemplate:
    """Return the dialect without samples, for models without recorded requests."""
    fields = {name: getattr(dialect, name) for name in dialect.__slots__}
    unverified: dict[str, Any] = {n: rule._replace(samples=0) for n, rule in fields.items() if isinstance(rule, Rule)}
    return replace(dialect, name=f"{dialect.name}, guessed", **unverified)


# A stored call counts as that of gpt-4o in three recorded requests to gpt-4.1, and without its overhead in one.
_CLASSIC_4_1: Final = replace(
    _without_evidence(_CLASSIC),
    name="classic-4.1",
    message=Rule(4, 63),
    reply_primer=Rule(3, 63),
    final_message=Rule(0, 7),
    tools_chat=Rule(2, 14),
    tools_chat_alone=Rule(4, 4),
    call=Rule(7, 4),
    result_responses=Rule(3, 4),
    forced_tool=Rule(6, 1),
    schema=Rule(1, 2),
)
# Rules that no recorded request to gpt-5.6 uses are those of gpt-5.4, as estimates.
_HARMONY_5_6: Final = replace(
    _without_evidence(_HARMONY_5_4),
    name="harmony-5.6",
    message=Rule(4, 12),
    reply_primer=Rule(2, 12),
    call=Rule(9, 1),
    result_responses=Rule(9, 2),
    added_tools=Rule(80, 3),
    tool_search=Rule(39, 3),
    deferred_tools_notice=Rule(352, 1),
)


_MARGIN: Final = 220
_AUDIO_PREFIXES: Final = (
    *("gpt-4o-audio", "gpt-4o-realtime", "gpt-4o-search", "gpt-4o-transcribe"),
    *("gpt-4o-mini-audio", "gpt-4o-mini-realtime", "gpt-4o-mini-search", "gpt-4o-mini-transcribe", "gpt-4o-mini-tts"),
)
_CHAT_PREFIXES: Final = ("gpt-5-chat", "gpt-5.1-chat", "gpt-5.2-chat", "gpt-5.3-chat")
_TABLE: Final = (
    Family("gpt-4o", ("gpt-4o", "chatgpt-4o", "gpt-4.5"), "o200k_base", _CLASSIC, TileRule(85, 170), _MARGIN),
    Family("gpt-4o-mini", ("gpt-4o-mini",), "o200k_base", _CLASSIC, TileRule(2_833, 5_667), _MARGIN),
    # Variants for audio, search and speech count differently: a text to gpt-4o-audio-preview costs a token less.
    Family("gpt-4o-audio", _AUDIO_PREFIXES, "o200k_base", _without_evidence(_CLASSIC), TileRule(85, 170), _MARGIN),
    Family("gpt-4.1", ("gpt-4.1",), "o200k_base", _CLASSIC_4_1, TileRule(85, 170)),
    Family("gpt-4.1-mini", ("gpt-4.1-mini",), "o200k_base", _CLASSIC_4_1, PatchRule(162)),
    Family("gpt-4.1-nano", ("gpt-4.1-nano",), "o200k_base", _CLASSIC_4_1, PatchRule(246)),
    # Only the texts of embeddings count.
    Family("embeddings", ("text-embedding",), "cl100k_base", _without_evidence(_CLASSIC)),
    Family("gpt-4", ("gpt-4", "gpt-3.5"), "cl100k_base", _without_evidence(_CLASSIC), TileRule(85, 170), _MARGIN),
    Family("o-series", ("o1", "o3", "o4"), "o200k_base", _HARMONY, TileRule(75, 150), _MARGIN),
    Family("o4-mini", ("o4-mini",), "o200k_base", _HARMONY, PatchRule(172)),
    Family("computer-use", ("computer-use",), "o200k_base", _HARMONY, TileRule(65, 129), _MARGIN),
    Family("gpt-5", ("gpt-5",), "o200k_base", _HARMONY, TileRule(70, 140)),
    # OpenAI documents 1.62 tokens per patch. Its usage shows 1.20, in the recorded requests and in other measurements.
    # The models of ChatGPT do not reason, and no recorded request shows how they count.
    Family("gpt-5-chat", _CHAT_PREFIXES, "o200k_base", _without_evidence(_HARMONY), PatchRule(120, documented=162)),
    Family("gpt-5-mini", ("gpt-5-mini",), "o200k_base", _HARMONY, PatchRule(120, documented=162)),
    Family("gpt-5-nano", ("gpt-5-nano",), "o200k_base", _HARMONY, PatchRule(246)),
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
    # Models newer than the rules count as their nearest relative, as an estimate.
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
    """Return the family of a name. In the family ``unknown`` every rule and the vocabulary are estimates.

    Raises ``unknown_token_family``.
    """
    if name == _UNKNOWN:
        return Family(_UNKNOWN, (), encoding, _without_evidence(_HARMONY), vocabulary_unknown=True)
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None:
        raise BillingError(
            "unknown_token_family",
            f"unknown token family {safe_repr(name)}; use one of: {', '.join(FAMILIES)}, unknown",
        )
    return family


def family_for_model(model: str) -> Family | None:
    """Return the family of a model by its longest prefix. A provider before a slash is ignored.

    >>> family_for_model("openai/gpt-5-mini-2025-08-07").name
    'gpt-5-mini'
    """
    name = model.rpartition("/")[2].lower()
    matches = [
        (len(prefix), entry)
        for entry in _TABLE
        for prefix in entry.prefixes
        # gpt-5.10 is not a gpt-5.1, because the number continues
        if name.startswith(prefix) and not (prefix[-1].isdigit() and name[len(prefix) : len(prefix) + 1].isdigit())
    ]
    return max(matches, key=lambda pair: pair[0])[1] if matches else None
