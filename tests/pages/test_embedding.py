"""The pricing page in other sites: as an element that follows their theme and language, and in a frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, Route

from brivionix_billing.pages import pricing_component, pricing_page
from pages_kit import violations
from paths import ROOT
from samples import AUTUMN, shipped

HOST = "https://host.example/"
PRICES = "https://prices.example.com/pricing.html"
PAGE = """<!doctype html><html lang="zh-Hans" style="color-scheme: dark"><meta charset="utf-8"><title>Host</title>
<script src="/prices.js" defer></script><style>:root { --bb-text: red } h1 { color: blue }
brivionix-prices { --bb-accent: light-dark(#7a4300, #ffb066) }</style>
<main><h1>Host</h1><brivionix-prices></brivionix-prices></main></html>"""
INSIDE = "document.querySelector('brivionix-prices').shadowRoot"


@contextmanager
def served(browser: Browser, files: dict[str, tuple[str, str]], policy: str = "") -> Iterator[tuple[Page, list[str]]]:
    """Open the first file in a tab to which these files are the web. Yields the tab, and its requests and messages."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    tab, seen = context.new_page(), []

    def answer(route: Route) -> None:
        kind, body = files.get(route.request.url.split("#")[0], ("text/plain", ""))
        seen.append(route.request.url)
        headers = {"content-type": kind} | ({"content-security-policy": policy} if policy else {})
        route.fulfill(body=body, headers=headers)

    tab.on("console", lambda message: seen.append(message.text))
    tab.on("pageerror", lambda error: seen.append(str(error)))
    context.route("**/*", answer)
    tab.goto(next(iter(files)))
    yield tab, seen
    context.close()


@pytest.fixture(scope="module")
def host(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A dark Chinese page with the element, under a policy that allows only the script of its own server."""
    script = pricing_component(
        shipped(), at=AUTUMN, groups=["default", "coding"], notes=["A note", {"en": "Only here"}]
    )
    files = {HOST: ("text/html", PAGE), f"{HOST}prices.js": ("text/javascript; charset=utf-8", script)}
    with served(browser, files, "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'") as found:
        yield found


def colours(tab: Page) -> list[str]:
    """Return the background and the text of the table's card."""
    style = f"getComputedStyle({INSIDE}.getElementById('prices'))"
    return [tab.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]


def test_the_element_follows_theme_and_language(host: tuple[Page, list[str]]) -> None:
    """Colours follow the color-scheme of the page around it and texts its language, also when they change."""
    tab, _ = host
    heading = f"{INSIDE}.getElementById('prices-heading').textContent"
    assert tab.evaluate(heading) == "分组 default 的价格"
    assert colours(tab) == ["rgb(26, 30, 34)", "rgb(231, 234, 238)"]
    notes = f"{INSIDE}.querySelector('.notes:not([hidden])').textContent"
    assert ("A note" in tab.evaluate(notes), "Only here" in tab.evaluate(notes)) == (True, False)
    tab.evaluate("document.documentElement.lang = 'en'; document.documentElement.style.colorScheme = 'light'")
    assert (tab.evaluate(heading), colours(tab)) == (
        "Prices of group default",
        ["rgb(255, 255, 255)", "rgb(27, 32, 39)"],
    )
    assert "Only here" in tab.evaluate(notes)


def test_the_element_works_and_loads_nothing(host: tuple[Page, list[str]]) -> None:
    """The element works under a strict policy, keeps the address of the page, and is free of axe violations."""
    tab, seen = host
    tab.get_by_label("Search models").fill("mini")
    assert tab.evaluate(f"{INSIDE}.querySelectorAll('#table tbody .name').length") == 1
    tab.get_by_label("Search models").fill("")
    tab.get_by_role("switch").click()
    assert "CN¥" in tab.evaluate(f"{INSIDE}.getElementById('table').textContent")
    assert (tab.url, violations(tab)) == (HOST, [])
    assert tab.evaluate("getComputedStyle(document.querySelector('h1')).color") == "rgb(0, 0, 255)"
    assert seen == [HOST, f"{HOST}prices.js"]
    # The tint of an accent is that of the host, not of the default.
    tint = f"getComputedStyle({INSIDE}.querySelector('.choices label:has(:checked)')).backgroundColor"
    red, green, blue = tab.evaluate(f"{tint}.match(/[0-9.]+/g).map(Number)")[:3]
    assert red > green > blue


def test_two_elements_are_independent(host: tuple[Page, list[str]]) -> None:
    """A second element has its own state, and one that is removed and added again still follows the language."""
    tab, seen = host
    tab.evaluate("""() => {
      const first = document.querySelector("brivionix-prices"), second = document.createElement("brivionix-prices");
      first.after(second);
      first.shadowRoot.getElementById("search").value = "mini";
      first.shadowRoot.getElementById("search").dispatchEvent(new Event("input"));
      second.remove();
      first.after(second);
      document.documentElement.lang = "zh-CN";
    }""")
    tab.wait_for_timeout(20)
    counts = (
        "[...document.querySelectorAll('brivionix-prices')].map(one => one.shadowRoot"
        ".getElementById('count').textContent)"
    )
    assert tab.evaluate(counts) == ["1 个模型 · mini", "5 个模型"]
    assert len(seen) == 2


def test_a_page_in_a_frame_reports_its_height(browser: Browser) -> None:
    """The frame of the example gets the height of the page, which reports nothing else; other senders are ignored."""
    frame = (ROOT / "examples/embedding/frame.html").read_text(encoding="utf-8")
    frame = frame.replace(
        "<script>", "<script>window.got = []; addEventListener('message', (e) => got.push(e.data));", 1
    )
    page = pricing_page(shipped(), at=AUTUMN, groups=["default"])
    with served(browser, {HOST: ("text/html", frame), PRICES: ("text/html; charset=utf-8", page)}) as (tab, seen):
        inside = tab.frames[1]
        scrolls = "document.documentElement.scrollHeight - innerHeight"
        # The policy of the page forbids eval, with which wait_for_function would ask a second time.
        for _ in range(500):
            if fits := inside.evaluate(f"{scrolls} === 0 && document.body.offsetHeight > 900"):
                break
            tab.wait_for_timeout(10)
        assert fits
        height = tab.evaluate("document.getElementById('prices').clientHeight")
        assert abs(height - inside.evaluate("document.body.offsetHeight")) <= 1
        inside.evaluate("for (const one of document.querySelectorAll('details')) one.open = false")
        tab.wait_for_function(f"document.getElementById('prices').clientHeight < {height}")
        assert {tuple(message) for message in tab.evaluate("got")} == {("type", "height")}
        tab.evaluate("postMessage({ type: 'brivionix-billing:height', height: 5 }, '*')")
        tab.wait_for_timeout(20)
        assert tab.evaluate("document.getElementById('prices').clientHeight") > 100
        assert len(seen) == 2


def test_the_documented_recipes_are_those_of_the_examples() -> None:
    """docs/pages.md shows the frame of the example, and the sites of the examples load the script that it names."""
    documented = (ROOT / "docs/pages.md").read_text(encoding="utf-8")
    frame = (ROOT / "examples/embedding/frame.html").read_text(encoding="utf-8")
    script = re.findall(r"<script>\n(.*?)</script>", frame, re.DOTALL)[0]
    assert script in documented
    for path in ("vitepress/docs/.vitepress/config.mjs", "docusaurus/docusaurus.config.js"):
        assert 'src: "/prices.js"' in (ROOT / "examples/embedding" / path).read_text(encoding="utf-8")
    assert (ROOT / "examples/embedding/docusaurus/src/css/custom.css").read_text(encoding="utf-8") in documented
