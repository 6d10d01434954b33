"""`python -m lumbarseg` is `lumbarseg`."""

from __future__ import annotations

import sys

from lumbarseg.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
