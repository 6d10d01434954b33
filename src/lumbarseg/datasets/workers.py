"""A lock on a folder, so that one program at a time writes into a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lumbarseg.errors import DatasetError


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """DatasetError when another import or combination writes into the same folder; where the system can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"{folder}: another program is writing here; wait until it is done") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        with suppress(OSError):
            os.close(place)
