"""A summary of records that are not billed: by code, model and service tier, with advice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from brivionix_billing.rating.messages import resolve_locale
from brivionix_billing.usage.record_file import RejectedRecord

__all__ = ["ADVICE", "RejectedGroup", "RejectionSummary"]

ADVICE: Final[dict[str, dict[str, str]]] = {
    "en": {
        "unknown_model": "add the model or an alias to the price file",
        "unknown_group": "add the group to the price file, or terms with an earlier date",
        "model_not_allowed": "add the model to the group, with terms from that time",
        "unknown_service_tier": "correct the tier in the usage, or declare its name in the price file",
        "service_tier_unavailable": "add a price of this tier to the model, or correct the tier in the usage",
        "region_unavailable": "add the region to the model, or to regions in the price file",
        "mode_unavailable": "add the mode to the prices of the model",
        "unknown_upstream": "add the upstream to upstreams in the price file",
        "no_price": "append a price with an earlier date, or correct the time of the record",
        "meter_unpriced": "add a price of this meter to the model",
        "invalid_time": "state the zone of times without an offset (--naive-time-zone), or write 2026-10-01T00:00:00Z",
        "invalid_usage": "correct the count in the log of the gateway",
        "usage_contradiction": "compare the usage with the answer of the provider",
        "unknown_usage_key": "name the meter of this key; see docs/usage-file.md",
        "unaccounted_usage": "give the path a meter, or say report in unaccounted of the price file",
        "unknown_usage_format": "store the usage object of the provider; see docs/usage-file.md",
        "invalid_record": "correct the record; docs/usage-file.md has its fields",
        "duplicate_conflict": "find out which of the records is right, and remove the others",
    },
    "zh_CN": {
        "unknown_model": "在价格文件中添加该模型或别名",
        "unknown_group": "在价格文件中添加该分组，或添加更早日期的条款",
        "model_not_allowed": "从该时间起把模型加入分组的条款",
        "unknown_service_tier": "更正用量中的服务等级，或在价格文件中声明其名称",
        "service_tier_unavailable": "为模型添加该等级的价格，或更正用量中的等级",
        "region_unavailable": "为模型添加该区域，或写入价格文件的 regions",
        "mode_unavailable": "为模型添加该模式的价格",
        "unknown_upstream": "在价格文件的 upstreams 中添加该上游",
        "no_price": "添加更早日期的价格，或更正记录的时间",
        "meter_unpriced": "为模型添加该计量项的价格",
        "invalid_time": "说明无时区时间所属的时区（--naive-time-zone），或写成 2026-10-01T00:00:00Z",
        "invalid_usage": "更正网关日志中的数量",
        "usage_contradiction": "与提供商的响应核对用量",
        "unknown_usage_key": "说明该键属于哪个计量项；见 docs/usage-file.md",
        "unaccounted_usage": "为该路径指定计量项，或在价格文件的 unaccounted 中写 report",
        "unknown_usage_format": "保存提供商的用量对象；见 docs/usage-file.md",
        "invalid_record": "更正该记录；字段见 docs/usage-file.md",
        "duplicate_conflict": "查明哪条记录正确，并删除其余记录",
    },
}
"""Language -> code of a rejected record -> what to do."""
_FALLBACK: Final = {"en": "see docs/errors.md", "zh_CN": "见 docs/errors.md"}
_MAX_GROUPS: Final = 1_000
_OTHERS: Final = "(others)"


class RejectedGroup(NamedTuple):
    """Rejected records with the same code, model and service tier."""

    code: str
    model: str
    """Empty if the record has none that can be read."""
    service_tier: str
    records: int
    example: str
    """The message of the first of them, with its line."""

    def advice(self, locale: str = "en") -> str:
        """Return what to do about them, in ``en`` or ``zh_CN``."""
        locale = resolve_locale(locale)
        return ADVICE[locale].get(self.code, _FALLBACK[locale])

    def as_dict(self) -> dict[str, Any]:
        """Return the group for JSON."""
        return {**self._asdict(), "advice": self.advice()}


class RejectionSummary:
    """Counts rejected records by code, model and service tier. Beyond a thousand groups, others are one per code."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], int] = {}
        self._examples: dict[tuple[str, str, str], str] = {}
        self.total = 0

    def add(self, record: RejectedRecord) -> None:
        """Count a rejected record."""
        key = record.code, record.model or "", record.service_tier or ""
        self.count(key, f"line {record.line}: {record.message}")

    def count(self, key: tuple[str, str, str], example: str) -> None:
        """Count a record by code, model and service tier."""
        if key not in self._counts and len(self._counts) >= _MAX_GROUPS:
            key = key[0], _OTHERS, ""
        self._counts[key] = self._counts.get(key, 0) + 1
        self._examples.setdefault(key, example)
        self.total += 1

    def groups(self) -> Sequence[RejectedGroup]:
        """Return the groups, the largest first."""
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        return [RejectedGroup(*key, count, self._examples[key]) for key, count in ordered]
