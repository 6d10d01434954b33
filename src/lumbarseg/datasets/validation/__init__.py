"""Checks of prepared datasets: one module per question; each returns findings and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["SEVERITIES", "Finding", "Severity"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From bad to harmless: must be corrected; should be looked at; good to know."""


@dataclass(frozen=True)
class Finding:
    """A finding.

    Attributes
    ----------
    case : its name, "" for a finding about a dataset
    check : one word
    text : what, where and what to do
    """

    case: str
    check: str
    severity: Severity
    text: str
