"""Payment notices of Stripe, WeChat Pay and Alipay, and bank transfers, as operations of the ledger.

A function of this package verifies a notice and converts it to a :class:`Notice`. ``Ledger.post_notice`` posts it.
"""

from brivionix_billing.ledger.notices.alipay import alipay_notice
from brivionix_billing.ledger.notices.bank_transfer import bank_transfer
from brivionix_billing.ledger.notices.notice import Notice
from brivionix_billing.ledger.notices.stripe_currencies import from_stripe_units, to_stripe_units
from brivionix_billing.ledger.notices.stripe_events import stripe_notice
from brivionix_billing.ledger.notices.wechat import wechat_notice

__all__ = [
    "Notice",
    "alipay_notice",
    "bank_transfer",
    "from_stripe_units",
    "stripe_notice",
    "to_stripe_units",
    "wechat_notice",
]
