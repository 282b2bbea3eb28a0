"""The :class:`PriceBook`: resolves prices to rate cards, and rates usage by them."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from brivionix_billing.decimals import multiply
from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import TOKEN_METERS
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import compile as compiled
from brivionix_billing.pricebook.compile import Descriptions, GroupTerms, ModelInfo, TierPrices
from brivionix_billing.rating.charge import Charge
from brivionix_billing.rating.rate_card import SERVICE_TIERS, ChannelRate, PriceVector, RateCard, effective_service_tier
from brivionix_billing.rating.rate_card import normalize_service_tier as service_tier_of
from brivionix_billing.times import END_OF_TIME, Timeline, TimelineSpan, as_utc, format_instant
from brivionix_billing.topup import Channel, Quote
from brivionix_billing.usage import MAX_COUNT, Usage

if TYPE_CHECKING:
    # pydantic and PyYAML are needed to read a file, not to import this library or to rate.
    from brivionix_billing.pricebook import schema

__all__ = ["ModelInfo", "PriceBook", "ResolvedPrices"]

_SNAPSHOT = re.compile(r"(.+)-([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{8})", re.ASCII)
_MAX_CACHED: Final = 65_536
_tuple_new = tuple.__new__


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Without garbage collection.

    Reading 3000 models makes half a million objects that all live on. Looking for garbage among them again and again
    would take a third of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ResolvedPrices(NamedTuple):
    """A model in a group and service tier, over the time in which nothing about its price changes."""

    start: datetime
    end: datetime | None
    """``None``: open. It saves the hot path a comparison."""
    fast_path_max_input: int
    """Up to so many input tokens ``card`` holds and may be applied the fast way; -1: never."""
    short_card: RateCard
    input_rate: int
    cache_read: int
    output: int
    long_card: RateCard | None


@final
class PriceBook:
    """All prices, groups and channels, each with the time from which it holds. Immutable.

    >>> from datetime import UTC, datetime
    >>> book = PriceBook.load("pricing.yaml")
    >>> book.models(group="default", at=datetime(2026, 10, 1, tzinfo=UTC))[0]
    'gpt-5.5'
    """

    __slots__ = (
        "_channels",
        "_discounts",
        "_file",
        "_groups",
        "_models",
        "_names",
        "_recent",
        "_resolved",
        "_tools",
        "digest",
    )
    digest: str
    """``sha256:...`` over all that prices depend on. Comments, descriptions and the order of keys are not in it."""

    def __init__(self, file: schema.PriceFile) -> None:
        put = object.__setattr__
        put(self, "_file", file)
        put(self, "_models", {name: compiled.model_timelines(model) for name, model in file.models.items()})
        put(self, "_names", compiled.name_index(file))
        put(self, "_groups", {name: compiled.group_timeline(group, file) for name, group in file.groups.items()})
        put(self, "_discounts", compiled.timeline(file.cache_discount, lambda entry: entry.discount))
        put(self, "_tools", compiled.tool_timelines(file.tools))
        put(self, "_channels", {name: compiled.channel(name, item) for name, item in file.channels.items()})
        put(self, "_recent", {})
        put(self, "_resolved", {})
        put(self, "digest", compiled.price_file_digest(file))

    if TYPE_CHECKING:
        _file: schema.PriceFile
        _models: dict[str, dict[str, Timeline[TierPrices]]]
        _names: dict[str, str]
        _groups: dict[str, Timeline[GroupTerms]]
        _discounts: Timeline[Decimal]
        _tools: dict[str, Timeline[Decimal]]
        _channels: dict[str, Channel]
        _recent: dict[tuple[str | None, str, str | None], ResolvedPrices]
        _resolved: dict[tuple[str, str, str], tuple[ResolvedPrices, ...]]

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a price book cannot be changed; load another file")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a price book cannot be changed; load another file")

    def __reduce__(self) -> tuple[Any, ...]:
        return PriceBook, (self._file,)

    def __repr__(self) -> str:
        return f"<PriceBook {len(self._models)} models, {len(self._groups)} groups, {self.digest[:19]}>"

    @classmethod
    def load(cls, path: str | Path) -> PriceBook:
        """Read a price file. Raises ``file_unreadable``, or ``invalid_price_file`` with all findings."""
        from brivionix_billing.pricebook.loading import load

        with _gc_paused():
            return cls(load(path))

    @classmethod
    def loads(cls, text: str | bytes) -> PriceBook:
        """Read a price file from its text."""
        from brivionix_billing.pricebook.loading import loads

        with _gc_paused():
            return cls(loads(text))

    @property
    def currency(self) -> str:
        """The currency of list and nominal prices."""
        return self._file.credit.currency

    @property
    def nominal_per_credit(self) -> Decimal:
        """How much nominal quota one Credit buys, in :attr:`currency`."""
        return self._file.credit.nominal_per_credit

    @property
    def lot_order(self) -> tuple[str, ...]:
        """The rules by which a ledger uses up an account's Credits; see ``topup.LOT_ORDER_RULES``."""
        return self._file.lots.order

    def digest_before(self, end: datetime) -> str:
        """The digest of the book's entries that begin before ``end``: appending later prices does not change it."""
        return compiled.price_file_digest(self._file, as_utc(end))

    def models(self, *, group: str, at: datetime) -> list[str]:
        """Names of the models that a group may use at a time and that have a price then, in the file's order."""
        at = as_utc(at)
        allowed = self._group_terms(group, at)[2].allowed_models
        return [name for name in self._models if name in allowed and self.service_tiers(name, at)]

    def has_entries_after(self, end: datetime) -> bool:
        """Whether anything in the book begins at ``end`` or later: then a bill may have been made before it came."""
        return compiled.latest_effective_from(self._file) >= as_utc(end)

    @property
    def model_names(self) -> list[str]:
        """Names of all models, in the file's order."""
        return list(self._models)

    @property
    def group_names(self) -> list[str]:
        """Names of all groups, in the file's order."""
        return list(self._groups)

    def groups(self, *, at: datetime) -> list[str]:
        """Names of the groups that have terms at a time."""
        at = as_utc(at)
        return [name for name, terms in self._groups.items() if terms.at(at).value is not None]

    def service_tiers(self, model: str, at: datetime) -> list[str]:
        """The service tiers that a model is sold in at a time."""
        at = as_utc(at)
        timelines = self._models[self.resolve_model(model)]
        return [tier for tier in SERVICE_TIERS if timelines[tier].at(at).value is not None]

    def resolve_model(self, name: object) -> str:
        """The model that a name, an alias or a dated snapshot means. Raises ``unknown_model``.

        A snapshot is the model's name and a date not before its release: ``gpt-5.4-mini-2026-03-17``, or without the
        hyphens of the date, as Anthropic writes it.
        """
        found = self._names.get(name) if isinstance(name, str) else None
        if found is None and isinstance(name, str) and len(name) <= 256:
            snapshot = _SNAPSHOT.fullmatch(name)
            base = self._names.get(snapshot[1]) if snapshot else None
            if snapshot and base is not None:
                try:
                    day = date.fromisoformat(snapshot[2])
                except ValueError:
                    pass
                else:
                    found = base if day >= self._file.models[base].released else None
        if found is None:
            raise BillingError("unknown_model", f"no model {safe_repr(name)} in the price file; add it, or an alias")
        return found

    def descriptions(self) -> Descriptions:
        """What the file says of its models, groups and channels for people, by language. Text, never markup."""
        return compiled.descriptions(self._file)

    def next_change(self, model: str, *, group: str, at: datetime, service_tier: str | None = None) -> datetime | None:
        """The first time after ``at`` when a model may cost something else in a group and tier, or be sold or not.

        Every dated entry that its price depends on counts, those of the channels as well. ``None``: none is announced.
        """
        at, tier = as_utc(at), service_tier_of(service_tier)
        spans: list[TimelineSpan[Any]] = [self._models[self.resolve_model(model)][tier].at(at), self._discounts.at(at)]
        if isinstance(group, str) and group in self._groups:
            spans.append(self._groups[group].at(at))
        spans += [timeline.at(at) for timeline in self._tools.values()]
        spans += [channel.prices.at(at) for channel in self._channels.values()]
        end = min(span.end for span in spans)
        return None if end == END_OF_TIME else end

    def ratio(self, group: str, at: datetime) -> Decimal:
        """The ratio of a group at a time; single models may have others. Raises ``unknown_group``."""
        return self._group_terms(group, as_utc(at))[2].ratio

    def model_info(self, model: object) -> ModelInfo:
        """What the file says of a model (or its alias, or a snapshot) beside its prices. Raises ``unknown_model``."""
        return compiled.model_info(self._file, self.resolve_model(model))

    def channels(self) -> dict[str, Channel]:
        """The payment channels by name."""
        return dict(self._channels)

    def channel(self, name: str) -> Channel:
        """A payment channel. Raises ``unknown_channel``."""
        found = self._channels.get(name) if isinstance(name, str) else None
        if found is None:
            known = ", ".join(self._channels) or "none"
            raise BillingError("unknown_channel", f"no channel {safe_repr(name)} in the price file; there are: {known}")
        return found

    def quote(
        self,
        channel: str,
        *,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | Decimal | int | str | None = None,
    ) -> Quote:
        """What so many Credits cost on a channel, or what so much money buys; see :meth:`Channel.quote`."""
        return self.channel(channel).quote(at=at, credits=credits, pay=pay)

    def rate_cards(
        self, model: str, *, group: str, at: datetime, service_tier: str | None = None
    ) -> tuple[RateCard, RateCard | None]:
        """The rate cards of a model: for short context, and for long context where that has its own prices.

        Raises what :meth:`rate` raises for the model, the group, the tier and the time.
        """
        resolved = self.resolve(model, group, as_utc(at), service_tier)
        return resolved.short_card, resolved.long_card

    def rate(
        self,
        usage: Usage,
        *,
        group: str,
        at: datetime,
        model: str | None = None,
        service_tier: str | None = None,
    ) -> Charge:
        """The exact charge for a usage at the prices of its own time.

        ``model``: as asked for; where it is not given, the model that the usage says was served. ``service_tier``: as
        asked for; where the usage says which tier was served, that one decides. ``at`` has a zone.

        Raises ``unknown_model``, ``unknown_group``, ``model_not_allowed``, ``unknown_service_tier``,
        ``service_tier_unavailable``, ``no_price``, ``meter_unpriced``, ``invalid_time``.

        >>> from datetime import UTC
        >>> book = PriceBook.load("pricing.yaml")
        >>> usage = Usage(input_tokens=12_000, cache_read_tokens=10_000, output_tokens=800)
        >>> at = datetime(2026, 10, 1, tzinfo=UTC)
        >>> book.rate(usage, model="gpt-5.4-mini", group="default", at=at).credits
        Decimal('0.00585')
        """
        # Nearly every request passes these few lines. What does not goes the long way, which also finds the words
        # for what is wrong.
        try:
            total, text, read, out, _, more = usage
            start, end, limit, card, per_text, per_read, per_out, _ = self._recent[model, group, service_tier]
            if (
                more is None
                and usage.__class__ is Usage
                and total <= limit
                and at.tzinfo is UTC
                and start <= at
                and (end is None or at < end)
            ):
                return _tuple_new(Charge, (text * per_text + read * per_read + out * per_out, usage, card, at))
        except (KeyError, TypeError, ValueError, AttributeError):
            pass
        if at.__class__ is not datetime or at.tzinfo is not UTC:
            at = as_utc(at)
        return self._rate_resolved(usage, group, at, model, service_tier)

    def _rate_resolved(
        self, usage: Usage, group: str, at: datetime, model: str | None, asked_tier: str | None
    ) -> Charge:
        if usage.__class__ is not Usage:
            raise BillingError(
                "unknown_usage_format",
                f"rate() takes a Usage, not {safe_repr(usage)}; see Usage and Usage.from_response",
            )
        total, text, read, out, _, more = usage
        tier = asked_tier
        if more is not None:
            tier = effective_service_tier(more.service_tier, asked_tier)
            model = more.model if model is None else model
        try:
            resolved = self._recent[model, group, tier]
            if not (resolved.start <= at and (resolved.end is None or at < resolved.end)):
                resolved = self._resolve_cached(model, group, at, tier)
        except (KeyError, TypeError):
            resolved = self._resolve_cached(model, group, at, tier)
        card = resolved.short_card
        if total <= resolved.fast_path_max_input and (more is None or not more.meters):
            quanta = text * resolved.input_rate + read * resolved.cache_read + out * resolved.output
        else:
            if resolved.long_card is not None and total > (card.context_above or 0):
                card = resolved.long_card
            quanta = card.charge_quanta(usage)
        return _tuple_new(Charge, (quanta, usage, card, at))

    def _resolve_cached(self, model: str | None, group: str, at: datetime, tier: str | None) -> ResolvedPrices:
        resolved = self.resolve(model, group, at, tier)
        if len(self._recent) >= _MAX_CACHED:
            self._recent.clear()  # names that callers make up cannot fill the memory
        self._recent[model, group, tier] = resolved
        return resolved

    def resolve(self, name: object, group: str, at: datetime, tier_name: object) -> ResolvedPrices:
        """Prices of everything that a request of this model, group and tier may meet at ``at`` (UTC).

        The same prices are always the same object, so sums can be kept by it.
        """
        if name is None:
            raise BillingError("unknown_model", "no model: give one, or a usage that says which was served")
        model, tier = self.resolve_model(name), service_tier_of(tier_name)
        key = (model, group, tier)
        known = self._resolved.get(key, ()) if isinstance(group, str) else ()
        for resolved in known:
            if resolved.start <= at and (resolved.end is None or at < resolved.end):
                return resolved
        resolved = self._resolve(model, group, at, tier)
        self._resolved[key] = (*known, resolved)
        return resolved

    def _resolve(self, model: str, group: str, at: datetime, tier: str) -> ResolvedPrices:
        group_start, group_end, terms = self._group_terms(group, at)
        if model not in terms.allowed_models:
            raise BillingError(
                "model_not_allowed",
                f"group {safe_repr(group)} may not use {model} at {format_instant(at)}; see its 'models'",
            )
        prices = self._models[model][tier].at(at)
        if prices.value is None:
            sold = self.service_tiers(model, at)
            if not sold:
                raise BillingError(
                    "no_price", f"{model} has no price at {format_instant(at)}; the price file begins later"
                )
            raise BillingError(
                "service_tier_unavailable",
                f"{model} is not sold as {tier} at {format_instant(at)}; sold then: {', '.join(sold)}",
            )
        discount = self._discounts.at(at)
        tools = {name: timeline.at(at) for name, timeline in self._tools.items()}
        channels = {name: (channel, channel.prices.at(at)) for name, channel in self._channels.items()}
        spans: list[TimelineSpan[Any]] = [prices, discount, *tools.values(), *(span for _, span in channels.values())]
        start = max(group_start, *(span.start for span in spans))
        end = min(group_end, *(span.end for span in spans))
        fees = {name: span.value for name, span in tools.items() if span.value is not None}
        of, own = prices.value, terms.prices.get((model, tier))
        factor = terms.ratios.get(model, terms.ratio)

        def vector(stated: TierPrices, long: bool) -> PriceVector:
            return compiled.price_vector((stated.long if long else None) or stated.short, discount.value, fees)

        def card(long: bool) -> RateCard:
            listed = vector(of, long)
            charged = [None if price is None else multiply(price, factor) for price in listed]
            if own is not None:
                own_prices = vector(own, long)
                for meter in TOKEN_METERS:
                    charged[meter.position] = own_prices[meter.position]
            return RateCard(
                model=model,
                group=group,
                service_tier=tier,
                context_tier="long" if long else "short",
                context_above=of.above,
                start=start,
                end=end,
                price_since=prices.start,
                group_since=group_start,
                list_prices=listed,
                ratio=factor,
                has_group_prices=own is not None,
                unit_prices=tuple(charged),
                currency=self._file.credit.currency,
                nominal_per_credit=self._file.credit.nominal_per_credit,
                channels={
                    name: ChannelRate(channel.currency, span.value, span.start)
                    for name, (channel, span) in channels.items()
                    if span.value is not None
                },
                price_book_digest=self.digest,
            )

        short = card(False)
        above = of.above
        usual = short.scaled_rates[:3]
        fast = None not in usual
        return ResolvedPrices(
            start,
            None if end == END_OF_TIME else end,
            (MAX_COUNT if above is None else above) if fast else -1,
            short,
            usual[0] or 0,
            usual[1] or 0,
            usual[2] or 0,
            None if above is None else card(True),
        )

    def _group_terms(self, group: object, at: datetime) -> tuple[datetime, datetime, GroupTerms]:
        timeline = self._groups.get(group) if isinstance(group, str) else None
        if timeline is None:
            # A gateway hands messages on: this one does not tell one customer the groups of others.
            raise BillingError(
                "unknown_group", f"no group {safe_repr(group)} in the price file; add it, or mend the name"
            )
        span = timeline.at(at)
        if span.value is None:
            raise BillingError("unknown_group", f"group {safe_repr(group)} has no terms at {format_instant(at)}")
        return span.start, span.end, span.value
