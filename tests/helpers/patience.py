"""How long tests wait for what must come: long enough for a machine that does ten other things.

No test asserts on time. This only ends one that never would, so that nobody gains by a smaller number.
"""

from __future__ import annotations

import os

HANG = float(os.environ.get("HANG", "300"))
"""Seconds after which what does not come counts as hung. Who works on a test that hangs may set fewer."""
