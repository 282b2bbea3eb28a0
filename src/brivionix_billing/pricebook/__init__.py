"""The price book: all prices, groups and channels, each with the time from which it holds."""

from brivionix_billing.pricebook.book import PriceBook

__all__ = ["PriceBook"]
