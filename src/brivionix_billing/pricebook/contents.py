"""The questions that a price book answers about itself: its models, groups, channels and settings, and their times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from brivionix_billing.errors import BillingError, safe_repr
from brivionix_billing.meters import Meter
from brivionix_billing.money import Payable
from brivionix_billing.pricebook import compile as compiler
from brivionix_billing.pricebook.calendars import Calendar
from brivionix_billing.pricebook.compile import Descriptions, ModelInfo
from brivionix_billing.pricebook.plans import Plan
from brivionix_billing.pricebook.resolver import PriceResolver
from brivionix_billing.rating.labels import Labels
from brivionix_billing.times import Timeline, as_utc, format_instant
from brivionix_billing.topup import Channel, Quote
from brivionix_billing.usage import Conventions

if TYPE_CHECKING:
    from brivionix_billing.pricebook import schema

__all__ = ["BookContents"]


class BookContents:
    """What a price file contains, by name and time. The base of :class:`PriceBook`, which constructs it."""

    __slots__ = ("_file", "resolver")
    resolver: PriceResolver
    """Resolves models, groups, tiers and times to rate cards."""
    if TYPE_CHECKING:
        _file: schema.PriceFile

    @property
    def file(self) -> schema.PriceFile:
        """The content of the price file."""
        return self._file

    @property
    def currency(self) -> str:
        """The currency of list and nominal prices."""
        return self._file.credit.currency

    @property
    def nominal_per_credit(self) -> Decimal:
        """The nominal quota that one Credit buys, in :attr:`currency`."""
        return self._file.credit.nominal_per_credit

    @property
    def lot_order(self) -> tuple[str, ...]:
        """The rules for the order in which a ledger consumes lots; see ``lot_order.LOT_ORDER_RULES``."""
        return self._file.lots.order

    def models(self, *, group: str, at: datetime) -> list[str]:
        """Return the models that a group may use at a time and that have a price then, in the file's order.

        Raises ``unknown_group``, ``invalid_time``.
        """
        at = as_utc(at)
        terms = self.resolver.group_terms(group, at).value
        allowed = terms.allowed_models if terms else frozenset()
        return [name for name in self.model_names if name in allowed and self.resolver.service_tiers(name, at)]

    @property
    def model_names(self) -> list[str]:
        """Names of all models, in the file's order."""
        return list(self.resolver.models)

    @property
    def group_names(self) -> list[str]:
        """Names of all groups, in the file's order."""
        return list(self.resolver.groups)

    def groups(self, *, at: datetime) -> list[str]:
        """Return the names of the groups that have terms at a time."""
        at = as_utc(at)
        return [name for name, terms in self.resolver.groups.items() if terms.at(at).value is not None]

    def service_tiers(self, model: str, at: datetime) -> list[str]:
        """Return the service tiers in which a model is sold at a time. Raises ``unknown_model``."""
        return self.resolver.service_tiers(model, as_utc(at))

    def resolve_model(self, name: object) -> str:
        """Return the model that a name, an alias or a dated snapshot means. Raises ``unknown_model``.

        A snapshot is the name of a model and a date not before its release: ``gpt-5.4-mini-2026-03-17``, or without the
        hyphens of the date, as Anthropic writes it.
        """
        return self.resolver.resolve_model(name)

    def descriptions(self) -> Descriptions:
        """Return the texts of the file on models, groups and so on, by language. They are text, never markup."""
        return compiler.descriptions(self._file)

    @property
    def labels(self) -> Labels:
        """The texts by which the file presents its names: display names, and labels of tiers, regions and modes."""
        return self.resolver.labels

    def next_change(self, model: str, *, group: str, at: datetime, service_tier: str | None = None) -> datetime | None:
        """Return the first time after ``at`` when a model may have another price in a group and tier, or ``None``.

        Every dated entry that the price depends on counts, including those of channels. Raises ``unknown_model``,
        ``unknown_group``, ``unknown_service_tier``.
        """
        return self.resolver.next_change(model, group, as_utc(at), service_tier)

    def ratio(self, group: str, at: datetime) -> Decimal:
        """Return the ratio of a group at a time; single models may have others. Raises ``unknown_group``."""
        terms = self.resolver.group_terms(group, as_utc(at)).value
        assert terms is not None  # noqa: S101  # group_terms raises instead
        return terms.ratio

    def model_info(self, model: object) -> ModelInfo:
        """Return what the file states about a model beside its prices. Raises ``unknown_model``."""
        return compiler.model_info(self._file, self.resolve_model(model))

    def channels(self) -> dict[str, Channel]:
        """Return the payment channels by name."""
        return dict(self.resolver.channels)

    def channel(self, name: str) -> Channel:
        """Return a payment channel. Raises ``unknown_channel``."""
        channel = self.resolver.channels.get(name) if isinstance(name, str) else None
        if channel is None:
            known = ", ".join(self.resolver.channels)
            advice = f"use one of: {known}" if known else "add a channel to it"
            raise BillingError(
                "unknown_channel",
                f"no channel {safe_repr(name)} in the price file; {advice}",
                near=(name, self.resolver.channels),
            )
        return channel

    def quote(
        self,
        channel: str,
        *,
        at: datetime,
        credits: Decimal | int | str | None = None,
        pay: Payable | Decimal | int | str | None = None,
        received: bool = False,
    ) -> Quote:
        """Return the price of Credits on a channel, or the Credits that a payment buys; see :meth:`Channel.quote`."""
        return self.channel(channel).quote(at=at, credits=credits, pay=pay, received=received)

    def plans(self, *, at: datetime) -> dict[str, Plan]:
        """Return the plans that have terms at a time, by name, in the file's order."""
        at = as_utc(at)
        found = {name: terms.at(at).value for name, terms in self.plan_terms().items()}
        return {name: plan for name, plan in found.items() if plan is not None}

    def plan_terms(self) -> dict[str, Timeline[Plan]]:
        """Return the terms of every plan over time, in the file's order."""
        channels = self.resolver.channels

        def terms_of(name: str, item: schema.Plan) -> Timeline[Plan]:
            return compiler.timeline(item.terms, lambda terms: compiler.plan(name, terms, channels))

        return {name: terms_of(name, item) for name, item in self._file.plans.items()}

    def plan(self, name: str, *, at: datetime) -> Plan:
        """Return the terms of a plan at a time. Raises ``unknown_plan``."""
        sold = self.plans(at=at)
        plan = sold.get(name) if isinstance(name, str) else None
        if plan is None:
            known = ", ".join(sold)
            raise BillingError(
                "unknown_plan",
                f"no plan {safe_repr(name)} in the price file at {format_instant(at)}; "
                + (f"use one of: {known}" if known else "add it to 'plans'"),
                near=(name, sold),
            )
        return plan

    @property
    def priced_model(self) -> str:
        """Which model of a request is priced: the ``requested`` one, or the ``served`` one if the usage states it."""
        return self._file.priced_model

    @property
    def meters(self) -> Mapping[str, Meter]:
        """All meters: the built-in ones, then those of the file."""
        return self.resolver.meters

    @property
    def all_service_tiers(self) -> tuple[str, ...]:
        """All service tiers: the built-in ones, then those of the file."""
        return self.resolver.tiers.tiers

    def calendars(self) -> Mapping[str, Calendar]:
        """Return the calendars of peak prices by name."""
        return self.resolver.calendars

    def conventions(self, upstream: str) -> Conventions:
        """Return what the counts of an upstream contain. Raises ``unknown_upstream``."""
        item = self._file.upstreams.get(upstream) if isinstance(upstream, str) else None
        if item is None:
            known = ", ".join(self._file.upstreams) or "none"
            raise BillingError(
                "unknown_upstream",
                f"no upstream {safe_repr(upstream)} in the price file; known: {known}; add it to 'upstreams'",
                near=(upstream, self._file.upstreams),
            )
        return Conventions(item.cache_read, item.audio_input, item.reasoning, item.grounding)

    def is_router(self, model: str) -> bool:
        """Return whether a model is a router, whose price depends on the served model. Raises ``unknown_model``."""
        return self.resolve_model(model) in self.resolver.routes
