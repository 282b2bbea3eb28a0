"""Rating: a usage times a rate card is a charge, which can explain itself."""

from brivionix_billing.rating.charge import Charge, ChargeLine, Savings
from brivionix_billing.rating.rate_card import UNITS_PER_CREDIT, ChannelRate, RateCard
from brivionix_billing.rating.service_tiers import SERVICE_TIERS, normalize_service_tier

__all__ = [
    "SERVICE_TIERS",
    "UNITS_PER_CREDIT",
    "Charge",
    "ChargeLine",
    "ChannelRate",
    "RateCard",
    "Savings",
    "normalize_service_tier",
]
