"""What can be wrong with a prepared dataset: one file per question, each gives findings and changes nothing."""

from .finding import SEVERITIES, Finding, Severity

__all__ = ["SEVERITIES", "Finding", "Severity"]
