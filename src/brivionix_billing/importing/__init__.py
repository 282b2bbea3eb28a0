"""Imports public price data: reads litellm, genai-prices and others, and writes a price file or extends one.

A source is read into a :class:`~brivionix_billing.importing.catalog.Catalog`. The catalog is written as the text of a
new price file, or merged into an existing one. Whatever a price file cannot express is in the catalog's rejections,
each with its reason. Import what you need from its module, so that only the needed sources are loaded.
"""
