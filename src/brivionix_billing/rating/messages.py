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
        "split_read": "{read} of {total} input tokens were read from a cache. Each token is charged once.",
        "reasoning": "The {output} output tokens include {reasoning} reasoning tokens, at the same price.",
        "long": "More than {above} input tokens (here {total}): long-context prices apply to the whole request.",
        "short": "At most {above} input tokens (here {total}): short-context prices apply.",
        "line": "{meter}: {quantity} x {price} USD / {per}{ratio} = {nominal} USD",
        "ratio": " x ratio {ratio}",
        "special": " (group-specific price; list price {list})",
        "none": "No usage, no charge.",
        "sum": "Nominal price: {terms} = {nominal} USD",
        "credits": "Credits: {nominal} USD / {per_credit} USD per Credit = {credits} Credits",
        "channel": "Top-up price through {name}: {credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "At list price and without caching: {list} Credits. Saved by caching: {cache}, by group: {group}.",
        "dates": "Prices effective from {price}, group terms effective from {group}; price book {digest}",
    },
    "zh_CN": {
        "title": "{model}，分组 {group}，服务层级 {tier}，时间 {at}",
        "estimated": "【估算】服务商未返回本次请求的 token 用量，以下用量为估算值。",
        "split_read": "输入共 {total} 个 token，其中 {read} 个命中缓存；每个 token 只计费一次。",
        "reasoning": "输出共 {output} 个 token，其中 {reasoning} 个为推理 token，单价相同。",
        "long": "输入超过 {above} 个 token（本次 {total} 个）：本次请求全部按长上下文价格计费。",
        "short": "输入不超过 {above} 个 token（本次 {total} 个）：按短上下文价格计费。",
        "line": "{meter}：{quantity} x {price} USD / {per}{ratio} = {nominal} USD",
        "ratio": " x 倍率 {ratio}",
        "special": "（分组专属价；官方价 {list}）",
        "none": "无用量，不计费。",
        "sum": "名义价格：{terms} = {nominal} USD",
        "credits": "Credits：{nominal} USD / 每 Credit {per_credit} USD = {credits} Credits",
        "channel": "充值价（{name}）：{credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "按官方价且未命中缓存：{list} Credits。缓存命中节省 {cache}，分组价格节省 {group}。",
        "dates": "价格生效时间 {price}，分组条款生效时间 {group}；价目表 {digest}",
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
