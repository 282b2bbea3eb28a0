"""Rates and totals DuckDB relations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from brivionix_billing.frames.layout import FrameOptions
from brivionix_billing.frames.rater import FrameRater
from brivionix_billing.frames.sums import total_relation
from brivionix_billing.pricebook import PriceBook

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation as Relation

__all__ = ["rate", "totals"]


def rate(relation: Relation, book: PriceBook, options: FrameOptions, kept: str = "*") -> Relation:
    """Return the columns ``kept`` of a relation and those that rating adds."""
    return rater(relation, book, options).rate(relation, kept)


def totals(relation: Relation, book: PriceBook, options: FrameOptions, by: Sequence[str], time_zone: str) -> Relation:
    """Return the sums of a relation."""
    return total_relation(rater(relation, book, options), relation, by, time_zone)


def rater(relation: Relation, book: PriceBook, options: FrameOptions) -> FrameRater:
    """Return a rater for the columns of a relation."""
    return FrameRater(relation.columns, [str(kind) for kind in relation.types], book, options)
