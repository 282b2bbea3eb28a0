"""Aggregates a usage file into the usage of each account, in bounded memory."""
