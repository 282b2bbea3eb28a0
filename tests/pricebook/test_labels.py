"""Labels of service tiers, regions and modes, and the display names of everything else."""

from __future__ import annotations

import pytest

from brivionix_billing import PriceBook
from model_kit import book_of, findings

PRICES = (
    "m: {display_name: {en: M One, zh_CN: 一}, vendor: Acme, prices: [{from: 2026-01-01, standard: {input: 1,"
    " output: 2, regions: {us: {factor: 2}, eu: {input: 3, output: 4, modes: {fast: {factor: 3}}}}}}]}"
)
LABELS = (
    "labels: {service_tiers: {ultra: Ultra, batch: {en: Later, zh_CN: 稍后}}, regions: {us: {en: USA}},"
    " modes: {fast: 快}}"
)
TIERS = "service_tiers: {ultra: [uu]}\nregions: {asia: [jp]}\n"


def book(labels: str) -> PriceBook:
    """Return a book with a tier ``ultra``, the regions ``us``, ``eu`` and ``asia``, and a mode ``fast``."""
    return book_of(PRICES, TIERS + labels)


def test_labels_are_read_by_kind_and_language() -> None:
    """A label is given in the language asked for, else in the one that the file has; a name without one has none."""
    labels = book(LABELS).labels
    assert labels.named("service_tiers", "ultra", "zh_CN") == "ultra（Ultra）"
    assert labels.of("service_tiers", "batch", "zh_CN") == "稍后"
    assert labels.named("regions", "us", "zh_CN") == "us（USA）"
    assert labels.named("modes", "fast", "en") == "fast (快)"
    assert labels.named("regions", "eu", "en") == "eu"


def test_a_model_is_labelled_by_vendor_and_display_name() -> None:
    """Vendor and display name are one label, each in the language asked for."""
    labels = book("").labels
    assert labels.named("models", "m", "en") == "m (Acme M One)"
    assert labels.named("models", "m", "zh_CN") == "m（Acme 一）"


def test_no_digest_depends_on_labels() -> None:
    """Labels describe; neither the digest of the book nor that of a card changes with them."""
    assert book(LABELS).digest == book("").digest


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{service_tiers: {ultrra: x}}", "no service tier 'ultrra' in this file"),
        ("{regions: {uss: x}}", "no region 'uss' in this file"),
        ("{regions: {default: x}}", "no region 'default' in this file"),
        ("{modes: {slow: x}}", "no mode 'slow' in this file"),
    ],
)
def test_a_label_names_something_of_the_file(labels: str, message: str) -> None:
    """A label of a tier, region or mode that does not exist is a finding at its name."""
    (finding,) = findings(book, f"labels: {labels}")
    assert finding.message == message
    assert finding.path.startswith("labels.")


def test_labels_may_name_what_only_a_variant_or_a_section_has() -> None:
    """Modes within regions, and regions that are only declared, can be labelled."""
    labels = book("labels: {regions: {asia: Asia}, modes: {fast: Fast}}").labels
    assert (labels.of("regions", "asia", "en"), labels.of("modes", "fast", "en")) == ("Asia", "Fast")


def test_a_model_with_findings_hides_no_other_finding() -> None:
    """If a model cannot be read, its regions and modes are not reported as missing."""
    found = findings(lambda: book_of(PRICES.replace(" output: 2", " output: -2"), TIERS + LABELS))
    assert [finding.path.split(".")[0] for finding in found] == ["models"]
