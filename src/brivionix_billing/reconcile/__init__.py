"""Matches two sets of books row by row, and names one cause of every difference.

``rows`` has the row of a result, ``matching`` pairs the rows of two sides by a rule, and ``result`` writes what was
found. The packages below know the formats: ``gateway`` the logs of gateways, ``provider`` the reports of providers,
``payments`` the statements of payment processors.
"""

from brivionix_billing.reconcile.result import CauseTotal, Input, Result, Totals
from brivionix_billing.reconcile.rows import Row, State

__all__ = ["CauseTotal", "Input", "Result", "Row", "State", "Totals"]
