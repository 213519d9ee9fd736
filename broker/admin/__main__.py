"""``python -m broker.admin``."""

from __future__ import annotations

import sys

from broker.admin.cli import main

if __name__ == "__main__":
    sys.exit(main())
