"""Reports of exams and training runs: values for JSON, pictures and HTML pages."""

from .exam_report import ReportSource, build_report, report_schema

__all__ = ["ReportSource", "build_report", "report_schema"]
