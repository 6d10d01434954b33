"""Write label descriptions of ITK-SNAP: names and colours of the values of a label map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lumbarseg.anatomy import RGB

from .file_access import atomic_write

_HEAD = """\
################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# value, red, green, blue (0-255), opacity (0-1), visible in slices, visible in 3-D (0 or 1), name
################################################
"""


def write_label_descriptions(rows: Sequence[tuple[int, str, RGB]], path: Path) -> None:
    """Write (value, name, colour) rows in the format of ITK-SNAP's Segmentation > Import Label Descriptions."""
    lines = ['    0     0    0    0        0  0  0    "Clear Label"']
    for value, name, (red, green, blue) in rows:
        lines.append(f'{value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{name}"')
    with atomic_write(path) as file:
        file.write((_HEAD + "\n".join(lines) + "\n").encode())
