"""Pages of the ledger for customers: the statement of an account, and the receipt of a top-up.

They are made of the JSON values of the ledger, run no script, and are printed as they are. Unlike a bill, they have no
hash: the journal is the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from brivionix_billing.decimals import format_plain, sum_exact, to_scaled
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.pages.account_messages import ACCOUNT_MESSAGES
from brivionix_billing.pages.bill_charts import usage_charts
from brivionix_billing.pages.bill_summary import add_rounded
from brivionix_billing.pages.branding import image_address
from brivionix_billing.pages.formatting import LocaleFormatter, replace_invisible
from brivionix_billing.pages.render import HtmlPage, read_asset, render_template
from brivionix_billing.text_checks import require_text
from brivionix_billing.times import CalendarDays, format_instant, parse_instant

__all__ = ["Party", "receipt_page", "statement_page"]

Json = dict[str, Any]
_MAX_DAYS: Final = 400
"""Maximum number of days in the table of a statement. Usage of a longer period is shown by model only."""


class Party(NamedTuple):
    """The issuer or the customer, as a page names it. Texts are 1 to 256 printable characters."""

    name: str | None = None
    tax_number: str | None = None
    details: Sequence[str] = ()
    """Lines below the name, such as an address."""


NO_PARTY: Final = Party()


def statement_page(
    statement: Mapping[str, Any],
    *,
    issuer: Party,
    customer: Party = NO_PARTY,
    locale: str = "en",
    logo: bytes | None = None,
    tax_name: str | None = None,
) -> HtmlPage:
    """Render the page of an account statement in ``en`` or ``zh_CN``; :func:`render_pdf` converts it.

    ``statement`` has the JSON values of the ledger's ``Statement.as_dict()``. ``tax_name`` names the tax in payments,
    such as ``VAT 19 %``. ``logo`` is a PNG, JPEG or SVG image of at most 128 KiB.

    Raises ``invalid_document`` if it is not a statement, ``invalid_argument``, ``missing_extra``.
    """
    language = LocaleFormatter(locale)

    def view(shown: Json) -> Json:
        days = CalendarDays(shown["zone"])
        words = _words(language, tax_name)
        payments = [_payment(row, days, words, language) for row in shown.get("payments", ())]
        return {
            "title": f"{words['account_statement']} {shown['account']}",
            "words": words,
            "heading": words["account_statement"],
            "number": "",
            "parties": _parties(issuer, customer, shown["account"], words),
            "facts": [(words["period"], *_period(shown, words, days))],
            "tiles": [
                (words["closing"], language.group_digits(shown["closing"]), "Credits"),
                (words["opening"], language.group_digits(shown["opening"]), "Credits"),
                (words["change"], _sum(shown["movements"], language), "Credits"),
                (words["used_in_period"], language.group_digits(shown["used"]), "Credits"),
            ],
            "open_holds": _open_holds(shown["open_holds"], words, language),
            "opening": language.group_digits(shown["opening"]),
            "movements": _movements(shown, days, words, language),
            "requests": _requests(shown["usage"], words, language),
            "used": _negative(shown["used"], language),
            "closing": language.group_digits(shown["closing"]),
            "payments": payments,
            "payment_totals": _payment_totals(shown.get("payments", ()), words, language),
            "members": _usage_by("member", shown.get("members", ()), words["account_itself"], language),
            "models": _usage_by("model", shown["usage"], words["elsewhere"], language),
            "days": _days(shown["usage"], words, language),
            "charts": usage_charts(_chart_document(shown["usage"], words), language),
        }

    return _render("statement.html", statement, view, language, issuer, logo)


def receipt_page(
    receipt: Mapping[str, Any],
    *,
    issuer: Party,
    customer: Party = NO_PARTY,
    locale: str = "en",
    zone: str = "UTC",
    logo: bytes | None = None,
    tax_name: str | None = None,
) -> HtmlPage:
    """Render the page of a top-up receipt in ``en`` or ``zh_CN``; :func:`render_pdf` converts it.

    ``receipt`` has the JSON values of the ledger's ``TopUpReceipt.as_dict()``. Its days are those of ``zone``. A
    receipt of a payment without tax states that it is not a tax invoice. Other arguments and errors are those of
    :func:`statement_page`. Raises ``period_invalid`` if the time zone is unknown.
    """
    language, days = LocaleFormatter(locale), CalendarDays(zone)

    def view(shown: Json) -> Json:
        words = _words(language, tax_name)
        currency = shown["gross"].rpartition(" ")[2]
        expires = shown["expires"]
        price = shown["price_per_credit"]
        facts = [
            (words["paid_at"], days.at(parse_instant(shown["at"])).value, words["zone"].format(zone=zone)),
            (words["channel"], shown["channel"], ""),
            (words["reference"], shown["reference"], ""),
            *([(words["order"], shown["order"], "")] if shown["order"] else []),
            (words["expires"], words["never"] if expires is None else _instant(parse_instant(expires), days), ""),
        ]
        credits = language.group_digits(shown["credits"])
        lines = [(words["price_of_credits"].format(credits=credits), _money(shown["price"], language))]
        if _is_nonzero(shown["coupon"]):
            lines.append((words["coupon"], f"-{_money(shown['coupon'], language)}"))
            lines.append((words["net"], _money(shown["net"], language)))
        lines.append((words["tax"], _money(shown["tax"], language)))
        return {
            "title": f"{words['receipt']} {shown['lot']}",
            "words": words,
            "heading": words["receipt"],
            "number": shown["lot"],
            "parties": _parties(issuer, customer, shown["account"], words),
            "facts": facts,
            "tiles": [
                (words["amount_paid"], _money(shown["gross"], language), currency),
                (words["purchased"], credits, "Credits"),
            ],
            "untaxed": not _is_nonzero(shown["tax"]),
            "price": None if price is None else f"{language.group_digits(price)} {currency}",
            "currency": currency,
            "lines": lines,
            "gross": _money(shown["gross"], language),
            "paid_back": [
                {
                    **_payment(row, days, words, language),
                    "tax": words["tax_in_it"].format(tax=f"{words['tax']} {_money(row['tax'], language)}")
                    if _is_nonzero(row["tax"])
                    else "",
                }
                for row in shown["paid_back"]
            ],
            "kept": _money(shown["kept"], language),
        }

    return _render("receipt.html", receipt, view, language, issuer, logo)


def _render(
    template: str,
    values: Mapping[str, Any],
    view: Callable[[Json], Json],
    language: LocaleFormatter,
    issuer: Party,
    logo: bytes | None,
) -> HtmlPage:
    if not isinstance(values, Mapping):
        raise BillingError("invalid_argument", f"{safe_repr(values)} has no JSON values; use as_dict() of the ledger")
    try:
        shown = view(replace_invisible(dict(values)))
    except (BillingError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        if isinstance(error, BillingError) and error.code == "invalid_argument":
            raise  # a party or the name of the tax
        message = f"not the JSON values of a statement or receipt: {type(error).__name__} {error}; use as_dict()"
        raise BillingError("invalid_document", message) from None
    shown |= {
        "language": language,
        "logo": "" if logo is None else image_address(logo, "logo"),
        "issuer": issuer.name,
    }
    style = read_asset("base.css") + read_asset("bill.css")
    return render_template(template, shown, style=style, script="")


def _words(language: LocaleFormatter, tax_name: str | None) -> dict[str, str]:
    words = ACCOUNT_MESSAGES[language.name]
    return words if tax_name is None else words | {"tax": require_text("the name of the tax", tax_name)}


def _parties(issuer: Party, customer: Party, account: str, words: Mapping[str, str]) -> list[Json]:
    out = []
    for title, party, own in (("issuer", issuer, None), ("customer", customer, account)):
        texts = {"name": party.name, "tax number": party.tax_number}
        for what, text in texts.items():
            if text is not None:
                require_text(f"the {what} of the {title}", text)
        details = [require_text(f"a detail of the {title}", line) for line in party.details]
        out.append({"title": words[title], "name": party.name, "tax": party.tax_number, "details": details})
        out[-1]["account"] = own
    return out


def _instant(when: datetime, days: CalendarDays) -> str:
    """Format the start of a day as an ISO 8601 date; any other instant in full."""
    day = days.at(when)
    return day.value if day.start == when else format_instant(when)


def _period(shown: Json, words: Mapping[str, str], days: CalendarDays) -> tuple[str, str]:
    start, end = parse_instant(shown["from"]), parse_instant(shown["to"])
    # "to" is exclusive. If the period ends with a day, the page shows this last day, which is inclusive.
    last = days.at(end - datetime.resolution)
    text = words["period_days"].format(
        first=_instant(start, days), last=last.value if last.end == end else format_instant(end)
    )
    return text, words["zone"].format(zone=shown["zone"])


def _open_holds(number: int, words: Mapping[str, str], language: LocaleFormatter) -> str:
    if not number:
        return ""
    return words["open_hold"] if number == 1 else words["open_holds"].format(n=language.number(number))


def _negative(text: str, language: LocaleFormatter) -> str:
    return language.group_digits(format_plain(Decimal(text).copy_negate()))


def _sum(rows: Iterable[Json], language: LocaleFormatter) -> str:
    return language.group_digits(format_plain(sum_exact(Decimal(row["credits"]) for row in rows)))


def _is_nonzero(money: str) -> bool:
    return bool(Decimal(money.rpartition(" ")[0]))


def _money(money: str, language: LocaleFormatter) -> str:
    """Return the digits of an amount such as ``14.40 USD``."""
    return language.group_digits(money.rpartition(" ")[0])


def _kind(row: Json, words: Mapping[str, str], label: str = "") -> str:
    return words.get(f"kind_{row['kind']}", label or row["kind"])


def _movements(shown: Json, days: CalendarDays, words: Mapping[str, str], language: LocaleFormatter) -> list[Json]:
    """Return the movements. The label of a kind is translated; texts of the operator are not."""
    payments = {row["id"]: row for row in shown.get("payments", ())}
    out = []
    for row in shown["movements"]:
        day = days.at(parse_instant(row["at"])).value
        label, _, details = row["label"].partition(f" {day}")
        payment = payments.get(row["id"])
        if payment is not None and payment["channel"]:
            amount = language.group_digits(payment["gross"].rpartition(" ")[0].lstrip("-"))
            details = f"{amount} {payment['gross'].rpartition(' ')[2]} · {payment['channel']}"
        credits = language.group_digits(row["credits"])
        out.append(
            {
                "date": day,
                "kind": _kind(row, words, label),
                "details": details.lstrip(":, "),
                "credits": credits,
            }
        )
    for row in shown.get("reversals", ()):
        day = days.at(parse_instant(row["at"])).value
        note = words["reversed_note"].format(credits=language.group_digits(row["credits"]))
        reason = row["label"].partition(f" {day}")[2].lstrip(":, ")
        out.append({"date": day, "kind": _kind(row, words), "details": f"{reason} · {note}", "credits": ""})
    return out


def _payment(row: Json, days: CalendarDays, words: Mapping[str, str], language: LocaleFormatter) -> Json:
    source = " · ".join(filter(None, (row["channel"], row["reference"] or row["lot"])))
    return {
        "date": days.at(parse_instant(row["at"])).value,
        "kind": _kind(row, words),
        "source": source,
        "currency": row["gross"].rpartition(" ")[2],
        **{name: _money(row[name], language) for name in ("net", "tax", "gross")},
    }


def _payment_totals(rows: Iterable[Json], words: Mapping[str, str], language: LocaleFormatter) -> list[Json]:
    """Return the sums of the payments by currency."""
    by_currency: dict[str, list[Json]] = {}
    for row in rows:
        by_currency.setdefault(row["gross"].rpartition(" ")[2], []).append(row)
    return [
        {
            "title": words["payments_of"].format(currency=currency),
            **{
                name: language.group_digits(add_rounded([row[name].rpartition(" ")[0] for row in group]))
                for name in ("net", "tax", "gross")
            },
        }
        for currency, group in by_currency.items()
    ]


def _requests(usage: Iterable[Json], words: Mapping[str, str], language: LocaleFormatter) -> str:
    number = sum(row["requests"] for row in usage)
    return words["request"] if number == 1 else words["requests"].format(n=language.number(number))


_COUNTS: Final = ("requests", "input_tokens", "cache_read_tokens", "output_tokens")


def _usage_by(key: str, usage: Iterable[Json], empty: str, language: LocaleFormatter) -> list[Json]:
    """Return rows of usage, summed by day, model or member, sorted. ``empty`` names usage without the key."""
    groups: dict[str, list[Json]] = {}
    for row in usage:
        groups.setdefault(row[key] or empty, []).append(row)
    return [
        {
            "name": name,
            "credits": _sum(rows, language),
            **{count: language.number(sum(row[count] for row in rows)) for count in _COUNTS},
        }
        for name, rows in sorted(groups.items())
    ]


def _days(usage: Sequence[Json], words: Mapping[str, str], language: LocaleFormatter) -> list[Json]:
    rows = _usage_by("day", usage, words["elsewhere"], language)
    return rows if len(rows) <= _MAX_DAYS else []


def _chart_document(usage: Sequence[Json], words: Mapping[str, str]) -> Json:
    """Return the usage in the form of a bill, for the charts of bills, with as many decimal places as are needed."""
    days = [
        {"day": row["day"], "model": row["model"] or words["elsewhere"], "credits": row["credits"]} for row in usage
    ]
    amounts = [Decimal(row["credits"]) for row in usage]
    places = max((to_scaled(amount)[1] for amount in amounts), default=0)
    return {
        "kind": "invoice",
        "days": days,
        "totals": {"rounded": {"credits": format_plain(sum_exact(amounts))}},
        "rounding": {"credit_digits": places},
    }
