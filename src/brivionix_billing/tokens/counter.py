"""The token counter of one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.token_families import Family, family_for_model, get_family
from brivionix_billing.tokens.anthropic import count_anthropic
from brivionix_billing.tokens.cache import CacheInfo, GenerationalCache
from brivionix_billing.tokens.chat import count_chat
from brivionix_billing.tokens.content import ImageSizeLookup, count_content
from brivionix_billing.tokens.conversation_cache import ConversationCache
from brivionix_billing.tokens.encodings import BUNDLED_ENCODING, count_tokens, encoding_for_model, load_encoding
from brivionix_billing.tokens.gemini import count_gemini
from brivionix_billing.tokens.request_body import Api, detect_api, parse_request, requested_service_tier
from brivionix_billing.tokens.request_counter import RequestCounter, to_json
from brivionix_billing.tokens.responses import count_responses
from brivionix_billing.tokens.token_count import CountBuilder, TokenCount
from brivionix_billing.tokens.tool_signatures import RenderedTools, render_tools, tools_too_large_error
from brivionix_billing.tokens.unknown_keys import count_unknown_keys
from brivionix_billing.tokens.worst_case import (
    WorstCase,
    max_output_tokens,
    most_expensive_charge,
    request_modalities,
    tool_call_bound,
)

if TYPE_CHECKING:
    import tiktoken

    from brivionix_billing.pricebook import PriceBook
    from brivionix_billing.pricebook.book import ModelInfo

__all__ = ["TokenCounter"]

_CACHE_CHARACTERS: Final = 8_000_000
_MAX_CHARACTERS: Final = 20_000_000
_BOUNDED_APIS: Final = ("anthropic", "gemini")
"""APIs of vendors whose vocabulary is not public. Their bounds are derived, and not guaranteed."""


class TokenCounter:
    """Counts the tokens of texts and of whole requests for one model, as its provider will report them.

    The family (the rules that apply, see ``token_families``) and the encoding come from the price file if there is a
    ``book``, else from the model's name. Arguments override both. The counter is safe to use from threads. It caches
    counts, so a growing conversation costs only its new texts. ``cache_characters`` bounds that cache.
    ``max_characters`` bounds the texts of one call; more is ``request_too_large``.

    ``image_size`` returns the size of an image that a request refers to by URL or file id. Without it such an image is
    an estimate with a bound. The counter never fetches an image.

    Raises ``unknown_model`` if neither the book nor the name determines the encoding, ``unknown_token_family`` and
    ``unknown_encoding``. The vocabulary is loaded at the first count.

    >>> counter = TokenCounter("gpt-5.4-mini")
    >>> counter.text("How many tokens is this?")
    6
    >>> request = {"model": "gpt-5.4-mini", "input": "What is the capital of Mexico?"}
    >>> counter.responses(request)
    13
    """

    def __init__(
        self,
        model: str,
        book: PriceBook | None = None,
        *,
        encoding: str | None = None,
        family: str | None = None,
        image_size: ImageSizeLookup | None = None,
        cache_characters: int = _CACHE_CHARACTERS,
        max_characters: int = _MAX_CHARACTERS,
    ) -> None:
        self.model = model
        self.max_input_tokens: int | None = None
        """Maximum number of input tokens of the model, if the book states it."""
        if book is not None:
            info = book.model_info(model)
            encoding, family = encoding or info.encoding, family or info.token_family
            self.max_input_tokens = info.window if info.max_input is None else info.max_input
            if encoding is None and family is None and family_for_model(model) is None:
                # The price file knows the model and not its vocabulary, which is often not public: an estimate.
                encoding = encoding_for_model(model) or BUNDLED_ENCODING
        self.family: Family = _choose_family(model, family, encoding)
        self.encoding: str = encoding or self.family.encoding
        if self.encoding != self.family.encoding:  # the rules were derived with the family's own encoding
            self.family = replace(self.family, vocabulary_unknown=True)
        self._image_size = image_size
        self._max_characters = max_characters
        self._book = book
        self._cache_characters = cache_characters
        self._cache = GenerationalCache(cache_characters // 2)
        self._conversations = ConversationCache(cache_characters // 2)
        self._encoder: tiktoken.Encoding | None = None

    def text(self, text: str) -> int:
        """Count the tokens of a text.

        Special tokens such as ``<|endoftext|>`` count as ordinary text, and lone surrogates as U+FFFD. Raises
        ``invalid_request`` if ``text`` is not a ``str``, ``request_too_large`` beyond the bound.
        """
        if not isinstance(text, str):
            raise BillingError("invalid_request", f"text is {safe_repr(text)}; use a str")
        if len(text) > self._max_characters:
            raise BillingError(
                "request_too_large",
                f"the text has {len(text)} characters; at most {self._max_characters} are counted",
            )
        return self._count(text)

    def chat(self, request: Mapping[str, Any] | str | bytes) -> TokenCount:
        """Count the input tokens of a request to chat completions.

        ``request`` is the body, parsed or as JSON text. Raises ``invalid_request`` if it is invalid,
        ``request_too_large`` beyond the bound.
        """
        return self._count_request("chat", request)

    def responses(self, request: Mapping[str, Any] | str | bytes) -> TokenCount:
        """Count the input tokens of a request to Responses. Raises as :meth:`chat` does."""
        return self._count_request("responses", request)

    def embeddings(self, request: Mapping[str, Any] | str | bytes) -> TokenCount:
        """Count the tokens of a request to embeddings. Texts have no overhead; a token id counts as one token."""
        inputs = parse_request(request).get("input")
        builder = CountBuilder(self.family, self._count, self._cache, self._max_characters)
        is_list = isinstance(inputs, list | tuple) and not all(type(item) is int for item in inputs)
        for item in inputs if is_list and inputs is not None else [inputs]:
            if isinstance(item, str):
                builder.add_text("messages", item)
            elif isinstance(item, list | tuple) and all(type(token) is int for token in item):
                builder.add_exact("messages", len(item), len(item))
            else:
                raise BillingError("invalid_request", f"the input of an embedding is {safe_repr(item)}; use a text")
        return builder.build(self.max_input_tokens)

    def anthropic(self, request: Mapping[str, Any] | str | bytes) -> TokenCount:
        """Estimate the input tokens of a request to Anthropic's ``/v1/messages``, and bound them.

        Anthropic's vocabulary is not public. So the count is never exact, and its bound is derived from bytes and
        documented figures, see ``tokens.anthropic``. Raises as :meth:`chat` does.
        """
        return self._bound_request(count_anthropic, request)

    def gemini(self, request: Mapping[str, Any] | str | bytes) -> TokenCount:
        """Estimate the input tokens of a request to Gemini's ``generateContent``, and bound them.

        As :meth:`anthropic`, see ``tokens.gemini``.
        """
        return self._bound_request(count_gemini, request)

    def request(self, request: Mapping[str, Any] | str | bytes, *, api: Api | None = None) -> TokenCount:
        """Count the input tokens of a request to ``api``: chat, responses, embeddings, anthropic or gemini.

        Without ``api``, the keys of the body decide. A gateway knows the path of the call and should pass it. Raises as
        :meth:`chat` does.
        """
        body = parse_request(request)
        count: TokenCount = getattr(self, detect_api(body, api))(body)
        return count

    def worst_case(
        self,
        request: Mapping[str, Any] | str | bytes,
        *,
        group: str | None = None,
        at: datetime | None = None,
        service_tier: str | None = None,
        max_tool_calls: int | None = None,
        api: Api | None = None,
    ) -> WorstCase:
        """Return the most that a request can use in tokens, and in Credits with ``group`` and ``at``.

        A gateway holds these Credits. The input is the bound of the count, or all that the model accepts. The output is
        the limit of the request (times ``n``), within the limits of the model. No cache discount is assumed, and the
        more expensive context tier applies if the input can reach it. The service tier is the argument, else the one
        that the request names; ``auto`` is priced as standard. Each tool of the provider with a fee may be called
        ``max_tool_calls`` times: the limit of the request, else the argument, else 10. ``api`` is as in
        :meth:`request`.

        Raises ``invalid_request``, ``request_too_large``, ``cost_unbounded`` if neither the request nor the book bounds
        the output, and what ``PriceBook.rate`` raises for model, group, tier and time.
        """
        body = parse_request(request)
        api = detect_api(body, api)
        count = self.request(body, api=api)
        model_info = None if self._book is None else self._book.model_info(self.model)
        self._require_same_model(body, model_info)
        upper = count.upper
        if upper is None:
            raise BillingError(
                "cost_unbounded",
                f"{count.reasons[0]}, and no price book states the maximum input of {safe_repr(self.model)}",
            )
        output_tokens = (
            0
            if api == "embeddings"
            else max_output_tokens(body, api, model_info, count) + self._predicted_output_tokens(body)
        )
        calls, is_bounded = tool_call_bound(body, max_tool_calls)
        reasons = [
            part.reason
            for part in count.parts
            if part.upper is None or ((self.family.vocabulary_unknown or api in _BOUNDED_APIS) and not part.exact)
        ]
        if not is_bounded:
            reasons.append("the number of provider tool calls is unbounded; set max_tool_calls")
        charge = None
        if group is not None or at is not None:
            if self._book is None or group is None or at is None:
                raise BillingError("invalid_argument", "a worst case in Credits needs a price book, a group and a time")
            charge = most_expensive_charge(
                self._book,
                self.model,
                group=group,
                at=at,
                service_tier=service_tier if service_tier is not None else requested_service_tier(body),
                mode=body["speed"] if isinstance(body.get("speed"), str) else None,
                input_tokens=upper,
                output_tokens=output_tokens,
                calls=calls,
                modalities=request_modalities(body, count),
            )
        return WorstCase(upper, output_tokens, calls, not reasons, tuple(dict.fromkeys(reasons)), count, charge)

    def _require_same_model(self, body: Mapping[str, Any], model_info: ModelInfo | None) -> None:
        """Raise if the request names another model of the book, because the hold would have the wrong price."""
        requested = body.get("model")
        if self._book is None or model_info is None or not isinstance(requested, str) or requested == self.model:
            return
        try:
            other = self._book.model_info(requested).name
        except BillingError:
            return  # an alias of the gateway, or of its provider
        if other != model_info.name:
            raise BillingError(
                "invalid_argument",
                f"the request is for {safe_repr(requested)}, but this counter is for {safe_repr(self.model)}",
            )

    def _predicted_output_tokens(self, body: Mapping[str, Any]) -> int:
        """Count a predicted output: rejected tokens of it are billed besides the limit of the output."""
        prediction = body.get("prediction")
        if not isinstance(prediction, Mapping):
            return 0
        builder = CountBuilder(self.family, self._count, self._cache, self._max_characters)
        count_content(builder, "messages", prediction.get("content"), "chat", None)
        return int(builder.build(None))

    def cache_info(self) -> CacheInfo:
        """Return the contents of the cache of texts and conversations, and its hits and misses."""
        info = self._cache.info()
        characters = info.characters + self._conversations.characters
        return info._replace(characters=characters, max_characters=self._cache_characters)

    def cache_clear(self) -> None:
        """Drop all cached counts."""
        self._cache.clear()
        self._conversations.clear()

    def _count_request(self, api: Literal["chat", "responses"], request: Mapping[str, Any] | str | bytes) -> TokenCount:
        body = parse_request(request)
        builder = CountBuilder(self.family, self._count, self._cache, self._max_characters)
        counter = RequestCounter(builder, self._render_tools, self._conversations, self._image_size, api)
        try:
            (count_chat if api == "chat" else count_responses)(counter, body)
            count_unknown_keys(counter, body)
        except RecursionError:
            raise BillingError("invalid_request", "the request is nested too deeply") from None
        return builder.build(self.max_input_tokens)

    def _bound_request(
        self, count: Callable[[CountBuilder, Mapping[str, Any]], None], request: Mapping[str, Any] | str | bytes
    ) -> TokenCount:
        body = parse_request(request)
        builder = CountBuilder(self.family, self._count, self._cache, self._max_characters)
        try:
            count(builder, body)
        except RecursionError:
            raise BillingError("invalid_request", "the request is nested too deeply") from None
        return builder.build(self.max_input_tokens)

    def _count(self, text: str) -> int:
        return self._cache.get(text, len(text), partial(self._count_uncached, text))

    def _count_uncached(self, text: str) -> int:
        return count_tokens(text, self._load_encoder())

    def _load_encoder(self) -> tiktoken.Encoding:
        if self._encoder is None:
            self._encoder = load_encoding(self.encoding)
        return self._encoder

    def _render_tools(self, functions: Sequence[Mapping[str, Any]], namespace: str, budget: int) -> RenderedTools:
        # Each turn repeats its tools, so their rendering is cached by their JSON.
        text = to_json(functions)
        layout = self.family.dialect.layout
        key = (text, namespace)
        rendered = self._cache.get(key, 2 * len(text), lambda: render_tools(functions, layout, namespace, budget))
        if rendered.cost > budget:  # a cached rendering must still be within the budget
            raise tools_too_large_error()
        return rendered


def _choose_family(model: object, name: str | None, encoding_name: str | None) -> Family:
    if name is not None:
        return get_family(name)
    by_model = family_for_model(model) if isinstance(model, str) else None
    if by_model is not None:
        return by_model
    encoding_name = encoding_name or (encoding_for_model(model) if isinstance(model, str) else None)
    if encoding_name is None:
        raise BillingError(
            "unknown_model",
            f"no token family is known for {safe_repr(model)}; add it to the price file, or pass an encoding",
        )
    return get_family("unknown", encoding_name)
