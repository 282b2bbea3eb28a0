"""Rating: errors a gateway can answer with, tiers, the fast path, and the gateway's own figures."""

from __future__ import annotations

import pickle
import threading
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brivionix_billing import BillingError, Charge, Money, PriceBook, PriceFileError, Usage
from brivionix_billing.errors import CODES, Finding, safe_repr
from brivionix_billing.pricebook import resolver as resolver_module
from brivionix_billing.rating import SERVICE_TIERS, normalize_service_tier
from request_strategies import Ask, few, priced, questions, rated
from samples import AUTUMN, NOW, SHIPPED, D, book_of, code_of, shipped, utc
from strategies import TIERS, Data, counts, instants, render

USAGE = Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=500)
DEFAULT: dict[str, Any] = {"usage": USAGE, "model": "gpt-5.4-mini", "group": "default", "at": AUTUMN}


def rate(book: PriceBook | None = None, **other: Any) -> Charge:
    return (book or shipped()).rate(**DEFAULT | other)


# --- errors ---

ERRORS: dict[str, tuple[dict[str, Any], str, int, str]] = {
    "model": ({"model": "gpt-9"}, "unknown_model", 404, "no model 'gpt-9' in the price file; add it"),
    "group": ({"group": "gold"}, "unknown_group", 403, "no group 'gold' in the price file"),
    "not allowed": ({"group": "mini-only", "model": "gpt-5.4"}, "model_not_allowed", 403, "'mini-only' may not use"),
    "tier": ({"service_tier": "turbo"}, "unknown_service_tier", 400, "'turbo' is not a service tier; use one of "
    "standard"),
    "tier type": ({"service_tier": 1}, "unknown_service_tier", 400, "1 is not a service tier"),
    "tier list": ({"service_tier": ["flex"]}, "unknown_service_tier", 400, "is not a service tier"),
    "not sold": ({"service_tier": "flex", "at": NOW}, "service_tier_unavailable", 400, "flex .*use one of standard$"),
    "no price": ({"at": utc("2026-03-16T23:59:59")}, "no_price", 400, "mini has no price at 2026-03-16T23:59:59Z"),
    "meter": ({"usage": Usage(3, 0, 0, 3)}, "meter_unpriced", 500, "3 of meter cache_write, but gpt-5.4-mini"),
    "time": ({"at": AUTUMN.replace(tzinfo=None)}, "invalid_time", 400, "00:00:00 has no time zone; use datetime"),
    "usage": ({"usage": {"input_tokens": 1}}, "unknown_usage_format", 502, r"rate\(\) takes a Usage, not {'input"),
    "tuple": ({"usage": tuple(USAGE)}, "unknown_usage_format", 502, "takes a Usage"),
}  # fmt: skip


@pytest.mark.parametrize(("other", "code", "status", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_has_a_code_a_status_and_words(other: dict[str, Any], code: str, status: int, message: str) -> None:
    """Each refusal says what was wrong and where, with a stable code and what a gateway answers; cached or not."""
    book = PriceBook.load(SHIPPED)
    for _ in range(2):
        with pytest.raises(BillingError, match=message) as caught:
            rate(book, **other)
        assert (code_of(caught), caught.value.http_status) == (code, status)
        rate(book)


def test_the_table_of_codes_is_the_table_of_errors() -> None:
    """Statuses are HTTP's for what a request causes; an error and its findings survive pickling; no code is made up."""
    assert {code.http_status for code in CODES.values()} == {None, 400, 401, 402, 403, 404, 409, 413, 500, 502, 503}
    assert all(code.meaning for code in CODES.values())
    with pytest.raises(KeyError):
        BillingError("made_up", "x")
    error = pickle.loads(pickle.dumps(BillingError("no_price", "m has no price")))
    assert (error.code, error.http_status, str(error)) == ("no_price", 400, "m has no price")
    found = PriceFileError([Finding("f.yaml", 3, 5, "models.m", "is odd", "mend it")], more=4)
    again = pickle.loads(pickle.dumps(found))
    assert (again.findings, again.omitted_count, str(again)) == (found.findings, 4, str(found))
    assert str(found) == "5 findings in the price file:\nf.yaml:3:5: models.m: is odd; mend it\n... and 4 more"


def test_a_message_cannot_be_used_to_harm() -> None:
    """What callers send is quoted: no control character, no flood, no broken ``repr`` reaches a log."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    for value, shown in (
        ("a\x1b[31m\n\u202e", r"'a\x1b[31m\n\u202e'"),
        ("x" * 1000, "'" + "x" * 80 + "'..."),
        (10**400, "a whole number of 1329 bits"),
        (Broken(), "a Broken"),
        (["x" * 1000], "['" + "x" * 78 + "..."),
    ):
        assert safe_repr(value) == shown
    with pytest.raises(BillingError) as caught:
        rate(model="\ud800\x07" * 100)
    assert str(caught.value).isprintable()


# --- tiers ---


NAMES = [(None, "standard"), ("default", "standard"), ("auto", "standard"), ("fast", "priority")]


@pytest.mark.parametrize(("name", "tier"), [*NAMES, *zip(TIERS, TIERS, strict=True)])
def test_tier_names_in_any_case(name: str | None, tier: str) -> None:
    """Each tier has OpenAI's names, in any case; the price is that tier's."""
    # 800 x 0.75 + 200 x 0.075 + 500 x 4.5 = 2865 a million, at standard
    prices = {"standard": "0.002865", "batch": "0.0014325", "flex": "0.0014325", "priority": "0.00573"}
    for spelt in {name, name and name.upper(), name and name.title()}:
        assert normalize_service_tier(spelt) == tier
        charge = rate(service_tier=spelt)
        assert charge.service_tier == tier
        assert charge.credits == D(prices[tier])
    assert SERVICE_TIERS == TIERS


@pytest.mark.parametrize(
    ("served", "asked", "priced_as"),
    [
        ("flex", "priority", "flex"),
        ("Priority", None, "priority"),
        ("default", "priority", "standard"),  # asked for priority, served as usual
        ("default", "flex", "standard"),
        ("auto", "flex", "flex"),  # repeats a wish
        ("auto", None, "standard"),
        (None, "flex", "flex"),
        ("default", "batch", "batch"),  # a batch's bodies say default
        ("DEFAULT", "Batch", "batch"),
        ("flex", "batch", "flex"),
        ("batch", "standard", "batch"),
    ],
)
def test_the_served_tier_decides(served: str | None, asked: str | None, priced_as: str) -> None:
    """The tier that the provider says it served is priced, whatever was asked for; a batch stays a batch."""
    assert rate(usage=Usage(9, 9, service_tier=served), service_tier=asked).service_tier == priced_as
    body = {"service_tier": served, "usage": {"input_tokens": 9, "output_tokens": 9}}
    assert rate(usage=Usage.from_response(body), service_tier=asked).service_tier == priced_as


# --- the fast path ---


def _answer(book: PriceBook, ask: Ask) -> Any:
    try:
        charge = rated(book, ask)
    except BillingError as error:
        return error.code, str(error)
    return charge.as_dict(), charge.units, charge.at


More = list[tuple[dict[str, int], datetime]]


@few
@given(questions(8), st.lists(st.tuples(counts(), instants), max_size=4))
def test_the_fast_path_is_the_slow_path(asked: tuple[Data, list[Ask]], others: More) -> None:
    """A book that has seen many requests answers each like a book that has seen none."""
    data, asks = asked
    asks += [ask._replace(counts=count, at=at) for ask in asks[:2] for count, at in others]
    text = render(data)
    used, new = PriceBook.loads(text), PriceBook.loads(text)
    for ask in (*asks, *asks):
        new.resolver.recent.clear()
        new.resolver._resolved.clear()
        assert _answer(used, ask) == _answer(new, ask)


def test_a_time_of_another_zone_is_the_same_instant() -> None:
    """An instant in Shanghai's zone costs the same, is told in UTC, and equals its charge, cached or not."""
    east = timezone(timedelta(hours=8))
    for at in (utc("2026-10-12"), utc("2026-10-12") - timedelta(microseconds=1)):
        here, there = rate(at=at), rate(at=at.astimezone(east))
        assert here == there
        assert hash(here) == hash(there)
        assert there.as_dict()["at"] == here.as_dict()["at"]
    with pytest.raises(BillingError, match="not sold in tier flex"):
        rate(at=utc("2026-10-11T23:59").astimezone(east), service_tier="flex")


def test_a_time_outside_the_calendar_is_refused() -> None:
    """The last instant of the calendar has the last prices; a later one, written in a western zone, is "
    "``invalid_time``."""
    book = PriceBook.load(SHIPPED)
    last = datetime.max.replace(tzinfo=UTC)
    for _ in range(2):
        assert rate(book, at=last - timedelta(hours=1)).credits == D("0.002865")
        with pytest.raises(BillingError, match="outside the calendar") as caught:
            rate(book, at=last.replace(tzinfo=timezone(timedelta(hours=-12))))
        assert code_of(caught) == "invalid_time"


def test_an_unknown_tier_is_refused_even_if_it_does_not_decide() -> None:
    """A misspelt wish is an error, though the tier that was served would decide."""
    for asked in ("turbo", 5, ["flex"]):
        with pytest.raises(BillingError) as caught:
            rate(usage=Usage(9, 9, service_tier="flex"), service_tier=asked)
        assert code_of(caught) == "unknown_service_tier"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that callers make up cannot fill the memory, and forgetting changes no price."""
    monkeypatch.setattr(resolver_module, "_MAX_CACHED", 10)
    book = PriceBook.load(SHIPPED)
    for number in range(60):
        name = f"gpt-5.4-mini-2027-{number % 12 + 1:02}-{number % 28 + 1:02}"
        assert rate(book, model=name).credits == D("0.002865")
        with pytest.raises(BillingError):
            rate(book, model=f"made-up-{number}")
    assert len(book.resolver.recent) <= 10
    assert len(book.resolver._resolved) == 1


def test_many_threads_get_the_same_figures() -> None:
    """Threads that share a book, with boundaries between their times, get what one thread gets."""
    book = PriceBook.load(SHIPPED)
    asks = [
        Ask({"input_tokens": 300_000, "output_tokens": 5}, model, "default", tier, at)
        for model in shipped().model_names
        for at in (NOW, AUTUMN, utc("2026-10-13"))
        for tier in ("standard", "priority", "batch")
    ]
    expected = [_answer(shipped(), ask) for ask in asks]
    wrong: list[Any] = []

    def work(start: int) -> None:
        for turn in range(300):
            place = (start + turn) % len(asks)
            if _answer(book, asks[place]) != expected[place]:
                wrong.append(asks[place])

    threads = [threading.Thread(target=work, args=(7 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- figures ---


def test_the_gateways_own_vectors() -> None:
    """The gateway's formula gives 2900 quota and 11 250 quota for its two vectors, and so do list prices."""
    text = book_of("{from: 2026-01-01, standard: {input: 2.5, cache_read: 1.25, output: 10}}", ratio="0.8")
    charge = text.rate(Usage(1000, 500, 200), model="m", group="g", at=NOW)
    assert (charge.gateway_quota(), charge.nominal) == (2900, Money("0.0058", "USD"))
    prices = "{input: 3, cache_read: 0.3, cache_write: 3.75, cache_write_1h: 6, output: 15}"
    usage = Usage(
        input_tokens=9000,
        cache_read_tokens=5000,
        cache_write_tokens=2000,
        cache_write_1h_tokens=1000,
        output_tokens=300,
    )
    charge = book_of(f"{{from: 2026-01-01, standard: {prices}}}").rate(usage, model="m", group="g", at=NOW)
    assert (charge.gateway_quota(), charge.nominal) == (11_250, Money("0.0225", "USD"))


@pytest.mark.parametrize(("price", "quota"), [("3", 2), ("1", 1), ("5", 3), ("0.01", 1), ("0", 0)])
def test_quota_is_rounded_half_up_and_never_nothing(price: str, quota: int) -> None:
    """1.5 quota is 2, 0.5 is 1, 2.5 is 3, a trace is 1, and free is 0."""
    book = book_of(f"{{from: 2026-01-01, standard: {{input: {price}}}}}")
    assert book.rate(Usage(1), model="m", group="g", at=NOW).gateway_quota() == quota


def test_one_credit_may_buy_another_amount_of_quota() -> None:
    """Where a Credit buys 2 USD of nominal quota, the same request uses half as many Credits and the same quota."""
    entry = "{from: 2026-01-01, standard: {input: 3}}"
    one, two = (book_of(entry, nominal=n).rate(Usage(1000), model="m", group="g", at=NOW) for n in ("1", "2"))
    assert (one.credits, two.credits) == (D("0.003"), D("0.0015"))
    assert one.nominal == two.nominal == Money("0.003", "USD")
    assert (one.cost("c"), two.cost("c")) == (Money("0.00255", "CNY"), Money("0.001275", "CNY"))


def test_a_charge_tells_what_it_was_made_from() -> None:
    """``as_dict`` holds decimals as strings, ``explain`` tells the same; unknown locales and channels are errors."""
    charge = rate(group="coding", service_tier="Priority")
    told = charge.as_dict()
    assert told["lines"][1] == {
        "meter": "cache_read",
        "quantity": 200,
        "list_price": "0.15",
        "per": 1_000_000,
        "ratio": "0.9",
        "unit_price": "0.135",
        "credits": "0.000027",
    }
    assert told["cost"] == {"rmb": "0.00438345", "stripe": "0.00061884"}
    assert (told["credits"], told["nominal"], told["service_tier"]) == ("0.005157", "0.005157", "priority")
    assert (told["price_since"], told["price_book"]) == ("2026-10-12T00:00:00Z", shipped().digest)
    assert repr(charge) == ("<Charge 0.005157 Credits: gpt-5.4-mini, group coding, priority, 2026-10-20T00:00:00Z>")
    text = charge.explain()
    assert "  cached input tokens: 200 x 0.15 USD / 1000000 x ratio 0.9 = 0.000027 USD" in text
    assert "Top-up price through rmb: 0.005157 Credits x 0.85 CNY = 0.00438345 CNY" in text
    with pytest.raises(BillingError, match="use one of en, zh_CN") as caught:
        charge.explain("fr")
    assert code_of(caught) == "invalid_argument"
    for channel in ("paypal", None, ["rmb"]):
        with pytest.raises(BillingError, match="use one of: rmb, stripe") as caught:
            charge.cost(channel)  # type: ignore[arg-type]
        assert code_of(caught) == "unknown_channel"
    assert "No usage, no charge." in rate(usage=Usage()).explain()
    assert "无用量，不计费。" in rate(usage=Usage()).explain("zh_CN")


def test_the_explanation_of_a_long_request_names_the_bound() -> None:
    """The explanation says which context's prices hold and from how many tokens on."""
    for tokens, words in ((272_000, "At most 272000"), (272_001, "More than 272000")):
        assert f"{words} input tokens (here {tokens})" in rate(usage=Usage(tokens), model="gpt-5.4").explain()
    assert "272000" not in rate(usage=Usage(272_001), model="gpt-5.4", service_tier="priority").explain()


@few
@given(questions(4))
def test_the_figures_told_are_the_figures_charged(asked: tuple[Data, list[Ask]]) -> None:
    """``as_dict`` holds exactly the Decimals of the charge, written out without exponents."""
    data, asks = asked
    for _, charge, _ in priced(data, PriceBook.loads(render(data)), asks):
        told = charge.as_dict()
        assert D(told["credits"]) == charge.credits
        assert [D(line["credits"]) for line in told["lines"]] == [line.credits for line in charge.lines]
        assert {name: D(cost) for name, cost in told["cost"].items()} == {
            name: charge.cost(name).amount for name in told["cost"]
        }
        assert "e" not in (told["credits"] + "".join(told["cost"].values())).lower()


def test_own_prices_of_a_group_are_prices_of_tokens() -> None:
    """A group's own prices replace token prices without a ratio; the fees of tools stay list price x its ratio."""
    usage = Usage(1_000_000, 0, web_search_calls=1000)
    charge = rate(model="gpt-5.2", group="partner", usage=usage)
    lines = {line.meter: (line.list_price, line.ratio, line.unit_price, line.credits) for line in charge.lines}
    assert lines == {
        "input": (D("1.75"), None, D("1.5"), D("1.5")),
        "web_search": (D(10), D("0.85"), D("8.5"), D("8.5")),
    }


def test_a_misspelt_tier_is_an_error_though_another_was_served() -> None:
    """The served tier decides, but a name that means no tier is told, wherever it stands."""
    for usage, asked in ((Usage(1, 1, service_tier="default"), "wibble"), (Usage(1, 1, service_tier="wibble"), None)):
        with pytest.raises(BillingError) as caught:
            rate(usage=usage, service_tier=asked)
        assert code_of(caught) == "unknown_service_tier"


def test_a_zone_that_fails_is_a_bad_time() -> None:
    """A time zone is foreign code: whatever it raises is told as ``invalid_time``, with the cache cold or warm."""

    class Broken(tzinfo):
        def utcoffset(self, _: object) -> timedelta:
            raise RuntimeError("no zone today")

        dst = utcoffset

        def tzname(self, _: object) -> str:
            return "broken"

    rate()
    with pytest.raises(BillingError) as caught:
        rate(at=datetime(2026, 10, 20, tzinfo=Broken()))
    assert code_of(caught) == "invalid_time"
