"""The command that counts: tokens."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping
from typing import Any, Final

from brivionix_billing.canonical_json import loads_strict
from brivionix_billing.cli.arguments import EXIT_OK, add_prices, load_book, parse_time_or_now
from brivionix_billing.cli.files import open_usage_file
from brivionix_billing.cli.output import as_json, print_stderr, print_stdout
from brivionix_billing.decimals import format_plain
from brivionix_billing.errors import BillingError, escape_unprintable
from brivionix_billing.pricebook import PriceBook
from brivionix_billing.tabular import format_table
from brivionix_billing.tokens import TokenCount, TokenCounter, WorstCase

__all__ = ["add_commands"]

_MOST_BYTES: Final = 256 * 1024 * 1024
_TEXT_MODEL: Final = "o200k_base"


def add_commands(commands: Any) -> None:
    """Add this command to the parser."""
    parser = commands.add_parser(
        "tokens",
        help="the tokens of a text or of a request body",
        description="Counts a text, or the body of a request to chat completions, Responses or embeddings, part by "
        "part. Which of them it is, its content says. With --group, also the most that the request can cost.",
        allow_abbrev=False,
    )
    parser.add_argument("file", metavar="FILE", nargs="?", default="-", help="a text or a request body; - is stdin (-)")
    parser.add_argument("--model", metavar="M", help="the model (the one that the request names)")
    parser.add_argument(
        "--as", dest="kind", choices=["auto", "text", "request"], default="auto", help="what it is (auto)"
    )
    parser.add_argument(
        "--api", choices=["chat", "responses", "embeddings"], help="the API of the request (its keys say it)"
    )
    parser.add_argument("--group", metavar="G", help="the most that it can cost for this group, in Credits")
    parser.add_argument("--at", metavar="T", help="at the prices of this time (now)")
    parser.add_argument("--format", choices=["table", "json"], default="table")
    add_prices(parser)
    parser.set_defaults(run=_tokens)


def _tokens(args: Namespace) -> int:
    with open_usage_file(args.file) as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise BillingError("request_too_large", f"the file has more than {_MOST_BYTES} bytes")
    body = None if args.kind == "text" else _body(content, args.kind == "request")
    if body is None:
        return _text(args, content)
    model = args.model or body.get("model")
    if not isinstance(model, str):
        raise BillingError("unknown_model", "the request names no model; name one by --model")
    counter = _counter(args, model)
    body = {**body, "model": model}  # --model says otherwise on purpose
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
        _printable(
            f"{escape_unprintable(model)}, {counter.encoding}\n{format_table(rows, left=1)}\n{_format_accuracy(count)}"
        )
    )
    if worst is not None:
        print_stdout(_printable(_format_worst_case(worst)))
    return EXIT_OK


def _body(content: bytes, must: bool) -> Mapping[str, Any] | None:
    """The request that the file holds, if it holds one."""
    try:
        parsed = loads_strict(content, "the file")
    except BillingError as error:
        if must or _is_json(content):  # with a key twice, say: no body that can be counted, and no text either
            raise BillingError("invalid_request", f"{error.message}; if it is a text, say --as text") from None
        return None
    if isinstance(parsed, dict) and (must or "messages" in parsed or "input" in parsed):
        return parsed
    if must:
        raise BillingError("invalid_request", "the file is JSON, but no object with 'messages' or 'input'")
    return None


def _is_json(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False


def _text(args: Namespace, content: bytes) -> int:
    if args.group:
        raise BillingError(
            "invalid_argument", "a text is no request: it has no cost; give a request body, or leave --group"
        )
    counter = _counter(args, args.model) if args.model else TokenCounter(_TEXT_MODEL, encoding=_TEXT_MODEL)
    tokens = counter.text(content.decode("utf-8", "surrogateescape"))
    if args.format == "json":
        print_stdout(as_json({"model": args.model, "encoding": counter.encoding, "tokens": tokens}))
    else:
        print_stdout(f"{tokens}\n")
    return EXIT_OK


def _counter(args: Namespace, model: str) -> TokenCounter:
    """By the price file where it has the model, else by the model's name."""
    book: PriceBook | None = None
    try:
        book = load_book(args)
        book.model_info(model)
    except BillingError as error:
        # A price file that is not sound, or that was named and is not there, is told; so is a model without a price
        # where prices are asked for.
        missing = error.code == "file_unreadable" and args.prices == "pricing.yaml"
        if args.group or not (missing or error.code == "unknown_model"):
            raise
        book = None
        if not missing:
            print_stderr(f"{model} is not in {args.prices}; it is counted by its name")
    return TokenCounter(model, book)


def _format_accuracy(count: TokenCount) -> str:
    if count.exact:
        return "exact: every part follows from a rule that real requests bear out\n"
    bound = "with no bound" if count.upper is None else f"at most {count.upper}"
    return "".join([f"an estimate, {bound}\n", *(f"  {why}\n" for why in count.reasons)])


def _worst_case_dict(worst: WorstCase) -> dict[str, Any]:
    return {
        "input_tokens": worst.input_tokens,
        "output_tokens": worst.output_tokens,
        "calls": worst.calls,
        "firm": worst.is_guaranteed,
        "why": list(worst.reasons),
        "charge": None if worst.charge is None else worst.charge.as_dict(),
    }


def _format_worst_case(worst: WorstCase) -> str:
    calls = "".join([f", {count} {name.replace('_', ' ')}" for name, count in worst.calls.items()])
    out = [
        f"\nat the most: {worst.input_tokens} tokens in, {worst.output_tokens} out{calls}: "
        f"{format_plain(worst.credits)} Credits",
        *(f"  not firm: {why}" for why in worst.reasons),
    ]
    return "\n".join(out) + "\n"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else escape_unprintable(c) for c in text)
