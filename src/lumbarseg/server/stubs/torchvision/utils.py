"""Names that MONAI Label imports from torchvision.utils."""

from __future__ import annotations

from typing import NoReturn


def make_grid(*_: object, **__: object) -> NoReturn:
    """Raise NotImplementedError: this app does not use torchvision."""
    raise NotImplementedError("torchvision is not installed beside this server")


save_image = make_grid
