"""``python -m brivionix_billing.cli`` is ``brivionix-billing``."""

from brivionix_billing.cli import main

raise SystemExit(main())
