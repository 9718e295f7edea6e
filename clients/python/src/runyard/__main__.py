"""`python -m runyard` is `runyard`."""

from __future__ import annotations

import sys

from runyard.cli import main

sys.exit(main())
