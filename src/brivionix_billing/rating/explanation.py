"""A charge in words and figures. Every figure is exact, so a pocket calculator arrives at the same."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from brivionix_billing.decimals import format_plain, multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.rating.charge import Charge, ChargeLine
from brivionix_billing.times import format_instant

__all__ = ["LOCALES", "explain"]

_EN: Final = {
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
}
_EN_METERS: Final = {
    "input": "input tokens",
    "cache_read": "cached input tokens",
    "output": "output tokens",
    "cache_write": "tokens written to cache",
    "cache_write_1h": "tokens written to 1 h cache",
    "audio_input": "audio input tokens",
    "audio_cache_read": "cached audio tokens",
    "audio_output": "audio output tokens",
    "image_input": "image input tokens",
    "image_cache_read": "cached image tokens",
    "image_output": "image output tokens",
    "video_input": "video input tokens",
    "video_cache_read": "cached video tokens",
    "web_search": "web searches",
    "file_search": "file searches",
    "code_interpreter": "code interpreter sessions",
    "image_generation": "generated images",
}
_ZH_CN: Final = {
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
}
_ZH_CN_METERS: Final = {
    "input": "输入 token",
    "cache_read": "缓存输入 token",
    "output": "输出 token",
    "cache_write": "写入缓存 token",
    "cache_write_1h": "写入 1 小时缓存 token",
    "audio_input": "音频输入 token",
    "audio_cache_read": "缓存音频 token",
    "audio_output": "音频输出 token",
    "image_input": "图像输入 token",
    "image_cache_read": "缓存图像 token",
    "image_output": "图像输出 token",
    "video_input": "视频输入 token",
    "video_cache_read": "缓存视频 token",
    "web_search": "联网搜索次数",
    "file_search": "文件搜索次数",
    "code_interpreter": "代码解释器会话数",
    "image_generation": "图像生成次数",
}
LOCALES: Final = {"en": (_EN, _EN_METERS), "zh_CN": (_ZH_CN, _ZH_CN_METERS)}


def explain(charge: Charge, locale: str) -> str:
    """See :meth:`Charge.explain`. Raises ``invalid_argument`` for a locale that is not there."""
    found = LOCALES.get(locale) if isinstance(locale, str) else None
    if found is None:
        raise BillingError(
            "invalid_argument", f"no explanation in {safe_repr(locale)}; there are: {', '.join(LOCALES)}"
        )

    words, meters = found

    def say(key: str, **values: object) -> str:
        return words[key].format(**values)

    card, usage = charge.card, charge.usage
    out = [say("title", model=charge.model, group=charge.group, tier=charge.service_tier, at=format_instant(charge.at))]
    if usage.estimated:
        out.append(say("estimated"))
    if usage.cache_read_tokens:
        out.append(say("split_read", total=usage.input_tokens, read=usage.cache_read_tokens))
    if usage.reasoning_tokens:
        out.append(say("reasoning", output=usage.output_tokens, reasoning=usage.reasoning_tokens))
    if card.context_above is not None:
        out.append(say(card.context_tier, above=card.context_above, total=usage.input_tokens))
    out.append("")
    lines = charge.lines
    for line in lines:
        out.append(
            "  "
            + _format_line(say, line, meters[line.meter], format_plain(_nominal_amount(line, card.nominal_per_credit)))
        )
    if not lines:
        out.append("  " + say("none"))
    nominal = format_plain(charge.nominal.amount)
    terms = " + ".join(format_plain(_nominal_amount(line, card.nominal_per_credit)) for line in lines)
    credits = format_plain(charge.credits)
    out.append("")
    if len(lines) > 1:
        out.append(say("sum", terms=terms, nominal=nominal))
    out.append(say("credits", nominal=nominal, per_credit=format_plain(card.nominal_per_credit), credits=credits))
    for name, rate in card.channels.items():
        cost = format_plain(charge.cost(name).amount)
        out.append(
            say(
                "channel", name=name, credits=credits, price=format_plain(rate.price), currency=rate.currency, cost=cost
            )
        )
    saved = charge.savings
    out.append(
        say("saved", list=format_plain(saved.list), cache=format_plain(saved.cache), group=format_plain(saved.group))
    )
    out.append(
        say(
            "dates",
            price=format_instant(card.price_since),
            group=format_instant(card.group_since),
            digest=card.price_book_digest,
        )
    )
    return "\n".join(out) + "\n"


def _format_line(say: Callable[..., str], line: ChargeLine, name: str, nominal: str) -> str:
    if line.ratio is None:
        price = line.unit_price
        ratio = say("special", list="-" if line.list_price is None else format_plain(line.list_price))
    else:
        price = line.unit_price if line.list_price is None else line.list_price
        ratio = say("ratio", ratio=format_plain(line.ratio))
    return say(
        "line",
        meter=name,
        quantity=line.quantity,
        price=format_plain(price),
        per=line.per,
        ratio=ratio,
        nominal=nominal,
    )


def _nominal_amount(line: ChargeLine, nominal_per_credit: Decimal) -> Decimal:
    return multiply(line.credits, nominal_per_credit)
