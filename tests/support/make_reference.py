"""Write reference outputs of fixed inputs: ``python tests/support/make_reference.py [--out DIR]``.

``tests/test_reference.py`` runs the same steps and compares their outputs with the stored files. So a change of the
code that is not meant to change behaviour can be checked. Everything here goes through the public contract: the
classes that the package exports, the operations of the ledger, and the command line. CONTRIBUTING.md says when the
reference may be written again.

Not part of any output: texts of errors and warnings (only their codes and positions are), HTML and PDF pages. The
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
"""Keys of JSON outputs that hold English text for people."""


_NO_RENAMES: Final[Mapping[str, str]] = {}


class Shell:
    """Runs commands in process, in a folder that has the inputs, and keeps the status of each."""

    def __init__(self, folder: Path, options: Mapping[str, str], keys: Mapping[str, str]) -> None:
        self.folder = folder
        self.calls: list[Json] = []
        self._options = options
        self._messages = {keys.get(key, key) for key in _MESSAGES}

    def run(self, *args: str) -> str:
        """Run a command and return its stdout."""
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2))
        given = [self._options.get(arg, arg) for arg in args]
        with chdir(self.folder), redirect_stdout(out), redirect_stderr(err):
            try:
                status = command_line(given)
            except SystemExit as stop:
                status = int(stop.code or 0)
        for stream in (out, err):
            stream.flush()
            stream.seek(0)
        self.calls.append({"command": list(args), "status": status, "codes": _CODE.findall(err.read())})
        return out.read()

    def json(self, *args: str) -> bytes:
        """Run a command and return its JSON, without texts for people."""
        return _pretty(self.without_messages(_loaded(self.run(*args, "--format", "json"))))

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
        """Return a JSON value without texts for people."""
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

    The arguments are renames since the reference was made: of options and commands, of keys of JSON outputs, and of
    keys of the price file.
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
    """Digests, findings of the check, price tables, quotes and the content of the pricing page."""
    made: Files = {}
    digests = {name: PriceBook.load(shell.folder / name).digest for name in PRICE_FILES[:2]}
    made["digests.json"] = _pretty(digests)
    for name in PRICE_FILES:
        made[f"check_{name}.json"] = shell.json("check", name)
    for view, kind in product(("nominal", "topup"), ("table", "json", "csv")):
        where = ("--group", "coding", "--view", view, "--at", AT, "--format", kind)
        made[f"{view}.{kind}"] = shell.text("prices", "--prices", "pricing.yaml", *where)
    for group, view, kind in (
        ("partner", "nominal", "csv"),
        ("default", "topup", "csv"),
        ("default", "nominal", "csv"),
    ):
        where = ("--group", group, "--view", view, "--at", AT, "--format", kind)
        made[f"rich_{group}_{view}.{kind}"] = shell.text("prices", *RICH, *where)
    made["rich_konbini.csv"] = shell.text(
        *("prices", *RICH, "--view", "topup", "--channel", "konbini", "--at", "2026-11-02", "--format", "csv")
    )
    wanted = [
        *(("rmb", "--credits", credits) for credits in ("1.23", "96", "100", "999.999999", "2000", "0.0000001")),
        *(("rmb", "--pay", pay) for pay in ("10", "80.75", "765", "9.99", "1.001")),
        *(("stripe", "--credits", credits) for credits in ("250.5", "300", "1")),
        *(("stripe", "--pay", pay) for pay in ("20", "5000", "5000.01")),
        ("konbini", "--pay", "2000"),
        ("konbini", "--credits", "7"),
        ("nowhere", "--pay", "1"),
    ]
    quotes = [
        {"quote": [*quote, at], "answer": _loaded(shell.run("quote", "--channel", *quote, *RICH, *_as_json(at)))}
        for at, quotes in ((AT, wanted), ("2026-11-05", wanted[1:5]))
        for quote in quotes
    ]
    made["quotes.jsonl"] = _lines(quotes)
    shell.run("page", *RICH, "--out", "page.html", "--json", "page.json", "--at", AT, "--group", "mini-only")
    made["page.json"] = shell.read("page.json")
    return made


def rating(shell: Shell) -> Files:
    """Charges of all records, in JSON and CSV, the rejected records, and explanations in both languages."""
    made: Files = {}
    made["rate.jsonl"] = shell.text("rate", "usage.jsonl", *RICH, "--set-aside", "aside.jsonl")
    made["set_aside.jsonl"] = _lines(shell.without_messages(shell.rows("aside.jsonl")))
    few = shell.read("usage.jsonl").splitlines(keepends=True)[:60]
    (shell.folder / "few.jsonl").write_bytes(b"".join(few))
    made["rate.csv"] = shell.text("rate", "few.jsonl", "--prices", "pricing.yaml", "--format", "csv")
    charged = [json.loads(line) for line in made["rate.jsonl"].splitlines()]
    for locale in ("en", "zh_CN"):
        texts = [
            shell.text("explain", "usage.jsonl", *RICH, "--request", request, "--locale", locale)
            for request in ("made_60", "made_50", "made_48", "made_46", "made_47", "made_53", "made_59", "made_1")
        ]
        texts += [
            shell.text("explain", "usage.jsonl", *RICH, "--request", charge["request_id"], "--locale", locale)
            for charge in charged[7:50:12]
        ]
        made[f"explain_{locale}.txt"] = b"\n".join(texts)
    book = PriceBook.load(shell.folder / "rich.yaml")
    made["charges.jsonl"] = _lines(_attempt(_rated, book, wanted) for wanted in _CHARGES)
    return made


def usage(shell: Shell) -> Files:
    """What ``Usage.from_response`` reads from each body."""
    return {"usage.jsonl": _lines(_attempt(_usage_of, body) for body in shell.rows("bodies.jsonl"))}


def tokens(shell: Shell) -> Files:
    """Token counts of requests and texts, and worst cases."""
    made: Files = {}
    made["counts.jsonl"] = _lines(_attempt(_counted, **row) for row in shell.rows("requests.jsonl"))
    counter = TokenCounter("gpt-5.4-mini")
    texts = ["", "Hello, world!", "价格计算引擎", "🦔🦔 naïve café", "<|endoftext|>", "  \n\n\t x", "0" * 100, "\ud800"]
    made["texts.json"] = _pretty([counter.text(text) for text in texts])
    worst = []
    for row in shell.rows("worst_cases.jsonl"):
        (shell.folder / "request.json").write_text(json.dumps(row["request"]), encoding="utf-8")
        answer = shell.run("tokens", "request.json", *RICH, "--group", row["group"], *_as_json(AT))
        worst.append(shell.without_messages(_loaded(answer)))
    made["worst_cases.jsonl"] = _lines(worst)
    return made


def streams(shell: Shell) -> Files:
    """Results of streams, complete and cut."""
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
    """Invoices of a month, notes, proofs, a signed bill, and what ``verify`` says of all of them."""
    private, public = _key_pair()
    (shell.folder / "key.pem").write_bytes(private)
    (shell.folder / "public.pem").write_bytes(public)
    made: Files = {}
    heading = ("--issuer", "Example Gateway Ltd", "--issuer-tax-number", "VAT 1", "--issuer-detail", "2 Example Road")
    made["invoice.json"] = shell.json(
        *("invoice", "usage.jsonl", *RICH, "--all", *MONTH, "--out", "bills", "--series", "REF", "--due", "2026-11-15"),
        *(*heading, "--customers", "customers.json", "--no-html"),
    )
    made["signed.json"] = shell.json(
        *("invoice", "usage.jsonl", *RICH, "--account", "acct_9", "--period", "2026-10-05/2026-10-20"),
        *("--zone", "Asia/Shanghai", "--out", "signed", "--series", "S", "--sign-key", "key.pem", "--no-html"),
        *(*heading, "--customer", "Grace Ltd", "--customer-detail", "3 Example Road", "--channel", "rmb"),
    )
    # One bill is cancelled, two records of another fall away, and one record of a third one is added.
    lines = (shell.folder / "usage.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    ours = [line for line in lines if '"account":"acct_10"' in line]
    fewer = [line for line in lines if line not in ours[:2]]
    more = [*lines, ours[0].replace('"request_id":"made_', '"request_id":"added_').replace("acct_10", "acct_9")]
    (shell.folder / "fewer.jsonl").write_text("".join(fewer), encoding="utf-8")
    (shell.folder / "more.jsonl").write_text("".join(more), encoding="utf-8")
    for name, number, corrected, after, why in _NOTES:
        shell.run(
            *("credit-note", f"bills/REF-00000{number}/invoice.json", *RICH, *corrected, "--reason", why),
            *("--after", after, "--issued", "2026-12-01", "--out", name, "--no-html"),
        )
    bill = "bills/REF-000002/invoice.json"
    again = ("--after", "debit", "--issued", "2026-12-02", "--out", "twice", "--no-html")
    shell.run("credit-note", bill, *RICH, "--reason", "again", *again)
    request = json.loads(ours[3])["request_id"]
    made["proof.json"] = shell.text("prove", bill, *RICH, "--usage", "usage.jsonl", "--request", request)
    (shell.folder / "proof.json").write_bytes(made["proof.json"])
    shell.run("verify", bill, *RICH, "--proof", "proof.json")
    made["verify_bills.json"] = shell.json("verify", "bills", *RICH, "--usage", "usage.jsonl")
    made["verify_other_usage.json"] = shell.json("verify", "bills", *RICH, "--usage", "fewer.jsonl")
    altered = re.sub(rb'"quantity":"(\d+)"', rb'"quantity":"1\1"', shell.read(bill), count=1)
    (shell.folder / "altered.json").write_bytes(altered)
    made["verify_altered.json"] = shell.json("verify", "altered.json", *RICH, "--usage", "usage.jsonl")
    key = ("--key", "public.pem")
    made["verify_signed.json"] = shell.json("verify", "signed", *RICH, "--usage", "usage.jsonl", *key)
    for name, number, corrected, after, _ in _NOTES:
        before = "bills/REF-000010" if after == "bills" else after
        beside = ("--corrects", f"bills/REF-00000{number}/invoice.json", "--previous", f"{before}/invoice.json")
        made[f"verify_{name}.json"] = shell.json("verify", f"{name}/invoice.json", *RICH, *corrected, *beside)
    shell.run("invoice", "usage.jsonl", *RICH, "--all", "--period", "2026-13", "--out", "x")
    for folder in ("bills", "signed", "cancelled", "credit", "debit"):
        for path in sorted((shell.folder / folder).rglob("*")):
            # Some bills are compared only by their hashes, which are in bills.csv.
            if path.is_file() and path.parent.name not in _ONLY_HASHED:
                name = str(path.relative_to(shell.folder))
                rejected = path.suffix == ".jsonl"
                made[name] = _lines(shell.without_messages(shell.rows(name))) if rejected else path.read_bytes()
    return made


def ledger(shell: Shell) -> Files:
    """A day of a ledger in a new database, and all reports on it."""
    done = []
    book = PriceBook.load(shell.folder / "rich.yaml")
    with Ledger.open(f"sqlite:///{shell.folder / DATABASE}", book, synchronous="NORMAL") as opened:
        for row in shell.rows("ledger_day.jsonl"):
            done.append(_attempt(_operate, opened, book, **row))
    return {"operations.jsonl": _lines(done), **ledger_reports(shell)}


def ledger_reports(shell: Shell) -> Files:
    """All reports on the database that is in the folder."""
    made: Files = {"journal.jsonl": _lines(journal(shell.folder / DATABASE))}
    accounts = ("acct_1", "acct_2", "账户 3")
    month = (*MONTH, "--zone", "Asia/Shanghai")

    def report(name: str, *args: str) -> bytes:
        return shell.run("ledger", name, *args, "--db", DATABASE).encode()

    for number, account in enumerate(accounts, 1):
        made[f"statement_{number}.json"] = report("statement", account, *month, "--format", "json")
        made[f"statement_{number}.txt"] = report("statement", account, *month)
        made[f"lots_{number}.json"] = report("lots", account, "--format", "json")
        made[f"tokens_{number}.json"] = report("token", "list", account, "--format", "json")
        made[f"journal_{number}.txt"] = report("journal", account, "--format", "table")
        balances = [
            _loaded(report("balance", account, *_as_json(at)).decode())
            for at in ("2026-10-12T08:00:15Z", "2026-10-12T10:45:00Z", AT, "2027-01-01")
        ]
        made[f"balances_{number}.jsonl"] = _lines(balances)
    made["accounts.json"] = report("accounts", *_as_json(AT))
    made["usage.json"] = report("usage", "--all", *month, "--by-token", "--format", "json")
    made["records.jsonl"] = report("records", "--all", *month, "--skip-unpriced")
    report("records", "--all", *month)  # refused: some Credits were priced elsewhere
    made["customers.json"] = report("customers", *month)
    made["checkpoint.json"] = report("checkpoint")
    made["verify.json"] = report("verify", "--format", "json")
    (shell.folder / "checkpoint.json").write_bytes(made["checkpoint.json"])
    made["verify_checkpoint.json"] = report("verify", "--checkpoint", "checkpoint.json", "--format", "json")
    # One figure of one entry is altered: verify says which entry.
    kept = shell.folder / "kept.db"
    shutil.copy(shell.folder / DATABASE, kept)
    with closing(sqlite3.connect(shell.folder / DATABASE)) as connection:
        connection.execute("UPDATE billing_journal SET body = replace(body, '0.9', '0.8') WHERE id = 'r2'")
        connection.commit()
    found = json.loads(report("verify", "--format", "json"))
    made["verify_altered.json"] = _pretty(shell.without_messages(found))
    for suffix in ("-wal", "-shm"):
        (shell.folder / f"{DATABASE}{suffix}").unlink(missing_ok=True)
    kept.replace(shell.folder / DATABASE)
    return made


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
"""The step whose reports can also be made from the stored database."""


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


def _rated(book: PriceBook, wanted: Json) -> Json:
    used = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800, reasoning_tokens=300)
    charge = book.rate(used, **{**wanted, "at": datetime.fromisoformat(wanted["at"])})
    costs = {channel: charge.cost(channel) for channel in ("rmb", "stripe")}
    return {
        "charge": charge.as_dict(),
        "cost": {channel: [str(money.amount), money.currency] for channel, money in costs.items()},
        "credits": str(charge.credits),
        "nominal": [str(charge.nominal.amount), charge.nominal.currency],
    }


def _usage_of(body: Json) -> Json:
    return _usage_dict(Usage.from_response(body))


def _usage_dict(found: Usage) -> Json:
    names = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
    return {
        **{name: getattr(found, name) for name in names},
        **{name: getattr(found, name) for name in ("service_tier", "model", "estimated", "total_tokens")},
        "meters": dict(found.meters),
    }


def _counted(api: Any, request: Json) -> Json:
    model = request["model"]
    count = TokenCounter(model, encoding="o200k_base").request(request, api=api)
    return {"model": model, "api": api, "tokens": int(count), "exact": count.exact, "upper": count.upper}


def _operate(opened: Ledger, book: PriceBook, operation: str, args: list[Any], **named: Any) -> Json:
    done = getattr(opened, operation)(
        *(_argument(book, "", value) for value in args),
        **{name: _argument(book, name, value) for name, value in named.items()},
    )
    if operation == "expire":
        return {"entries": done}
    if operation in ("create_token", "change_token"):
        return {"token": done.id}
    return {"kind": done.kind, "number": done.number, "repeated": done.repeated}


def _argument(book: PriceBook, name: str, value: Any) -> Any:
    if name in ("at", "expires") and value is not None:
        return datetime.fromisoformat(value)
    if name == "ttl":
        return timedelta(seconds=value)
    if isinstance(value, dict) and "quote" in value:
        wanted = dict(value["quote"])
        return book.quote(wanted.pop("channel"), **{**wanted, "at": datetime.fromisoformat(wanted["at"])})
    if isinstance(value, dict) and "charge" in value:
        wanted = dict(value["charge"])
        used = Usage.from_response(wanted.pop("usage"))
        return book.rate(used, **{**wanted, "at": datetime.fromisoformat(wanted["at"])})
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
    """Return the result, or the code of the error."""
    try:
        return work(*args, **named)
    except BillingError as error:
        return {"error": error.code, "http_status": error.http_status}


def _as_json(at: str) -> tuple[str, ...]:
    return ("--at", at, "--format", "json")


def _loaded(text: str) -> Any:
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
    """Copy a closed database in as few bytes as possible."""
    shutil.copy(source, target)
    with closing(sqlite3.connect(target)) as connection:
        for statement in ("PRAGMA journal_mode = DELETE", "PRAGMA page_size = 512", "VACUUM"):
            connection.execute(statement)


if __name__ == "__main__":
    main()
