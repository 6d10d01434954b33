"""One importer per source; each ends in a prepared dataset."""

from .folder import import_folder

__all__ = ["import_folder"]
