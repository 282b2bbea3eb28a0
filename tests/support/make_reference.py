"""Write reference outputs of fixed inputs: ``python tests/support/make_reference.py [--out DIR]``.

``tests/test_reference.py`` runs the same steps and compares their outputs with the stored files. The comparison
shows that a change of the code does not change behaviour. All steps use the public contract: the classes that the
package exports, the operations of the ledger, and the command line. CONTRIBUTING.md says when the reference may be
written again.

The outputs contain codes and positions of errors and warnings, but not their texts, and no HTML or PDF pages. The
tables of the ledger have no random values and no times of the clock, because ids, times and secrets are arguments.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, closing, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from brivionix_billing import BillingError, PriceBook, Usage
from brivionix_billing.cli import main as command_line
from brivionix_billing.ledger import Ledger
from brivionix_billing.streams import StreamUsage
from brivionix_billing.tokens import TokenCounter
from paths import DATA

__all__ = ["DATABASE", "LEDGER_REPORTS", "REFERENCE", "STEPS", "Shell", "journal", "ledger_reports", "shells"]

Json = dict[str, Any]
Files = dict[str, bytes]
"""Path below the folder of a step -> content."""

REFERENCE: Final = DATA / "reference"
DATABASE: Final = "ledger.db"
PRICE_FILES: Final = ("pricing.yaml", "rich.yaml", "wrong.yaml")
AT: Final = "2026-10-20"
MONTH: Final = ("--period", "2026-10")
RICH: Final = ("--prices", "rich.yaml")

_CODE: Final = re.compile(r"\[([a-z][a-z0-9_]+)\]$", re.MULTILINE)
_MESSAGES: Final = frozenset({"message", "hint", "what", "instead", "notes", "why", "reasons"})
"""Keys of JSON outputs with human-readable English text."""


_NO_RENAMES: Final[Mapping[str, str]] = {}


class Shell:
    """Runs commands in process, in a folder with the inputs, and records the status of each."""

    def __init__(self, folder: Path, options: Mapping[str, str], keys: Mapping[str, str]) -> None:
        self.folder = folder
        self.calls: list[Json] = []
        self._options = options
        self._messages = {keys.get(key, key) for key in _MESSAGES}

    def run(self, *args: str) -> str:
        """Run a command and return its stdout."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
        arguments = [self._options.get(arg, arg) for arg in args]
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            try:
                status = command_line(arguments)
            except SystemExit as stop:
                status = int(stop.code or 0)
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
        self.calls.append({"command": list(args), "status": status, "codes": _CODE.findall(err.read())})
        return out.read()

    def json(self, *args: str) -> bytes:
        """Run a command and return its JSON, without human-readable texts."""
        return _pretty(self.without_messages(_parse_json(self.run(*args, "--format", "json"))))

    def text(self, *args: str) -> bytes:
        """Run a command and return its stdout as it is."""
        return self.run(*args).encode()

    def read(self, path: str) -> bytes:
        """Return the content of a file that a command wrote."""
        return (self.folder / path).read_bytes()

    def rows(self, path: str) -> list[Any]:
        """Return the lines of a JSON Lines file."""
        return [json.loads(line) for line in (self.folder / path).read_text(encoding="utf-8").splitlines()]

    def without_messages(self, value: Any) -> Any:
        """Return a JSON value without human-readable texts."""
        if isinstance(value, dict):
            return {key: self.without_messages(item) for key, item in value.items() if key not in self._messages}
        return [self.without_messages(item) for item in value] if isinstance(value, list) else value

    def statuses(self) -> bytes:
        """Return the exit status and the error codes of every command so far."""
        return _lines(self.calls)


def shells(
    options: Mapping[str, str] = _NO_RENAMES,
    keys: Mapping[str, str] = _NO_RENAMES,
    price_keys: Mapping[str, str] = _NO_RENAMES,
) -> Iterator[Shell]:
    """Yield one shell in a new folder with the inputs.

    The arguments are renames since the reference was written: of options and commands, of keys of JSON outputs, and
    of keys of the price file.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "work"
        shutil.copytree(REFERENCE / "inputs", folder)
        for path in PRICE_FILES:
            text = (folder / path).read_text(encoding="utf-8")
            for old, new in price_keys.items():
                text = re.sub(rf"\b{old}:", f"{new}:", text)
            (folder / path).write_text(text, encoding="utf-8")
        yield Shell(folder, options, keys)


# --- steps ---


def prices(shell: Shell) -> Files:
    """Return digests, findings of the check, price tables, quotes and the content of the pricing page."""
    files: Files = {}
    digests = {name: PriceBook.load(shell.folder / name).digest for name in PRICE_FILES[:2]}
    files["digests.json"] = _pretty(digests)
    for name in PRICE_FILES:
        files[f"check_{name}.json"] = shell.json("check", name)
    for view, kind in product(("nominal", "topup"), ("table", "json", "csv")):
        where = ("--group", "coding", "--view", view, "--at", AT, "--format", kind)
        files[f"{view}.{kind}"] = shell.text("prices", "--prices", "pricing.yaml", *where)
    for group, view, kind in (
        ("partner", "nominal", "csv"),
        ("default", "topup", "csv"),
        ("default", "nominal", "csv"),
    ):
        where = ("--group", group, "--view", view, "--at", AT, "--format", kind)
        files[f"rich_{group}_{view}.{kind}"] = shell.text("prices", *RICH, *where)
    files["rich_konbini.csv"] = shell.text(
        *("prices", *RICH, "--view", "topup", "--channel", "konbini", "--at", "2026-11-02", "--format", "csv")
    )
    quote_arguments = [
        *(("rmb", "--credits", credits) for credits in ("1.23", "96", "100", "999.999999", "2000", "0.0000001")),
        *(("rmb", "--pay", pay) for pay in ("10", "80.75", "765", "9.99", "1.001")),
        *(("stripe", "--credits", credits) for credits in ("250.5", "300", "1")),
        *(("stripe", "--pay", pay) for pay in ("20", "5000", "5000.01")),
        ("konbini", "--pay", "2000"),
        ("konbini", "--credits", "7"),
        ("nowhere", "--pay", "1"),
    ]
    quotes = [
        {"quote": [*quote, at], "answer": _parse_json(shell.run("quote", "--channel", *quote, *RICH, *_as_json(at)))}
        for at, arguments in ((AT, quote_arguments), ("2026-11-05", quote_arguments[1:5]))
        for quote in arguments
    ]
    files["quotes.jsonl"] = _lines(quotes)
    shell.run("page", *RICH, "--out", "page.html", "--json", "page.json", "--at", AT, "--group", "mini-only")
    files["page.json"] = shell.read("page.json")
    return files


def rating(shell: Shell) -> Files:
    """Return charges of all records in JSON and CSV, rejected records, and explanations in both languages."""
    files: Files = {}
    files["rate.jsonl"] = shell.text("rate", "usage.jsonl", *RICH, "--rejected", "aside.jsonl")
    files["rejected.jsonl"] = _lines(shell.without_messages(shell.rows("aside.jsonl")))
    first_lines = shell.read("usage.jsonl").splitlines(keepends=True)[:60]
    (shell.folder / "few.jsonl").write_bytes(b"".join(first_lines))
    files["rate.csv"] = shell.text("rate", "few.jsonl", "--prices", "pricing.yaml", "--format", "csv")
    charges = [json.loads(line) for line in files["rate.jsonl"].splitlines()]
    for locale in ("en", "zh_CN"):
        texts = [
            shell.text("explain", "usage.jsonl", *RICH, "--request", request, "--locale", locale)
            for request in ("made_60", "made_50", "made_48", "made_46", "made_47", "made_53", "made_59", "made_1")
        ]
        texts += [
            shell.text("explain", "usage.jsonl", *RICH, "--request", charge["request_id"], "--locale", locale)
            for charge in charges[7:50:12]
        ]
        files[f"explain_{locale}.txt"] = b"\n".join(texts)
    book = PriceBook.load(shell.folder / "rich.yaml")
    files["charges.jsonl"] = _lines(_attempt(_rate, book, arguments) for arguments in _CHARGES)
    return files


def usage(shell: Shell) -> Files:
    """Return the result of ``Usage.from_response`` for each body."""
    return {"usage.jsonl": _lines(_attempt(_read_usage, body) for body in shell.rows("bodies.jsonl"))}


def tokens(shell: Shell) -> Files:
    """Return token counts of requests and texts, and worst cases."""
    files: Files = {}
    files["counts.jsonl"] = _lines(_attempt(_count_tokens, **row) for row in shell.rows("requests.jsonl"))
    counter = TokenCounter("gpt-5.4-mini")
    texts = ["", "Hello, world!", "价格计算引擎", "🦔🦔 naïve café", "<|endoftext|>", "  \n\n\t x", "0" * 100, "\ud800"]
    files["texts.json"] = _pretty([counter.text(text) for text in texts])
    worst_cases = []
    for row in shell.rows("worst_cases.jsonl"):
        (shell.folder / "request.json").write_text(json.dumps(row["request"]), encoding="utf-8")
        answer = shell.run("tokens", "request.json", *RICH, "--group", row["group"], *_as_json(AT))
        worst_cases.append(shell.without_messages(_parse_json(answer)))
    files["worst_cases.jsonl"] = _lines(worst_cases)
    return files


def streams(shell: Shell) -> Files:
    """Return the results of streams, complete and truncated."""
    results = []
    for row in shell.rows("streams.jsonl"):
        for cut in row.get("cuts", [1]):
            stream = StreamUsage(row["request"])
            if "sse" in row:
                text = row["sse"].encode()
                text = text[: int(len(text) * cut)]
                for start in range(0, len(text), 1000):
                    stream.feed(text[start : start + 1000])
            else:
                for event in row["events"]:
                    stream.feed(event)
            result = stream.result()
            results.append(
                {
                    "answered": result.answered,
                    "body": result.body,
                    "cut": cut,
                    "done": stream.done,
                    "estimated": result.estimated,
                    "usage": _attempt(lambda result=result: _usage_dict(result.usage)),
                }
            )
    return {"results.jsonl": _lines(results)}


def bills(shell: Shell) -> Files:
    """Return invoices of a month, notes, proofs, a signed bill, and the findings of ``verify`` for all of them."""
    private, public = _key_pair()
    (shell.folder / "key.pem").write_bytes(private)
    (shell.folder / "public.pem").write_bytes(public)
    files: Files = {}
    heading = ("--issuer", "Example Gateway Ltd", "--issuer-tax-number", "VAT 1", "--issuer-detail", "2 Example Road")
    files["invoice.json"] = shell.json(
        *("invoice", "usage.jsonl", *RICH, "--all", *MONTH, "--out", "bills", "--series", "REF", "--due", "2026-11-15"),
        *(*heading, "--customers", "customers.json", "--no-html"),
    )
    files["signed.json"] = shell.json(
        *("invoice", "usage.jsonl", *RICH, "--account", "acct_9", "--period", "2026-10-05/2026-10-20"),
        *("--zone", "Asia/Shanghai", "--out", "signed", "--series", "S", "--sign-key", "key.pem", "--no-html"),
        *(*heading, "--customer", "Grace Ltd", "--customer-detail", "3 Example Road", "--channel", "rmb"),
    )
    # One bill is cancelled, another one loses two records, and a third one gets one more record.
    lines = (shell.folder / "usage.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    account_lines = [line for line in lines if '"account":"acct_10"' in line]
    fewer = [line for line in lines if line not in account_lines[:2]]
    more = [
        *lines,
        account_lines[0].replace('"request_id":"made_', '"request_id":"added_').replace("acct_10", "acct_9"),
    ]
    (shell.folder / "fewer.jsonl").write_text("".join(fewer), encoding="utf-8")
    (shell.folder / "more.jsonl").write_text("".join(more), encoding="utf-8")
    for name, number, corrected, after, reason in _NOTES:
        shell.run(
            *("credit-note", f"bills/REF-00000{number}/invoice.json", *RICH, *corrected, "--reason", reason),
            *("--after", after, "--issued", "2026-12-01", "--out", name, "--no-html"),
        )
    bill = "bills/REF-000002/invoice.json"
    second_note = ("--after", "debit", "--issued", "2026-12-02", "--out", "twice", "--no-html")
    shell.run("credit-note", bill, *RICH, "--reason", "again", *second_note)
    request = json.loads(account_lines[3])["request_id"]
    files["proof.json"] = shell.text("prove", bill, *RICH, "--usage", "usage.jsonl", "--request", request)
    (shell.folder / "proof.json").write_bytes(files["proof.json"])
    shell.run("verify", bill, *RICH, "--proof", "proof.json")
    files["verify_bills.json"] = shell.json("verify", "bills", *RICH, "--usage", "usage.jsonl")
    files["verify_other_usage.json"] = shell.json("verify", "bills", *RICH, "--usage", "fewer.jsonl")
    altered = re.sub(rb'"quantity":"(\d+)"', rb'"quantity":"1\1"', shell.read(bill), count=1)
    (shell.folder / "altered.json").write_bytes(altered)
    files["verify_altered.json"] = shell.json("verify", "altered.json", *RICH, "--usage", "usage.jsonl")
    key = ("--key", "public.pem")
    files["verify_signed.json"] = shell.json("verify", "signed", *RICH, "--usage", "usage.jsonl", *key)
    for name, number, corrected, after, _ in _NOTES:
        before = "bills/REF-000010" if after == "bills" else after
        documents = ("--corrects", f"bills/REF-00000{number}/invoice.json", "--previous", f"{before}/invoice.json")
        files[f"verify_{name}.json"] = shell.json("verify", f"{name}/invoice.json", *RICH, *corrected, *documents)
    shell.run("invoice", "usage.jsonl", *RICH, "--all", "--period", "2026-13", "--out", "x")
    for folder in ("bills", "signed", "cancelled", "credit", "debit"):
        for path in sorted((shell.folder / folder).rglob("*")):
            # Some bills are compared only by their hashes in bills.csv, which keeps the reference small.
            if path.is_file() and path.parent.name not in _ONLY_HASHED:
                name = str(path.relative_to(shell.folder))
                rejected = path.suffix == ".jsonl"
                files[name] = _lines(shell.without_messages(shell.rows(name))) if rejected else path.read_bytes()
    return files


def ledger(shell: Shell) -> Files:
    """Run a day of a ledger in a new database. Returns its results and all reports."""
    results = []
    book = PriceBook.load(shell.folder / "rich.yaml")
    with Ledger.open(f"sqlite:///{shell.folder / DATABASE}", book, synchronous="NORMAL") as ledger:
        for row in shell.rows("ledger_day.jsonl"):
            results.append(_attempt(_operate, ledger, book, **row))
    return {"operations.jsonl": _lines(results), **ledger_reports(shell)}


def ledger_reports(shell: Shell) -> Files:
    """Return all reports on the database in the folder."""
    files: Files = {"journal.jsonl": _lines(journal(shell.folder / DATABASE))}
    accounts = ("acct_1", "acct_2", "账户 3")
    month = (*MONTH, "--zone", "Asia/Shanghai")

    def report(name: str, *args: str) -> bytes:
        return shell.run("ledger", name, *args, "--db", DATABASE).encode()

    for number, account in enumerate(accounts, 1):
        files[f"statement_{number}.json"] = report("statement", account, *month, "--format", "json")
        files[f"statement_{number}.txt"] = report("statement", account, *month)
        files[f"lots_{number}.json"] = report("lots", account, "--format", "json")
        files[f"tokens_{number}.json"] = report("token", "list", account, "--format", "json")
        files[f"journal_{number}.txt"] = report("journal", account, "--format", "table")
        balances = [
            _parse_json(report("balance", account, *_as_json(at)).decode())
            for at in ("2026-10-12T08:00:15Z", "2026-10-12T10:45:00Z", AT, "2027-01-01")
        ]
        files[f"balances_{number}.jsonl"] = _lines(balances)
    files["accounts.json"] = report("accounts", *_as_json(AT))
    files["usage.json"] = report("usage", "--all", *month, "--by-token", "--format", "json")
    files["records.jsonl"] = report("records", "--all", *month, "--skip-unpriced")
    report("records", "--all", *month)  # rejected: some charges were priced outside the library
    files["customers.json"] = report("customers", *month)
    files["checkpoint.json"] = report("checkpoint")
    files["verify.json"] = report("verify", "--format", "json")
    (shell.folder / "checkpoint.json").write_bytes(files["checkpoint.json"])
    files["verify_checkpoint.json"] = report("verify", "--checkpoint", "checkpoint.json", "--format", "json")
    # One figure of one entry is altered, and verify reports the entry.
    original = shell.folder / "kept.db"
    shutil.copy(shell.folder / DATABASE, original)
    with closing(sqlite3.connect(shell.folder / DATABASE)) as connection:
        connection.execute("UPDATE billing_journal SET body = replace(body, '0.9', '0.8') WHERE id = 'r2'")
        connection.commit()
    verification = json.loads(report("verify", "--format", "json"))
    files["verify_altered.json"] = _pretty(shell.without_messages(verification))
    for suffix in ("-wal", "-shm"):
        (shell.folder / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    original.replace(shell.folder / DATABASE)
    return files


STEPS: Final[dict[str, Callable[[Shell], Files]]] = {
    "prices": prices,
    "rating": rating,
    "usage": usage,
    "tokens": tokens,
    "streams": streams,
    "bills": bills,
    "ledger": ledger,
}
LEDGER_REPORTS: Final = "ledger"
"""The step whose reports can also be written from the stored database."""


# --- parts of steps ---

_ONLY_HASHED: Final = frozenset({"REF-000001", "REF-000003", "REF-000004", "REF-000006", "REF-000007", "REF-000008"})

_NOTES: Final[tuple[tuple[str, int, tuple[str, ...], str, str], ...]] = (
    ("cancelled", 5, (), "bills", "wrong account"),
    ("credit", 2, ("--usage", "fewer.jsonl"), "cancelled", "requests of a test"),
    ("debit", 9, ("--usage", "more.jsonl"), "credit", "一个请求漏计"),
)
"""Folder of a note, number of the bill that it corrects, usage, folder of the document before it, reason."""

_CHARGES: Final[list[Json]] = [
    {"model": model, "group": group, "at": at, "service_tier": tier}
    for model, group in (("gpt-5.4", "default"), ("gpt-5.2", "partner"), ("flagship", "partner"), ("nope", "default"))
    for at in ("2026-10-25T00:00:00+08:00",)
    for tier in ("standard", "priority", "turbo", None)
]


def _rate(book: PriceBook, arguments: Json) -> Json:
    used = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800, reasoning_tokens=300)
    charge = book.rate(used, **{**arguments, "at": datetime.fromisoformat(arguments["at"])})
    costs = {channel: charge.cost(channel) for channel in ("rmb", "stripe")}
    return {
        "charge": charge.as_dict(),
        "cost": {channel: [str(money.amount), money.currency] for channel, money in costs.items()},
        "credits": str(charge.credits),
        "nominal": [str(charge.nominal.amount), charge.nominal.currency],
    }


def _read_usage(body: Json) -> Json:
    return _usage_dict(Usage.from_response(body))


def _usage_dict(usage: Usage) -> Json:
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return {
        **{name: getattr(usage, name) for name in names},
        **{name: getattr(usage, name) for name in ("service_tier", "model", "estimated", "total_tokens")},
        "meters": dict(usage.meters),
    }


def _count_tokens(api: Any, request: Json) -> Json:
    model = request["model"]
    count = TokenCounter(model, encoding="o200k_base").request(request, api=api)
    return {"model": model, "api": api, "tokens": int(count), "exact": count.exact, "upper": count.upper}


def _operate(ledger: Ledger, book: PriceBook, operation: str, args: list[Any], **named: Any) -> Json:
    result = getattr(ledger, operation)(
        *(_argument(book, "", value) for value in args),
        **{name: _argument(book, name, value) for name, value in named.items()},
    )
    if operation == "expire":
        return {"entries": result}
    if operation in ("create_token", "change_token"):
        return {"token": result.id}
    return {"kind": result.kind, "number": result.number, "repeated": result.repeated}


def _argument(book: PriceBook, name: str, value: Any) -> Any:
    if name in ("at", "expires") and value is not None:
        return datetime.fromisoformat(value)
    if name == "ttl":
        return timedelta(seconds=value)
    if isinstance(value, dict) and "quote" in value:
        arguments = dict(value["quote"])
        return book.quote(arguments.pop("channel"), **{**arguments, "at": datetime.fromisoformat(arguments["at"])})
    if isinstance(value, dict) and "charge" in value:
        arguments = dict(value["charge"])
        used = Usage.from_response(arguments.pop("usage"))
        return book.rate(used, **{**arguments, "at": datetime.fromisoformat(arguments["at"])})
    return value


def journal(database: Path) -> list[Json]:
    """Return all columns of the journal, in order of account and number."""
    with closing(sqlite3.connect(database)) as connection:
        cursor = connection.execute("SELECT * FROM billing_journal ORDER BY account, number")
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]


def _key_pair() -> tuple[bytes, bytes]:
    """Return a fixed Ed25519 key for tests, private and public, as PEM."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )


def _attempt(work: Callable[..., Json], *args: Any, **named: Any) -> Json:
    """Return the result, or the code and HTTP status of the error."""
    try:
        return work(*args, **named)
    except BillingError as error:
        return {"error": error.code, "http_status": error.http_status}


def _as_json(at: str) -> tuple[str, ...]:
    return ("--at", at, "--format", "json")


def _parse_json(text: str) -> Any:
    return json.loads(text) if text else None


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _lines(rows: Iterable[Any]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def main() -> None:
    """Write the outputs of all steps, and the database of the ledger."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=REFERENCE, help="the folder to write to; default %(default)s")
    out: Path = parser.parse_args().out
    for name, step in STEPS.items():
        shutil.rmtree(out / name, ignore_errors=True)
        for shell in shells():
            files = {**step(shell), "commands.jsonl": shell.statuses()}
            for path, content in files.items():
                (out / name / path).parent.mkdir(parents=True, exist_ok=True)
                (out / name / path).write_bytes(content)
            if name == LEDGER_REPORTS:
                _store_database(shell.folder / DATABASE, out / name / DATABASE)
        print(f"{name}: {len(files)} files, {sum(map(len, files.values()))} bytes")


def _store_database(source: Path, target: Path) -> None:
    """Copy a closed database and make the copy as small as possible."""
    shutil.copy(source, target)
    with closing(sqlite3.connect(target)) as connection:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 512", "VACUUM"):
            connection.execute(statement)


if __name__ == "__main__":
    main()
