"""`lumbarseg segment` with many exams: finished ones are skipped, and no failure stops the others."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.batch import easy
from tests.executors.local_cluster import start_cluster
from tests.program import ENVIRONMENT, PROGRAM

from lumbarseg.cli.main import main
from lumbarseg.io import read_labels

EXAM_COUNT = 4
_PATH = re.compile(rb"/[\w./-]*/in\b/?")  # of the exams, in reports and tables
SUFFIXES = ("_labels.nii.gz", ".png", "_report.html", "_measurements.csv")


@pytest.fixture(scope="module")
def finished_batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, four exams and their results."""
    folder = tmp_path_factory.mktemp("batch")
    easy.model(folder / "m.onnx")
    easy.exams(folder / "in", EXAM_COUNT)
    assert main(["segment", str(folder / "in"), "-o", str(folder / "out"), "--model", str(folder / "m.onnx")]) == 0
    return folder


@pytest.fixture
def batch_copy(finished_batch: Path, tmp_path: Path) -> Path:
    """A copy of the finished batch that a test may change."""
    return Path(shutil.copytree(finished_batch, tmp_path / "batch"))


def command_line(folder: Path, *options: str) -> list[str]:
    engine = ["--model", str(folder / "m.onnx"), *([] if "--device" in options else ["--device", "cpu"])]
    return ["segment", str(folder / "in"), "-o", str(folder / "out"), *engine, *options]


def run_json(folder: Path, capsys: pytest.CaptureFixture[str], *options: str, code: int = 0) -> list[dict[str, Any]]:
    """Run the command; return the rows of its JSON."""
    capsys.readouterr()
    assert main(command_line(folder, "--json", *options)) == code
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["exams"]
    return rows


def skipped_flags(rows: list[dict[str, Any]]) -> list[bool]:
    return [row["skipped"] for row in rows]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: _PATH.sub(b"in/", path.read_bytes()) for path in sorted((folder / "out").iterdir())}


def labels(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(SUFFIXES)}


def test_finished_exams_are_skipped_with_the_same_rows(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(batch_copy)
    for path in (batch_copy / "in").iterdir():
        os.utime(path)  # content counts, not time
    assert skipped_flags(second_run := run_json(batch_copy, capsys)) == [True] * EXAM_COUNT
    assert contents(batch_copy) == before
    assert skipped_flags(overwritten := run_json(batch_copy, capsys, "--overwrite")) == [False] * EXAM_COUNT
    own = {"skipped": None, "seconds": None}
    assert [row | own for row in overwritten] == [row | own for row in second_run]
    assert labels(batch_copy) == {name: data for name, data in before.items() if name.endswith(SUFFIXES)}


def test_only_changed_exams_are_segmented_again(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = sorted((batch_copy / "in").iterdir())
    first.write_bytes(second.read_bytes())
    (batch_copy / "out" / "e02.png").unlink()
    assert skipped_flags(run_json(batch_copy, capsys)) == [False, True, False, True]
    assert skipped_flags(run_json(batch_copy, capsys)) == [True] * EXAM_COUNT


@pytest.mark.parametrize(
    "options", [["--lowest", "L5"], ["--posterior-elements", "merge"], ["--scheme", "spider"], ["--format", "seg-nrrd"]]
)
def test_other_options_segment_again(options: list[str], batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert skipped_flags(run_json(batch_copy, capsys, *options)) == [False] * EXAM_COUNT
    assert skipped_flags(run_json(batch_copy, capsys, *options)) == [True] * EXAM_COUNT


def test_another_model_segments_again(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy.model(batch_copy / "m.onnx", sharp=150.0)
    assert skipped_flags(run_json(batch_copy, capsys)) == [False] * EXAM_COUNT


def test_a_corrected_label_map_is_kept(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = batch_copy / "out" / "e01_labels.nii.gz"
    shutil.copy(batch_copy / "out" / "e02_labels.nii.gz", path)
    mine = path.read_bytes()
    rows = run_json(batch_copy, capsys, "--lowest", "L4", code=3)
    assert skipped_flags(rows) == [False, True, False, False]
    assert rows[1]["warnings"] == [f"{path}: was changed since it was written, so it is kept; --overwrite replaces it"]
    assert path.read_bytes() == mine
    run_json(batch_copy, capsys, "--overwrite")
    assert path.read_bytes() != mine


def test_a_damaged_report_or_one_without_a_record_is_made_again(
    batch_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (batch_copy / "out" / "e00_report.json").write_text("{")
    report = batch_copy / "out" / "e01_report.json"
    facts = json.loads(report.read_text())
    del facts["record"]
    report.write_text(json.dumps(facts))
    assert skipped_flags(run_json(batch_copy, capsys)) == [False, False, True, True]


def test_json_lines_and_table_have_every_exam(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (batch_copy / "in" / "e01.nii").write_bytes(b"no exam")
    rows = run_json(
        batch_copy, capsys, "--jsonl", str(batch_copy / "log" / "a.jsonl"), "--table", str(batch_copy / "a.csv"), code=1
    )
    lines = [json.loads(line) for line in (batch_copy / "log" / "a.jsonl").read_text().splitlines()]
    assert lines == rows
    with (batch_copy / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["exam"] for row in table] == [row["exam"] for row in rows]
    assert table[0]["levels"] == "L2 L3 L4 L5"
    assert table[0]["skipped"] == "True"
    assert table[0]["labels"] == str(batch_copy / "out" / "e00_labels.nii.gz")
    assert "neither NIfTI" in table[1]["error"]
    assert not table[1]["levels"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
def test_a_log_on_a_full_disk_stops_alone(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(batch_copy, capsys, "--overwrite", "--jsonl", "/dev/full", code=1)
    assert [row["error"] for row in rows] == [None] * EXAM_COUNT
    assert main(command_line(batch_copy, "--jsonl", "/dev/full")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == "lumbarseg: error: /dev/full: cannot be written: the disk is full; make room, or choose another folder"
    )


def test_a_log_that_cannot_be_written_is_one_line(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_line(batch_copy, "--jsonl", str(batch_copy / "in"))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lumbarseg: error: {batch_copy / 'in'}: cannot be written")


@pytest.fixture(params=["--jobs", "--cluster"])
def workers(request: pytest.FixtureRequest) -> Iterator[tuple[list[str], int | None]]:
    """Options for two workers, and the process that they belong to, None for the command's own."""
    if request.param == "--jobs":
        yield ["--jobs", "2"], None
        return
    pytest.importorskip("distributed")
    cluster, address = start_cluster(2)
    yield ["--cluster", address], cluster.pid
    os.killpg(cluster.pid, signal.SIGKILL)
    cluster.wait()


def test_a_table_that_cannot_be_written_is_one_line_before_anything_is_computed(
    batch_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command_line(batch_copy, "--overwrite", "--table", str(batch_copy / "m.onnx" / "t.csv"))) == 1
    output, errors = capsys.readouterr()
    assert (output, errors.count("\n")) == ("", 1)
    assert "part of the path is a file, not a folder; check the path" in errors


def test_workers_give_the_same_results(
    workers: tuple[list[str], int | None], batch_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    executor_options, _ = workers
    before = labels(batch_copy)
    shutil.rmtree(batch_copy / "out")
    (batch_copy / "in" / "bad.nii").write_bytes(b"no exam")
    rows = run_json(batch_copy, capsys, *executor_options, code=1)
    assert [Path(row["exam"]).name for row in rows] == ["bad.nii", *(f"e{n:02d}.nii" for n in range(EXAM_COUNT))]
    assert [bool(row["error"]) for row in rows] == [True] + [False] * EXAM_COUNT
    assert skipped_flags(rows[1:]) == [False] * EXAM_COUNT
    assert labels(batch_copy) == before
    assert skipped_flags(run_json(batch_copy, capsys, *executor_options, code=1)[1:]) == [True] * EXAM_COUNT


def workers_of(pid: int) -> list[int]:
    """Return the processes below one that have loaded the inference engine, so that they are at work."""
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                busy = "onnxruntime" in (entry / "maps").read_text()
            except (OSError, ValueError):
                continue
            processes += [(int(entry.name), parent, busy)]
    below, new = {pid}, {pid}
    while new:
        new = {child for child, parent, _ in processes if parent in below} - below
        below |= new
    return [child for child, _, busy in processes if busy and child in below - {pid}]


def test_a_killed_worker_loses_nothing(workers: tuple[list[str], int | None], batch_copy: Path) -> None:
    executor_options, parent = workers
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not list its processes")
    easy.exams(batch_copy / "in", 20)
    command = [
        *PROGRAM,
        *command_line(batch_copy, "--overwrite", *executor_options, "--jsonl", str(batch_copy / "a.jsonl")),
    ]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    while not (batch_copy / "a.jsonl").exists() or (batch_copy / "a.jsonl").read_text().count("\n") < 6:
        assert child.poll() is None
        time.sleep(0.02)
    os.kill(workers_of(parent or child.pid)[0], signal.SIGKILL)
    _, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (0, "")
    rows = [json.loads(line) for line in (batch_copy / "a.jsonl").read_text().splitlines()]
    assert sorted(Path(row["exam"]).stem for row in rows) == [f"e{n:02d}" for n in range(20)]
    assert not any(row["error"] or row["skipped"] for row in rows)
    assert len(contents(batch_copy)) == 5 * 20 + 2  # the index and the table of measurements


def test_an_interrupted_batch_of_workers_goes_on_where_it_stopped(
    batch_copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    easy.exams(batch_copy / "in", 12)
    shutil.rmtree(batch_copy / "out")
    command = [*PROGRAM, *command_line(batch_copy, "--jobs", "2")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert errors.splitlines() == [
        "lumbarseg: error: interrupted; files that were written are complete, the rest was not started"
    ]
    assert not [name for name in contents(batch_copy) if name.endswith(".part")]
    before = sum(name.endswith("_report.json") for name in contents(batch_copy))
    assert 1 <= before < 12
    rows = run_json(batch_copy, capsys)
    assert sum(skipped_flags(rows)) == before
    assert not any(row["error"] for row in rows)


def small_disk(batch_copy: Path, kilobytes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script with `out` on a disk of that size; skip where mounting is not allowed."""
    out = batch_copy / "out"
    mounted = f"mount -t tmpfs -o size={kilobytes}k none {out}"
    shell = ["unshare", "-rm", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*shell, mounted], capture_output=True).returncode:
        pytest.skip("small disks cannot be mounted here")
    command = [*shell, f"{mounted} && {script}"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("executor_options", [[], ["--jobs", "2"]])
def test_a_full_disk_is_reported_and_the_next_run_continues(executor_options: list[str], batch_copy: Path) -> None:
    easy.exams(batch_copy / "in", 10)
    call = " ".join([*PROGRAM, *command_line(batch_copy, *executor_options, "--jsonl", str(batch_copy / "a.jsonl"))])
    out = batch_copy / "out"
    fill, free = (
        f"head -c 3250000 /dev/zero > {out}/ballast",
        f"rm {out}/ballast; cp {batch_copy}/a.jsonl {batch_copy}/first.jsonl",
    )
    script = f"{fill}; {call}; echo code $?; ls -a {out}; {free}; {call}"
    result = small_disk(batch_copy, 3600, f"({script})")
    first, _, rest = result.stdout.partition("code 1")
    assert rest, result.stderr
    errors = result.stderr.splitlines()
    assert all("the disk is full" in line for line in errors)
    assert len(errors) <= 4  # those that were being computed or read, and one line for all the rest
    assert errors[-1].endswith("not started; make room and run it again, it goes on")
    assert ".part" not in result.stdout
    assert result.returncode == 0
    assert first.count("counted from") >= 1
    assert len((batch_copy / "first.jsonl").read_text().splitlines()) == 10
    assert rest.count("counted from") + first.count("counted from") == 10


def test_a_device_that_is_not_here_is_one_line(batch_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_line(batch_copy, "--device", "directml")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device directml is not available here" in line
    assert "available devices: auto, cpu" in line


def test_label_maps_of_a_batch_can_be_read(finished_batch: Path) -> None:
    for number in range(EXAM_COUNT):
        labels = read_labels(finished_batch / "out" / f"e{number:02d}_labels.nii.gz").array
        assert {2, 3, 4, 5, 11, 12} <= set(labels.ravel().tolist())
