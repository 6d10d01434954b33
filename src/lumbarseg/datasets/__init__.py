"""Prepared datasets: RAS axes, native spacing, a label table of structure sets, and the source of each case."""

from .dataset import Case, Dataset, add_cases, create_dataset, read_case, write_case, write_case_files

__all__ = ["Case", "Dataset", "add_cases", "create_dataset", "read_case", "write_case", "write_case_files"]
