"""One thing that was found in a case, or in a dataset as a whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From bad to harmless: must be put right; should be looked at; good to know."""


@dataclass(frozen=True)
class Finding:
    """case: its name, "" for what holds of a whole dataset; check: one word; text: what, where and what to do."""

    case: str
    check: str
    severity: Severity
    text: str

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)
