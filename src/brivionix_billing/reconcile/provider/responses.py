"""Compares a report by response, such as OpenRouter's, with our requests: one row for each response."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from brivionix_billing.decimals import format_plain, negate, sum_exact
from brivionix_billing.errors import BillingError
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.rating import Charge
from brivionix_billing.reconcile.matching import Item, Key, Match, Rule, match
from brivionix_billing.reconcile.provider.alternatives import Alternatives, Part
from brivionix_billing.reconcile.provider.report import ResponseLine
from brivionix_billing.reconcile.provider.usage_side import OurResponse
from brivionix_billing.reconcile.rows import NO_CAUSE, Columns, Row, State
from brivionix_billing.times import format_instant
from brivionix_billing.usage import Usage

__all__ = ["RESPONSE_COLUMNS", "RESPONSE_KEYS", "ResponseComparer"]

RESPONSE_COLUMNS: Final = Columns(
    "response_id",
    "reported",
    "expected",
    (
        *("request_id", "at", "model", "tier", "matched_by", "reported_input", "expected_input", "reported_output"),
        *("expected_output", "quantity_part", "price_part", "text", "place"),
    ),
)
_WINDOW: Final = timedelta(minutes=10)
RESPONSE_KEYS: Final = (
    Key(("id",)),
    Key(("response",)),
    Key(("model", "tokens"), _WINDOW),
)
"""The id of the request; that of the response; else the model and the tokens within ten minutes."""


class ResponseComparer:
    """Names the cause of every response."""

    def __init__(self, book: PriceBook, rule: Rule) -> None:
        self._book, self._rule = book, rule
        self._alternatives = Alternatives(book)

    def rows(self, lines: Sequence[ResponseLine], responses: Sequence[OurResponse]) -> Iterable[Row]:
        """Yield the rows of all responses of both sides."""
        theirs = [self._their_item(line) for line in lines]
        ours = [self._our_item(response) for response in responses]
        for each in match(theirs, ours, self._rule):
            yield self._row(each)

    def _their_item(self, line: ResponseLine) -> Item:
        tokens = "" if line.usage is None else f"{line.usage.input_tokens}/{line.usage.output_tokens}"
        fields = {"id": line.id, "response": line.id, "model": self._model(line.model), "tokens": tokens}
        return Item(fields, self._book.currency, line.amount, line.at, line)

    def _our_item(self, response: OurResponse) -> Item:
        usage = response.record.usage
        fields = {
            "id": response.request_id,
            "response": response.response_id,
            "model": response.charge.model,
            "tokens": f"{usage.input_tokens}/{usage.output_tokens}",
        }
        return Item(fields, self._book.currency, response.charge.nominal.amount, response.record.at, response)

    def _model(self, name: str | None) -> str:
        try:
            return self._book.resolve_model(name)
        except BillingError:
            return name or ""

    def _row(self, each: Match) -> Row:
        line: ResponseLine | None = each.theirs.source if each.theirs else None
        response: OurResponse | None = each.ours.source if each.ours else None
        state, cause, text, quantity_part = self._cause(each.state, line, response)
        reported = None if line is None else line.amount
        expected = None if response is None else response.charge.nominal.amount
        difference = sum_exact((reported or Decimal(0), negate(expected or Decimal(0))))
        at = response.record.at if response else line.at if line else None
        details = {
            "request_id": response.request_id if response else "",
            "at": "" if at is None else format_instant(at),
            "model": response.charge.model if response else self._model(line.model if line else None),
            "tier": response.charge.service_tier if response else "",
            "matched_by": "+".join(each.key.fields) if each.key else "",
            **_counts("reported", line.usage if line else None),
            **_counts("expected", response.record.usage if response else None),
            "quantity_part": format_plain(quantity_part),
            "price_part": format_plain(sum_exact((difference, negate(quantity_part)))),
            "text": text,
            "place": line.place.replace("\\", "/").rpartition("/")[2] if line else "",
        }
        key = line.id if line else response.request_id if response else ""
        return Row(key, state, cause, self._book.currency, reported, expected, details)

    def _cause(
        self, state: State, line: ResponseLine | None, response: OurResponse | None
    ) -> tuple[State, str, str, Decimal]:
        nothing = Decimal(0)
        if line is None or response is None:
            amount = line.amount if line else negate(response.charge.nominal.amount) if response else nothing
            if state is State.DUPLICATE:
                return state, "repeated", "", amount
            if line is None:
                return State.ONLY_OURS, "not_in_report", "", amount
            if not line.amount:
                return State.MATCHED, NO_CAUSE, "", nothing
            is_known = line.model is not None and self._is_model(line.model)
            return State.ONLY_THEIRS, "not_in_usage" if is_known else "unknown_model", "", amount
        expected = response.charge.nominal.amount
        difference = sum_exact((line.amount, negate(expected)))
        if state is State.MATCHED:
            return state, "rounding" if difference else NO_CAUSE, "", nothing
        if line.is_byok:
            return state, "byok", "the request was paid by a key of one's own", nothing
        theirs = self._rate(line, response)
        quantity_part = nothing if theirs is None else sum_exact((theirs.nominal.amount, negate(expected)))
        charge = response.charge if theirs is None else theirs
        price_part = sum_exact((difference, negate(quantity_part)))
        if quantity_part and abs(price_part) <= self._rule.tolerance:
            return state, "quantity", "", difference
        tolerance = Fraction(self._rule.tolerance)
        explanation = self._alternatives.explain(_parts(charge), Fraction(line.amount), tolerance)
        if abs(quantity_part) > abs(price_part):
            return state, "quantity", "" if explanation is None else f"also {explanation.text}", quantity_part
        if explanation is None:
            return state, "price", "", quantity_part
        return state, explanation.cause, explanation.text, quantity_part

    def _is_model(self, name: str) -> bool:
        try:
            self._book.resolve_model(name)
        except BillingError:
            return False
        return True

    def _rate(self, line: ResponseLine, response: OurResponse) -> Charge | None:
        """Return what the counts of the report cost at our prices."""
        origin = response.record.origin
        if line.usage is None:
            return None
        try:
            return self._book.rate(
                line.usage,
                model=origin.model,
                group=response.group,
                at=response.record.at,
                service_tier=origin.service_tier,
                region=origin.region,
                mode=origin.mode,
            )
        except BillingError:
            return None


def _parts(charge: Charge) -> list[Part]:
    own = getattr(charge, "own", charge)
    return [
        (each.card, meter, quantity)
        for each in (own, *charge.parts)
        for meter, quantity in each.card.billed_quantities(each.usage)
        if quantity
    ]


def _counts(side: str, usage: Usage | None) -> dict[str, str]:
    if usage is None:
        return {}
    return {f"{side}_input": str(usage.input_tokens), f"{side}_output": str(usage.output_tokens)}
