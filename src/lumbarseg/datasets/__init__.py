"""Cases in one form: canonical axes, native spacing, a label table of sets, and where each came from."""

from .folder import Case, Dataset, add_cases, create, read_case, store_case, write_case

__all__ = ["Case", "Dataset", "add_cases", "create", "read_case", "store_case", "write_case"]
