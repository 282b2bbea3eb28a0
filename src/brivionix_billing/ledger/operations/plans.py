"""Operations on plans: subscribe, order a period, change the plan, cancel."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from brivionix_billing.ledger import plan_reports
from brivionix_billing.ledger.database.store import Store
from brivionix_billing.ledger.entry import Entry
from brivionix_billing.ledger.ids import MAX_ID_LENGTH, require_id, require_new_id
from brivionix_billing.ledger.locked_account import EntryDraft, LockedAccount
from brivionix_billing.ledger.operations.base import LedgerBase
from brivionix_billing.ledger.plan_reports import Subscription
from brivionix_billing.ledger.posting import subscriptions
from brivionix_billing.ledger.posting.allowances import renew_free_plan
from brivionix_billing.ledger.reports import PAGE_SIZE
from brivionix_billing.ledger.timestamps import format_timestamp
from brivionix_billing.pricebook.plans import Plan

__all__ = ["Plans"]


class Plans(LedgerBase):
    """Operations on plans."""

    def subscribe(
        self,
        account: str,
        plan: Plan,
        *,
        id: str,
        at: datetime,
        channel: str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Subscribe an account to a plan, paid by ``channel``; ``id`` becomes the id of the subscription.

        The subscription keeps these terms until :meth:`change_plan`. A free plan opens its first allowance at once, and
        each later one by itself. For any other plan, create an order by :meth:`order_period`; its first payment starts
        the first period. Raises ``subscription_active`` if the account has a subscription that has not ended,
        ``unknown_channel`` and ``invalid_argument``.
        """
        content = {"terms": subscriptions.plan_content(plan, channel)}
        return self._run_plan_operation(
            account,
            id,
            "subscribed",
            content,
            at,
            lambda locked: subscriptions.subscribe(locked, id, content),
            connection,
        )

    def order_period(
        self,
        account: str,
        subscription: str,
        *,
        id: str,
        at: datetime,
        expires: datetime | None = None,
        tax_rate: Decimal | int | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Create the order for the next period of a plan; ``id`` becomes the id of the order.

        It is for the period after the latest one, or for the current period if that is later. Its payment, as of any
        order, opens the allowance: at once, also if the period has not started yet. The order expires at the end of its
        period, or earlier at ``expires``. ``tax_rate`` is the share of the price that is added as tax, such as 0.19,
        rounded half up. An earlier order that was not paid is cancelled. Raises ``unknown_subscription``,
        ``subscription_closed``, and ``invalid_argument`` if the plan is free or the next period is paid already.
        """
        times = {} if expires is None else {"expires": format_timestamp(expires)}
        content = {
            "subscription": require_id(subscription, "the subscription"),
            **times,
            **subscriptions.tax_rate_content(tax_rate),
        }
        return self._run_plan_operation(
            account,
            id,
            "plan_order",
            content,
            at,
            lambda locked: subscriptions.order_period(locked, subscription, id, content),
            connection,
        )

    def change_plan(
        self,
        account: str,
        subscription: str,
        plan: Plan,
        *,
        id: str,
        at: datetime,
        channel: str | None = None,
        at_period_end: bool = False,
        tax_rate: Decimal | int | str | None = None,
        connection: Connection | None = None,
    ) -> Entry:
        """Change the plan of a subscription at once, or from its next period on.

        At once, both plans count for the rest of the period. The unused Credits of the old allowance, up to the share
        of the rest of the period, pay for the same share of the new plan's price, in whole minor units, and open lots
        of the new plan. If the price is more, the operation creates an order for the difference, whose id is ``id``
        (the key ``order`` of the result). If it is less, the Credits that are not needed stay with the old terms.

        The new plan must then cost money, by the same channel and with the same kind of period. Before the first
        payment, any plan can be chosen at once; after the end of a period, the change applies to the renewal. Raises
        ``unknown_subscription``, ``subscription_closed``, ``unknown_channel``, ``invalid_argument``.
        """
        content = {
            "subscription": require_id(subscription, "the subscription"),
            "terms": subscriptions.plan_content(plan, channel),
            "when": "period_end" if at_period_end else "now",
            **subscriptions.tax_rate_content(tax_rate),
        }
        return self._run_plan_operation(
            account,
            id,
            "plan_changed",
            content,
            at,
            lambda locked: subscriptions.change_plan(locked, subscription, id, content),
            connection,
        )

    def cancel_plan(
        self, account: str, subscription: str, *, id: str, at: datetime, connection: Connection | None = None
    ) -> Entry:
        """Cancel a subscription: its plan ends at the end of its period. Its order for a later period is cancelled.

        To pay back unused Credits, refund the lots of its allowance. Raises ``unknown_subscription``,
        ``subscription_closed``.
        """
        content = {"subscription": require_id(subscription, "the subscription")}
        return self._run_plan_operation(
            account,
            id,
            "plan_cancelled",
            content,
            at,
            lambda locked: subscriptions.cancel(locked, subscription, content),
            connection,
        )

    def subscriptions(self, account: str, *, at: datetime, connection: Connection | None = None) -> list[Subscription]:
        """Return all subscriptions of an account, the oldest first. ``at`` is the current time."""
        now = format_timestamp(at)
        return self._run_read(lambda store: plan_reports.subscriptions(store, account, now), connection)

    def due_renewals(self, *, before: datetime, at: datetime) -> Iterator[Subscription]:
        """Yield the subscriptions whose period ends at ``before`` or earlier and whose next one must be paid.

        They are sorted by the end of their period, also those that are past due. ``at`` is the current time.
        """
        end, now = format_timestamp(before), format_timestamp(at)
        after = ("", "")

        def read(store: Store) -> list[Subscription]:
            return list(plan_reports.due_renewals(store, end, now, after))

        while page := self._run_read(read, None):
            yield from (each for each in page if each.next_price is not None)
            if len(page) < PAGE_SIZE or page[-1].ends is None:
                return
            after = format_timestamp(page[-1].ends), page[-1].id

    def _run_plan_operation(
        self,
        account: str,
        id: str,
        kind: str,
        content: Mapping[str, Any],
        at: datetime,
        build: Callable[[LockedAccount], EntryDraft],
        connection: Connection | None,
    ) -> Entry:
        """Post the entry that ``build`` returns, and the allowance of a free plan if that is due by now."""
        require_new_id(id, "the operation", MAX_ID_LENGTH)
        return self._run_operation(account, id, kind, content, at, build, connection, then=renew_free_plan)
