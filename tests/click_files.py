"""Clicks as a file of our own format."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lumbarseg.clicks import Click


def clicks_json(clicks: Sequence[Click]) -> str:
    """Return clicks as the text of a file; the inverse of `parse_clicks`."""
    rows = [{"point": list(c.point), "structure": c.structure, "positive": c.positive} for c in clicks]
    return json.dumps({"space": "RAS+ mm", "clicks": rows}, indent=1) + "\n"
