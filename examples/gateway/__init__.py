"""A small gateway for prepaid Credits: an OpenAI-compatible API in front, a provider behind, the ledger in between.

``python -m examples.gateway --demo`` starts it with a provider that replays recorded answers. ``docs/gateway.md``
describes the life of a request, and what a service of your own must keep.
"""
