"""The engine of imports, on pairs of blobs: what is kept, what is refused, and what is left alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests import sets
from tests.conftest import ROOT
from tests.datasets import pair_importer

from lumbarseg import io
from lumbarseg.datasets import Dataset, create_dataset, read_case, write_case
from lumbarseg.datasets.importing import import_source
from lumbarseg.datasets.writing import exclusive_folder
from lumbarseg.errors import DatasetError, FileError
from lumbarseg.volume import Volume

NAMES = ["a-1", "a-2", "b-1", "c-1", "d-1-tilted"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pair_importer.write(tmp_path / "source", NAMES)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_cases_have_the_metadata_of_their_source(source: Path, tmp_path: Path) -> None:
    message: list[tuple[str, int]] = []
    done = import_source(
        pair_importer.IMPORTER, source, tmp_path / "out", jobs=1, on_case_done=lambda *args: message.append(args)
    )
    assert done.added == tuple(NAMES)
    assert (done.unchanged, done.refused) == ((), {})
    assert message == [(name, 5) for name in NAMES]
    assert done.cases_by_fault() == {"tilted": ["d-1-tilted"]}
    for seed, case in enumerate(done.dataset.cases()):
        image, labels = read_case(case)
        expected = sets.exam(seed, shape=(3, 16, 24))
        np.testing.assert_allclose(image.array, expected[0].array, rtol=1e-5)
        np.testing.assert_array_equal(labels.array, expected[1].array)
        assert (case.patient, case.contrast, case.licence) == (case.name[0], "T2", "CC BY 4.0")
        assert case.metadata["age"] == 40
        assert set(case.metadata["imported"]["files"]) == {f"{case.name}.nii.gz", f"{case.name}_labels.nii.gz"}


def test_many_processes_make_the_same_files_as_one(source: Path, tmp_path: Path) -> None:
    import_source(pair_importer.IMPORTER, source, tmp_path / "one" / "set", jobs=1)
    import_source(pair_importer.IMPORTER, source, tmp_path / "two" / "set", jobs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_importing_again_changes_nothing(source: Path, tmp_path: Path) -> None:
    (source / "b-1_labels.nii.gz").unlink()
    first = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1)
    before, stamps = contents(tmp_path / "out"), times(tmp_path / "out")
    repeated = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1, seed=5)
    assert (repeated.added, repeated.unchanged, repeated.refused) == ((), first.added, first.refused)
    assert contents(tmp_path / "out") == before
    assert times(tmp_path / "out") == stamps


def test_new_cases_come_to_the_old_ones_and_patients_stay_in_their_split(source: Path, tmp_path: Path) -> None:
    first = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1, seed=3, val_fraction=0.5)
    stamps = times(tmp_path / "out" / "images")
    old = {case.name: case for case in first.dataset.cases()}
    pair_importer.write(source / "more", [f"{patient}-3" for patient in "abcdefgh"])
    grown = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1, seed=4, val_fraction=0.5)
    assert grown.unchanged == tuple(NAMES)
    assert len(grown.added) == 8
    assert times(tmp_path / "out" / "images").items() >= stamps.items()
    assert {case.name: case for case in grown.dataset.cases() if case.name in old} == old
    splits: dict[str, set[str]] = {}
    for case in grown.dataset.cases():
        splits.setdefault(case.patient, set()).add(case.split)
    assert all(len(result) == 1 for result in splits.values())
    assert {"train", "val"} == set().union(*splits.values())


def test_a_changed_source_is_reported_and_its_case_unchanged(source: Path, tmp_path: Path) -> None:
    import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1)
    before = contents(tmp_path / "out")
    pair_importer.write(source, ["c-1"])
    done = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1)
    assert list(done.refused) == ["c-1"]
    assert done.refused["c-1"].startswith("c-1.nii.gz: changed since the import")
    assert contents(tmp_path / "out") == before


def test_bad_cases_are_refused_one_by_one_and_remembered(source: Path, tmp_path: Path) -> None:
    pair_importer.write(tmp_path / "elsewhere", ["far"])
    (source / "b-1.nii.gz").write_bytes((source / "b-1.nii.gz").read_bytes()[:200])  # cut short
    (source / "c-1_labels.nii.gz").unlink()  # half a pair
    shutil.copytree(source, source / "copy", ignore=lambda _, names: [n for n in names if not n.startswith("a-2")])
    image, labels = sets.exam(1, shape=(3, 16, 24))
    io.write_image(image, source / "e-1.nii.gz")
    io.write_labels(Volume(labels.array + np.uint8(100), labels.affine), source / "e-1_labels.nii.gz", ())
    io.write_image(image, source / "f-1.nii.gz")
    io.write_labels(Volume(labels.array[:, :8], labels.affine), source / "f-1_labels.nii.gz", ())
    for part in ("", "_labels"):
        (source / f"g-1{part}.nii.gz").symlink_to(tmp_path / "elsewhere" / f"far{part}.nii.gz")
    (source / "linked").symlink_to(tmp_path / "elsewhere")
    done = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=2)
    assert done.added == ("a-1", "d-1-tilted")
    assert set(done.refused) == {"a-2", "b-1", "c-1", "e-1", "f-1", "g-1", "linked"}
    for name, message in {
        "a-2": "a-2.nii.gz and copy/a-2.nii.gz: two exams under one name",
        "b-1": "b-1.nii.gz: truncated",
        "c-1": "c-1_labels.nii.gz: missing",
        "e-1": "holds the values 100, 102, 103, 104, 105, which the label table does not explain",
        "f-1": "different grids",
        "g-1": "g-1.nii.gz: a link that leads out of the source",
        "linked": "a folder that is a link and leads out of the source",
    }.items():
        assert message in done.refused[name]
        assert "\n" not in done.refused[name]
        assert str(tmp_path / "source") not in done.refused[name]
    assert Dataset.open(tmp_path / "out").refused == done.refused
    shutil.rmtree(source / "copy")
    repaired = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1)
    assert repaired.added == ("a-2",)
    assert "a-2" not in repaired.dataset.refused


def test_links_within_the_source_are_followed(source: Path, tmp_path: Path) -> None:
    for part in ("", "_labels"):
        (source / f"z-1{part}.nii.gz").symlink_to(f"a-1{part}.nii.gz")
    assert "z-1" in import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1).added


def test_folders_that_do_not_fit_are_one_line(source: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong, message in (("empty", "no pairs NAME"), ("gone", "no folder")):
        with pytest.raises(DatasetError, match=message):
            import_source(pair_importer.IMPORTER, tmp_path / wrong, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    create_dataset(tmp_path / "other", "other", {0: ["background"], 1: ["disc"]})
    image, labels = sets.exam(1)
    write_case(tmp_path / "other", "b-1", image, Volume(np.minimum(labels.array, 1), labels.affine), {})
    with pytest.raises(DatasetError, match="another label table"):
        import_source(pair_importer.IMPORTER, source, tmp_path / "other")
    create_dataset(tmp_path / "mine", "mine", sets.TABLE)
    write_case(tmp_path / "mine", "a-1", *sets.exam(1), {})
    done = import_source(pair_importer.IMPORTER, source, tmp_path / "mine", jobs=1)
    assert "from another source" in done.refused["a-1"]
    with exclusive_folder(tmp_path / "mine"), pytest.raises(DatasetError, match="is writing here"):
        import_source(pair_importer.IMPORTER, source, tmp_path / "mine")


def test_a_dataset_without_cases_takes_another_label_table(source: Path, tmp_path: Path) -> None:
    create_dataset(tmp_path / "out", "out", {0: ["background"]})  # left by an import that refused all cases
    done = import_source(pair_importer.IMPORTER, source, tmp_path / "out", jobs=1)
    assert done.added
    assert done.dataset.label_table == dict(sorted(pair_importer.IMPORTER.label_table.items()))


def start_import(code: str, source: Path, target: Path, **how: object) -> subprocess.Popen[str]:
    text = (
        "import sys; from tests.datasets import pair_importer; from lumbarseg.datasets import importing, writing\n"
        "if __name__ == '__main__':\n"
        f"    writing._SAVE_INTERVAL = 0.0\n    {code}\n"
    )
    script = source.with_name("script.py")
    script.write_text(text)
    path = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    return subprocess.Popen(
        [sys.executable, str(script), str(source), str(target)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,  # type: ignore[call-overload]
    )


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux which processes live")
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT])
def test_an_import_that_is_struck_goes_on_where_it_stopped(blow: signal.Signals, tmp_path: Path) -> None:
    names = [f"p{i:02d}-1" for i in range(40)]  # so many that a busy machine strikes before the last, too
    source = pair_importer.write(tmp_path / "source", names)
    target = tmp_path / "struck" / "set"
    process = start_import("importing.import_source(pair_importer.SLOW, *sys.argv[1:], jobs=2)", source, target)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (target / "dataset.json").exists() and len(Dataset.open(target).cases()) >= 3:
            break
        time.sleep(0.05)
    process.send_signal(blow)
    out, _ = process.communicate(timeout=60)
    workers = {int(line) for line in out.split()}
    assert len(workers) == 2
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, workers))
    done = import_source(pair_importer.IMPORTER, source, target, jobs=1)
    assert 3 <= len(done.unchanged) < len(names)
    assert set(done.added) | set(done.unchanged) == set(names)
    import_source(pair_importer.IMPORTER, source, tmp_path / "whole" / "set", jobs=1)
    assert contents(tmp_path / "struck") == contents(tmp_path / "whole")


def test_what_is_done_is_kept_when_the_disk_takes_no_more(source: Path, tmp_path: Path) -> None:
    import resource

    pair_importer.write(source, ["c-1"], shape=(60, 128, 128))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    target = tmp_path / "out"
    process = start_import(
        "importing.import_source(pair_importer.IMPORTER, *sys.argv[1:], jobs=1)", source, target, preexec_fn=limit
    )
    _, error = process.communicate(timeout=60)
    assert "c-1.nii.gz: cannot be written: the file would be larger than the system allows" in error
    assert FileError.__name__ in error.splitlines()[-1]
    assert [case.name for case in Dataset.open(target).cases()] == ["a-1", "a-2", "b-1"]
    assert not list(target.rglob("*.part"))
    assert json.loads((target / "dataset.json").read_text()).get("refused") is None
    assert import_source(pair_importer.IMPORTER, source, target, jobs=1).added == ("c-1", "d-1-tilted")
