"""Runs the command line as ``python -m brivionix_billing.cli``."""

from brivionix_billing.cli import main

raise SystemExit(main())
