"""A small gateway for prepaid Credits: OpenAI's API in front, a provider behind, the ledger between.

``python -m examples.gateway --demo`` starts it with a provider that replays recorded answers. ``docs/gateway.md`` tells
what happens to a request, and which of it to take into a service of your own.
"""
