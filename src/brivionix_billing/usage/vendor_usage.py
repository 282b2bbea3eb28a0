"""Finds counts that a vendor states beside the answer, or in an object that is not named ``usage``.

They are returned under the names that :mod:`brivionix_billing.usage.readers.vendors` reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

__all__ = ["find_vendor_usage"]

_OBJECTS: Final = {
    "usage_info": ("pages_processed",),
    "meta_info": ("prompt_tokens",),
    "stats": ("total_output_tokens",),
    "metrics": ("input_token_count", "output_token_count", "token_input_count", "image_count", "predict_time"),
    "extra_info": ("usage_characters",),
    "Usage": ("PromptTokens",),
    "token_usage": ("prompt_tokens",),
    "inference_status": ("tokens_input", "tokens_generated"),
}
"""Objects with the counts of Mistral's OCR, SGLang, LM Studio, Replicate, MiniMax, Hunyuan, LangChain and DeepInfra,
and keys that one must have."""
_DETAILS_KEYS: Final = frozenset(
    {
        *("finish_reason", "generated_tokens", "prompt_tokens", "input_length", "seed", "prefill", "tokens"),
        *("top_tokens", "best_of_sequences", "skipped"),
    }
)
"""Keys of the details of TGI and LoRAX that are read, or describe the text."""
_RESULT_KEYS: Final = frozenset({"text", "index", "finish_reason", "logprobs", "tool_calls"})
"""Keys of a result of KoboldCpp that describe the text."""
_SONIC_KEYS: Final = frozenset({"details", "totalInputTokens", "totalOutputTokens", "totalTokens"})
_OTHER_COUNTS: Final = frozenset({"tokens_prompt", "tokens_completion", "latency", "generation_time"})
"""Keys of OpenRouter's statistics that repeat counts with another tokenizer, or state times."""
_RENAMED: Final = {
    "metrics": {
        "token_input_count": "input_token_count",
        "token_output_count": "output_token_count",
        "image_output_count": "image_count",
        "character_input_count": "characters",
        "video_output_count": "video_count",
        "video_output_duration_seconds": "video_duration",
        "video_input_duration_seconds": "input_video_duration",
    },
    "stats": {"input_tokens": "input_token_count", "total_output_tokens": "output_token_count"},
    "inference_status": {"tokens_input": "input_token_count", "tokens_generated": "output_token_count"},
}
_DONE: Final = (None, "completed", "succeeded", "done")
_BILLED_TIMES: Final = ("totalBilledTime", "totalBilledDuration")
_BILLED_TIME: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s", re.ASCII)


def find_vendor_usage(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of an answer without a usage object; ``None`` if it has none of these vendors' counts."""
    for container, keys in _OBJECTS.items():
        found = body.get(container)
        if isinstance(found, Mapping) and any(found.get(key) is not None for key in keys):
            if container == "extra_info":  # the other numbers describe the sound
                return {"usage_characters": found["usage_characters"]}
            names = _RENAMED.get(container, {})
            if container == "inference_status" and not found.get("tokens_input"):  # embeddings and rerank
                found = {**found, "tokens_input": body.get("input_tokens") or found.get("tokens_input")}
            return {names.get(key, str(key)): value for key, value in found.items() if not _is_of_text(key)}
    for find in (_in_details, _of_spark, _of_search, _of_nova_sonic, _beside_the_answer, _of_media):
        counts = find(body)
        if counts:
            return counts
    return None


def _in_details(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of Text Generation Inference (TGI) and of LoRAX."""
    details = body.get("details")
    if isinstance(details, Mapping) and details.get("generated_tokens") is not None:
        prefill, length = details.get("prefill"), details.get("input_length", details.get("prompt_tokens"))
        if length is None and isinstance(prefill, list | tuple) and prefill:
            length = len(prefill)
        others = {str(key): value for key, value in details.items() if key not in _DETAILS_KEYS}
        return {**others, "input_token_count": length, "output_token_count": details["generated_tokens"]}
    return None


def _of_search(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the tokens of the pages that Jina's Reader or search read, and OpenRouter's statistics of a generation."""
    data = body.get("data")
    if isinstance(data, Mapping) and data.get("native_tokens_prompt") is not None:
        repeated = {"usage"} if data.get("usage") == data.get("total_cost") else set()
        return {str(key): value for key, value in data.items() if key not in _OTHER_COUNTS | repeated}
    for place in (data, body.get("meta")):
        usage = place.get("usage") if isinstance(place, Mapping) else None
        if isinstance(usage, Mapping) and "tokens" in usage:
            return {"input_token_count" if key == "tokens" else str(key): value for key, value in usage.items()}
    return None


def _of_nova_sonic(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of an event of Nova Sonic on Bedrock. They are those of the session so far."""
    event = body.get("event")
    usage = event.get("usageEvent") if isinstance(event, Mapping) else None
    if not isinstance(usage, Mapping) or usage.get("totalInputTokens") is None:
        return None
    details = usage.get("details")
    total = details.get("total") if isinstance(details, Mapping) else None
    parts = [total.get(name) if isinstance(total, Mapping) else None for name in ("input", "output")]
    names = {"speechTokens": "audio_tokens", "textTokens": "text_tokens"}
    of_input, of_output = (
        {names.get(key, str(key)): value for key, value in part.items()} if isinstance(part, Mapping) else {}
        for part in parts
    )
    return {
        **{str(key): value for key, value in usage.items() if key not in _SONIC_KEYS},
        "prompt_tokens": usage["totalInputTokens"],
        "completion_tokens": usage.get("totalOutputTokens"),
        "total_tokens": usage.get("totalTokens"),
        "prompt_tokens_details": of_input,
        "completion_tokens_details": of_output,
    }


def _of_spark(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of iFlytek's Spark. The prompt contains the question."""
    for key in ("payload", "usage", "text"):
        found = body.get(key)
        if not isinstance(found, Mapping):
            return None
        body = found
    question, prompt = body.get("question_tokens"), body.get("prompt_tokens")
    is_contained = type(question) is type(prompt) is int and question <= prompt
    return {str(key): value for key, value in body.items() if not (is_contained and key == "question_tokens")}


def _beside_the_answer(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of llama.cpp's and KoboldCpp's own API, of Aleph Alpha, and of embeddings and rerank."""
    if body.get("tokens_evaluated") is not None and body.get("tokens_predicted") is not None:
        return {
            "input_token_count": body["tokens_evaluated"],
            "output_token_count": body["tokens_predicted"],
            "tokens_cached": body.get("tokens_cached"),
        }
    if body.get("input_token_count") is not None:
        return {name: body[name] for name in ("input_token_count", "output_token_count") if name in body}
    if body.get("num_tokens_prompt_total") is not None and body.get("num_tokens_generated") is not None:
        return {
            "input_token_count": body["num_tokens_prompt_total"],
            "output_token_count": body["num_tokens_generated"],
        }
    is_embedding_or_rerank = "vectors" in body or isinstance(body.get("results"), list)
    if is_embedding_or_rerank and body.get("total_tokens") is not None:
        return {"input_token_count": body["total_tokens"]}
    if "embedding" in body and body.get("tokenCount") is not None:  # a line of batch results of Gemini
        return {"input_token_count": body["tokenCount"]}
    results, tokens = body.get("results"), body.get("tokens")
    if not isinstance(results, list) or not results:
        return None
    if isinstance(tokens, Mapping) and tokens.get("input_tokens") is not None:  # rerank of SiliconFlow
        names = {"input_tokens": "input_token_count", "output_tokens": "output_token_count"}
        return {names.get(key, str(key)): value for key, value in tokens.items()}
    first = results[0]
    if isinstance(first, Mapping) and first.get("completion_tokens") is not None and len(results) == 1:
        names = {"prompt_tokens": "input_token_count", "completion_tokens": "output_token_count"}
        return {names.get(key, str(key)): value for key, value in first.items() if key not in _RESULT_KEYS}
    return None


def _of_media(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the seconds of a transcription of Deepgram, AssemblyAI or Google, or of a video of OpenAI or xAI."""
    metadata, duration, seconds = body.get("metadata"), body.get("audio_duration"), body.get("seconds")
    if isinstance(metadata, Mapping) and "results" in body and type(metadata.get("duration")) in (int, float):
        channels = metadata.get("channels")  # each channel is transcribed, and billed
        return {"duration": metadata["duration"] * (channels if type(channels) is int and channels > 1 else 1)}
    if type(duration) in (int, float) and "text" in body:
        return {"duration": duration}
    for place in (body, metadata):
        for name in _BILLED_TIMES:
            billed = place.get(name) if isinstance(place, Mapping) and "results" in body else None
            found = _BILLED_TIME.fullmatch(billed) if isinstance(billed, str) else None
            if found:
                return {"duration": Decimal(found[1])}
    video = body.get("video")
    if isinstance(video, Mapping) and type(video.get("duration")) in (int, float) and body.get("status") in _DONE:
        return {"video_duration": video["duration"]}
    is_video = body.get("object") == "video" and body.get("status") in _DONE
    if is_video and isinstance(seconds, str) and seconds.isascii() and seconds.isdecimal() and len(seconds) <= 6:
        return {"video_duration": int(seconds)}
    return None


def _is_of_text(key: Any) -> bool:
    """Return whether SGLang states facts of the text under a key: why it ended, and probabilities of its tokens."""
    return key == "finish_reason" or "logprob" in str(key)
