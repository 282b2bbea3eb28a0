"""The data of the demo: an account with Credits, and two tokens with published secrets."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from brivionix_billing import BillingError, PriceBook
from brivionix_billing.ledger import Ledger

__all__ = [
    "ACCOUNT",
    "DEMO_DB",
    "EVERYTHING",
    "MINI_ONLY",
    "demo_instructions",
    "open_demo_ledger",
    "refuse_demo_tokens",
]

DEMO_DB: Final = "gateway-demo.db"

ACCOUNT: Final = "demo"
_TOKENS: Final = ("demo-everything", "demo-mini-only")
EVERYTHING: Final = "sk-demo-everything-not-a-secret"
MINI_ONLY: Final = "sk-demo-mini-only-not-a-secret"
_TOP_UP: Final = "demo-top-up"


def open_demo_ledger(path: str, book: PriceBook, now: datetime) -> None:
    """Create the ledger of the demo, unless it exists from an earlier start.

    Raises ``invalid_argument`` for any other ledger: the secrets of the demo's tokens are public.
    """
    if "://" not in path and not Path(path).exists():
        with Ledger.open(path, book) as ledger:
            _seed(ledger, book, now)
    elif "://" in path or not _is_demo_ledger(path, book):
        raise BillingError(
            "invalid_argument",
            f"{path.rpartition('@')[2]} is not a ledger of the demo, whose tokens are public; "
            f"omit --db and GATEWAY_DB, and the demo uses {DEMO_DB}",
        )


def _is_demo_ledger(path: str, book: PriceBook) -> bool:
    with Ledger.open(path, book, create=False) as ledger:
        return ledger.entry(_TOP_UP) is not None and list(islice(ledger.accounts(), 2)) == [ACCOUNT]


def refuse_demo_tokens(ledger: Ledger) -> None:
    """Raise ``invalid_argument`` if anyone could use the gateway with a public token of the demo."""
    for token in _TOKENS:
        if ledger.entry(token) is not None and ledger.token(token).enabled:
            raise BillingError(
                "invalid_argument",
                f"this ledger has the demo's token {token}, whose secret is public; use another ledger, or disable it: "
                f"brivionix-billing ledger token change {token} --disabled --id disable-{token}",
            )


def _seed(ledger: Ledger, book: PriceBook, now: datetime) -> None:
    ledger.open_account(ACCOUNT, at=now)
    everything, mini_only = _TOKENS
    ledger.create_token(ACCOUNT, id=everything, at=now, group="default", name="Everything", secret=EVERYTHING)
    ledger.create_token(ACCOUNT, id=mini_only, at=now, group="mini-only", name="One model", limit=1, secret=MINI_ONLY)
    quote = book.quote("rmb", at=now, pay="85")
    ledger.top_up(ACCOUNT, quote, reference="demo-payment", id=_TOP_UP, at=now)
    ledger.set_signal(ACCOUNT, "low", "low_balance", threshold=99, id="demo-signal", at=now)


def demo_instructions(url: str, model: str) -> str:
    """Return the greeting of the demo: commands to copy."""
    return f"""
The gateway listens on {url} and replays recorded answers. It has two tokens:
  {EVERYTHING}   every model
  {MINI_ONLY}    gpt-5.4-mini only, at most 1 Credit

Send a request, then look at the balance:
  curl -s {url}/v1/chat/completions -H 'Authorization: Bearer {EVERYTHING}' \\
    -H 'Content-Type: application/json' \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
  curl -s {url}/v1/balance -H 'Authorization: Bearer {EVERYTHING}'
  curl -s {url}/v1/usage -H 'Authorization: Bearer {EVERYTHING}'

The same with OpenAI's SDK, as a stream (pip install openai):
  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{EVERYTHING}")
  for event in client.responses.create(model="{model}", input="Hello", stream=True):
      print(event.type)

Make the provider fail (add to a curl command): -H 'x-demo: status=500'   or cut=3, slow=0.5, usage=odd
Stop the gateway with Ctrl+C.
"""
