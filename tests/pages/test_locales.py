"""Names of languages: every function that writes texts takes the same ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bill_kit import record
from brivionix_billing import BillingError
from brivionix_billing.pages import pricing_page
from brivionix_billing.report.page import report_page
from brivionix_billing.report.writers import report_table
from report_kit import report
from samples import AUTUMN, code_of, shipped

WRITERS: dict[str, Callable[[str], str]] = {
    "pricing_page": lambda name: pricing_page(shipped(), at=AUTUMN, groups=["mini-only"], locale=name),
    "report_page": lambda name: report_page(report([record(1)], "account"), locale=name),
    "report_table": lambda name: report_table(report([record(1)], "account"), name),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_names_of_chinese_mean_the_same(write: Callable[[str], str]) -> None:
    """``zh``, ``zh-CN``, ``zh-Hans`` and ``ZH_cn`` mean ``zh_CN``, and traditional Chinese is not replaced by it."""
    chinese = write("zh_CN")
    assert chinese != write("en")
    assert [name for name in ("zh", "zh-CN", "zh-Hans", "ZH_cn") if write(name) != chinese] == []
    for name in ("zh-TW", "zh-Hant", "fr", "", "zh_CN.UTF-8"):
        with pytest.raises(BillingError, match="use one of en, zh_CN") as caught:
            write(name)
        assert code_of(caught) == "invalid_argument"
