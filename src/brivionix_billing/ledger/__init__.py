"""The ledger of prepaid Credits, in SQLite or PostgreSQL: accounts, API tokens, lots, holds, charges.

A double-entry journal per account is the source of truth; all other tables are derived from it. ``docs/ledger.md``
states the domain model, the invariants, and what is not guaranteed.

It requires the extra ``brivionix-billing[ledger]``.
"""

from brivionix_billing.errors import missing_extra

try:
    import alembic as _alembic  # noqa: F401  # fail here, with the name of the extra
    import msgspec as _msgspec  # noqa: F401
    import sqlalchemy as _sqlalchemy  # noqa: F401
except ImportError as error:  # pragma: no cover  # the tests have the extra
    raise missing_extra(f"{error.name} is not installed; the ledger", "ledger") from None

from brivionix_billing.ledger.api_tokens import ApiToken, parse_bearer
from brivionix_billing.ledger.checkpoint_log import (
    CheckpointLog,
    SignedCheckpoint,
    append_checkpoint,
    read_checkpoint_log,
)
from brivionix_billing.ledger.database.engine import prepare_engine
from brivionix_billing.ledger.entry import SUBACCOUNTS, Entry, LotChange
from brivionix_billing.ledger.errors import LimitReachedError, ShortfallError
from brivionix_billing.ledger.ledger import Ledger
from brivionix_billing.ledger.limit_reports import Limit
from brivionix_billing.ledger.member_reports import Member
from brivionix_billing.ledger.money_movements import MoneyMovement
from brivionix_billing.ledger.operations.archives import ArchivedEntries
from brivionix_billing.ledger.operations.maintenance import Audit
from brivionix_billing.ledger.plan_reports import Subscription
from brivionix_billing.ledger.posting.holds import DEFAULT_HOLD_TTL
from brivionix_billing.ledger.received_payment import ReceivedPayment
from brivionix_billing.ledger.reports import Balance, Lot, Order, Payment
from brivionix_billing.ledger.requests import Request, RequestPage
from brivionix_billing.ledger.restrictions import DEFAULT_PRIORITY, Restriction
from brivionix_billing.ledger.signal_reports import Signal, SignalSetting
from brivionix_billing.ledger.statements import Movement, Statement, UsageLine
from brivionix_billing.ledger.thread_pool import LedgerThreadPool
from brivionix_billing.ledger.top_up_receipts import TopUpReceipt
from brivionix_billing.ledger.verification import Inconsistency
from brivionix_billing.pricebook.plans import Plan

__all__ = [
    "SUBACCOUNTS",
    "DEFAULT_HOLD_TTL",
    "DEFAULT_PRIORITY",
    "ArchivedEntries",
    "Audit",
    "Balance",
    "CheckpointLog",
    "Entry",
    "Inconsistency",
    "Ledger",
    "Limit",
    "LimitReachedError",
    "Lot",
    "LotChange",
    "Member",
    "MoneyMovement",
    "Movement",
    "Order",
    "Payment",
    "Plan",
    "ReceivedPayment",
    "Request",
    "RequestPage",
    "Restriction",
    "ShortfallError",
    "Signal",
    "SignalSetting",
    "SignedCheckpoint",
    "Statement",
    "Subscription",
    "LedgerThreadPool",
    "TopUpReceipt",
    "ApiToken",
    "UsageLine",
    "append_checkpoint",
    "parse_bearer",
    "prepare_engine",
    "read_checkpoint_log",
]
