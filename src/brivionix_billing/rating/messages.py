"""The words of explanations, and the labels of meters, in each language.

``{name}`` stands for a value. Every language has the same keys, and a label for every meter of ``meters.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from brivionix_billing.meters import METERS

__all__ = ["EXPLANATION_MESSAGES", "LOCALES", "METER_LABELS", "QUANTITY_LABELS"]

EXPLANATION_MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "{model}, group {group}, service tier {tier}, at {at}",
        "estimated": "ESTIMATED: the provider reported no token counts for this request, so they were estimated.",
        "split_read": "Of {total} input tokens, {read} were read from a cache, and no token is counted twice.",
        "reasoning": "The {output} output tokens contain {reasoning} reasoning tokens, which cost the same.",
        "long": "More than {above} input tokens (here {total}): the long-context prices hold for the whole request.",
        "short": "Not more than {above} input tokens (here {total}): the short-context prices hold.",
        "line": "{meter}: {quantity} x {price} USD / {per}{ratio} = {nominal} USD",
        "ratio": " x ratio {ratio}",
        "special": " (price of this group; list {list})",
        "none": "Nothing was used, so nothing is charged.",
        "sum": "Nominal price: {terms} = {nominal} USD",
        "credits": "Credits: {nominal} USD / {per_credit} USD per Credit = {credits} Credits",
        "channel": "Top-up price by {name}: {credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "At list price and without cache: {list} Credits. Saved by cache {cache}, by group {group}.",
        "dates": "Prices of {price} and terms of {group}; price book {digest}",
    },
    "zh_CN": {
        "title": "{model}，分组 {group}，服务层级 {tier}，时间 {at}",
        "estimated": "【估算】服务商没有报告本次请求的 token 用量，以下数量是估算值。",
        "split_read": "输入共 {total} 个 token，其中 {read} 个读自缓存，任何 token 都不会重复计费。",
        "reasoning": "{output} 个输出 token 中含 {reasoning} 个推理 token，价格相同。",
        "long": "输入超过 {above} 个 token（本次 {total} 个）：整个请求按长上下文价格计费。",
        "short": "输入未超过 {above} 个 token（本次 {total} 个）：按短上下文价格计费。",
        "line": "{meter}：{quantity} x {price} USD / {per}{ratio} = {nominal} USD",
        "ratio": " x 倍率 {ratio}",
        "special": "（本分组专价；官方价 {list}）",
        "none": "没有用量，不收费。",
        "sum": "名义价格：{terms} = {nominal} USD",
        "credits": "Credits：{nominal} USD / 每 Credit {per_credit} USD = {credits} Credits",
        "channel": "充值价（{name}）：{credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "按官方价且无缓存为 {list} Credits。缓存节省 {cache}，分组节省 {group}。",
        "dates": "价格生效于 {price}，分组条款生效于 {group}；价格簿 {digest}",
    },
}

LOCALES: Final = tuple(EXPLANATION_MESSAGES)
"""The languages of explanations, pages and descriptions."""

METER_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "input": "Input",
        "cache_read": "Cached input",
        "output": "Output",
        "cache_write": "Cache write",
        "cache_write_1h": "Cache write (1 h)",
        "audio_input": "Audio input",
        "audio_cache_read": "Cached audio input",
        "audio_output": "Audio output",
        "image_input": "Image input",
        "image_cache_read": "Cached image input",
        "image_output": "Image output",
        "video_input": "Video input",
        "video_cache_read": "Cached video input",
        "web_search": "Web search",
        "file_search": "File search",
        "code_interpreter": "Code interpreter",
        "image_generation": "Image generation",
    },
    "zh_CN": {
        "input": "输入",
        "cache_read": "缓存输入",
        "output": "输出",
        "cache_write": "缓存写入",
        "cache_write_1h": "缓存写入（1 小时）",
        "audio_input": "音频输入",
        "audio_cache_read": "缓存音频输入",
        "audio_output": "音频输出",
        "image_input": "图像输入",
        "image_cache_read": "缓存图像输入",
        "image_output": "图像输出",
        "video_input": "视频输入",
        "video_cache_read": "缓存视频输入",
        "web_search": "联网搜索",
        "file_search": "文件搜索",
        "code_interpreter": "代码解释器",
        "image_generation": "图像生成",
    },
}
"""Language -> meter -> its label, as pages and bills show it."""


def _quantity_label(locale: str, name: str, unit: str) -> str:
    label = METER_LABELS[locale][name]
    if locale == "zh_CN":
        return label + {"token": " token", "call": "次数", "session": "会话数"}[unit]
    return f"{label[0].lower()}{label[1:]} {unit}s"


QUANTITY_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    locale: {meter.name: _quantity_label(locale, meter.name, meter.unit) for meter in METERS} for locale in LOCALES
}
"""Language -> meter -> what is counted, such as "cached input tokens"."""
