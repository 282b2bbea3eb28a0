"""The page of a bill: a self-contained HTML file that embeds the document and checks itself."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from html import unescape
from typing import TYPE_CHECKING, Any, Final

from brivionix_billing.canonical_json import canonical_json, sha256
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.display import bill_heading, is_statement, shown_channels
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.invoice.figures import LINE_CONDITIONS
from brivionix_billing.invoice.header import document_id
from brivionix_billing.invoice.labels import label_of, named
from brivionix_billing.invoice.shown_credits import round_credits, shown_balance, shown_savings
from brivionix_billing.invoice.signing import check_signature, document_hash, key_id
from brivionix_billing.pages.bill_charts import usage_charts
from brivionix_billing.pages.bill_messages import BILL_MESSAGES
from brivionix_billing.pages.bill_summary import add_rounded, model_summary
from brivionix_billing.pages.branding import image_address
from brivionix_billing.pages.formatting import LocaleFormatter, replace_invisible
from brivionix_billing.pages.messages import METER_LABELS, PRICING_MESSAGES, tier_label
from brivionix_billing.pages.render import HtmlPage, embed_json, read_asset, render_template
from brivionix_billing.times import CalendarDays, format_instant, parse_instant

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["bill_page", "digest_text", "printed_bill"]

Json = dict[str, Any]
_TAG_AND_TEXT: Final = re.compile("<(?:/[^>]*|([a-z][a-z0-9]*)([^>]*))>([^<]*)")
_ATTRIBUTE: Final = re.compile('([a-z-]+)="([^"]*)"')
_DIGESTED_ATTRIBUTES: Final = {False: ("data-path", "hidden"), True: ("class", "x", "y", "width", "height")}
_SPACES: Final = "\t\n\f"
"""White space of HTML, except the space. Python and browsers differ in what else counts as white space."""
_DIGEST_PLACEHOLDER: Final = "@@text@@"
_SCRIPT_MESSAGE_PREFIXES: Final = ("check", "not_", "no_", "bad_")
_SCREEN_ATTRIBUTES: Final = re.compile(' (?:role|scope|data-label|tabindex|aria-label)="[^"]*"')
"""Attributes that print does not need. A text cannot match, because the templates escape quotation marks."""
_MAX_COLUMN_CHANNELS: Final = 3
"""Maximum number of channels that have a column in the lines. The totals have all channels."""


def bill_page(
    document: Mapping[str, Any],
    *,
    locale: str = "en",
    public_key: Ed25519PublicKey | None = None,
    all_channels: bool = False,
    logo: bytes | None = None,
) -> HtmlPage:
    """Render the page of a sealed bill or note in ``en`` or ``zh_CN``.

    It shows the cost through the customer's channel of payment; with ``all_channels``, or without one, through all.
    ``logo`` is a PNG, JPEG or SVG image of at most 128 KiB; it is no part of the document.

    The page embeds the canonical JSON of the document, and a script that recomputes its hash and sums. With
    ``public_key``, the script also verifies the signature. Without it, the page states that it was not checked.

    Raises ``invalid_document`` if the document is invalid, ``invalid_key`` if its signature is not valid for
    ``public_key``, ``invalid_argument``, ``missing_extra``.
    """
    document, values = _checked_values(document, locale, public_key, all_channels, logo)
    language, words = values["language"], values["words"]
    key = None if public_key is None else _public_key_data(public_key)
    messages = {name: text for name, text in words.items() if name.startswith(_SCRIPT_MESSAGE_PREFIXES)}
    payload = {"document": document, "messages": messages, "form": language.client_formats([]), "key": key}
    values |= {"printed": False, "digest": _DIGEST_PLACEHOLDER, "data": embed_json(payload), **_checked_texts(language)}
    script = read_asset("decimals.js") + read_asset("bill.js")
    draft = render_template("bill.html", values, style=_style(document), script=script)
    page = HtmlPage(draft.replace(_DIGEST_PLACEHOLDER, sha256(digest_text(draft).encode()).hex(), 1))
    page.policy = draft.policy
    return page


def printed_bill(
    document: Mapping[str, Any], *, locale: str = "en", all_channels: bool = False, logo: bytes | None = None
) -> str:
    """Render a sealed bill or note for :func:`render_pdf`: the same page without its check and the document.

    No script runs in a PDF, so the page states that a signature is not checked there. Raises ``invalid_document``,
    ``invalid_argument``, ``missing_extra``.
    """
    document, values = _checked_values(document, locale, None, all_channels, logo)
    values |= {"printed": True, "digest": "", **_plain_texts(values["language"])}
    page = render_template("bill.html", values, style=_style(document), script="")
    return _SCREEN_ATTRIBUTES.sub("", page)


def _style(document: Mapping[str, Any]) -> str:
    return read_asset("base.css") + read_asset("bill.css") + f'@page{{@bottom-left{{content:"{document["id"]}"}}}}\n'


def _checked_values(
    document: Mapping[str, Any],
    locale: str,
    public_key: Ed25519PublicKey | None,
    all_channels: bool,
    logo: bytes | None,
) -> tuple[Mapping[str, Any], Json]:
    """Check a document. Returns it with its keys in canonical order, and the values of its template."""
    errors = schema_errors(document)
    if errors:
        path, message = errors[0]
        raise BillingError("invalid_document", f"{path}: {message}")
    if document["hash"] != document_hash(document):
        raise BillingError(
            "invalid_document", f"{document['id']} was changed after it was issued: its hash does not match"
        )
    if document["id"] != document_id(document["series"], document["number"]):
        # The style sheet of the page contains the id, so only an id that this package built is safe.
        message = f"id {safe_repr(document['id'])}: does not match series and number"
        raise BillingError("invalid_document", message)
    signature, signature_error = check_signature(document, public_key)
    if signature_error is not None:
        raise BillingError("invalid_key", f"{document['id']}: signature: {signature_error}")
    # Canonical order of keys, so that a new document and one read from a file have the same page.
    document = json.loads(canonical_json(document))
    language = LocaleFormatter(locale)
    words = BILL_MESSAGES[language.name]
    visible: Json = replace_invisible(document)
    try:
        view = _view(visible, language, all_channels)
    except (BillingError, ValueError, OverflowError, LookupError, TypeError) as error:
        raise BillingError("invalid_document", f"{document['id']} cannot be rendered: {error}") from None
    return document, {
        "language": language,
        "words": words,
        "title": f"{view['heading']} {document['id']}",
        "document": visible,
        "logo": "" if logo is None else image_address(logo, "logo"),
        **view,
        "signature": signature.name,
    }


def _checked_texts(language: LocaleFormatter) -> Json:
    """Return the functions of the template for figures and texts that the script compares with the document.

    They have the path of a value: ``of`` is for exact figures, ``near`` for rounded ones. Macros would take longer.
    """
    from markupsafe import Markup, escape

    digits = language.group_digits

    def element(attributes: str, path: str, value: str) -> Markup:
        return Markup(f'<span data-path="{escape(path)}"{attributes}>{escape(value)}</span>')  # noqa: S704  # escaped

    return {
        "digits": digits,
        "of": lambda path, value: element("", path, digits(value)),
        "near": lambda path, value: element(' data-as="rounded"', path, digits(value)),
        "text": lambda path, value: element(' data-as="text"', path, value),
    }


def _plain_texts(language: LocaleFormatter) -> Json:
    """Return the same functions for print, where no script runs, and each element of a long table costs time."""
    digits = language.group_digits
    shown = {"of": lambda _, value: digits(value), "near": lambda _, value: digits(value)}
    return {"digits": digits, **shown, "text": lambda _, value: value}


def _public_key_data(key: Ed25519PublicKey) -> Json:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"id": key_id(key), "raw": base64.b64encode(raw).decode()}


def digest_text(html: str) -> str:
    """Return the text of a page that its own check hashes: the title, then elements and texts of ``<main>`` in order.

    It includes the attributes that decide what a reader sees: ``data-path``, ``hidden``, and position and series of a
    bar. White space is collapsed.
    """
    # The templates escape every "<" and ">" in texts and attributes, so regular expressions can parse the page.
    title = html[html.index("<title>") + 7 : html.index("</title>")]
    main = html[html.index("<main") : html.rindex("</main>")]
    parts = [title]
    for name, attributes, text in _TAG_AND_TEXT.findall(main):
        if name:
            parts.append("<" + name)
            # Most elements have no such attribute, and this is faster.
            if attributes and (name == "rect" or "data-path" in attributes or "hidden" in attributes):
                values = dict(_ATTRIBUTE.findall(attributes))
                parts += [f"{key}={values[key]}" for key in _DIGESTED_ATTRIBUTES[name == "rect"] if key in values]
        parts.append(text)
    # No character reference contains a space, so all parts can be unescaped at once.
    text = unescape(" ".join(parts))
    for space in _SPACES:
        text = text.replace(space, " ")
    return " ".join(filter(None, text.split(" ")))


def _view(document: Mapping[str, Any], language: LocaleFormatter, all_channels: bool) -> Json:
    words, totals = BILL_MESSAGES[language.name], document["totals"]
    _require_all_channels(document)
    days = CalendarDays(document["period"]["zone"])
    channels, payment = shown_channels(document, all_channels), document["payment"]
    return {
        "heading": bill_heading(document, words),
        "untaxed": is_statement(document),
        "channel_names": {name: named(document, "channels", name, language.name) for name in channels},
        "payment_name": payment and named(document, "channels", payment["channel"], language.name),
        "channels": channels,
        "line_channels": channels[:_MAX_COLUMN_CHANNELS],
        # Next to one currency, a second amount of money in every line would only confuse.
        "nominal_column": len(channels) != 1,
        "heading_credits": words["credits_used" if document["kind"] == "invoice" else "credits_change"],
        "when": _dates(document, days),
        "period": _period(document["period"], words, days),
        "parties": [
            _party("issuer", document["issuer"], words),
            _party("customer", document["customer"], words),
        ],
        "models": model_summary(document, channels[:_MAX_COLUMN_CHANNELS], language),
        "blocks": _line_groups(document, channels[:_MAX_COLUMN_CHANNELS], days, language),
        "requests": _requests(totals["requests"], language),
        "estimated": _estimated(document, language),
        "balance": shown_balance(document),
        "savings": _savings(document, language),
        "evidence": _evidence(document, language),
        "unaccounted": _unaccounted(document, language),
        "short_form": _short_form(document),
        "charts": usage_charts(document, language),
        **_sections(document, words),
    }


def _sections(document: Mapping[str, Any], words: Mapping[str, str]) -> Json:
    """Return the headings of the sections of a bill that is split."""
    by = (document.get("sections") or {}).get("by", "")
    name = words.get(f"section_{by}", by)
    return {"section_by": name, "section_title": words["section_title"].format(name=name)}


def _require_all_channels(document: Mapping[str, Any]) -> None:
    channels = set(document["totals"]["channels"])
    parts = (document.get("sections") or {}).get("parts", [])
    for shown in (document["totals"]["rounded"], *(row["rounded"] for row in (*document["lines"], *parts))):
        if set(shown["channels"]) != channels:
            raise ValueError("not every line shows every channel of the totals")


def _party(kind: str, party: Mapping[str, Any], words: Mapping[str, str]) -> Json:
    return {
        "kind": kind,
        "title": words[kind],
        "name": party["name"],
        "account": party.get("account"),
        "tax": party["tax_number"],
        "details": party["details"],
    }


def _day(when: datetime, days: CalendarDays) -> str:
    """Format the start of a day as an ISO 8601 date; any other instant in full."""
    day = days.at(when)
    return day.value if day.start == when else format_instant(when)


def _dates(document: Mapping[str, Any], days: CalendarDays) -> dict[str, str | None]:
    return {
        name: None if document[name] is None else _day(parse_instant(document[name]), days)
        for name in ("issued", "due")
    }


def _period(period: Mapping[str, Any], words: Mapping[str, str], days: CalendarDays) -> Json:
    start, end = parse_instant(period["from"]), parse_instant(period["to"])
    # "to" is exclusive. If the period ends with a day, the page shows this last day, which is inclusive.
    last = days.at(end - datetime.resolution)
    return {
        "days": words["period_days"].format(
            first=_day(start, days), last=last.value if last.end == end else format_instant(end)
        ),
        "zone": words["zone"].format(zone=period["zone"]),
    }


def _line_groups(
    document: Mapping[str, Any], channels: Sequence[str], days: CalendarDays, language: LocaleFormatter
) -> list[Json]:
    """Group the lines by model and terms, with subtotals."""
    words = BILL_MESSAGES[language.name]
    names = ("model", "group", "service_tier", "context_tier", *LINE_CONDITIONS, "price_since")
    blocks: dict[tuple[str, ...], list[tuple[int, Json]]] = {}
    for index, line in enumerate(document["lines"]):
        blocks.setdefault(tuple(line.get(name, "") for name in names), []).append((index, line))
    price_dates: dict[tuple[str, ...], int] = {}
    for key in blocks:
        price_dates[key[:-1]] = price_dates.get(key[:-1], 0) + 1
    out = []
    for key, lines in blocks.items():
        model, group, tier, context, *_, since = key
        parts = [
            label_of(document, "service_tiers", tier, language.name) or tier_label(language.name, tier),
            words["group"].format(group=named(document, "groups", group, language.name)),
        ]
        if context == "long":
            parts.append(words["long"])
        elif context != "short":
            parts.append(words["input_tokens"].format(range=context))
        parts += _conditions(document, lines[0][1], language)
        if price_dates[key[:-1]] > 1:
            parts.append(words["since"].format(date=_day(parse_instant(since), days)))
        shown = [line["rounded"] for _, line in lines]
        out.append(
            {
                "model": named(document, "models", model, language.name),
                "terms": " · ".join(parts),
                "lines": [_line(document, index, line, language) for index, line in lines],
                "credits": language.group_digits(add_rounded([part["credits"] for part in shown])),
                "nominal": language.group_digits(add_rounded([part["nominal"] for part in shown])),
                "channels": [
                    (name, language.group_digits(add_rounded([part["channels"].get(name, "0") for part in shown])))
                    for name in channels
                ],
            }
        )
    return out


def _conditions(document: Mapping[str, Any], line: Mapping[str, Any], language: LocaleFormatter) -> list[str]:
    """Return what makes the prices of a line differ from the usual ones, in words."""
    words = BILL_MESSAGES[language.name]
    router = line.get("router")
    parts = [words["router"].format(name=named(document, "models", router, language.name))] if router else []
    parts += [
        PRICING_MESSAGES[language.name][f"in_{dimension}"].format(
            name=named(document, f"{dimension}s", line[dimension], language.name)
        )
        for dimension in ("region", "mode", "window")
        if line.get(dimension)
    ]
    if line.get("list_currency"):
        parts.append(words["exchange"].format(listed=line["list_currency"], rate=line["exchange_rate"]))
    return parts


def _line(document: Mapping[str, Any], index: int, line: Mapping[str, Any], language: LocaleFormatter) -> Json:
    return {
        "index": index,
        "item": label_of(document, "meters", line["meter"], language.name)
        or METER_LABELS[language.name].get(line["meter"], line["meter"].replace("_", " ")),
        **line,
    }


def _requests(count: int, language: LocaleFormatter) -> str:
    words = BILL_MESSAGES[language.name]
    return words["request"] if count == 1 else words["requests"].format(n=language.number(count))


def _estimated(document: Mapping[str, Any], language: LocaleFormatter) -> str | None:
    estimated = document["totals"]["estimated"]
    if not estimated["requests"] and estimated["credits"] == "0":
        return None
    return BILL_MESSAGES[language.name]["estimated"].format(
        requests=_requests(estimated["requests"], language),
        credits=language.group_digits(round_credits(document, estimated["credits"])),
    )


def _savings(document: Mapping[str, Any], language: LocaleFormatter) -> list[tuple[str, str, str]]:
    """Return label, path and amount of the steps from the list price to the charge.

    A negative amount is an additional cost, for example of cache writes.
    """
    words = BILL_MESSAGES[language.name]
    if document["kind"] != "invoice":
        return []  # the difference of two savings is not meaningful
    saved = shown_savings(document)
    rows = [
        (words[label], f"savings.{key}", saved[key])
        for key, label in (("list", "at_list"), ("cache", "by_cache"), ("group", "by_group"))
    ]
    charged = document["totals"]["rounded"]["credits"]
    return [*rows, (words["charged"], "totals.rounded.credits", charged)]


def _evidence(document: Mapping[str, Any], language: LocaleFormatter) -> list[str]:
    words, evidence = BILL_MESSAGES[language.name], document["evidence"]
    if evidence is None:
        return []
    records = _requests(evidence["records"], language)
    if evidence["first"] and evidence["last"]:
        first, last = evidence["first"]["at"], evidence["last"]["at"]
        records = words["records_are"].format(records=records, first=first, last=last)
    out = [records if document["kind"] == "invoice" else words["of_right"].format(records=records)]
    out += [words[key].format(n=language.number(evidence[key])) for key in ("duplicates", "rejected") if evidence[key]]
    return out


def _unaccounted(document: Mapping[str, Any], language: LocaleFormatter) -> list[tuple[int, str]]:
    """Return (index, how many numbers) of each path of usage objects that nothing was charged for."""
    words = BILL_MESSAGES[language.name]
    entries = (document["evidence"] or {}).get("unaccounted") or []
    return [
        (
            index,
            words["number_once"]
            if entry["numbers"] == 1
            else words["numbers"].format(n=language.number(entry["numbers"])),
        )
        for index, entry in enumerate(entries)
    ]


def _short_form(document: Mapping[str, Any]) -> str:
    """Return a line that can be read out: id, rounded Credits, and 64 bits of the hash in groups of four."""
    digits = document["hash"].partition(":")[2][:16]
    groups = " ".join(digits[i : i + 4] for i in range(0, 16, 4))
    return f"{document['id']} · {document['totals']['rounded']['credits']} Credits · {groups}"
