"""Segment many exams: which exams, what is done with each, by which executor, and what is skipped because it is done."""
