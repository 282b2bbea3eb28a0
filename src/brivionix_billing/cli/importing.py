"""The command ``import``: public price data to a price file."""

from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any, Final

from brivionix_billing.cli.arguments import EXIT_OK, require_distinct_paths
from brivionix_billing.cli.output import as_json, count_noun, print_stderr, print_stdout
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.files import PUBLISHED, atomic_write_bytes, read_bounded
from brivionix_billing.importing.build import build_price_file
from brivionix_billing.importing.catalog import UNDATED_START, Catalog, Rejection
from brivionix_billing.importing.merge import merge_catalog
from brivionix_billing.importing.reading import MAX_SOURCE_BYTES
from brivionix_billing.importing.sources import SOURCES, read_catalog
from brivionix_billing.pricebook.patterns import matcher
from brivionix_billing.pricebook.yaml_reader import MAX_BYTES
from brivionix_billing.times import parse_instant

__all__ = ["add_commands", "print_rejections", "read_source"]

_SHOWN_REASONS: Final = 10
_MAX_REASON: Final = 200
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")


def add_commands(commands: Any) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "import",
        help="convert public price data to a price file",
        description="Reads public price data and prints a price file, or adds the prices to an existing one. "
        "What cannot be imported is summarized on stderr.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "source", metavar="SOURCE", choices=list(SOURCES), help=f"where the prices come from: {', '.join(SOURCES)}"
    )
    parser.add_argument("file", metavar="FILE", help="the file of the source; - for stdin")
    parser.add_argument("--model", metavar="P", action="append", help="import only models that match this pattern")
    parser.add_argument(
        "--from", metavar="DATE", dest="start", help=f"the start of prices without a date ({UNDATED_START})"
    )
    parser.add_argument("--into", metavar="FILE", help="append new prices to this price file instead")
    parser.add_argument("--report", metavar="FILE", help="write everything that was not imported to this file, as JSON")
    parser.set_defaults(run=_import)


def _import(args: Namespace) -> int:
    require_distinct_paths(args.file if args.file != "-" else None, args.into, args.report)
    if args.start is not None:
        parse_instant(args.start)
    elif args.into:
        raise BillingError("invalid_argument", "--into changes prices from a time on; add --from DATE")
    catalog = read_source(args.source, args.file, args.model)
    try:
        if args.into:
            content = read_bounded(args.into, MAX_BYTES, "the price file", too_large="invalid_argument")
            merged = merge_catalog(catalog, content, args.into, args.start, args.model or ())
            if merged.added or merged.changed:
                atomic_write_bytes(args.into, merged.text.encode(), PUBLISHED)
            done = (
                f"{count_noun(len(merged.added), 'model')} added to {safe_repr(args.into, 200)}, "
                f"{len(merged.changed)} got new prices, {len(merged.unchanged)} unchanged"
            )
        else:
            print_stdout(build_price_file(catalog, args.start, os.path.basename(args.file)))
            done = f"{count_noun(len(catalog.models), 'model')} imported"
            if args.start is None and any(model.prices[0].start is None for model in catalog.models.values()):
                done += f"; prices without a date start on {UNDATED_START} (change it by --from)"
    finally:
        if args.report:
            atomic_write_bytes(args.report, as_json(_report(args, catalog)).encode())
    print_stderr(f"{args.source}: {done}")
    print_rejections(catalog)
    return EXIT_OK


def read_source(source: str, file: str, patterns: Sequence[str] | None) -> Catalog:
    """Read the file of a source, and keep the models that match one of the patterns."""
    catalog = read_catalog(source, _read(file), "" if file == "-" else file)
    if patterns:
        catalog.select(matcher(patterns))
    return catalog


def _read(path: str) -> bytes:
    if path != "-":
        return read_bounded(path, MAX_SOURCE_BYTES, "the price data", too_large="source_unreadable")
    content = sys.stdin.buffer.read(MAX_SOURCE_BYTES + 1)
    if len(content) > MAX_SOURCE_BYTES:
        raise BillingError("source_unreadable", f"stdin has more than {MAX_SOURCE_BYTES} bytes; pass a smaller file")
    return content


def print_rejections(catalog: Catalog, *, has_report: bool = True) -> None:
    """Print a summary of what could not be imported, with the most frequent reasons."""
    rows = sum(not rejection.field for rejection in catalog.rejections)
    fields = len(catalog.rejections) - rows
    noise = sum(note.code == "float_noise" for note in catalog.notes)
    if rows or fields:
        advice = "; --report FILE lists each with its reason" if has_report else ""
        counts = [count_noun(number, noun) for number, noun in ((rows, "model"), (fields, "single field")) if number]
        print_stderr(f"not imported: {', '.join(counts)}{advice}")
    reasons: dict[str, list[Rejection]] = {}
    for rejection in catalog.rejections:
        reasons.setdefault(_kind_of_reason(rejection), []).append(rejection)
    for found in sorted(reasons.values(), key=len, reverse=True)[:_SHOWN_REASONS]:
        same = all(rejection.reason == found[0].reason for rejection in found)
        where = found[0].model if len(found) == 1 else str(len(found)) + (" x" if same else " like")
        print_stderr(escape_unprintable(f"  {where}: {found[0].reason[:_MAX_REASON]}"))
    if len(reasons) > _SHOWN_REASONS:
        print_stderr(f"  and {count_noun(len(reasons) - _SHOWN_REASONS, 'other reason')}")
    if noise:
        advice = "; --report FILE lists them" if has_report else ""
        verb = "was" if noise == 1 else "were"
        print_stderr(f"{count_noun(noise, 'price')} with float noise {verb} read as the short decimal{advice}")


def _kind_of_reason(rejection: Rejection) -> str:
    """Return the reason without its numbers and the model's name, by which similar ones are counted together."""
    return _NUMBER.sub("", rejection.reason.replace(f"models.{rejection.model}", ""))


def _report(args: Namespace, catalog: Catalog) -> dict[str, Any]:
    return {
        "source": args.source,
        "file": args.file,
        "models": len(catalog.models),
        "priced_rows": catalog.priced_rows,
        "rejections": [rejection._asdict() for rejection in catalog.rejections],
        "notes": [note._asdict() for note in catalog.notes],
    }
