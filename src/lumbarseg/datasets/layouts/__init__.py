"""Published datasets as they lie on disk, written from synthetic exams with known truth: one file per source."""
