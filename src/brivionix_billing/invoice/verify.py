"""Verifies a bill: recomputes it from the usage file and the price file, and reports the differences.

Nothing in the document is trusted. Its hash is recomputed, and its signature and its place in the series are checked.
Every figure is recomputed from the usage file and the price file by the same rules. The hash protects what cannot be
recomputed, such as names, dates and the number. The signature and the next document of the series protect the hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING, Any, Final

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.invoice.aggregation.account_usage import AccountUsage, AggregatedUsage
from brivionix_billing.invoice.aggregation.aggregate import aggregate_usage
from brivionix_billing.invoice.aggregation.dimensions import Dimensions
from brivionix_billing.invoice.build import build_invoice
from brivionix_billing.invoice.chain import follow_changes
from brivionix_billing.invoice.diff import DAYS, LINES, Difference, diff, diff_rows
from brivionix_billing.invoice.document import schema_errors
from brivionix_billing.invoice.header import Header
from brivionix_billing.invoice.late import add_late_usage, build_late_usage
from brivionix_billing.invoice.notes import build_note, build_voiding_note
from brivionix_billing.invoice.record_list import compare_records
from brivionix_billing.invoice.report import VerificationReport, check_document
from brivionix_billing.invoice.signing import document_hash
from brivionix_billing.invoice.stated import expected_balance, expected_payment, rebuild_header, stated_channels
from brivionix_billing.invoice.taxes import stated_terms, taxes_on_payment
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.times import Period
from brivionix_billing.usage.record_file import RejectedRecord

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

__all__ = ["Difference", "Verifier"]

MAX_NAMED: Final = 20
"""Maximum number of records that a report names for one reason."""
_MAX_REJECTED: Final = 10_000
_USAGE_CODES: Final = frozenset({"file_unreadable", "invalid_argument", "missing_extra"})
"""Codes of a usage file that cannot be read: as it is, with these options, or without an extra."""
Find = Callable[[str], Mapping[str, Any] | None]
OpenUsage = Callable[[], AbstractContextManager[IO[bytes]]]


class _UsageError(Exception):
    """The usage cannot be read."""

    def __init__(self, error: BillingError) -> None:
        super().__init__(error)
        self.error = error


class Verifier:
    """Verifies documents against one usage file and one price book. The usage file is read once per period."""

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
        self._aggregated: dict[tuple[Period, str | None], tuple[AggregatedUsage, list[RejectedRecord]]] = {}

    def verify(
        self,
        document: Mapping[str, Any],
        *,
        key: Ed25519PublicKey | None = None,
        previous: Mapping[str, Any] | None = None,
        corrects: Mapping[str, Any] | None = None,
        records: Path | None = None,
        require_signature: bool = False,
        find: Find = lambda _: None,
    ) -> VerificationReport:
        """Verify one document.

        ``key`` is the issuer's public key. ``previous`` is the previous document in its series. ``corrects`` is, for a
        note, the bill that it corrects. ``records`` is the list of records that was written with the bill: with it,
        missing, added and altered records are named. ``require_signature`` fails a document that has no signature that
        is valid for ``key``. ``find`` returns a document by its id: the changes of a bill before a note, and the bills
        whose late usage a bill contains.

        Raises ``file_unreadable`` if the usage file or the list of records cannot be read, and ``invalid_argument`` or
        ``missing_extra`` if the usage needs other options or an extra: none of them says anything about the document.
        """
        report = check_document(document, key, require_signature=require_signature)
        self._check_chain(document, previous, report)
        try:
            self._recompute(document, corrects, records, report, find)
        except _UsageError as failure:
            raise failure.error from None  # the failure is not one of the document
        except BillingError as error:
            if error.code == "file_unreadable":
                raise
            report.add_difference("document", f"cannot be recomputed: {error.message}")
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            if report.ok:
                raise
            report.add_difference("document", "cannot be recomputed until the errors above are fixed")
        return report

    def _check_chain(
        self, document: Mapping[str, Any], previous: Mapping[str, Any] | None, report: VerificationReport
    ) -> None:
        link = document.get("previous")
        if previous is not None and schema_errors(previous):
            report.add_difference("previous", "the given previous document violates the schema")
            return
        if link is None:
            if previous is not None:
                report.add_difference(
                    "previous", f"the document names no previous document, but {previous.get('id')} was given"
                )
            elif document.get("number") != 1:
                report.add_difference(
                    "previous", f"missing; number {document.get('number')} must name the previous document"
                )
            return
        if previous is None:
            if isinstance(link, Mapping):
                report.notes.append(f"link to {link.get('id')} not checked: the document was not given")
            return
        expected = {"id": previous.get("id"), "hash": document_hash(previous)}
        if link != expected:
            report.add_difference("previous", f"names {safe_repr(link, 200)}, but the given document is {expected}")
        elif previous.get("hash") != expected["hash"]:
            report.add_difference("previous", f"{expected['id']}, the previous document, was altered")
        elif (document.get("series"), document.get("number")) != (previous["series"], previous["number"] + 1):
            report.add_difference("number", f"does not follow the number of {expected['id']}")

    def _recompute(
        self,
        document: Mapping[str, Any],
        corrects: Mapping[str, Any] | None,
        records: Path | None,
        report: VerificationReport,
        find: Find,
    ) -> None:
        header = rebuild_header(document, report)
        is_note = document.get("kind") != "invoice"
        for name, required in (("evidence", not is_note), ("corrects", is_note)):
            if required and document[name] is None:
                report.add_difference(name, "missing; the document cannot be recomputed without it")
                return
        invoice = None
        if not is_note or document["evidence"] is not None:
            if self.open_usage is None or self.book is None:
                report.add_difference("document", "cannot be recomputed without the usage file and the price file")
                return
            aggregated, rejected = self._aggregate(header)
            usage = aggregated.accounts.get(header.account) or AccountUsage(header.account)
            channels = stated_channels(document)
            invoice = build_invoice(usage, header, self.book, channels=channels)
            further = dict.fromkeys(name for bucket in usage.buckets for name in bucket.card.channels)
            further = {name: None for name in further if name not in channels}
            if further:
                # An operator may add a channel with prices in the past. It changes no figure of the bill.
                report.notes.append(
                    "the price file has further channels in this period, which the document does not state: "
                    + ", ".join(further)
                )
            terms = stated_terms(document)
            if terms is not None and not is_note:
                invoice["taxes"] = taxes_on_payment(terms, document, invoice["totals"])
            if document.get("late"):
                late = [self._late_usage(section, header, find, report) for section in document["late"]]
                invoice = add_late_usage(invoice, late, None, self.book)
            if not is_note:
                invoice["payment"] = expected_payment(document["payment"], self.book, report)
                invoice["balance"] = expected_balance(document["balance"], invoice["totals"]["credits"], report)
            self._explain_records(document, header, usage, aggregated, rejected, records, report)
        if not is_note:
            expected: Mapping[str, Any] = invoice or {}
        elif corrects is None:
            report.add_difference("corrects", "a note is recomputed from the bill that it corrects; use --corrects")
            return
        elif schema_errors(corrects):
            report.add_difference("corrects", "the given bill that the note corrects violates the schema")
            return
        else:
            if corrects.get("hash") != document_hash(corrects):
                report.add_difference("corrects", f"{corrects.get('id')} was altered")
            earlier = follow_changes(document, corrects, find)
            reason, voided = document["corrects"]["reason"], document["corrects"].get("voids")
            if voided is None:
                expected = build_note(corrects, invoice, header, reason, earlier)
            else:
                expected = build_voiding_note(corrects, voided["id"], header, reason, earlier)
        self._compare_documents(document, expected, report)

    def _late_usage(
        self, section: Mapping[str, Any], header: Header, find: Find, report: VerificationReport
    ) -> Mapping[str, Any]:
        """Return the section ``late`` of a bill for one earlier bill, as it must be."""
        link = section["corrects"]
        bill = find(link["id"])
        if bill is None or schema_errors(bill):
            raise BillingError("series_broken", f"late: {link['id']}, the bill of the late usage, was not given")
        if bill["hash"] != document_hash(bill):
            report.add_difference("late", f"{link['id']} was altered")
        period = Period.parse(bill["period"]["name"], bill["period"]["zone"])
        digits = bill["rounding"]["credit_digits"]
        header = Header(header.account, period, bill["period"]["name"], issued=period.end, credit_digits=digits)
        aggregated, _ = self._aggregate(header)
        usage = aggregated.accounts.get(header.account) or AccountUsage(header.account)
        channels = frozenset(section["totals"]["channels"])
        corrected = build_invoice(usage, header, self._require_book(), channels=channels)
        expected = build_late_usage(bill, corrected, follow_changes(section, bill, find))
        if expected is None:
            raise BillingError("invalid_argument", f"late: the usage has no late usage of {link['id']}")
        self._accept_newer_prices(section["evidence"], expected["evidence"], report)
        return expected

    def _compare_documents(
        self, document: Mapping[str, Any], expected: Mapping[str, Any], report: VerificationReport
    ) -> None:
        row_specs = (LINES, DAYS)
        # Labels describe: the price file may have got better ones since, and no figure depends on them.
        separate = {*(spec.name for spec in row_specs), "labels"}
        actual_rest = {key: value for key, value in document.items() if key not in {"hash", "signature", *separate}}
        expected_rest = {key: value for key, value in expected.items() if key not in separate}
        evidence, expected_evidence = actual_rest.get("evidence"), expected_rest.get("evidence")
        if isinstance(evidence, dict) and isinstance(expected_evidence, dict):
            self._accept_newer_prices(evidence, expected_evidence, report)
        for spec in row_specs:
            report.differences += diff_rows(spec, document[spec.name], expected[spec.name])
        report.differences += diff("", actual_rest, expected_rest)

    @staticmethod
    def _accept_newer_prices(evidence: Mapping[str, Any], expected: dict[str, Any], report: VerificationReport) -> None:
        """Let ``expected`` have the digest that ``evidence`` states, if the prices of the bill are the same."""
        if evidence.get("price_book") != expected["price_book"] and evidence.get("prices") == expected["prices"]:
            # Prices are appended to a price file all the time. Those that this bill depends on have not changed.
            message = "the price file has changed since; the prices that this bill depends on are the same"
            if message not in report.notes:
                report.notes.append(message)
            expected["price_book"] = evidence["price_book"]

    def _require_book(self) -> PriceBook:
        if self.book is None:
            raise BillingError("invalid_argument", "verifying requires a usage file and a price book")
        return self.book

    def _aggregate(self, header: Header) -> tuple[AggregatedUsage, list[RejectedRecord]]:
        """Return the usage of a document's period, and its first rejected records."""
        book = self._require_book()
        if self.open_usage is None:
            raise BillingError("invalid_argument", "verifying requires a usage file and a price book")
        cached = self._aggregated.get((header.period, header.split))
        if cached is None:
            rejected: list[RejectedRecord] = []

            def keep(record: RejectedRecord) -> None:
                if len(rejected) < _MAX_REJECTED:
                    rejected.append(record)

            dimensions = None if header.split is None else Dimensions([header.split])
            try:
                with self.open_usage() as lines:
                    aggregated = aggregate_usage(
                        lines,
                        book,
                        header.period,
                        account=self.account,
                        on_rejected=keep,
                        progress=self.progress,
                        workers=self.workers,
                        dimensions=dimensions,
                    )
            except BillingError as error:
                if error.code in _USAGE_CODES:
                    raise _UsageError(error) from None
                raise
            cached = self._aggregated[header.period, header.split] = (aggregated, rejected)
        return cached

    def _explain_records(
        self,
        document: Mapping[str, Any],
        header: Header,
        usage: AccountUsage,
        aggregated: AggregatedUsage,
        rejected: list[RejectedRecord],
        records: Path | None,
        report: VerificationReport,
    ) -> None:
        """Name the records behind a difference in the evidence, as far as possible."""
        evidence = document["evidence"]
        if usage.duplicates != evidence["duplicates"]:
            duplicates = [each for each in aggregated.duplicates if each.account == header.account]
            for duplicate in duplicates[:MAX_NAMED]:
                report.add_difference(
                    f"record {duplicate.request_id}", f"repeated in line {duplicate.line} of the usage file"
                )
        if usage.rejected != evidence["rejected"]:
            of_account = [record for record in rejected if record.account == header.account]
            for record in of_account[:MAX_NAMED]:
                report.add_difference(f"record {record.request_id or '?'}", f"line {record.line}: {record.message}")
        unreadable = [record for record in rejected if record.account is None or record.at is None]
        report.notes += [
            f"usage line {record.line} cannot be read: {record.message}" for record in unreadable[:MAX_NAMED]
        ]
        if "sha256:" + usage.tree.root().hex() == evidence["merkle_root"]:
            return
        if records is None:
            report.notes.append("use --records with the records.txt of the bill to name the records that differ")
            return
        differences = list(self._compare_records(header, evidence["merkle_root"], records, report))
        for record_name, message in differences:
            report.add_difference(record_name, message)
        if not differences:
            report.notes.append("the list of records and the usage file match, but the bill states another Merkle root")

    def _compare_records(
        self, header: Header, root: str, records: Path, report: VerificationReport
    ) -> Iterator[tuple[str, str]]:
        if self.open_usage is None or self.book is None:
            return
        with self.open_usage() as lines:
            comparison = compare_records(lines, self.book, header.period, header.account, records, root)
        if comparison.root_differs:
            report.notes.append(
                f"{records.name} does not lead to the Merkle root of the bill; it may be of another bill"
            )
        yield from comparison.differences[:MAX_NAMED]
        if len(comparison.differences) > MAX_NAMED:
            yield "records", f"{len(comparison.differences) - MAX_NAMED} more differ"
