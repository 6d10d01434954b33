"""Raw folders of nnU-Net and tasks of the Decathlon."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import sets
from tests.datasets.layouts import msd
from tests.datasets.layouts import nnunet as layout
from tests.datasets.layouts.exam import SyntheticExam
from tests.datasets.small_phantoms import exam

from lumbarseg import io
from lumbarseg.anatomy import structure_by_name
from lumbarseg.datasets.importers import nnunet
from lumbarseg.datasets.importers.nnunet import label_table_from_names
from lumbarseg.datasets.importing import import_source
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .layout_round_trip import disagreement, import_layout

SHAPE = (3, 16, 24)
ANY = Path("dataset.json")


@cache
def phantoms() -> tuple[SyntheticExam, ...]:
    return tuple(exam(number, seed=9, bodies=6) for number in range(2))


def raw_folder(folder: Path, labels: dict[str, Any], names: tuple[str, ...] = ("a", "b"), **more: Any) -> Path:
    """A raw folder of blobs with values 0 to 3."""
    for seed, name in enumerate(names):
        image, mask = sets.exam(seed, 4, SHAPE)
        io.write_image(image, folder / "imagesTr" / f"{name}_0000.nii.gz")
        io.write_labels(mask, folder / "labelsTr" / f"{name}.nii.gz", ())
    message = {"channel_names": {"0": "T2"}, "labels": labels, "file_ending": ".nii.gz", **more}
    (folder / "dataset.json").write_text(json.dumps(message))
    return folder


LABELS = {"background": 0, "vertebrae": 1, "discs": 2, "canal": 3}


def test_a_round_trip_gives_the_truth_in_every_voxel(tmp_path: Path) -> None:
    saved = layout.write(tmp_path, iter(phantoms()), np.random.default_rng(0), True)
    importer = nnunet.make_importer(tmp_path)
    round_trip = import_layout(layout, importer, tmp_path, phantoms(), with_faults=True)
    assert round_trip.reported == round_trip.expected == {(phantoms()[1].name, "label-header")} and len(saved) == 1
    for one in phantoms():
        labels, truth = (reorient(v, "RAS").array for v in (round_trip.loaded[one.name].labels, one.labels))
        ignored = labels == layout.LABELS["ignore"]
        assert not (disagreement(round_trip.loaded[one.name], one.labels, importer.label_table) & ~ignored).any()
        assert not np.isin(truth[ignored], [0, *(structure_by_name(name).label for name in layout.NAMES)]).any()
    assert importer.label_table[layout.LABELS["L3 arch"]] == ("L3 arch",)
    assert importer.label_table[layout.LABELS["ignore"]] == ("unknown",)


def test_a_round_trip_of_the_decathlon(tmp_path: Path) -> None:
    msd.write(tmp_path, iter(phantoms()), np.random.default_rng(0), True)
    importer = nnunet.make_importer(tmp_path)
    round_trip = import_layout(msd, importer, tmp_path, phantoms(), with_faults=True)
    assert not round_trip.reported
    assert importer.label_table == {
        0: ("background",),
        1: ("body",),
        2: ("arch",),
        3: ("disc",),
        4: ("sacrum",),
        5: ("canal",),
    }
    for one in phantoms():
        assert not disagreement(round_trip.loaded[one.name], one.labels, importer.label_table).any()
        np.testing.assert_array_equal(round_trip.loaded[one.name].labels.array > 0, one.labels.array > 0)


def test_regions_are_read_as_what_they_have_in_common() -> None:
    labels = {"background": 0, "vertebrae": [1, 2], "vertebral bodies": 2, "discs": 3}
    table, notes = label_table_from_names(labels, ANY)
    assert table == {0: ("background", "canal", "sacrum"), 1: ("arch",), 2: ("body",), 3: ("disc",)}
    assert not notes


def test_what_no_name_draws_is_in_the_row_of_zero() -> None:
    table, _ = label_table_from_names({"background": 0, "vertebrae L4": 1, "vertebrae L5": 2, "spinal cord": 3}, ANY)
    assert {"disc", "sacrum", "canal", "L3", "L3 arch"} <= set(table[0])
    assert not {"L4", "L5 arch", "L6"} & set(table[0])


def test_a_bare_level_is_a_body_only_where_arches_have_names() -> None:
    table, notes = label_table_from_names({"background": 0, "L5": 1}, ANY)
    assert table[1] == ("L5", "L5 arch") and "arch" in table[0]
    assert notes == ("bare-level: L5",)
    table, notes = label_table_from_names({"background": 0, "L5": 1, "posterior elements": 2}, ANY)
    assert table[1] == ("L5",) and not notes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "thing": 1}, "'thing' is no known structure; explain the values with --table"),
        ({"background": 0, "L5": 300}, "300 is no value from 0 to 255"),
        ({"background": 0, "L5": "one"}, "'one' is no value"),
        ({"background": 0, "discs": [1, 2], "canal": [1]}, "no structure is in all regions of the value 1"),
        ([], "labels: must be a table"),
    ],
)
def test_names_that_cannot_be_used(labels: Any, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        label_table_from_names(labels, ANY)


def test_a_table_takes_the_place_of_names(tmp_path: Path) -> None:
    folder = raw_folder(tmp_path / "in", {"background": 0, "thing": 1})
    (tmp_path / "t.json").write_text(json.dumps({str(v): ["disc"] for v in range(1, 4)} | {"0": ["background"]}))
    done = import_source(nnunet.make_importer(folder, tmp_path / "t.json"), folder, tmp_path / "out", jobs=1)
    assert len(done.added) == 2 and done.dataset.label_table[1] == ("disc",)


def test_good_cases_are_imported_and_others_reported(tmp_path: Path) -> None:
    folder = raw_folder(
        tmp_path / "Dataset001_X", LABELS, ("good", "half", "alone", "strange", "broken", "p1_a", "p1_b")
    )
    (folder / "labelsTr" / "half.nii.gz").unlink()
    (folder / "imagesTr" / "alone_0000.nii.gz").unlink()
    (folder / "imagesTr" / "broken_0000.nii.gz").write_bytes(b"\x1f\x8b\x00")
    image, labels = sets.exam(3, 4, SHAPE)
    io.write_labels(Volume(labels.array + np.uint8(1), labels.affine), folder / "labelsTr" / "strange.nii.gz", ())
    for name in ("t1", "t2"):
        io.write_image(image, folder / "imagesTs" / f"{name}_0000.nii.gz")
    io.write_labels(labels, folder / "labelsTs" / "t2.nii.gz", ())
    done = import_source(
        nnunet.make_importer(tmp_path, patient="^[^_]+"), tmp_path, tmp_path / "out", jobs=1, val_fraction=0.0
    )
    assert set(done.added) == {"good", "p1_a", "p1_b", "t2"}
    assert {case.name: case.split for case in done.dataset.cases()}["t2"] == "test"
    assert {case.patient for case in done.dataset.cases() if case.name.startswith("p1")} == {"p1"}
    message = {
        "half": "its labels are missing: labelsTr/half.nii.gz",
        "alone": "its image is missing: imagesTr/alone_0000.nii.gz",
        "strange": "holds the value 4, which the label table does not explain; dataset.json has no label",
        "broken": "broken_0000.nii.gz",
        "imagesTs": "1 exams without reference labels left out",
    }
    assert set(done.refused) == set(message)
    for name, text in message.items():
        assert text in done.refused[name]


def test_of_several_channels_the_first_t2_is_read(tmp_path: Path) -> None:
    channels = {"0": "T1", "1": "T2 TSE", "2": "fat"}
    folder = raw_folder(tmp_path / "in", LABELS, ("a",), channel_names=channels)
    image = sets.exam(0, 4, SHAPE)[0]
    for channel in (1, 2):
        io.write_image(Volume(image.array + channel, image.affine), folder / "imagesTr" / f"a_000{channel}.nii.gz")
    for expected_value, channel in (("", 1), ("fat", 2), ("0", 0)):
        importer = nnunet.make_importer(folder, channel=expected_value)
        (raw,) = importer.list_cases(folder).cases
        np.testing.assert_allclose(importer.load_case(raw).image.array, image.array + channel, rtol=1e-6)
    with pytest.raises(DatasetError, match="no channel STIR; choose one of 0 T1, 1 T2 TSE, 2 fat"):
        nnunet.make_importer(folder, channel="STIR")


def test_channels_of_the_decathlon_lie_in_one_file(tmp_path: Path) -> None:
    import nibabel

    folder = raw_folder(tmp_path / "in", {"0": "background", "1": "vertebrae", "2": "discs", "3": "canal"}, ("a",))
    image = sets.exam(0, 4, SHAPE)[0]
    both = np.stack([image.array, image.array + 7], axis=3)
    nibabel.save(nibabel.Nifti1Image(both, image.affine), folder / "imagesTr" / "a.nii.gz")
    message = json.loads((folder / "dataset.json").read_text()) | {
        "modality": {"0": "T1", "1": "T2"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/x.nii.gz"],
    }
    del message["channel_names"]
    (folder / "dataset.json").write_text(json.dumps(message))
    importer = nnunet.make_importer(folder)
    result = importer.list_cases(folder)
    assert result.refused == (("imagesTs", "1 exams without reference labels left out"),)
    np.testing.assert_allclose(importer.load_case(result.cases[0]).image.array, image.array + 7, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "labels: must be a table"),
        ({"file_ending": ".png"}, r"\.png is no format of volumes"),
        ({"channel_names": ["T2"]}, "channel_names: must be a table"),
        ({"training": [{"image": "a"}]}, "every row needs an image and a label"),
        ({"training": [{"image": "../a.nii", "label": "b.nii"}]}, "must be a path inside the folder"),
        ({"training": [{"image": "a.nii", "label": "/etc/passwd"}]}, "must be a path inside the folder"),
    ],
)
def test_a_wrong_dataset_json_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = raw_folder(tmp_path / "in", LABELS, ("a",))
    values = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(values | change))
    with pytest.raises(DatasetError, match=message):
        nnunet.make_importer(folder)


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no dataset\.json"):
        nnunet.make_importer(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "dataset.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"must hold one JSON object"):
        nnunet.make_importer(tmp_path)
    (tmp_path / "a" / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match="not JSON"):
        nnunet.make_importer(tmp_path)
    empty = raw_folder(tmp_path / "b", LABELS, ()) if (tmp_path / "b").mkdir() is None else tmp_path
    with pytest.raises(DatasetError, match="no pair of image and labels"):
        nnunet.make_importer(empty).list_cases(empty)
