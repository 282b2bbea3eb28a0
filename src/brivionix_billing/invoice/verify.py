"""Redoing a bill from the usage and the price file, and saying what differs.

Nothing in the document is believed. Its hash is made again, its signature and its place in the series are checked, and
every figure is computed anew from the usage file and the price file by the same rules. What cannot be computed (names,
dates, the number) is held by the hash, and the hash by the signature and by the next document of the series.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Final

from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.aggregate import AccountUsage, AggregatedUsage, aggregate_usage
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.diff import DAYS, LINES, Difference, diff, diff_rows
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.invoice.header import Balance, Header, payment_section
from brivionix_billing.invoice.notes import build_note
from brivionix_billing.invoice.record_list import compare_records
from brivionix_billing.invoice.signing import document_hash, signature_error
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period, parse_instant
from brivionix_billing.usage.record_file import RejectedRecord

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Difference", "VerificationReport", "Verifier"]

MAX_NAMED: Final = 20
OpenUsage = Callable[[], AbstractContextManager[IO[bytes]]]


@dataclass(slots=True)
class VerificationReport:
    """What verifying found: no ``differences`` means that the bill is right."""

    id: str
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not checked, or is good to know."""

    @property
    def ok(self) -> bool:
        """Whether the bill verifies."""
        return not self.differences

    def add_difference(self, where: str, message: str) -> None:
        """Add a difference in words."""
        self.differences.append(Difference(where, "", "", message))


class Verifier:
    """Verifies documents against one usage file and one price book; the file is read once per period."""

    def __init__(
        self,
        open_usage: OpenUsage | None,
        book: PriceBook | None,
        *,
        account: str | None = None,
        progress: Callable[[int, int], None] | None = None,
        workers: int = 0,
    ) -> None:
        self.open_usage, self.book, self.account = open_usage, book, account
        self.progress, self.workers = progress, workers
        self._collected: dict[tuple[Any, Any], tuple[AggregatedUsage, list[RejectedRecord]]] = {}

    def verify(
        self,
        document: Mapping[str, Any],
        *,
        key: Ed25519PublicKey | None = None,
        previous: Mapping[str, Any] | None = None,
        corrects: Mapping[str, Any] | None = None,
        records: Path | None = None,
    ) -> VerificationReport:
        """Check one document.

        ``key``: the issuer's public key. ``previous``: the document before it in its series. ``corrects``: for a note,
        the bill that it corrects. ``records``: the list of records that was written with the bill; with it, records
        that are missing, added or altered are named.
        """
        report = VerificationReport(str(document.get("id")))
        for path, what in schema_errors(document):
            report.add_difference(path or "document", f"not as the schema asks: {what}")
        self._check_signature(document, key, report)
        self._check_chain(document, previous, report)
        try:
            self._recompute(document, corrects, records, report)
        except BillingError as error:
            if error.code == "file_unreadable":
                raise  # that says nothing of the document
            report.add_difference("document", f"cannot be redone: {error.message}")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            if report.ok:
                raise
            report.add_difference("document", "cannot be redone before the faults above are mended")
        return report

    def _check_signature(
        self, document: Mapping[str, Any], key: Ed25519PublicKey | None, report: VerificationReport
    ) -> None:
        try:
            expected = document_hash(document)
        except BillingError as error:
            report.add_difference("hash", error.message)
            return
        if document.get("hash") != expected:
            report.add_difference(
                "hash",
                f"the document was changed: it says {safe_repr(document.get('hash'))}, its content has {expected}",
            )
        if document.get("signing_key") is None:
            if "signature" in document:
                report.add_difference("signature", "there is one, but the document names no signing key")
            elif key is not None:
                report.add_difference("signature", "the document is not signed")
        elif key is not None:
            fault = signature_error(document, key)
            if fault:
                report.add_difference("signature", fault)
        elif not document.get("signature"):
            report.add_difference("signature", f"missing; the document names signing key {document['signing_key']}")
        else:
            report.notes.append(f"signature by key {document['signing_key']} not checked: no public key given")

    def _check_chain(
        self, document: Mapping[str, Any], previous: Mapping[str, Any] | None, report: VerificationReport
    ) -> None:
        link = document.get("previous")
        if previous is not None and schema_errors(previous):
            report.add_difference("previous", "the document given as the one before it is not a sound document")
            return
        if link is None:
            if previous is not None:
                report.add_difference("previous", f"the document names none, but {previous.get('id')} was given")
            elif document.get("number") != 1:
                report.add_difference("previous", f"number {document.get('number')} names no document before it")
            return
        if previous is None:
            if isinstance(link, Mapping):
                report.notes.append(f"link to {link.get('id')} not checked: that document was not given")
            return
        expected = {"id": previous.get("id"), "hash": document_hash(previous)}
        if link != expected:
            report.add_difference(
                "previous", f"links to {safe_repr(link, 200)}, but the document before it is {expected}"
            )
        elif previous.get("hash") != expected["hash"]:
            report.add_difference("previous", f"{expected['id']}, the document before it, was changed")
        elif (document.get("series"), document.get("number")) != (previous["series"], previous["number"] + 1):
            report.add_difference("number", f"does not follow {expected['id']}")

    def _recompute(
        self,
        document: Mapping[str, Any],
        corrects: Mapping[str, Any] | None,
        records: Path | None,
        report: VerificationReport,
    ) -> None:
        header = _rebuild_header(document, report)
        note = document.get("kind") != "invoice"
        for name, needed in (("evidence", not note), ("corrects", note)):
            if needed and document[name] is None:
                report.add_difference(name, "missing; without it the document cannot be redone")
                return
        right = None
        usage = None
        if not note or document["evidence"] is not None:
            if self.open_usage is None or self.book is None:
                report.add_difference("document", "cannot be redone without the usage file and the price file")
                return
            collected, aside = self._aggregate(header)
            usage = collected.accounts.get(header.account) or AccountUsage(header.account)
            right = build_invoice(usage, header, self.book)
            if not note:
                right["payment"] = _expected_payment(document["payment"], self.book, report)
                right["balance"] = _expected_balance(document["balance"], right["totals"]["credits"], report)
            self._explain_records(document, header, usage, collected, aside, records, report)
        if not note:
            expected: Mapping[str, Any] = right or {}
        elif corrects is None:
            report.add_difference(
                "corrects", "a note is redone from the bill that it corrects; give that with --corrects"
            )
            return
        elif schema_errors(corrects):
            report.add_difference("corrects", "the document given as the bill that it corrects is not a sound document")
            return
        else:
            if corrects.get("hash") != document_hash(corrects):
                report.add_difference("corrects", f"{corrects.get('id')} was changed")
            expected = build_note(corrects, right, header, document["corrects"]["reason"])
        self._compare_documents(document, expected, header.period.end, report)

    def _compare_documents(
        self, document: Mapping[str, Any], expected: Mapping[str, Any], end: datetime, report: VerificationReport
    ) -> None:
        rows = {kind.name: kind for kind in (LINES, DAYS)}
        says = {name: value for name, value in document.items() if name not in ("hash", "signature", *rows)}
        must = {name: value for name, value in expected.items() if name not in rows}
        evidence, evidence_must = says.get("evidence"), must.get("evidence")
        if (
            isinstance(evidence, dict)
            and isinstance(evidence_must, dict)
            and evidence.get("price_book") != evidence_must["price_book"]
            and evidence.get("price_book_before_end") == evidence_must["price_book_before_end"]
            and self.book is not None
            and self.book.has_entries_after(end)
        ):
            # Appending later prices is how a price file lives; what held in the period is as it was.
            report.notes.append("the price file has grown since; its prices up to the end of the period are the same")
            must["evidence"] = {**evidence_must, "price_book": evidence["price_book"]}
        for name, kind in rows.items():
            report.differences += diff_rows(kind, document[name], expected[name])
        report.differences += diff("", says, must)

    def _aggregate(self, header: Header, account: str | None = None) -> tuple[AggregatedUsage, list[RejectedRecord]]:
        if self.open_usage is None or self.book is None:
            raise BillingError("invalid_argument", "a usage file and a price book are needed")
        wanted = account or self.account
        found = self._collected.get((header.period, wanted))
        if found is None:
            aside: list[RejectedRecord] = []

            def keep(record: RejectedRecord) -> None:
                if len(aside) < 10_000:
                    aside.append(record)

            with self.open_usage() as lines:
                collected = aggregate_usage(
                    lines,
                    self.book,
                    header.period,
                    account=wanted,
                    on_rejected=keep,
                    progress=self.progress,
                    workers=self.workers,
                )
            found = self._collected[header.period, wanted] = (collected, aside)
        return found

    def _explain_records(
        self,
        document: Mapping[str, Any],
        header: Header,
        usage: AccountUsage,
        collected: AggregatedUsage,
        aside: list[RejectedRecord],
        records: Path | None,
        report: VerificationReport,
    ) -> None:
        """Name the records behind a difference in the evidence, as far as that can be done."""
        evidence = document["evidence"]
        if usage.duplicates != evidence["duplicates"]:
            named = [d for d in collected.duplicates if d.account == header.account]
            for duplicate in named[:MAX_NAMED]:
                report.add_difference(
                    f"record {duplicate.request_id}", f"stands again in line {duplicate.line} of the usage"
                )
        if usage.rejected != evidence["rejected"]:
            mine = [record for record in aside if record.account == header.account]
            for record in mine[:MAX_NAMED]:
                report.add_difference(f"record {record.request_id or '?'}", f"line {record.line}: {record.message}")
        unread = [record for record in aside if record.account is None or record.at is None]
        report.notes += [f"usage line {record.line} cannot be read: {record.message}" for record in unread[:MAX_NAMED]]
        if "sha256:" + usage.tree.root().hex() == evidence["merkle_root"]:
            return
        if records is None:
            report.notes.append("with the list of records that was written with the bill, --records, each is named")
            return
        named_any = False
        for difference in self._compare_records(header, evidence["merkle_root"], records, report):
            named_any = True
            report.add_difference(*difference)
        if not named_any:
            report.notes.append("the list of records and the usage file agree; it is the bill's root that differs")

    def _compare_records(
        self, header: Header, root: str, records: Path, report: VerificationReport
    ) -> Iterator[tuple[str, str]]:
        if self.open_usage is None or self.book is None:
            return
        with self.open_usage() as lines:
            found = compare_records(lines, self.book, header.period, header.account, records, root)
        if found.root_differs:
            report.notes.append(f"{records.name} is not the list of this bill, so records are named with care")
        yield from found.differences[:MAX_NAMED]
        if len(found.differences) > MAX_NAMED:
            yield "records", f"{len(found.differences) - MAX_NAMED} more differ"


def _rebuild_header(document: Mapping[str, Any], report: VerificationReport) -> Header:
    """The document's own heading, to build it again under; payment and balance are looked at apart from it."""
    period, customer = document["period"], document["customer"]
    try:
        span = Period.parse(period["name"], period["zone"])
    except BillingError as error:
        report.add_difference("period", error.message)
        span = Period(parse_instant(period["from"]), parse_instant(period["to"]), period["zone"])
    link = document["previous"]
    header = Header(
        account=customer["account"],
        period=span,
        period_name=period["name"],
        issued=parse_instant(document["issued"]),
        series=document["series"],
        number=1,
        issuer=document["issuer"]["name"],
        issuer_tax_number=document["issuer"]["tax_number"],
        issuer_details=document["issuer"]["details"],
        customer=customer["name"],
        customer_tax_number=customer["tax_number"],
        customer_details=customer["details"],
        due=None if document["due"] is None else parse_instant(document["due"]),
        signing_key=document["signing_key"],
    )
    put = object.__setattr__  # the chain is checked apart from this, so any number and link may be built under
    put(header, "number", document["number"])
    put(header, "previous", link)
    return header


def _expected_payment(said: Any, book: PriceBook, report: VerificationReport) -> Any:
    """The payment that a bill by this channel must tell."""
    if said is None:
        return None
    try:
        return payment_section(said["channel"], book)
    except BillingError as error:
        report.add_difference("payment.channel", error.message)
        return said


def _expected_balance(said: Any, used: str, report: VerificationReport) -> Any:
    """The balance that a bill with this opening and these movements must tell."""
    if said is None:
        return None
    try:
        movements = [(movement["label"], movement["credits"]) for movement in said["movements"]]
        balance = Balance(said["opening"], movements, said["closing"])
    except BillingError as error:
        report.add_difference("balance", error.message)
        return said
    return {**balance.as_dict(), "closing": format_plain(balance.closing_after(Decimal(used)))}
