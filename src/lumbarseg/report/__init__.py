"""One result told three ways: facts for programs, a picture, a page."""

from .exam_report import Provenance, build_report

__all__ = ["Provenance", "build_report"]
