"""Names that MONAI Label imports from torchvision.utils."""

from __future__ import annotations

from typing import NoReturn


def make_grid(*_: object, **__: object) -> NoReturn:
    """Not there: nothing in this app draws with torchvision."""
    raise NotImplementedError("torchvision is not installed beside this server")


save_image = make_grid
