"""Finds counts that a vendor states beside the answer, or in an object that is not named ``usage``.

They are returned under the names that :mod:`brivionix_billing.usage.readers.vendors` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["find_vendor_usage"]

_OBJECTS: Final = {
    "usage_info": ("pages_processed",),
    "meta_info": ("prompt_tokens",),
    "stats": ("total_output_tokens",),
    "metrics": ("input_token_count", "output_token_count", "image_count", "predict_time"),
    "extra_info": ("usage_characters",),
    "Usage": ("PromptTokens",),
    "inference_status": ("tokens_input", "tokens_generated"),
}
"""Objects with the counts of Mistral's OCR, SGLang, LM Studio, Replicate, MiniMax, Hunyuan and DeepInfra, and keys that
one must have."""
_RENAMED: Final = {
    "stats": {"input_tokens": "input_token_count", "total_output_tokens": "output_token_count"},
    "inference_status": {"tokens_input": "input_token_count", "tokens_generated": "output_token_count"},
}
_DONE: Final = (None, "completed", "succeeded")


def find_vendor_usage(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of an answer without a usage object; ``None`` if it has none of these vendors' counts."""
    for container, keys in _OBJECTS.items():
        found = body.get(container)
        if isinstance(found, Mapping) and any(found.get(key) is not None for key in keys):
            if container == "extra_info":  # the other numbers describe the sound
                return {"usage_characters": found["usage_characters"]}
            names = _RENAMED.get(container, {})
            return {names.get(key, str(key)): value for key, value in found.items() if not _is_of_text(key)}
    return _in_details(body) or _of_spark(body) or _beside_the_answer(body) or _of_media(body)


def _in_details(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the counts of Text Generation Inference (TGI), and the tokens of a page that Jina's Reader read."""
    details, data = body.get("details"), body.get("data")
    if isinstance(details, Mapping) and details.get("generated_tokens") is not None:
        prefill, length = details.get("prefill"), details.get("input_length")
        if length is None and isinstance(prefill, list | tuple) and prefill:
            length = len(prefill)
        return {"input_token_count": length, "output_token_count": details["generated_tokens"]}
    if isinstance(data, Mapping) and isinstance(data.get("usage"), Mapping) and "tokens" in data["usage"]:
        return {"input_token_count" if key == "tokens" else str(key): value for key, value in data["usage"].items()}
    return None


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
    """Return the counts of llama.cpp's own API, of Aleph Alpha, and of embeddings of watsonx and MiniMax."""
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
    if "vectors" in body and body.get("total_tokens") is not None:
        return {"input_token_count": body["total_tokens"]}
    return None


def _of_media(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the seconds of a transcription of Deepgram or AssemblyAI, or of a video of OpenAI."""
    metadata, duration, seconds = body.get("metadata"), body.get("audio_duration"), body.get("seconds")
    if isinstance(metadata, Mapping) and "results" in body and type(metadata.get("duration")) in (int, float):
        channels = metadata.get("channels")  # each channel is transcribed, and billed
        return {"duration": metadata["duration"] * (channels if type(channels) is int and channels > 1 else 1)}
    if type(duration) in (int, float) and "text" in body:
        return {"duration": duration}
    is_video = body.get("object") == "video" and body.get("status") in _DONE
    if is_video and isinstance(seconds, str) and seconds.isascii() and seconds.isdecimal() and len(seconds) <= 6:
        return {"video_duration": int(seconds)}
    return None


def _is_of_text(key: Any) -> bool:
    """Return whether SGLang states facts of the text under a key: why it ended, and probabilities of its tokens."""
    return key == "finish_reason" or "logprob" in str(key)
