"""Rating: errors with HTTP statuses, service tiers, the fast path, and gateway quota."""

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
from request_strategies import RatingRequest, book_settings, books_with_requests, priced_requests, rate_request
from samples import AUTUMN, NOW, SHIPPED, D, book_of, code_of, shipped, utc
from strategies import TIERS, Data, counts, instants, render

USAGE = Usage(input_tokens=1000, cache_read_tokens=200, output_tokens=500)
DEFAULT: dict[str, Any] = {"usage": USAGE, "model": "gpt-5.4-mini", "group": "default", "at": AUTUMN}


def rate(book: PriceBook | None = None, **changes: Any) -> Charge:
    """Rate the default request with some arguments changed."""
    return (book or shipped()).rate(**DEFAULT | changes)


# --- errors ---

ERRORS: dict[str, tuple[dict[str, Any], str, int, str]] = {
    "model": ({"model": "gpt-9"}, "unknown_model", 404, "no model 'gpt-9' in the price file; add it"),
    "group": ({"group": "gold"}, "unknown_group", 403, "no group 'gold' in the price file"),
    "not allowed": ({"group": "mini-only", "model": "gpt-5.4"}, "model_not_allowed", 403, "'mini-only' may not use"),
    "tier": ({"service_tier": "turbo"}, "unknown_service_tier", 400, "'turbo' is not a service tier; use one of "
    "standard"),
    "tier type": ({"service_tier": 1}, "unknown_service_tier", 400, "1 is not a service tier"),
    "tier list": ({"service_tier": ["flex"]}, "unknown_service_tier", 400, "is not a service tier"),
    "not sold": ({"service_tier": "flex", "at": NOW}, "service_tier_unavailable", 400, "not sold in tier flex .*use "
    "one of standard$"),
    "no price": ({"at": utc("2026-03-16T23:59:59")}, "no_price", 400, "mini has no price at 2026-03-16T23:59:59Z"),
    "meter": ({"usage": Usage(3, 0, 0, 3)}, "meter_unpriced", 500, "3 of meter cache_write, but gpt-5.4-mini"),
    "time": ({"at": AUTUMN.replace(tzinfo=None)}, "invalid_time", 400, "2026-10-20T00:00:00 has no time "
    "zone; use datetime"),
    "usage": ({"usage": {"input_tokens": 1}}, "unknown_usage_format", 502, r"rate\(\) takes a Usage, not {'input"),
    "tuple": ({"usage": tuple(USAGE)}, "unknown_usage_format", 502, "takes a Usage"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "code", "status", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_has_a_code_a_status_and_a_message(
    changes: dict[str, Any], code: str, status: int, message: str
) -> None:
    """Each error has its code, HTTP status and message, with a cold and a warm cache."""
    book = PriceBook.load(SHIPPED)
    for _ in range(2):
        with pytest.raises(BillingError, match=message) as caught:
            rate(book, **changes)
        assert (code_of(caught), caught.value.http_status) == (code, status)
        rate(book)


def test_errors_have_known_codes_and_survive_pickling() -> None:
    """Every error has a code of the table and keeps code, status and findings when pickled."""
    assert {code.http_status for code in CODES.values()} == {
        None,
        400,
        401,
        402,
        403,
        404,
        409,
        413,
        429,
        500,
        502,
        503,
    }
    assert all(code.meaning for code in CODES.values())
    with pytest.raises(KeyError):
        BillingError("made_up", "x")
    error = pickle.loads(pickle.dumps(BillingError("no_price", "m has no price")))
    assert (error.code, error.http_status, str(error)) == ("no_price", 400, "m has no price")
    price_error = PriceFileError([Finding("f.yaml", 3, 5, "models.m", "is odd", "fix it")], more=4)
    copied = pickle.loads(pickle.dumps(price_error))
    assert (copied.findings, copied.omitted_count, str(copied)) == (price_error.findings, 4, str(price_error))
    assert str(price_error) == "5 findings in the price file:\nf.yaml:3:5: models.m: is odd; fix it\n... and 4 more"


def test_messages_quote_values_safely() -> None:
    """Values in messages are escaped and truncated, and a broken ``repr`` does not raise."""

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    for value, expected in (
        ("a\x1b[31m\n\u202e", r"'a\x1b[31m\n\u202e'"),
        ("x" * 1000, "'" + "x" * 80 + "'..."),
        (10**400, "a whole number of 1329 bits"),
        (Broken(), "a Broken"),
        (["x" * 1000], "['" + "x" * 78 + "..."),
    ):
        assert safe_repr(value) == expected
    with pytest.raises(BillingError) as caught:
        rate(model="\ud800\x07" * 100)
    assert str(caught.value).isprintable()


# --- tiers ---

NAMES = [(None, "standard"), ("default", "standard"), ("auto", "standard"), ("fast", "priority")]


@pytest.mark.parametrize(("name", "tier"), [*NAMES, *zip(TIERS, TIERS, strict=True)])
def test_tier_names_are_case_insensitive(name: str | None, tier: str) -> None:
    """Each tier is accepted under the names of OpenAI in any case, and has its own price."""
    # 800 x 0.75 + 200 x 0.075 + 500 x 4.5 = 2865 USD per million requests, at standard
    prices = {"standard": "0.002865", "batch": "0.0014325", "flex": "0.0014325", "priority": "0.00573"}
    for spelling in {name, name and name.upper(), name and name.title()}:
        assert normalize_service_tier(spelling) == tier
        charge = rate(service_tier=spelling)
        assert charge.service_tier == tier
        assert charge.credits == D(prices[tier])
    assert SERVICE_TIERS == TIERS


@pytest.mark.parametrize(
    ("served", "requested", "rated_tier"),
    [
        ("flex", "priority", "flex"),
        ("Priority", None, "priority"),
        ("default", "priority", "standard"),  # priority requested, standard served
        ("default", "flex", "standard"),
        ("auto", "flex", "flex"),  # repeats the requested tier
        ("auto", None, "standard"),
        (None, "flex", "flex"),
        ("default", "batch", "batch"),  # bodies of a batch state default
        ("DEFAULT", "Batch", "batch"),
        ("flex", "batch", "flex"),
        ("batch", "standard", "batch"),
    ],
)
def test_the_served_tier_is_rated(served: str | None, requested: str | None, rated_tier: str) -> None:
    """The served tier is rated instead of the requested one, except that a batch stays a batch."""
    assert rate(usage=Usage(9, 9, service_tier=served), service_tier=requested).service_tier == rated_tier
    body = {"service_tier": served, "usage": {"input_tokens": 9, "output_tokens": 9}}
    assert rate(usage=Usage.from_response(body), service_tier=requested).service_tier == rated_tier


# --- the fast path ---


def _outcome(book: PriceBook, request: RatingRequest) -> Any:
    """Return the content of a charge, or code and message of the error."""
    try:
        charge = rate_request(book, request)
    except BillingError as error:
        return error.code, str(error)
    return charge.as_dict(), charge.units, charge.at


CountsAndTimes = list[tuple[dict[str, int], datetime]]


@book_settings
@given(books_with_requests(8), st.lists(st.tuples(counts(), instants), max_size=4))
def test_a_warm_cache_gives_the_same_charges_as_a_cold_one(
    case: tuple[Data, list[RatingRequest]], others: CountsAndTimes
) -> None:
    """A book with a warm cache rates each request like a book with a cold cache."""
    data, requests = case
    requests += [request._replace(counts=count, at=at) for request in requests[:2] for count, at in others]
    text = render(data)
    warm, cold = PriceBook.loads(text), PriceBook.loads(text)
    for request in (*requests, *requests):
        cold.resolver.recent.clear()
        cold.resolver._resolved.clear()
        assert _outcome(warm, request) == _outcome(cold, request)


def test_the_same_instant_in_another_zone_gives_the_same_charge() -> None:
    """An instant in another time zone gives an equal charge, with its time in UTC."""
    east = timezone(timedelta(hours=8))
    for at in (utc("2026-10-12"), utc("2026-10-12") - timedelta(microseconds=1)):
        in_utc, in_east = rate(at=at), rate(at=at.astimezone(east))
        assert in_utc == in_east
        assert hash(in_utc) == hash(in_east)
        assert in_east.as_dict()["at"] == in_utc.as_dict()["at"]
    with pytest.raises(BillingError, match="not sold in tier flex"):
        rate(at=utc("2026-10-11T23:59").astimezone(east), service_tier="flex")


def test_a_time_outside_the_calendar_is_rejected() -> None:
    """The last instant of the calendar has a price, and a later one in a western zone is ``invalid_time``."""
    book = PriceBook.load(SHIPPED)
    last = datetime.max.replace(tzinfo=UTC)
    for _ in range(2):
        assert rate(book, at=last - timedelta(hours=1)).credits == D("0.002865")
        with pytest.raises(BillingError, match="outside the calendar") as caught:
            rate(book, at=last.replace(tzinfo=timezone(timedelta(hours=-12))))
        assert code_of(caught) == "invalid_time"


def test_an_unknown_requested_tier_is_rejected_even_if_another_is_served() -> None:
    """An unknown requested tier is ``unknown_service_tier``, even if the served tier is known."""
    for requested in ("turbo", 5, ["flex"]):
        with pytest.raises(BillingError) as caught:
            rate(usage=Usage(9, 9, service_tier="flex"), service_tier=requested)
        assert code_of(caught) == "unknown_service_tier"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown and dated names do not grow the cache beyond its bound, and eviction changes no price."""
    monkeypatch.setattr(resolver_module, "_MAX_CACHED", 10)
    book = PriceBook.load(SHIPPED)
    for number in range(60):
        name = f"gpt-5.4-mini-2027-{number % 12 + 1:02}-{number % 28 + 1:02}"
        assert rate(book, model=name).credits == D("0.002865")
        with pytest.raises(BillingError):
            rate(book, model=f"made-up-{number}")
    assert len(book.resolver.recent) <= 10
    assert len(book.resolver._resolved) == 1


def test_threads_get_the_same_charges_as_one_thread() -> None:
    """Threads that share a book get the same charges as one thread, across price changes."""
    book = PriceBook.load(SHIPPED)
    requests = [
        RatingRequest({"input_tokens": 300_000, "output_tokens": 5}, model, "default", tier, at)
        for model in shipped().model_names
        for at in (NOW, AUTUMN, utc("2026-10-13"))
        for tier in ("standard", "priority", "batch")
    ]
    expected = [_outcome(shipped(), request) for request in requests]
    mismatches: list[Any] = []

    def work(start: int) -> None:
        for turn in range(300):
            index = (start + turn) % len(requests)
            if _outcome(book, requests[index]) != expected[index]:
                mismatches.append(requests[index])

    threads = [threading.Thread(target=work, args=(7 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mismatches == []


# --- figures ---


def test_the_vectors_of_the_gateway_are_reproduced() -> None:
    """The two vectors of the gateway give 2900 and 11 250 quota from list prices."""
    book = book_of("{from: 2026-01-01, standard: {input: 2.5, cache_read: 1.25, output: 10}}", ratio="0.8")
    charge = book.rate(Usage(1000, 500, 200), model="m", group="g", at=NOW)
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
def test_quota_is_rounded_half_up_and_at_least_1_unless_free(price: str, quota: int) -> None:
    """Quota is rounded half up, is at least 1 for a positive price, and is 0 if free."""
    book = book_of(f"{{from: 2026-01-01, standard: {{input: {price}}}}}")
    assert book.rate(Usage(1), model="m", group="g", at=NOW).gateway_quota() == quota


def test_nominal_per_credit_scales_credits_but_not_quota() -> None:
    """If a Credit buys 2 USD of nominal quota, a request costs half as many Credits and the same nominal quota."""
    entry = "{from: 2026-01-01, standard: {input: 3}}"
    charge_1, charge_2 = (book_of(entry, nominal=n).rate(Usage(1000), model="m", group="g", at=NOW) for n in ("1", "2"))
    assert (charge_1.credits, charge_2.credits) == (D("0.003"), D("0.0015"))
    assert charge_1.nominal == charge_2.nominal == Money("0.003", "USD")
    assert (charge_1.cost("c"), charge_2.cost("c")) == (Money("0.00255", "CNY"), Money("0.001275", "CNY"))


def test_a_charge_states_its_calculation() -> None:
    """``as_dict`` and ``explain`` state the figures of a charge, and unknown locales and channels are errors."""
    charge = rate(group="coding", service_tier="Priority")
    content = charge.as_dict()
    assert content["lines"][1] == {
        "meter": "cache_read",
        "quantity": 200,
        "list_price": "0.15",
        "per": 1_000_000,
        "ratio": "0.9",
        "unit_price": "0.135",
        "credits": "0.000027",
    }
    assert content["cost"] == {"rmb": "0.00438345", "stripe": "0.00061884"}
    assert (content["credits"], content["nominal"], content["service_tier"]) == ("0.005157", "0.005157", "priority")
    assert (content["price_since"], content["price_book"]) == ("2026-10-12T00:00:00Z", shipped().digest)
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


def test_the_explanation_states_the_context_bound() -> None:
    """The explanation states which context tier applies and its bound in tokens."""
    for tokens, phrase in ((272_000, "Up to 272,000"), (272_001, "Over 272,000")):
        assert f"{phrase} input tokens (here {tokens})" in rate(usage=Usage(tokens), model="gpt-5.4").explain()
    assert "272,000" not in rate(usage=Usage(272_001), model="gpt-5.4", service_tier="priority").explain()


@book_settings
@given(books_with_requests(4))
def test_as_dict_states_the_exact_figures_of_the_charge(case: tuple[Data, list[RatingRequest]]) -> None:
    """``as_dict`` states the exact decimals of the charge, without exponents."""
    data, requests = case
    for _, charge, _ in priced_requests(data, PriceBook.loads(render(data)), requests):
        content = charge.as_dict()
        assert D(content["credits"]) == charge.credits
        assert [D(line["credits"]) for line in content["lines"]] == [line.credits for line in charge.lines]
        assert {name: D(cost) for name, cost in content["cost"].items()} == {
            name: charge.cost(name).amount for name in content["cost"]
        }
        assert "e" not in (content["credits"] + "".join(content["cost"].values())).lower()


def test_price_overrides_of_a_group_apply_to_tokens_only() -> None:
    """Overrides of a group replace token prices, and fees of tools remain list price x ratio."""
    usage = Usage(1_000_000, 0, web_search_calls=1000)
    charge = rate(model="gpt-5.2", group="partner", usage=usage)
    lines = {line.meter: (line.list_price, line.ratio, line.unit_price, line.credits) for line in charge.lines}
    assert lines == {
        "input": (D("1.75"), None, D("1.5"), D("1.5")),
        "web_search": (D(10), D("0.85"), D("8.5"), D("8.5")),
    }


def test_an_unknown_tier_is_rejected_wherever_it_is_stated() -> None:
    """An unknown tier is ``unknown_service_tier``, whether requested or served."""
    for usage, requested in (
        (Usage(1, 1, service_tier="default"), "wibble"),
        (Usage(1, 1, service_tier="wibble"), None),
    ):
        with pytest.raises(BillingError) as caught:
            rate(usage=usage, service_tier=requested)
        assert code_of(caught) == "unknown_service_tier"


def test_a_failing_time_zone_is_an_invalid_time() -> None:
    """Any exception of a time zone object becomes ``invalid_time``."""

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
