"""Receipts that a dishonest or careless issuer signs with the genuine key: the hash and the signature match."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from brivionix_billing.times import format_instant, parse_instant
from receipt_kit import BOOKS, Json, book

__all__ = ["FORGERIES"]

Change = Callable[[Json], object]


def _step(amount: str) -> str:
    """Return the next amount with as many decimal places."""
    value = Decimal(amount)
    return format(value + Decimal((0, (1,), int(value.as_tuple().exponent))), "f").rstrip("0" if "." in amount else "")


def _plain(value: Fraction) -> str:
    """Return the exact decimal of a fraction."""
    places = 0
    while (value * 10**places).denominator != 1:
        places += 1
        if places > 60:
            raise ValueError("not a decimal")
    digits = format(Decimal(int(value * 10**places)).scaleb(-places), "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _settle(document: Json) -> None:
    """Make the charge the sum of the lines."""
    total = Fraction(0)
    for section in document["charges"]:
        for _, quantity, per, price, _, _ in section["lines"]:
            total += Fraction(quantity) * Fraction(price) / Fraction(per)
    document["credits"] = _plain(total / Fraction(document["nominal_per_credit"]))


def _set(place: str, value: Any) -> Change:
    """Return a change of one field of the first charge, or of the receipt; ``None`` removes it."""

    def change(document: Json) -> None:
        target = document["charges"][0] if place.startswith(".") else document
        name = place.lstrip(".")
        if value is None:
            del target[name]
        else:
            target[name] = value

    return change


def _line(column: int, change: Callable[[str], str | None], *, settled: bool = False) -> Change:
    """Return a change of one column of a line that costs something; if ``settled``, the charge follows."""

    def apply(document: Json) -> None:
        lines = document["charges"][0]["lines"]
        line = next(line for line in lines if line[3] != "0" and line[0] in ("input", "output") and line[5] is not None)
        line[column] = change(line[column])
        if settled:
            _settle(document)

    return apply


def _own_price(document: Json) -> None:
    """Claim that the group has its own, higher price."""
    if "minimum" in document["charges"][0]:
        raise ValueError("a minimum charge would have to follow")
    line = next(line for line in document["charges"][0]["lines"] if line[0] in ("input", "output"))
    line[3:] = [_step(line[3]), None, None]
    _settle(document)


def _double(document: Json) -> None:
    """Double every price, consistently."""
    if "minimum" in document["charges"][0]:
        raise ValueError("a minimum charge would have to follow")
    for line in document["charges"][0]["lines"]:
        for column in (3, 4):
            if line[column] is not None:
                line[column] = _plain(2 * Fraction(line[column]))
    _settle(document)


def _per_credit(document: Json) -> None:
    document["nominal_per_credit"] = _plain(2 * Fraction(document["nominal_per_credit"]))
    _settle(document)


def _fraction_of_a_token(document: Json) -> None:
    if "minimum" in document["charges"][0] or "context" in document["charges"][0]:
        raise ValueError("would have to follow")
    _line(1, lambda quantity: f"{quantity}.5", settled=True)(document)


def _unknown_meter(document: Json) -> None:
    document["charges"][0]["lines"].append(["zz_unknown", "1", "1", "0", "0", None])


def _tokens(document: Json, bound: str, step: int) -> None:
    context = document["charges"][0]["context"]
    context["input_tokens"] = str(int(context[bound]) + step)


def _other_context(document: Json) -> None:
    context = document["charges"][0]["context"]
    context["input_tokens"] = str(int(context["input_tokens"]) + 1)
    if context["input_tokens"] in (context.get("under"), str(int(context.get("up_to", -2)) + 1)):
        raise ValueError("would be outside the bounds")


def _minimum(document: Json) -> None:
    if not any(line[0] == "minimum_charge" for line in document["charges"][0]["lines"]):
        raise ValueError("has no supplement")
    document["charges"][0]["minimum"] = _step(document["charges"][0]["minimum"])


def _no_supplement(document: Json) -> None:
    lines = document["charges"][0]["lines"]
    lines.remove(next(line for line in lines if line[0] == "minimum_charge"))
    _settle(document)


def _no_fee(document: Json) -> None:
    lines = document["charges"][0]["lines"]
    if "minimum" in document["charges"][0]:
        raise ValueError("a minimum charge would have to follow")
    lines.remove(next(line for line in lines if line[0] in ("request", "router_fee")))
    nominal = document["charges"][0].get("nominal_meters", [])
    document["charges"][0]["nominal_meters"] = [name for name in nominal if name != "router_fee"]
    if not document["charges"][0]["nominal_meters"]:
        del document["charges"][0]["nominal_meters"]
    _settle(document)


def _line_value(column: int, value: Any) -> Change:
    """Return a change that sets one column of the first line."""
    return lambda document: document["charges"][0]["lines"][0].__setitem__(column, value)


def _context(name: str, value: Any) -> Change:
    return lambda document: document["charges"][0]["context"].__setitem__(name, value)


def _repeat_line(document: Json) -> None:
    lines = document["charges"][0]["lines"]
    lines.insert(0, lines[0])
    _settle(document)


def _last_line_first(document: Json) -> None:
    document["charges"][0]["lines"].insert(0, ["z", "1", "1", "0", None, None])


def _other_exchange_rate(document: Json) -> None:
    if "list_currency" not in document["charges"][0]:
        raise ValueError("has no exchange rate")
    document["charges"][0]["exchange_rate"] = "0.2"


def _new_exchange_rate(document: Json) -> None:
    if "list_currency" in document["charges"][0]:
        raise ValueError("has an exchange rate")
    document["charges"][0].update(list_currency="CNY", exchange_rate="1")


def _new_minimum(document: Json) -> None:
    if "minimum" in document["charges"][0]:
        raise ValueError("has a minimum charge")
    document["charges"][0]["minimum"] = "0"


def _free(document: Json) -> None:
    if document["credits"] == "0":
        raise ValueError("is free")
    document["credits"] = "0"


def _at_another_hour(document: Json) -> None:
    """Move the request out of its peak window, or into one, at the same prices."""
    prices = next(prices for prices in map(book, BOOKS) if prices.digest == document["price_book"])
    (section, *_) = document["charges"]
    at = parse_instant(document["at"])
    calendar = prices.calendars()["peak"]
    if "window" not in section and (section.get("list_currency"), section["model"]) != ("CNY", "alpha"):
        raise ValueError("has no windows")
    if at.month == 12 or at.year == 2027:
        raise ValueError("may have another price")
    hours = (at + timedelta(hours=number) for number in range(1, 72))
    document["at"] = format_instant(
        next(hour for hour in hours if calendar.contains(hour) is not calendar.contains(at))
    )
    if document["at"] >= "2026-12":
        raise ValueError("may have another price")


def _new_nominal_meters(names: list[str]) -> Change:
    """Return a change of nominal meters that no figure depends on, because there is no exchange rate."""

    def change(document: Json) -> None:
        if "list_currency" in document["charges"][0]:
            raise ValueError("has an exchange rate")
        document["charges"][0]["nominal_meters"] = names

    return change


_MALFORMED: Final[dict[str, Change]] = {
    "another version": _set("schema", "brivionix-billing/receipt/2"),
    "a further field": _set("note", "x"),
    "a further field of a charge": _set(".note", "x"),
    "a field named like a prototype": _set("__proto__", "x"),
    "no request id": _set("request_id", None),
    "an empty account": _set("account", ""),
    "an empty model": _set(".model", ""),
    "no charges": _set("charges", []),
    "a null region": lambda document: document["charges"][0].__setitem__("region", None),
    "a null account": lambda document: document.__setitem__("account", None),
    "a time with an offset": _set("at", "2026-10-01T08:00:00+08:00"),
    "a time with three decimals": _set("at", "2026-10-01T08:00:00.500Z"),
    "a time with idle decimals": _set("at", "2026-10-01T08:00:00.000000Z"),
    "a day that does not exist": _set("at", "2026-02-29T00:00:00Z"),
    "an hour that does not exist": _set("at", "2026-10-01T24:00:00Z"),
    "a leap second": _set("at", "2016-12-31T23:59:60Z"),
    "the year 0": _set(".price_since", "0000-01-01T00:00:00Z"),
    "a lower case time": _set("at", "2026-10-01t00:00:00z"),
    "a date": _set(".group_since", "2026-01-01"),
    "a number as the charge": _set("credits", 1),
    "a negative charge": _set("credits", "-1"),
    "a negative zero": _set("credits", "-0"),
    "a charge with an exponent": _set("credits", "1e-3"),
    "a charge with trailing zeros": _set("credits", "1.50"),
    "a charge with a final point": _set("credits", "1."),
    "a charge with a leading zero": _set("credits", "01"),
    "a charge without a leading zero": _set("credits", ".5"),
    "a charge in full-width digits": _set("credits", "\uff11"),
    "a flag as a text": _set("estimated", "false"),
    "a currency in lower case": _set("currency", "usd"),
    "a digest in upper case": _set("price_book", "sha256:" + "A" * 64),
    "a digest of another algorithm": _set("price_book", "sha1:" + "a" * 40),
    "a line of nothing": _line_value(1, "0"),
    "a quantity of 201 digits": _line_value(1, "9" * 201),
    "a line per zero": _line_value(2, "0"),
    "a line per part": _line_value(2, "0.5"),
    "a number as a quantity": _line_value(1, 5),
    "a negative quantity": _line_value(1, "-5"),
    "a meter in upper case": _line_value(0, "Input"),
    "an empty meter": _line_value(0, ""),
    "a long meter": _line_value(0, "a" * 65),
    "a line that is too short": lambda document: document["charges"][0]["lines"][0].pop(),
    "a line that is too long": lambda document: document["charges"][0]["lines"][0].append("1"),
    "a line as an object": lambda document: document["charges"][0]["lines"].__setitem__(0, {"meter": "input"}),
    "a line twice": _repeat_line,
    "lines in falling order": _last_line_first,
    "nominal meters in falling order": _set(".nominal_meters", ["input", "cache_read"]),
    "a nominal meter twice": _set(".nominal_meters", ["input", "input"]),
    "a bound as a number": _context("up_to", 5),
    "an unknown bound": _context("beyond", "5"),
    "a context without its tokens": lambda document: document["charges"][0]["context"].pop("input_tokens"),
    "an empty list of unaccounted numbers": _set("unaccounted", []),
    "an unaccounted negative zero": _set("unaccounted", [["usage.x", "-0"]]),
    "an unaccounted number": _set("unaccounted", [["usage.x", 5]]),
    "a reference without a hash": _set("unaccounted", {"numbers": "5"}),
    "a reference to nothing": _set("unaccounted", {"numbers": "0", "hash": "sha256:" + "0" * 64}),
}
"""Name -> a change after which the receipt violates the format."""

_WRONG: Final[dict[str, tuple[str, Change]]] = {
    "a charge that is too high": ("arithmetic", lambda d: d.update(credits=_step(d["credits"]))),
    "a free request": ("arithmetic", _free),
    "another quantity": ("arithmetic", _line(1, _step)),
    "another per": ("arithmetic", _line(2, lambda per: per + "0")),
    "another unit price": ("arithmetic", _line(3, _step, settled=True)),
    "another list price": ("arithmetic", _line(4, _step)),
    "another ratio": ("arithmetic", _line(5, _step)),
    "a ratio without a list price": ("arithmetic", _line(4, lambda _: None)),
    "another exchange rate": ("arithmetic", _other_exchange_rate),
    "a nominal per Credit that does not fit": ("arithmetic", lambda d: d.update(nominal_per_credit="3")),
    "a price from after the request": ("arithmetic", _set(".price_since", "2099-01-01T00:00:00Z")),
    "terms from after the request": ("arithmetic", _set(".group_since", "2099-01-01T00:00:00Z")),
    "too few tokens for the context tier": ("arithmetic", lambda d: _tokens(d, "over", 0)),
    "too many tokens for the context tier": ("arithmetic", lambda d: _tokens(d, "up_to", 1)),
    "too few tokens for an inclusive tier": ("arithmetic", lambda d: _tokens(d, "from", -1)),
    "too many tokens for an exclusive tier": ("arithmetic", lambda d: _tokens(d, "under", 0)),
    "another minimum charge": ("arithmetic", _minimum),
    "no supplement to the minimum charge": ("arithmetic", _no_supplement),
    "doubled prices": ("prices", _double),
    "a price of the group that it does not have": ("prices", _own_price),
    "another nominal per Credit": ("prices", _per_credit),
    "another currency": ("prices", _set("currency", "EUR")),
    "another model": ("prices", _set(".model", "gpt-9")),
    "another group": ("prices", _set("group", "vip")),
    "another tier": ("prices", _set(".service_tier", "priority2")),
    "a region without a price": ("prices", _set(".region", "mars")),
    "a mode without a price": ("prices", _set(".mode", "slow")),
    "a router that did not serve": ("prices", _set(".router", "nobody")),
    "an older price": ("prices", _set(".price_since", "2001-01-01T00:00:00Z")),
    "older terms": ("prices", _set(".group_since", "2001-01-01T00:00:00Z")),
    "a time before the prices": (
        "prices",
        lambda d: (
            d.update(at="2001-01-01T00:00:00Z")
            or d["charges"][0].update(price_since="2001-01-01T00:00:00Z", group_since="2001-01-01T00:00:00Z")
        ),
    ),
    "a part of a token": ("prices", _fraction_of_a_token),
    "a meter that does not exist": ("prices", _unknown_meter),
    "other input tokens than the lines": ("prices", _other_context),
    "no fee": ("prices", _no_fee),
    "nominal meters without an exchange rate": ("prices", _new_nominal_meters(["input"])),
    "an empty list of nominal meters": ("prices", _new_nominal_meters([])),
    "another peak window": ("prices", _at_another_hour),
    "a context tier that does not exist": (
        "prices",
        lambda d: d["charges"][0].update(context={"input_tokens": "5", "up_to": "12345678"}),
    ),
    "a minimum that does not exist": ("prices", _new_minimum),
    "an exchange rate that does not exist": ("prices", _new_exchange_rate),
}
"""Name -> the check that must fail, and a change that keeps the format."""

FORGERIES: Final[dict[str, tuple[str, Change]]] = {
    **{name: ("format", change) for name, change in _MALFORMED.items()},
    **_WRONG,
}
"""Name -> the check that must fail, and the change. A change raises an error if a receipt has nothing to change."""
