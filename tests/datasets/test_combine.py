from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests import sets

from lumbarseg.datasets import Dataset, add_cases, create_dataset, read_case, write_case, write_case_files
from lumbarseg.datasets.combine import CombineSettings, combine_datasets
from lumbarseg.datasets.combined_table import normalize_names
from lumbarseg.datasets.dataset import verify_checksums
from lumbarseg.datasets.selection import Selection
from lumbarseg.datasets.splits import SplitSettings, patients_in_several_splits
from lumbarseg.errors import DatasetError, FileError
from lumbarseg.metrics.case_scores import score_case

LEVELS = {0: ("background", "L3", "arch"), 1: ("L1",), 2: ("L2", "L2 arch"), 3: ("L1-L2",)}
TABLES = {"kinds": sets.TABLE, "whole": sets.COMPLETE_VERTEBRAE, "levels": LEVELS}


@pytest.fixture
def three(tmp_path: Path) -> list[Dataset]:
    return [
        sets.write(tmp_path / name, train=2, val=1, table=table, seed=i)
        for i, (name, table) in enumerate(TABLES.items())
    ]


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_voxel_keeps_its_meaning(three: list[Dataset], tmp_path: Path) -> None:
    before = [state(dataset.folder) for dataset in three]
    done = combine_datasets(three, tmp_path / "all", jobs=1)
    assert [state(dataset.folder) for dataset in three] == before
    assert (len(done.added), done.unchanged, done.refused) == (9, (), {})
    union = Dataset.open(tmp_path / "all")
    assert union == done.dataset
    assert {case.name for case in union.cases()} == {f"{name}-case-{i}" for name in TABLES for i in range(3)}
    for dataset in three:
        for source in dataset.cases():
            (case,) = (c for c in union.cases() if c.name == f"{dataset.name}-{source.name}")
            verify_checksums(case)
            assert case.image.read_bytes() == source.image.read_bytes()
            assert (case.patient, case.split) == (f"{dataset.name}/{source.patient}", source.split)
            assert (case.source, case.licence) == (source.source, source.licence)
            assert case.metadata["combined"]["dataset"] == dataset.name
            (_, new), (_, old) = read_case(case), read_case(source)
            assert new.grid.same_as(old.grid)
            pairs = np.unique(np.stack([old.array.ravel(), new.array.ravel()]), axis=1).T
            assert [normalize_names(source.label_table[o]) for o, _ in pairs] == [
                normalize_names(case.label_table[n]) for _, n in pairs
            ]
            assert sum(case.voxel_counts.values()) == new.array.size


def test_a_structure_has_its_own_value_and_the_rest_stays_unknown(three: list[Dataset], tmp_path: Path) -> None:
    union = combine_datasets(three, tmp_path / "all", jobs=1).dataset
    assert union.label_table[0] == ("background",)
    assert {union.label_table[1], union.label_table[6], union.label_table[102], union.label_table[255]} == {
        ("L1",),
        ("L1-L2",),
        ("L2", "L2 arch"),
        ("unknown",),
    }
    rows = {case.name.partition("-")[0]: case.label_table[0] for case in union.cases()}
    assert rows == {
        "kinds": ("background",),
        "whole": ("background", "sacrum"),
        "levels": ("background", "arch", "L3"),
    }


def test_a_case_has_the_same_scores_after_combining(three: list[Dataset], tmp_path: Path) -> None:
    union = combine_datasets(three, tmp_path / "all", jobs=1).dataset
    rng = np.random.default_rng(0)
    for dataset in three:
        source = dataset.cases()[0]
        case = next(c for c in union.cases() if c.name == f"{dataset.name}-{source.name}")
        (image, new), (_, old) = read_case(case), read_case(source)
        result = rng.choice([0, 1, 2, 6, 9, 12, 51], old.array.shape).astype(np.uint8)
        before = score_case(result, old.array, source.label_table, image.grid.spacing)
        after = score_case(result, new.array, case.label_table, image.grid.spacing)
        for kind in ("structures", "instances"):
            assert sorted(map(str, after[kind])) == sorted(map(str, before[kind]))
        assert after["names_right"] == before["names_right"]


def test_combining_twice_changes_nothing(three: list[Dataset], tmp_path: Path) -> None:
    combine_datasets(three, tmp_path / "all", jobs=1)
    before = state(tmp_path / "all")
    done = combine_datasets(three, tmp_path / "all", jobs=1)
    assert (done.added, len(done.unchanged)) == ((), 9)
    assert state(tmp_path / "all") == before


def test_one_more_dataset_leaves_the_files_of_the_others(three: list[Dataset], tmp_path: Path) -> None:
    first = combine_datasets(three[:1], tmp_path / "all", jobs=1)
    assert first.added == ("case-0", "case-1", "case-2")
    before = {path: remaining for path, remaining in state(tmp_path / "all").items() if path.endswith(".gz")}
    done = combine_datasets(three, tmp_path / "all", jobs=1)
    assert set(done.unchanged) == {"case-0", "case-1", "case-2"}
    assert len(done.added) == 6
    assert before.items() <= state(tmp_path / "all").items()


def test_what_was_interrupted_goes_on(three: list[Dataset], tmp_path: Path) -> None:
    def stop(name: str, total: int) -> None:
        if name.endswith("case-1"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        combine_datasets(three, tmp_path / "all", jobs=1, on_case_done=stop)
    (tmp_path / "all" / "labels" / ".lumbarseg-0.part").write_bytes(b"half")
    assert len(Dataset.open(tmp_path / "all").cases()) == 2
    done = combine_datasets(three, tmp_path / "all", jobs=1)
    assert (len(done.unchanged), len(done.added)) == (2, 7)
    assert not list((tmp_path / "all").rglob("*.part"))
    complete = combine_datasets(three, tmp_path / "again", jobs=2).dataset
    assert [replace(c, image=Path(), labels=Path()) for c in complete.cases()] == [
        replace(c, image=Path(), labels=Path()) for c in done.dataset.cases()
    ]


def test_a_case_that_changed_is_made_again_and_a_broken_one_refused(three: list[Dataset], tmp_path: Path) -> None:
    combine_datasets(three, tmp_path / "all", jobs=1)
    add_cases(three[0].folder, [write_case_files(three[0], "case-0", *sets.exam(77), {"patient": "p0"})])
    broken = three[1].cases()[0].labels
    broken.write_bytes(broken.read_bytes()[:-20])
    repeated = combine_datasets([Dataset.open(d.folder) for d in three], tmp_path / "all", jobs=1)
    assert repeated.added == ("kinds-case-0",)
    assert len(repeated.unchanged) == 8
    fresh = combine_datasets([Dataset.open(d.folder) for d in three], tmp_path / "fresh", jobs=1)
    assert list(fresh.refused) == ["whole-case-0"]
    assert fresh.refused["whole-case-0"].startswith(f"{broken}: changed since it was written")
    assert len(fresh.added) == 8
    assert fresh.dataset.refused == fresh.refused


def test_images_are_shared_or_copied(three: list[Dataset], tmp_path: Path) -> None:
    source = three[0].cases()[0].image
    linked = combine_datasets(three[:1], tmp_path / "linked", jobs=1).dataset.cases()[0].image
    copied = (
        combine_datasets(three[:1], tmp_path / "copied", CombineSettings(copy_images=True), jobs=1)
        .dataset.cases()[0]
        .image
    )
    assert linked.samefile(source)
    assert not copied.samefile(source)
    assert copied.read_bytes() == source.read_bytes()
    assert not list(tmp_path.rglob("*.part"))


def test_patients_are_apart_unless_they_are_the_same(three: list[Dataset], tmp_path: Path) -> None:
    splitting = SplitSettings(seed=1, val_fraction=0.4)
    apart = combine_datasets(
        three, tmp_path / "apart", CombineSettings(split_settings=splitting), jobs=1
    ).dataset.cases()
    assert len({case.patient for case in apart}) == 9
    same = combine_datasets(
        three, tmp_path / "same", CombineSettings(split_settings=splitting, same_patients=True), jobs=1
    ).dataset.cases()
    assert {case.patient for case in same} == {"p0", "p1", "p2"}
    assert not patients_in_several_splits(same)


def test_the_same_patient_in_two_splits_is_refused(three: list[Dataset], tmp_path: Path) -> None:
    write_case(three[1].folder, "more", *sets.exam(5, 4), {"patient": "p2", "split": "test"})
    datasets = [Dataset.open(dataset.folder) for dataset in three]
    with pytest.raises(DatasetError, match="patient p2 is in the splits test and val; make new splits with --seed"):
        combine_datasets(datasets, tmp_path / "all", CombineSettings(same_patients=True), jobs=1)
    assert not (tmp_path / "all").exists()


def test_folds_are_those_of_each_dataset_alone(three: list[Dataset], tmp_path: Path) -> None:
    splitting = SplitSettings((2, 3), 4)
    union = combine_datasets(three, tmp_path / "all", CombineSettings(split_settings=splitting), jobs=1).dataset
    for dataset in three:
        for case in splitting.assign(dataset.cases()):
            assert next(c for c in union.cases() if c.name == f"{dataset.name}-{case.name}").split == case.split


def test_subsets_are_combined(three: list[Dataset], tmp_path: Path) -> None:
    expected = CombineSettings(Selection(structures=("disc",), split="train"))
    union = combine_datasets(three, tmp_path / "all", expected, jobs=1).dataset
    assert {case.split for case in union.cases()} == {"train"}
    with pytest.raises(DatasetError, match="no case with sacrum or L5"):
        combine_datasets(three[2:], tmp_path / "none", CombineSettings(Selection(structures=("sacrum L5",))), jobs=1)


def test_what_cannot_be_one_is_refused(three: list[Dataset], tmp_path: Path) -> None:
    target = tmp_path / "all"
    first, second, _ = three
    for datasets, folder_root, message in (
        ([], target, "no dataset to combine"),
        ([first, Dataset.open(first.folder)], target, "given twice"),
        ([first, second], second.folder, "is one of the datasets to combine"),
        ([first, second], three[2].folder, "holds case-0, which is not in this combination"),
    ):
        with pytest.raises(DatasetError, match=message) as caught:
            combine_datasets(datasets, folder_root, jobs=1)
        assert "\n" not in str(caught.value)
    combine_datasets(three, target, jobs=1)
    with pytest.raises(DatasetError, match="holds levels-case-0, which is not in this combination"):
        combine_datasets(three[:2], target, jobs=1)


def test_datasets_of_one_name_go_by_their_folders(tmp_path: Path) -> None:
    datasets = [sets.write(tmp_path / folder_root / "data", train=1, val=0) for folder_root in ("a", "b")]
    union = combine_datasets(datasets, tmp_path / "all", jobs=1).dataset
    assert [case.name for case in union.cases()] == ["a-data-case-0", "b-data-case-0"]
    assert [case.patient for case in union.cases()] == ["a-data/p0", "b-data/p0"]


def test_a_target_that_cannot_be_written_stops_it_with_one_line(three: list[Dataset], tmp_path: Path) -> None:
    create_dataset(tmp_path / "all", "all", {0: ("background",)})
    (tmp_path / "all" / "images").write_text("in the way")
    with pytest.raises(FileError, match=r"a file, not a folder|stands where a folder"):
        combine_datasets(three, tmp_path / "all", jobs=1)
    values = json.loads((tmp_path / "all" / "dataset.json").read_text())
    assert values["cases"] == []
