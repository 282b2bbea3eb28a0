"""The :class:`PriceBook`: loads a price file, answers questions about it, and rates usage by it."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from brivionix_billing.errors import BillingError, Finding, safe_repr
from brivionix_billing.pricebook import digest as digests
from brivionix_billing.pricebook.compile import ModelInfo
from brivionix_billing.pricebook.contents import BookContents
from brivionix_billing.pricebook.resolver import PriceResolver, ResolvedPrices
from brivionix_billing.pricebook.unaccounted import UnaccountedPolicy
from brivionix_billing.rating.charge import Charge, CombinedCharge
from brivionix_billing.rating.rate_card import RateCard
from brivionix_billing.times import as_utc, format_instant
from brivionix_billing.usage import Usage

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema
    from brivionix_billing.usage.record_file import Record

__all__ = ["ModelInfo", "PriceBook"]

_tuple_new = tuple.__new__
_MAX_CACHED_TIERS = 4096


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause garbage collection. Reading 3000 models makes half a million objects that all stay alive.

    Scanning them again and again for garbage would take a third of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@final
class PriceBook(BookContents):
    """All prices, groups and channels, each with the time from which it is effective. Immutable.

    >>> from datetime import UTC, datetime
    >>> book = PriceBook.load("pricing.yaml")
    >>> book.models(group="default", at=datetime(2026, 10, 1, tzinfo=UTC))[0]
    'gpt-5.5'
    """

    __slots__ = ("_prices_served", "_recent", "_tiers", "_unaccounted", "digest")
    digest: str
    """``sha256:...`` of all that prices depend on. Comments, descriptions and the order of keys are not covered."""

    def __init__(self, file: schema.PriceFile) -> None:
        put = object.__setattr__
        put(self, "_file", file)
        put(self, "digest", digests.price_file_digest(file))
        put(self, "resolver", PriceResolver(file, self.digest))
        put(self, "_recent", self.resolver.recent)
        put(self, "_tiers", {})
        put(self, "_prices_served", file.priced_model == "served")
        put(self, "_unaccounted", UnaccountedPolicy(file.unaccounted, self.resolver.meters))

    if TYPE_CHECKING:
        _recent: dict[tuple[str | None, str, str | None], ResolvedPrices]
        _tiers: dict[tuple[str | None, str | None], str | None]
        _prices_served: bool
        _unaccounted: UnaccountedPolicy

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a price book is immutable; load another file")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a price book is immutable; load another file")

    def __reduce__(self) -> tuple[Any, ...]:
        return PriceBook, (self._file,)

    def __repr__(self) -> str:
        return f"<PriceBook {len(self.model_names)} models, {len(self.group_names)} groups, {self.digest[:19]}>"

    @classmethod
    def load(cls, path: str | Path) -> PriceBook:
        """Read a price file. Raises ``file_unreadable``, or ``invalid_price_file`` with all findings."""
        from brivionix_billing.pricebook.loading import load

        with _gc_paused():
            return cls(load(path))

    @classmethod
    def load_with_notes(cls, path: str | Path) -> tuple[PriceBook, list[Finding]]:
        """Read a price file, and return notes on what it states to no effect. Raises as :meth:`load` does."""
        from brivionix_billing.pricebook.loading import load_with_notes

        file, notes = load_with_notes(path)
        return cls(file), notes

    @classmethod
    def loads(cls, text: str | bytes) -> PriceBook:
        """Read a price file from its text. Raises ``invalid_price_file`` with all findings."""
        from brivionix_billing.pricebook.loading import loads

        with _gc_paused():
            return cls(loads(text))

    def rate_cards(
        self,
        model: str,
        *,
        group: str,
        at: datetime,
        service_tier: str | None = None,
        served_model: str | None = None,
    ) -> list[RateCard]:
        """Return the rate cards of a model in all its variations: usual price, regions, modes and windows.

        Each variation has one card for each context tier, in rising order. The usual price comes first. Of a router,
        without ``served_model``, it is the card of its fee alone. Raises what :meth:`rate` raises for the model, the
        group, the tier and the time.
        """
        cards = self.resolver.resolve(
            model, group, as_utc(at), service_tier, served_model, router_fee_only=served_model is None
        ).cards
        return [card for variation in cards.variations() for card in cards.cards(variation)]

    def possible_rate_cards(
        self,
        model: str,
        *,
        group: str,
        at: datetime,
        service_tier: str | None = None,
        mode: str | None = None,
    ) -> list[RateCard]:
        """Return every rate card that a request may meet that starts now: in any region, and by any model of a router.

        Raises what :meth:`rate` raises for the model, the group, the tier, the mode and the time.
        """
        at = as_utc(at)
        _require_name("mode", mode)
        name = self.resolve_model(model)
        serves = self.resolver.routes.get(name)
        served: list[str | None] = [None]
        if serves is not None:
            tier = self.resolver.tiers.normalize(service_tier)
            served = [
                other
                for other in self.model_names
                if other not in self.resolver.routes and serves(other) and tier in self.service_tiers(other, at)
            ]
        cards: list[RateCard] = []
        for other in served:
            resolved, priced_mode = self._resolve(name, group, at, service_tier, other, mode)
            regions = (None, *resolved.cards.terms.listed.names("region"))
            for region in regions:
                cards += resolved.cards.cards(resolved.cards.variation(region, priced_mode, at))
        if not cards:
            raise BillingError("no_price", f"{name} may serve no model that has a price at {format_instant(at)}")
        return cards

    def rate(
        self,
        usage: Usage,
        *,
        group: str,
        at: datetime,
        model: str | None = None,
        service_tier: str | None = None,
        region: str | None = None,
        mode: str | None = None,
        unaccounted: Mapping[str, str] | None = None,
    ) -> Charge:
        """Return the exact charge for a usage, at the prices of the time of its request.

        ``model`` is the requested one; if it is not given, or if the price file says ``priced_model: served``, the
        served model of the usage is priced; a requested router costs its fee as well. ``service_tier``, ``region`` and
        ``mode`` are the requested ones; those that the usage states as served decide. ``at`` is the start of the
        request and has a time zone: it decides which dated prices and which peak window apply. ``unaccounted`` says
        what to do with paths of the usage that are on no meter, before the price file does: path or pattern ->
        ``report``, ``reject``, ``ignore`` or a meter.

        A usage with :attr:`Usage.parts` is one charge, with a part for each model at that model's price.

        Raises ``unknown_model``, ``unknown_group``, ``model_not_allowed``, ``unknown_service_tier``,
        ``service_tier_unavailable``, ``region_unavailable``, ``mode_unavailable``, ``no_price``, ``meter_unpriced``,
        ``unaccounted_usage``, ``invalid_time``.

        >>> from datetime import UTC
        >>> book = PriceBook.load("pricing.yaml")
        >>> usage = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)
        >>> at = datetime(2026, 10, 1, tzinfo=UTC)
        >>> book.rate(usage, model="gpt-5.4-mini", group="default", at=at).credits
        Decimal('0.00585')
        """
        # Fast path of nearly every request. Everything else takes the general path, which also finds the words for
        # what is wrong.
        try:
            input_tokens, uncached, cached, output, _, extras = usage
            requested_model, tier = model, service_tier
            if extras is not None:
                served_tier, served_model, meters, _, served_region, served_mode, notes = extras
                if meters or served_region or served_mode or notes:
                    raise ValueError
                tier = self._tiers[served_tier, service_tier]
                if model is None:
                    requested_model = served_model
            start, end, max_input, card, input_rate, cache_read_rate, output_rate, _ = self._recent[
                requested_model, group, tier
            ]
            if (
                usage.__class__ is Usage
                and input_tokens <= max_input
                and at.tzinfo is UTC
                and start <= at
                and (end is None or at < end)
                and region is None
                and mode is None
            ):
                quanta = uncached * input_rate + cached * cache_read_rate + output * output_rate
                return _tuple_new(Charge, (quanta, usage, card, at))
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        return self._rate(usage, group, as_utc(at), model, service_tier, region, mode, unaccounted)

    def rate_record(self, record: Record) -> Charge:
        """Return the charge for a record of a usage file. Raises what :meth:`rate` raises."""
        origin = record.origin
        return self.rate(
            record.usage,
            model=origin.model,
            group=origin.group,
            at=record.at,
            service_tier=origin.service_tier,
            region=origin.region,
            mode=origin.mode,
        )

    def _effective_tier(self, served: str | None, requested: str | None) -> str | None:
        try:
            return self._tiers[served, requested]
        except (KeyError, TypeError):
            tier = self.resolver.tiers.effective(served, requested)
            if len(self._tiers) < _MAX_CACHED_TIERS:
                self._tiers[served, requested] = tier
            return tier

    def _rate(
        self,
        usage: Usage,
        group: str,
        at: datetime,
        model: str | None,
        tier: str | None,
        region: str | None,
        mode: str | None,
        unaccounted: Mapping[str, str] | None = None,
    ) -> Charge:
        if usage.__class__ is not Usage:
            raise BillingError(
                "unknown_usage_format", f"rate() takes a Usage, not {safe_repr(usage)}; use Usage.from_response(body)"
            )
        _require_name("region", region)
        _require_name("mode", mode)
        extras, served = usage.extras, None
        if extras is not None:
            tier = self._effective_tier(extras.service_tier, tier)
            served = extras.model
            region, mode = extras.region or region, extras.mode or mode
            if model is None or (self._prices_served and not self._names_router(model)):
                model = served or model
            if extras.notes is not None and extras.notes.unaccounted:
                policy = self._unaccounted
                if unaccounted is not None:
                    _require_actions(unaccounted)
                    policy = UnaccountedPolicy(
                        {**unaccounted, **{k: v for k, v in self._file.unaccounted.items() if k not in unaccounted}},
                        self.resolver.meters,
                    )
                usage = policy.apply(usage)
        resolved, mode = self._resolve(model, group, at, tier, served, mode)
        cards = resolved.cards
        card = cards.card(usage.input_tokens, cards.variation(region, mode, at))
        charge = _tuple_new(Charge, (card.charge_quanta(usage), usage, card, at))
        if usage.parts:
            parts = [self._rate(part, group, at, name, tier, region, mode) for name, part in usage.parts]
            return CombinedCharge.of(charge, tuple(parts))
        return charge

    def _names_router(self, model: object) -> bool:
        """Return whether a requested name is that of a router, which costs its fee beside the served model."""
        resolver = self.resolver
        return bool(resolver.routes) and isinstance(model, str) and resolver.names.resolve(model) in resolver.routes

    def _resolve(
        self, model: str | None, group: str, at: datetime, tier: str | None, served: str | None, mode: str | None
    ) -> tuple[ResolvedPrices, str | None]:
        """Return the prices, and the mode that has a price of its own among them."""
        resolved = self.resolver.resolve_recent(model, group, at, tier, served)
        if mode is None or mode.lower() in map(str.lower, resolved.cards.terms.listed.names("mode")):
            return resolved, mode
        tiers = self.resolver.tiers
        if tiers.knows(mode) and tiers.normalize(tier) in ("standard", tiers.normalize(mode)):
            # Providers report some tiers as a mode, or as both: without a price of its own, "fast" is priority.
            return self.resolver.resolve_recent(model, group, at, mode, served), None
        return resolved, mode


def _require_name(dimension: str, name: object) -> None:
    """Raise ``region_unavailable`` or ``mode_unavailable`` if a region or a mode is not text."""
    if name is not None and not isinstance(name, str):
        raise BillingError(
            f"{dimension}_unavailable", f"{safe_repr(name)} is not the name of a {dimension}; use text, or None"
        )


def _require_actions(unaccounted: object) -> None:
    if not isinstance(unaccounted, Mapping) or not all(
        isinstance(text, str) for pair in unaccounted.items() for text in pair
    ):
        raise BillingError(
            "invalid_argument",
            f"unaccounted {safe_repr(unaccounted)} is not a mapping of paths to actions; use "
            "{'usage.fee': 'ignore'}, with report, reject, ignore or a meter",
        )
