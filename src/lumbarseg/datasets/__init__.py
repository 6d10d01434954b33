"""Cases in one form: canonical axes, native spacing, a label table of sets, and where each came from."""

from .dataset import Case, Dataset, add_cases, create_dataset, read_case, write_case, write_case_files

__all__ = ["Case", "Dataset", "add_cases", "create_dataset", "read_case", "write_case", "write_case_files"]
