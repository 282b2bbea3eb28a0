"""The data of the demo: an account with Credits, and two tokens with published secrets."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from brivionix_billing import PriceBook
from brivionix_billing.ledger import Ledger

__all__ = ["ACCOUNT", "EVERYTHING", "MINI_ONLY", "seed_demo_ledger", "demo_instructions"]

ACCOUNT: Final = "demo"
EVERYTHING: Final = "sk-demo-everything-not-a-secret"
MINI_ONLY: Final = "sk-demo-mini-only-not-a-secret"


def seed_demo_ledger(ledger: Ledger, book: PriceBook, now: datetime) -> None:
    """Create the account, its Credits and its tokens, unless they exist from an earlier start."""
    if ledger.entry("demo-top-up") is not None:
        return
    ledger.open_account(ACCOUNT, at=now)
    ledger.create_token(ACCOUNT, id="demo-everything", at=now, group="default", name="Everything", secret=EVERYTHING)
    ledger.create_token(
        ACCOUNT, id="demo-mini-only", at=now, group="mini-only", name="One model", limit=1, secret=MINI_ONLY
    )
    quote = book.quote("rmb", at=now, pay="85")
    ledger.top_up(ACCOUNT, quote, reference="demo-payment", id="demo-top-up", at=now)


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
