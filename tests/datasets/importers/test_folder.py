from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests import sets

from lumbarseg import files
from lumbarseg.anatomy import CLASSES, LUMBAR, STRUCTURES, Kind, by_name, classes_of
from lumbarseg.cli import importing
from lumbarseg.datasets import Dataset, read_case
from lumbarseg.datasets.folder import table_from
from lumbarseg.datasets.importers.folder import PRESETS, import_folder
from lumbarseg.errors import DatasetError


def pairs(folder: Path, names: list[str], values: int = 4) -> Path:
    folder.mkdir()
    for seed, name in enumerate(names):
        image, labels = sets.exam(seed, values, shape=(3, 16, 24))
        files.write_image(image, folder / f"{name}_image.nii.gz")
        files.write_labels(labels, folder / f"{name}_labels.nii.gz")
    return folder


def test_pairs_become_cases_with_source_and_licence(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["7_t1", "7_t2", "8_t2"])
    dataset = import_folder(source, tmp_path / "out", "spider_space", "CC BY 4.0", "SPIDER 2024")
    assert dataset.table == PRESETS["spider_space"]
    cases = Dataset.open(tmp_path / "out").cases()
    assert [(case.name, case.patient) for case in cases] == [("7_t1", "7"), ("7_t2", "7"), ("8_t2", "8")]
    assert {(case.licence, case.source) for case in cases} == {("CC BY 4.0", "SPIDER 2024")}
    for seed, case in enumerate(cases):
        image, labels = read_case(case)
        expected = sets.exam(seed, 4, shape=(3, 16, 24))
        np.testing.assert_array_equal(labels.array, expected[1].array)
        assert image.grid.same_as(expected[0].grid)


def test_every_nth_patient_is_held_out_with_all_exams(tmp_path: Path) -> None:
    names = [f"{patient:02d}_{exam}" for patient in range(7) for exam in ("a", "b")]
    source = pairs(tmp_path / "in", names)
    dataset = import_folder(source, tmp_path / "out", "spider_space", held_out=3)
    assert {case.patient for case in dataset.cases("val")} == {"02", "05"}
    assert len(dataset.cases("val")) == 4
    everything = import_folder(source, tmp_path / "all", "spider_space", held_out=0)
    assert len(everything.cases("train")) == 14


def test_a_table_may_come_from_a_file(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["1"], values=2)
    table = tmp_path / "table.json"
    table.write_text(json.dumps({"0": ["unknown"], "1": ["L4-L5", "sacrum"]}))
    assert import_folder(source, tmp_path / "out", table).table == {0: ("unknown",), 1: ("L4-L5", "sacrum")}


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    source = pairs(tmp_path / "in", ["1", "2"])
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    for table, told in (("spyder", "neither a label table's file nor one of"), (bad, "no JSON")):
        with pytest.raises(DatasetError, match=told):
            import_folder(source, tmp_path / "out", table)
    with pytest.raises(DatasetError, match="holds the value 2"):
        import_folder(source, tmp_path / "few", {0: ("background",), 1: ("body",)})
    assert not (tmp_path / "few" / "dataset.json").exists()
    import_folder(source, tmp_path / "few", "spider_space")  # what was left behind is in nobody's way
    (source / "2_labels.nii.gz").unlink()
    with pytest.raises(DatasetError, match=r"2_labels\.nii\.gz: missing"):
        import_folder(source, tmp_path / "other", "spider_space")
    with pytest.raises(DatasetError, match="holds no file that ends in"):
        import_folder(tmp_path, tmp_path / "none", "spider_space")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid_tables(name: str) -> None:
    assert table_from({str(v): list(names) for v, names in PRESETS[name].items()}, name) == dict(
        sorted(PRESETS[name].items())
    )


def test_the_command_knows_every_preset() -> None:
    assert set(importing.PRESETS) == set(PRESETS)


def test_presets_mean_what_their_sources_drew() -> None:
    default, space, slices = PRESETS["default"], PRESETS["spider_space"], PRESETS["spider_t2"]
    assert {value: names[0] for value, names in default.items() if value} == {s.label: s.name for s in STRUCTURES}
    undrawn = frozenset({Kind.BACKGROUND, Kind.SACRUM})
    whole = frozenset({Kind.BODY, Kind.ARCH})
    for table in (space, slices):
        assert classes_of(table[0]) == undrawn
        assert frozenset(CLASSES) not in map(classes_of, table.values())
    assert {classes_of(slices[by_name(level).label]) for level in LUMBAR} == {whole}
    assert [classes_of(space[value]) for value in (1, 2, 3)] == [whole, {Kind.DISC}, {Kind.CANAL}]
