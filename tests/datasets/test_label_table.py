from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from tests import sets

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.datasets import create_dataset, write_case_files
from lumbarseg.datasets.importers.khalil import LABEL_TABLE
from lumbarseg.datasets.label_table import label_structures


def test_a_structure_keeps_its_name_colour_and_code_under_any_value() -> None:
    (row,) = label_structures({0: ("background",), 7: ("L4",)})
    assert (row.label, row.name, row.colour, row.code) == (
        7,
        "L4",
        structure_by_name("L4").colour,
        structure_by_name("L4").code,
    )
    assert {row.name for row in label_structures(LABEL_TABLE)} == {
        names[0] for value, names in LABEL_TABLE.items() if value
    }


def test_names_of_sets_kinds_and_the_unknown() -> None:
    table = {
        0: ("background",),
        1: ("L4", "L4 arch"),
        2: ("disc",),
        3: ("unknown",),
        4: ("body", "arch"),
        5: ("background",),
    }
    rows = {row.label: row for row in label_structures(table)}
    assert [rows[value].name for value in (1, 2, 3, 4, 5)] == [
        "L4 or L4 arch", "disc", "unknown", "body or arch", "background",
    ]  # fmt: skip
    assert rows[1].colour == structure_by_name("L4").colour
    assert rows[2].kind is Kind.DISC
    assert all(not row.code for row in rows.values())


def test_the_header_names_the_same_structures_as_the_table(tmp_path: Path) -> None:
    dataset = create_dataset(tmp_path / "set", "mine", sets.TABLE)
    case = write_case_files(dataset, "a", *sets.exam(1), {})
    message = b"".join(bytes(e.get_content()) for e in nib.load(case.labels).header.extensions).decode()
    for value, names in sets.TABLE.items():
        assert (f'Label Key="{value}"' in message) == (value > 0)
        assert (f"[{names[0]}]" in message) == (value > 0)
    assert not any(f"[{s.name}]" in message for s in STRUCTURES if s.name not in ("canal", "sacrum"))


def test_whole_numbers_are_stored_in_two_bytes_and_others_as_they_are(tmp_path: Path) -> None:
    dataset = create_dataset(tmp_path / "set", "mine", sets.TABLE)
    image, labels = sets.exam(1)
    complete = type(image)(np.rint(image.array), image.affine)
    large = type(image)(complete.array + 40_000, image.affine)
    for name, volume, kind in (("whole", complete, "int16"), ("real", image, "float32"), ("large", large, "float32")):
        stored = nib.load(write_case_files(dataset, name, volume, labels, {}).image)
        assert stored.get_data_dtype() == kind
        np.testing.assert_array_equal(np.asarray(stored.dataobj), volume.array)
