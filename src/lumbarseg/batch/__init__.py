"""Segment many exams: which ones, what is done with each, by which executor, and what is skipped."""
