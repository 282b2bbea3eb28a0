"""The words of explanations, and the labels of meters, in each language.

``{name}`` stands for a value. Every language has the same keys, and a label for every meter of ``meters.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import METERS, REQUEST_METERS, Meter
from brivionix_billing.rating.labels import name_with_label, pick_text

__all__ = [
    "EXPLANATION_MESSAGES",
    "LOCALES",
    "resolve_locale",
    "METER_LABELS",
    "RANGE_MESSAGES",
    "meter_label",
    "quantity_label",
    "range_text",
    "unit_names",
]

EXPLANATION_MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "title": "{model}, group {group}, service tier {tier}, at ",
        "estimated": "ESTIMATED: the provider reported no token counts for this request, so they were estimated.",
        "split_read": "{read} of {total} input tokens were read from a cache. Each token is charged once.",
        "reasoning": "The {output} output tokens include {reasoning} reasoning tokens, at the same price.",
        "long": "{range} (here {total}): long-context prices apply to the whole request.",
        "short": "{range} (here {total}): short-context prices apply.",
        "between": "{range} (here {total}): the prices of this range apply to the whole request.",
        "router": "Requested as {router}, served by {model}: the price of {model}, and the fee of the router.",
        "region": "Serving region {name}: {effect}.",
        "mode": "Mode {name}: {effect}.",
        "window": "Started in a window of the calendar {name}: {effect}.",
        "factor": "list prices x {factor}, fees of tools excepted",
        "own_prices": "its own list prices apply",
        "minimum": "A request costs at least {minimum} {currency}.",
        "exchange": "List prices are in {listed}: 1 {listed} = {rate} {currency}.",
        "exchanged": " x exchange rate {rate}",
        "line": "{meter}: {quantity} x {price} {currency} / {per}{ratio} = {nominal} {nominal_currency}",
        "ratio": " x ratio {ratio}",
        "special": " (group-specific price; list price {list})",
        "special_only": " (group-specific price)",
        "supplement": "supplement to the minimum charge of {price} {currency}{ratio} = {minimum} {nominal_currency} "
        "per request: {minimum} - {sum} = {nominal} {nominal_currency}",
        "none": "No usage, no charge.",
        "sum": "Nominal price: {terms} = {nominal} {currency}",
        "credits": "Credits: {nominal} {currency} / {per_credit} {currency} per Credit = {credits} Credits",
        "channel": "Top-up price through {name}: {credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "At list price and without caching: {list} Credits. Saved by caching: {cache}, by group: {group}.",
        "unaccounted": "NOT CHARGED: the provider reports {path} {value}, which no price in the price file is for.",
        "warning": "Note: {text}.",
        "dates": "Prices effective from {price}, group terms effective from {group}; price book {digest}",
    },
    "zh_CN": {
        "title": "{model}，分组 {group}，服务层级 {tier}，时间 ",
        "estimated": "【估算】服务商未返回本次请求的 token 用量，以下用量为估算值。",
        "split_read": "输入共 {total} 个 token，其中 {read} 个命中缓存；每个 token 只计费一次。",
        "reasoning": "输出共 {output} 个 token，其中 {reasoning} 个为推理 token，单价相同。",
        "long": "{range}（本次 {total} 个）：本次请求全部按长上下文价格计费。",
        "short": "{range}（本次 {total} 个）：按短上下文价格计费。",
        "between": "{range}（本次 {total} 个）：本次请求全部按该区间价格计费。",
        "router": "请求的是 {router}，实际由 {model} 提供服务：按 {model} 的价格加路由费计费。",
        "region": "服务区域 {name}：{effect}。",
        "mode": "模式 {name}：{effect}。",
        "window": "请求开始于日历 {name} 的时段内：{effect}。",
        "factor": "官方价 x {factor}（工具费用除外）",
        "own_prices": "适用单独的官方价",
        "minimum": "每次请求至少收费 {minimum} {currency}。",
        "exchange": "官方价以 {listed} 计：1 {listed} = {rate} {currency}。",
        "exchanged": " x 汇率 {rate}",
        "line": "{meter}：{quantity} x {price} {currency} / {per}{ratio} = {nominal} {nominal_currency}",
        "ratio": " x 倍率 {ratio}",
        "special": "（分组专属价；官方价 {list}）",
        "special_only": "（分组专属价）",
        "supplement": "最低消费补差：每次请求最低 {price} {currency}{ratio} = {minimum} {nominal_currency}；"
        "{minimum} - {sum} = {nominal} {nominal_currency}",
        "none": "无用量，不计费。",
        "sum": "名义价格：{terms} = {nominal} {currency}",
        "credits": "Credits：{nominal} {currency} / 每 Credit {per_credit} {currency} = {credits} Credits",
        "channel": "充值价（{name}）：{credits} Credits x {price} {currency} = {cost} {currency}",
        "saved": "按官方价且未命中缓存：{list} Credits。缓存命中节省 {cache}，分组价格节省 {group}。",
        "unaccounted": "【未计费】服务商返回了 {path} = {value}，价格文件中没有对应的价格。",
        "warning": "注意：{text}。",
        "dates": "价格生效时间 {price}，分组条款生效时间 {group}；价目表 {digest}",
    },
}

LOCALES: Final = tuple(EXPLANATION_MESSAGES)
"""The languages of explanations, pages and descriptions."""
_LOCALE_NAMES: Final = {
    **{name.lower(): name for name in LOCALES},
    **dict.fromkeys(("en_us", "en_gb"), "en"),
    **dict.fromkeys(("zh", "zh_hans", "zh_hans_cn"), "zh_CN"),
}
"""Lower-case names with underscores. Traditional Chinese is absent: its readers would get another script."""


def resolve_locale(name: object) -> str:
    """Return the locale of :data:`LOCALES` that a name means, such as ``zh_CN`` for ``zh``, ``zh-CN`` or ``zh-Hans``.

    Raises ``invalid_argument`` for any other name.

    >>> resolve_locale("zh"), resolve_locale("zh-Hans"), resolve_locale("en")
    ('zh_CN', 'zh_CN', 'en')
    """
    known = _LOCALE_NAMES.get(name.replace("-", "_").lower()) if isinstance(name, str) else None
    if known is None:
        message = f"no texts in the language {safe_repr(name)}; use one of {', '.join(LOCALES)} (zh means zh_CN)"
        raise BillingError("invalid_argument", message)
    return known


RANGE_MESSAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "range_over": "over {tokens}",
        "range_from": "from {tokens}",
        "range_up_to": "up to {tokens}",
        "range_under": "under {tokens}",
        "range_and": " and ",
        "range_tokens": "{range} input tokens",
    },
    "zh_CN": {
        "range_over": "超过 {tokens}",
        "range_from": "{tokens} 起",
        "range_up_to": "不超过 {tokens}",
        "range_under": "不足 {tokens}",
        "range_and": "、",
        "range_tokens": "输入 token {range}",
    },
}
"""Language -> the words of a range of input tokens. Explanations, price tables and pages share them."""


def range_text(locale: str, bounds: Mapping[str, int]) -> str:
    """Return the words of a range, such as "over 128,000 and up to 256,000"; see ``ContextRange.bounds``.

    >>> range_text("en", {"from": 256_000})
    'from 256,000'
    """
    messages = RANGE_MESSAGES[locale]
    return messages["range_and"].join(messages[f"range_{key}"].format(tokens=f"{n:,}") for key, n in bounds.items())


METER_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        "input": "Input",
        "cache_read": "Cached input",
        "output": "Output",
        "cache_write": "Cache write",
        "cache_write_1h": "Cache write (1 h)",
        "cache_write_12h": "Cache write (12 h)",
        "explicit_cache_read": "Explicitly cached input",
        "audio_input": "Audio input",
        "audio_cache_read": "Cached audio input",
        "audio_cache_write": "Audio cache write",
        "audio_output": "Audio output",
        "image_input": "Image input",
        "image_cache_read": "Cached image input",
        "image_output": "Image output",
        "video_input": "Video input",
        "video_cache_read": "Cached video input",
        "video_output": "Video output",
        "citation": "Citations",
        "web_search": "Web search",
        "web_search_low": "Web search (low context)",
        "web_search_high": "Web search (high context)",
        "maps_search": "Maps search",
        "file_search": "File search",
        "code_interpreter": "Code interpreter",
        "image_generation": "Image generation",
        "audio_input_seconds": "Audio input",
        "audio_output_seconds": "Audio output",
        "video_input_seconds": "Video input",
        "video_output_seconds": "Video output",
        "compute_seconds": "Compute time",
        "input_characters": "Input",
        "output_characters": "Output",
        "input_images": "Image input",
        "output_images": "Image output",
        "input_pixels": "Input",
        "output_pixels": "Output",
        "pages": "Documents",
        "annotation_pages": "Annotations",
        "queries": "Queries",
        "vector_storage": "Vector storage",
        "cache_storage": "Cache storage",
        "reasoning": "Reasoning",
        "request": "Requests",
        "router_fee": "Router fee",
        "minimum_charge": "Supplement to the minimum charge",
    },
    "zh_CN": {
        "input": "输入",
        "cache_read": "缓存输入",
        "output": "输出",
        "cache_write": "缓存写入",
        "cache_write_1h": "缓存写入（1 小时）",
        "cache_write_12h": "缓存写入（12 小时）",
        "explicit_cache_read": "显式缓存输入",
        "audio_input": "音频输入",
        "audio_cache_read": "缓存音频输入",
        "audio_cache_write": "音频缓存写入",
        "audio_output": "音频输出",
        "image_input": "图像输入",
        "image_cache_read": "缓存图像输入",
        "image_output": "图像输出",
        "video_input": "视频输入",
        "video_cache_read": "缓存视频输入",
        "video_output": "视频输出",
        "citation": "引用",
        "web_search": "联网搜索",
        "web_search_low": "联网搜索（低上下文）",
        "web_search_high": "联网搜索（高上下文）",
        "maps_search": "地图搜索",
        "file_search": "文件搜索",
        "code_interpreter": "代码解释器",
        "image_generation": "图像生成",
        "audio_input_seconds": "音频输入",
        "audio_output_seconds": "音频输出",
        "video_input_seconds": "视频输入",
        "video_output_seconds": "视频输出",
        "compute_seconds": "计算时间",
        "input_characters": "输入",
        "output_characters": "输出",
        "input_images": "图像输入",
        "output_images": "图像输出",
        "input_pixels": "输入",
        "output_pixels": "输出",
        "pages": "文档",
        "annotation_pages": "标注",
        "queries": "查询",
        "vector_storage": "向量存储",
        "cache_storage": "缓存存储",
        "reasoning": "推理",
        "request": "请求",
        "router_fee": "路由费",
        "minimum_charge": "最低消费补差",
    },
}
"""Language -> meter -> its label, as pages and bills show it; without the unit."""

_UNIT_NAMES: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "en": {
        "query": ("query", "queries"),
        "gigabyte_day": ("GB and day", "GB-days"),
        "token_hour": ("token and hour", "token-hours"),
    },
    "zh_CN": {
        "token": (" token", "token"),
        "call": ("次", "次"),
        "session": ("次会话", "次会话"),
        "query": ("次查询", "次查询"),
        "page": ("页", "页"),
        "request": ("次请求", "次请求"),
        "second": ("秒", "秒"),
        "minute": ("分钟", "分钟"),
        "hour": ("小时", "小时"),
        "day": ("天", "天"),
        "month": ("个月", "个月"),
        "image": ("张", "张"),
        "pixel": ("像素", "像素"),
        "character": ("字符", "字符"),
        "word": ("词", "词"),
        "byte": ("字节", "字节"),
        "megabyte": (" MB", " MB"),
        "gigabyte": (" GB", " GB"),
        "gigabyte_day": (" GB·天", " GB·天"),
        "token_hour": (" token·小时", " token·小时"),
        "video": ("个视频", "个视频"),
        "song": ("首", "首"),
        "document": ("份文档", "份文档"),
        "user": ("个用户", "个用户"),
        "message": ("条消息", "条消息"),
    },
}
"""Language -> unit -> its name for one and for many, if they are not its word and that word with an s."""


def unit_names(locale: str, unit: str) -> tuple[str, str]:
    """Return the name of a unit for one and for many. A word that has no translation stands for itself."""
    word = unit.replace("_", " ")
    return _UNIT_NAMES[locale].get(unit) or (word, f"{word}s" if locale == "en" else word)


_UNIT_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {"gigabyte_day": "gigabyte-days", "query": "queries", "credit": "in Credits", "request": ""},
    "zh_CN": {
        "token": " token",
        "call": "次数",
        "session": "会话数",
        "query": "次数",
        "page": "页数",
        "request": "次数",
        "second": "秒数",
        "image": "张数",
        "pixel": "像素数",
        "character": "字符数",
        "gigabyte_day": " GB·天",
        "token_hour": " token·小时",
        "credit": "（Credits）",
    },
}
"""Language -> unit -> what follows the label of a built-in meter."""


def meter_label(locale: str, meter: Meter) -> str:
    """Return the label of a meter: the one that the price file states, the built-in one, or its name."""
    return pick_text(meter.labels, locale) or METER_LABELS[locale].get(meter.name) or meter.name.replace("_", " ")


def quantity_label(locale: str, meter: Meter) -> str:
    """Return what a meter counts, such as "cached input tokens".

    A meter of the price file is named as the file states, followed by its unit unless the label has it already.
    """
    known = _QUANTITY_LABELS[locale].get(meter.name)
    if known is not None:
        return known
    label, (one, many) = meter_label(locale, meter), unit_names(locale, meter.unit)
    if one.strip().lower() in label.lower() or meter.unit.replace("_", " ").lower() in label.lower():
        return label
    return name_with_label(label, many.strip(), locale)


def _make_quantity_label(locale: str, meter: Meter) -> str:
    label = METER_LABELS[locale][meter.name]
    unit = _UNIT_LABELS[locale].get(meter.unit)
    if locale == "zh_CN":
        return label + (unit or "")
    if unit is None:
        unit = f"{meter.unit.replace('_', ' ')}s"
    return f"{label[0].lower()}{label[1:]} {unit}".rstrip()


_QUANTITY_LABELS: Final[Mapping[str, Mapping[str, str]]] = {
    locale: {meter.name: _make_quantity_label(locale, meter) for meter in (*METERS.values(), *REQUEST_METERS.values())}
    for locale in LOCALES
}
"""Language -> built-in meter -> its label with the unit."""
