"""`lumbarseg segment` with many exams: what is done stays done, and nothing that dies takes the rest with it."""

from __future__ import annotations

import csv
import json
import os
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

EXAMS = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, four exams and their answers."""
    folder = tmp_path_factory.mktemp("batch")
    easy.model(folder / "m.onnx")
    easy.exams(folder / "in", EXAMS)
    assert main(["segment", str(folder / "in"), "-o", str(folder / "out"), "--model", str(folder / "m.onnx")]) == 0
    return folder


@pytest.fixture
def done(made: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "batch"))


def command_line(folder: Path, *more: str) -> list[str]:
    engine = ["--model", str(folder / "m.onnx"), *([] if "--device" in more else ["--device", "cpu"])]
    return ["segment", str(folder / "in"), "-o", str(folder / "out"), *engine, *more]


def run_json(folder: Path, capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> list[dict[str, Any]]:
    """The rows of a call."""
    capsys.readouterr()
    assert main(command_line(folder, "--json", *more)) == code
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["exams"]
    return rows


def skipped_flags(rows: list[dict[str, Any]]) -> list[bool]:
    return [row["skipped"] for row in rows]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def labels(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith(("_labels.nii.gz", ".png"))}


def test_what_is_done_is_skipped_and_told_as_it_was(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(done)
    for path in (done / "in").iterdir():
        os.utime(path)  # content counts, not time
    assert skipped_flags(again := run_json(done, capsys)) == [True] * EXAMS
    assert contents(done) == before
    assert skipped_flags(anew := run_json(done, capsys, "--overwrite")) == [False] * EXAMS
    own = {"skipped": None, "seconds": None}
    assert [row | own for row in anew] == [row | own for row in again]
    assert labels(done) == {name: data for name, data in before.items() if not name.endswith(".json")}


def test_only_what_changed_is_done_again(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = sorted((done / "in").iterdir())
    first.write_bytes(second.read_bytes())
    (done / "out" / "e02.png").unlink()
    assert skipped_flags(run_json(done, capsys)) == [False, True, False, True]
    assert skipped_flags(run_json(done, capsys)) == [True] * EXAMS


@pytest.mark.parametrize(
    "more", [["--lowest", "L4"], ["--posterior-elements", "merge"], ["--scheme", "spider"], ["--format", "seg-nrrd"]]
)
def test_another_wish_is_another_answer(more: list[str], done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert skipped_flags(run_json(done, capsys, *more)) == [False] * EXAMS
    assert skipped_flags(run_json(done, capsys, *more)) == [True] * EXAMS


def test_another_model_is_another_answer(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    easy.model(done / "m.onnx", sharp=150.0)
    assert skipped_flags(run_json(done, capsys)) == [False] * EXAMS


def test_what_a_person_changed_is_kept(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = done / "out" / "e01_labels.nii.gz"
    shutil.copy(done / "out" / "e02_labels.nii.gz", path)
    mine = path.read_bytes()
    rows = run_json(done, capsys, "--lowest", "L4", code=3)
    assert skipped_flags(rows) == [False, True, False, False]
    assert rows[1]["warnings"] == [f"{path}: was changed since it was written, so it is kept; --overwrite replaces it"]
    assert path.read_bytes() == mine
    run_json(done, capsys, "--overwrite")
    assert path.read_bytes() != mine


def test_a_damaged_report_or_one_without_a_record_is_made_again(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / "out" / "e00_report.json").write_text("{")
    report = done / "out" / "e01_report.json"
    facts = json.loads(report.read_text())
    del facts["record"]
    report.write_text(json.dumps(facts))
    assert skipped_flags(run_json(done, capsys)) == [False, False, True, True]


def test_lines_and_table_hold_every_exam(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (done / "in" / "e01.nii").write_bytes(b"no exam")
    rows = run_json(done, capsys, "--jsonl", str(done / "log" / "a.jsonl"), "--table", str(done / "a.csv"), code=1)
    lines = [json.loads(line) for line in (done / "log" / "a.jsonl").read_text().splitlines()]
    assert lines == rows
    with (done / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["exam"] for row in table] == [row["exam"] for row in rows]
    assert table[0]["levels"] == "L2 L3 L4 L5"
    assert table[0]["skipped"] == "True"
    assert table[0]["labels"] == str(done / "out" / "e00_labels.nii.gz")
    assert "neither NIfTI" in table[1]["error"]
    assert not table[1]["levels"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to try")
def test_a_log_on_a_full_disk_stops_alone(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(done, capsys, "--overwrite", "--jsonl", "/dev/full", code=1)
    assert [row["error"] for row in rows] == [None] * EXAMS
    assert main(command_line(done, "--jsonl", "/dev/full")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line == "lumbarseg: error: /dev/full: cannot be written: the disk is full; make room, or choose another folder"
    )


def test_a_log_that_cannot_be_written_is_one_line(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_line(done, "--jsonl", str(done / "in"))) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lumbarseg: error: {done / 'in'}: cannot be written")


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


def test_workers_give_the_same_results(
    workers: tuple[list[str], int | None], done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where, _ = workers
    before = labels(done)
    shutil.rmtree(done / "out")
    (done / "in" / "bad.nii").write_bytes(b"no exam")
    rows = run_json(done, capsys, *where, code=1)
    assert [Path(row["exam"]).name for row in rows] == ["bad.nii", *(f"e{n:02d}.nii" for n in range(EXAMS))]
    assert [bool(row["error"]) for row in rows] == [True] + [False] * EXAMS
    assert skipped_flags(rows[1:]) == [False] * EXAMS
    assert labels(done) == before
    assert skipped_flags(run_json(done, capsys, *where, code=1)[1:]) == [True] * EXAMS


def workers_of(pid: int) -> list[int]:
    """Processes below one that have imported the network's engine, so that they are at work."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                busy = "onnxruntime" in (entry / "maps").read_text()
            except (OSError, ValueError):
                continue
            found += [(int(entry.name), parent, busy)]
    below, new = {pid}, {pid}
    while new:
        new = {child for child, parent, _ in found if parent in below} - below
        below |= new
    return [child for child, _, busy in found if busy and child in below - {pid}]


def test_a_worker_that_is_killed_costs_nothing(workers: tuple[list[str], int | None], done: Path) -> None:
    where, parent = workers
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system does not tell which processes there are")
    easy.exams(done / "in", 20)
    command = [*PROGRAM, *command_line(done, "--overwrite", *where, "--jsonl", str(done / "a.jsonl"))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    while not (done / "a.jsonl").exists() or (done / "a.jsonl").read_text().count("\n") < 6:
        assert child.poll() is None
        time.sleep(0.02)
    os.kill(workers_of(parent or child.pid)[0], signal.SIGKILL)
    _, errors = child.communicate(timeout=120)
    assert (child.returncode, errors) == (0, "")
    rows = [json.loads(line) for line in (done / "a.jsonl").read_text().splitlines()]
    assert sorted(Path(row["exam"]).stem for row in rows) == [f"e{n:02d}" for n in range(20)]
    assert not any(row["error"] or row["skipped"] for row in rows)
    assert len(contents(done)) == 3 * 20


def test_an_interrupted_batch_of_workers_goes_on_where_it_stopped(
    done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    easy.exams(done / "in", 12)
    shutil.rmtree(done / "out")
    command = [*PROGRAM, *command_line(done, "--jobs", "2")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130
    assert errors.splitlines() == [
        "lumbarseg: error: interrupted; files that were written are complete, the rest was not started"
    ]
    assert not [name for name in contents(done) if name.endswith(".part")]
    before = sum(name.endswith("_report.json") for name in contents(done))
    assert 1 <= before < 12
    rows = run_json(done, capsys)
    assert sum(skipped_flags(rows)) == before
    assert not any(row["error"] for row in rows)


def small_disk(done: Path, kilobytes: int, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where `out` is a disk of so many kilobytes; skips where this may not be done."""
    out = done / "out"
    mounted = f"mount -t tmpfs -o size={kilobytes}k none {out}"
    shell = ["unshare", "-rm", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*shell, mounted], capture_output=True).returncode:
        pytest.skip("small disks cannot be mounted here")
    command = [*shell, f"{mounted} && {script}"]
    return subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("where", [[], ["--jobs", "2"]])
def test_a_disk_that_fills_is_told_and_the_batch_goes_on_once_there_is_room(where: list[str], done: Path) -> None:
    easy.exams(done / "in", 10)
    call = " ".join([*PROGRAM, *command_line(done, *where, "--jsonl", str(done / "a.jsonl"))])
    out = done / "out"
    fill, free = f"head -c 3400000 /dev/zero > {out}/ballast", f"rm {out}/ballast; cp {done}/a.jsonl {done}/first.jsonl"
    script = f"{fill}; {call}; echo code $?; ls -a {out}; {free}; {call}"
    result = small_disk(done, 3600, f"({script})")
    first, _, rest = result.stdout.partition("code 1")
    assert rest, result.stderr
    errors = result.stderr.splitlines()
    assert all("the disk is full" in line for line in errors)
    assert len(errors) <= 4  # those that were being computed or read, and one line for all the rest
    assert errors[-1].endswith("not started; make room and run it again, it goes on")
    assert ".part" not in result.stdout
    assert result.returncode == 0
    assert first.count("counted from") >= 1
    assert len((done / "first.jsonl").read_text().splitlines()) == 10
    assert rest.count("counted from") + first.count("counted from") == 10


def test_a_device_that_is_not_here_is_one_line(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command_line(done, "--device", "directml")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "--device directml is not available here" in line
    assert "available devices: auto, cpu" in line


def test_labels_of_a_batch_can_be_read(made: Path) -> None:
    for number in range(EXAMS):
        found = read_labels(made / "out" / f"e{number:02d}_labels.nii.gz").array
        assert {2, 3, 4, 5, 11, 12} <= set(found.ravel().tolist())
