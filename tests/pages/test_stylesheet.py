"""Custom style sheets: nothing loads, nothing leaves the style element, and usual rules are allowed."""

from __future__ import annotations

import re
import time

import pytest

from brivionix_billing import BillingError
from brivionix_billing.pages.render import read_asset
from brivionix_billing.pages.stylesheet import validate_stylesheet
from paths import ROOT

ATTACKS = [
    # functions that fetch, in all spellings
    "b{background:url(x)}",
    "b{background:URL (x)}",
    "b{background:url/**/(x)}",
    "b{background:url/* a */ /* b */(x)}",
    "b{background:url\t(x)}",
    "b{background:src('x')}",
    "b{background:src ('x')}",
    "b{background:u\\72l(x)}",
    "b{background:\\75rl(x)}",
    "b{background:\\000075 rl(x)}",
    "b{background:image-set('x' 1x)}",
    "b{background:-webkit-image-set('x' 1x)}",
    "b{background:image('x')}",
    "b{background:cross-fade('a', 'b')}",
    "b{background:-webkit-cross-fade('a', 'b', 50%)}",
    "b{background:element(#a)}",
    "b{background:-moz-element(#a)}",
    "b{background:paint(x)}",
    "b{background:attr(data-x url)}",
    "b{background:attr(data-x type(<url>))}",
    "b{--a:url(x);background:var(--a)}",
    "b{--a: url (x",
    "b{background:url(//host/x)}",
    "b{background://host/x}",
    "@supports (background:url(x)){b{}}",
    "b:url(x){}",
    "b{cursor:url(x),auto}",
    "b{filter:url(#x)}",
    # at-rules that fetch or change how the rest is read
    "@import 'x';",
    "@IMPORT/**/'x';",
    "@\\69mport 'x';",
    "@import\turl(x);",
    "@font-face{font-family:a;src:src('x')}",
    "@namespace 'x';",
    "@charset 'x';",
    "@document domain(x){}",
    "@-moz-document domain(x){}",
    "@property --x{syntax:'<url>';inherits:true;initial-value:x}",
    # programs of old browsers
    "b{width:expression(alert(1))}",
    "b{width:EXPRESSION (alert(1))}",
    "b{width:expr/**/ession(alert(1))}",
    "b{-moz-binding:x}",
    "b{behavior:x}",
    "b{Behavior :x}",
    "b{filter:progid:DXImageTransform.Microsoft.AlphaImageLoader(src='x')}",
    # ways out of the element or of a rule
    "b{}</style><script>alert(1)</script>",
    "b{content:'</STYLE >'}",
    "/* </style> */",
    "<!-- b{} -->",
    "b{content:'a\n'}",
    "b{content:'a",
    "b{}/* open",
    "b{",
    "b}",
    "b{a:(}",
    "b{a:[)}",
    # characters that hide or end something
    "b{a:u\0rl(x)}",
    "b{a:url\u200b(x)}",
    "b{a:ｕｒｌ(x)}",
    "b{content:'\u202e'}",
    "/* \u202e */",
    "b{a:\x1b[31m}",
    "b{a:\ud800}",
]


@pytest.mark.parametrize("css", ATTACKS)
def test_an_attack_is_rejected(css: str) -> None:
    """A style sheet that could load something, run something or leave its element is an error with its line."""
    with pytest.raises(BillingError, match=r"^my\.css:2: .* is not allowed in a style sheet; |^my\.css: ") as caught:
        validate_stylesheet("a {}\n" + css, "my.css")
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    "css",
    [
        "@media print, (prefers-color-scheme: light) { :root { --bb-accent: #7a2f8f; } }",
        "@media screen and (min-width: 4rem) and (not (hover)) { a { b: c } }",
        "a:is(b, .c > d):not([href^='http']) ~ e::before { content: '// url(x)'; width: calc((1px + 2px) * 3) }",
        "tr:nth-child(2n + 1) { color: rgb(1 2 3 / 50%); background: linear-gradient(red, var(--x)) !important }",
        "/* see https://example.com, url(x) */ a { font: 16px/1.5 微软雅黑, 'PingFang SC' } /***/",
        "@keyframes x { from { opacity: 0 } 50% { opacity: .5 } }",
        "@page { margin: 1cm; @bottom-right { content: counter(page) } }",
        "a { margin: -1px auto } /**/",
        "",
    ],
)
def test_usual_rules_are_allowed(css: str) -> None:
    """Colours, gradients, selectors, conditions and comments are allowed, and not changed."""
    assert validate_stylesheet(css) == css


def test_the_own_colours_and_the_documented_examples_are_allowed() -> None:
    """The style sheet that a custom one changes, and the documented example of a theme, are valid custom ones."""
    examples = re.findall(r"```css\n(.*?)```", (ROOT / "docs" / "pages.md").read_text(encoding="utf-8"), re.DOTALL)
    themes = [css for css in examples if ":root" in css]  # another one is for the page of the host
    assert len(themes) == 1
    for css in (read_asset("base.css"), *themes):
        assert validate_stylesheet(css) == css


@pytest.mark.parametrize("part", ["(", "a(", "/*", "a/", "a ", "/**/", "[", "'", "\n", "/* *", "calc(", "-", "@media"])
def test_the_check_takes_linear_time(part: str) -> None:
    """A style sheet of the maximum length is checked in little time, whatever it repeats."""
    start = time.process_time()
    try:
        validate_stylesheet(part * (256 * 1024 // len(part)))
    except BillingError:
        pass
    assert time.process_time() - start < 5
