"""Branding of the pricing page: logo, links, previews, and texts by language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from brivionix_billing import BillingError
from brivionix_billing.pages import Branding, load_image, pricing_page
from cli_kit import SHIPPED, Run, run
from pages_kit import opened, violations
from paths import ROOT
from samples import AUTUMN, code_of, shipped

XMLNS = 'xmlns="http://www.w3.org/2000/svg"'
SVG = f"""<svg {XMLNS} width="96" height="32" viewBox="0 0 96 32"><defs><linearGradient id="g"><stop stop-color="#06c"/>
</linearGradient></defs><style>rect {{ rx: 4px }}</style><rect width="96" height="32" fill="url(#g)"/></svg>""".encode()
PNG = (ROOT / "docs" / "images" / "pricing-page.png").read_bytes()
BRANDING = Branding(
    home="https://example.com/?a=1&b=2",
    logo=SVG,
    favicon=PNG[:8] + PNG[8:33] + PNG[-12:],
    description={"en": 'Prices of "all" models', "zh_CN": "价格"},
    url="https://example.com/prices",
    preview_image="https://cdn.example.com/preview.png",
)

__all__ = ["run"]


def page(**options: Any) -> str:
    return pricing_page(shipped(), at=AUTUMN, groups=["default"], **options)


def test_the_branding_is_on_the_page_and_loads_nothing(browser: Browser, tmp_path: Path) -> None:
    """Logo, home link, favicon and previews are on the page; its policy holds, and a screen reader names the link."""
    with opened(browser, tmp_path / "p.html", page(branding=BRANDING)) as tab:  # fails on requests and messages
        assert tab.page.evaluate("document.querySelector('.logo').naturalWidth") == 96
        link = tab.page.get_by_role("link", name="example.com", exact=True)
        assert (link.get_attribute("href"), link.get_attribute("target")) == (BRANDING.home, "_top")
        found = tab.page.eval_on_selector_all(
            "meta[property], meta[name=description]",
            "all => Object.fromEntries(all.map(m => [m.getAttribute('property') || m.name, m.content]))",
        )
        assert found == {
            "description": 'Prices of "all" models',
            "og:type": "website",
            "og:title": "Model prices",
            "og:description": 'Prices of "all" models',
            "og:url": BRANDING.url,
            "og:image": BRANDING.preview_image,
        }
        assert violations(tab.page) == []
        for width in (320, 768):
            tab.page.set_viewport_size({"width": width, "height": 800})
            assert tab.page.evaluate("document.documentElement.scrollWidth") == width


def test_texts_follow_the_language(browser: Browser, tmp_path: Path) -> None:
    """Title and notes are those of the language, or of all languages; a note in one language is only in that one."""
    notes = ["Refunds: 30 days", {"zh": "可开发票"}, {"en": "VAT extra"}]
    html = page(title={"zh_CN": "价格表", "en": "Our prices"}, notes=notes)
    with opened(browser, tmp_path / "p.html", html) as tab:
        shown = "[...document.querySelectorAll('.notes:not([hidden]) p')].map(p => p.textContent).slice(0, 2)"
        assert (tab.text("h1"), tab.page.evaluate(shown)) == ("Our prices", ["Refunds: 30 days", "VAT extra"])
        tab.page.click("[data-language=zh_CN]")
        assert (tab.text("h1"), tab.page.evaluate(shown)) == ("价格表", ["Refunds: 30 days", "可开发票"])
        assert tab.page.title() == "价格表"
    assert '<h1 id="title">Model prices</h1>' in page(title={"zh_CN": "价格表"})


UNSAFE = [
    "<script>alert(1)</script>",
    '<rect onload="alert(1)"/>',
    '<a href="javascript:alert(1)"><rect/></a>',
    '<image xlink:href="https://evil.example/x.png" xmlns:xlink="http://www.w3.org/1999/xlink"/>',
    '<use href="data:image/svg+xml,x"/>',
    "<style>@import '//evil.example/x.css';</style>",
    '<rect style="fill: url(https://evil.example/x)"/>',
    '<rect fill="URL( //evil.example)"/>',
    '<set attributeName="href" to="javascript:alert(1)"/>',
    "<foreignObject><p/></foreignObject>",
    '<x:script xmlns:x="http://www.w3.org/2000/svg"/>',
]


@pytest.mark.parametrize("part", UNSAFE)
def test_an_unsafe_svg_is_refused(part: str) -> None:
    """An SVG with a script, or that loads something, is refused wherever it has it."""
    with pytest.raises(BillingError, match="the SVG") as caught:
        page(branding=Branding(logo=f"<svg {XMLNS}>{part}</svg>".encode()))
    assert code_of(caught) == "invalid_argument"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GIF89a",
        b"<html><script>1</script></html>",
        PNG[:2000],
        b"\xff\xd8\xff\xe0",
        b'<!DOCTYPE svg [<!ENTITY a "b">]>' + SVG,
        b'<?xml-stylesheet href="x.css"?>' + SVG,
        SVG.replace(b"2000/svg", b"2000/html"),
        SVG.decode().encode("utf-16"),
        SVG + b" " * 131_072,
    ],
    ids=range(10),
)
def test_only_images_are_images(tmp_path: Path, content: bytes) -> None:
    """Other kinds of files, cut or large images, and SVGs with entities or style sheets are refused with their name."""
    path = tmp_path / "logo.svg"
    path.write_bytes(content)
    with pytest.raises(BillingError, match=r"logo\.svg") as caught:
        load_image(path)
    assert code_of(caught) == "invalid_argument"


@pytest.mark.parametrize("field", ["home", "url", "preview_image"])
def test_an_address_is_http(field: str) -> None:
    """An address with another scheme, without a host, or with spaces or quotes is refused."""
    for wrong in ["javascript:alert(1)", "data:,x", "//x.example", "/a", "https://", "https://a b", "http://[", ""]:
        options: dict[str, Any] = {field: wrong}
        with pytest.raises(BillingError, match=f"{field} is ") as caught:
            page(branding=Branding(**options))
        assert code_of(caught) == "invalid_argument"


def test_the_command_takes_the_branding(run: Run) -> None:
    """The options of ``page`` give the page of the function; two texts for one language are an error."""
    Path("logo.svg").write_bytes(SVG)
    command = ("page", "--prices", SHIPPED, "--out", "p.html", "--at", "2026-10-20", "--group", "default")
    texts = "--title Prices --title zh=价格表 --note a=b --note zh-CN=可开发票 --description All"
    images = "--logo logo.svg --favicon logo.svg"
    addresses = "--home https://a.example --url https://a.example/p --preview-image https://a.example/i"
    assert run(*command, *f"{texts} {images} {addresses}".split())[0] == 0
    branding = Branding("https://a.example", SVG, SVG, "All", "https://a.example/p", "https://a.example/i")
    expected = page(title={"": "Prices", "zh_CN": "价格表"}, notes=["a=b", {"zh_CN": "可开发票"}], branding=branding)
    assert Path("p.html").read_text(encoding="utf-8") == expected
    status, _, err = run(*command, "--title", "a", "--title", "b")
    assert (status, "--title: two texts for all languages" in err) == (2, True)
    assert run(*command, "--logo", "p.html")[0] == 2


def test_the_properties_of_the_style_are_documented() -> None:
    """docs/pages.md names exactly the custom properties of the style sheet."""
    style = (ROOT / "src/brivionix_billing/pages/assets/base.css").read_text(encoding="utf-8")
    documented = (ROOT / "docs/pages.md").read_text(encoding="utf-8").split("\n## Style\n")[1].split("\n## ")[0]
    found = [set(re.findall(r"--bb-[a-z-]+", text)) for text in (style, documented)]
    assert found[0] == found[1]
