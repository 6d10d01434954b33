"""Checks of prepared datasets: one module per question; each returns findings and changes nothing."""

from .finding import SEVERITIES, Finding, Severity

__all__ = ["SEVERITIES", "Finding", "Severity"]
