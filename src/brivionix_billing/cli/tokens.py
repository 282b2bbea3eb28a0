"""The command tokens: counts the tokens of a text or a request body."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.files import open_usage_file
from brivionix_billing.cli.output import as_json, print_stderr, print_stdout, printable
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, escape_unprintable, safe_repr
from brivionix_billing.file_kinds import describe_kind
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.tabular import format_table
from brivionix_billing.tokens import TokenCount, TokenCounter, WorstCase

__all__ = ["add_commands"]

_MAX_BYTES: Final = 256 * 1024 * 1024
"""Maximum size of the file, in bytes."""
_TEXT_MODEL: Final = "o200k_base"
"""Encoding of a text if no model is given."""


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "tokens",
        help="count the tokens of a text or a request body",
        description="Counts a text, or the body of a request to chat completions, Responses or embeddings, part by "
        "part. The content decides which of them it is. With --group, also prints the maximum cost of the request.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="a text or a request body; - is stdin (-)")
    parser.add_argument("--model", metavar="M", help="the model (that of the request)")
    parser.add_argument(
        "--as", dest="kind", choices=["auto", "text", "request"], default="auto", help="the kind of file (auto)"
    )
    parser.add_argument(
        "--api",
        choices=["chat", "responses", "embeddings", "anthropic", "gemini"],
        help="the API of the request (detected by its keys)",
    )
    parser.add_argument("--group", metavar="G", help="print the maximum cost for this group, in Credits")
    parser.add_argument("--at", metavar="T", help="the prices at this time (now)")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_tokens)


def _tokens(args: Namespace) -> int:
    with open_usage_file(args.file) as file:
        content = file.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise BillingError("request_too_large", f"the file has more than {_MAX_BYTES} bytes; count a part of it")
    body = None if args.kind == "text" else _body(content, args.kind == "request")
    if body is None:
        return _text(args, content)
    model = args.model or body.get("model")
    if not isinstance(model, str):
        raise BillingError("unknown_model", "the request has no model; add --model")
    counter = _counter(args, model)
    body = {**body, "model": model}  # --model overrides the model of the request
    count = counter.request(body, api=args.api)
    at = parse_time_or_now(args.at) if args.group else None
    worst = counter.worst_case(body, group=args.group, at=at, api=args.api) if args.group else None
    if args.format == "json":
        print_stdout(
            as_json({"model": model, **count.as_dict(), **({"worst_case": _worst_case_dict(worst)} if worst else {})})
        )
        return EXIT_OK
    rows = [["part", "tokens"], *([kind, str(tokens)] for kind, tokens in count.by_kind().items())]
    rows.append(["total", str(int(count))])
    print_stdout(
        printable(
            f"{escape_unprintable(model)}, {counter.encoding}\n{format_table(rows, left=1)}\n{_format_accuracy(count)}"
        )
    )
    if worst is not None:
        print_stdout(printable(_format_worst_case(worst)))
    return EXIT_OK


def _body(content: bytes, required: bool) -> Mapping[str, Any] | None:
    """Return the request body that the file contains, or ``None`` if it is a text."""
    try:
        parsed = loads_strict(content, "the file")
    except BillingError as error:
        if required or _is_json(content):  # such as JSON with a repeated key: neither a request body nor a text
            raise BillingError("invalid_request", f"{error.message}; if it is a text, add --as text") from None
        return None
    if isinstance(parsed, dict) and (required or "messages" in parsed or "input" in parsed):
        return parsed
    if required:
        raise BillingError(
            "invalid_request",
            "the file is not a JSON object with 'messages' or 'input'; to count it as a text, add --as text",
        )
    return None


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _text(args: Namespace, content: bytes) -> int:
    if args.group:
        raise BillingError("invalid_argument", "--group: a text has no cost; give a request body, or remove --group")
    if b"\0" in content:
        kind = describe_kind(content) or "binary"
        raise BillingError("invalid_request", f"the file is {kind}, and no text; give a text")
    counter = _counter(args, args.model) if args.model else TokenCounter(_TEXT_MODEL, encoding=_TEXT_MODEL)
    tokens = counter.text(content.decode("utf-8", "surrogateescape"))
    if args.format == "json":
        print_stdout(as_json({"model": args.model, "encoding": counter.encoding, "tokens": tokens}))
    else:
        print_stdout(f"{tokens}\n")
    return EXIT_OK


def _counter(args: Namespace, model: str) -> TokenCounter:
    """Return a counter with the rules of the price file, or of the model's name if the price file has no such model."""
    book: PriceBook | None = None
    try:
        book = load_book(args)
        book.model_info(model)
    except BillingError as error:
        # Only two errors are harmless, and only if no prices are needed: the default price file does not exist, or
        # it does not have the model.
        missing = error.code == "file_unreadable" and args.prices == "pricing.yaml"
        if args.group or not (missing or error.code == "unknown_model"):
            raise
        book = None
        if not missing:
            meant = f"; did you mean {safe_repr(error.suggestion)}?" if error.suggestion else ""
            print_stderr(f"{escape_unprintable(model)} is not in {args.prices}; counted by its name{meant}")
    return TokenCounter(model, book)


def _format_accuracy(count: TokenCount) -> str:
    if count.exact:
        out = "exact: every part follows a rule that recorded requests confirm\n"
        if count.upper == count:
            return out
        reasons = dict.fromkeys(part.reason for part in count.parts if part.reason)
        return "".join([out, f"upper bound {count.upper}\n", *(f"  {why}\n" for why in reasons)])
    bound = "without an upper bound" if count.upper is None else f"at most {count.upper}"
    return "".join([f"an estimate, {bound}\n", *(f"  {why}\n" for why in count.reasons)])


def _worst_case_dict(worst: WorstCase) -> dict[str, Any]:
    return {
        "input_tokens": worst.input_tokens,
        "output_tokens": worst.output_tokens,
        "calls": worst.calls,
        "guaranteed": worst.is_guaranteed,
        "reasons": list(worst.reasons),
        "charge": None if worst.charge is None else worst.charge.as_dict(),
    }


def _format_worst_case(worst: WorstCase) -> str:
    calls = "".join([f", {count} {name.replace('_', ' ')}" for name, count in worst.calls.items()])
    out = [
        f"\nat most: {worst.input_tokens} tokens in, {worst.output_tokens} out{calls}: "
        f"{format_plain(worst.credits)} Credits",
        *(f"  not guaranteed: {why}" for why in worst.reasons),
    ]
    return "\n".join(out) + "\n"
