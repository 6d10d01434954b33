"""A call's exams, answered in this process, in several or on a cluster; whatever happens to one, the rest goes on."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lumbarseg.cli import options
from lumbarseg.cpus import available_cpus
from lumbarseg.errors import LumbarsegError, ModelError

from . import exam_result
from .exam_task import BatchConfig, ExamResult, failed_result, lost_result, process_exam
from .jobs import ExamJob

_PROBE_BYTES = 2**20  # bytes that must fit on a disk that was full before the next exam is begun


def add_batch_options(parser: argparse.ArgumentParser) -> None:
    """Words for many exams."""
    group = parser.add_argument_group("many exams (docs/batch.md)")
    group.add_argument("--overwrite", action="store_true", help="answer anew what was answered and is unchanged")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=options.positive_int, metavar="N", help="worker processes (default: none but this)"
    )
    where.add_argument("--cluster", metavar="WHERE", help="dask's: local, local:N or a scheduler's address, tcp://...")
    group.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="write a line of JSON per exam, as soon as it is done"
    )
    group.add_argument("--table", type=Path, metavar="FILE", help="write a table of all exams as CSV")


@dataclass
class BatchRun:
    """What a call has come to. full: the disk was; left: exams that were not begun for that."""

    output_dir: Path
    disk_full: bool = False
    not_started: list[ExamJob] = field(default_factory=list)

    def startable_jobs(self, jobs: Sequence[ExamJob]) -> Iterator[ExamJob]:
        """Exams to be begun, each when its turn comes: after the disk was full, only while there is room again."""
        for job in jobs:
            self.disk_full = self.disk_full and not _has_space(self.output_dir)
            if self.disk_full:
                self.not_started.append(job)
            else:
                yield job

    def results(
        self, args: argparse.Namespace, jobs: Sequence[ExamJob], clock: exam_result.StageTimer
    ) -> Iterator[ExamResult]:
        """What became of each exam, as it comes."""
        for outcome in _outcomes(args, self.startable_jobs(jobs), len(jobs), clock):
            self.disk_full |= outcome.disk_full
            for stage, seconds in outcome.stage_seconds.items():
                clock.seconds[stage] = clock.seconds.get(stage, 0.0) + seconds
            yield outcome
        for job in self.not_started:
            yield replace(failed_result(job, "not begun: the disk is full"), started=False)


def _outcomes(
    args: argparse.Namespace, todo: Iterator[ExamJob], count: int, clock: exam_result.StageTimer
) -> Iterator[ExamResult]:
    pool = ThreadPoolExecutor(4)
    try:
        pool.submit(exam_result.preload_modules)
        model = pool.submit(exam_result.load_model, args.model, args.device, clock, count)
        work = _work(args, count)
        if not (args.jobs or args.cluster):
            from . import threads

            yield from threads.map_pipelined(work, todo, model, pool, clock)
            return
        model.result()  # what is wrong with it is told once, and here
        del model
        yield from _elsewhere(args, work, todo, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _elsewhere(
    args: argparse.Namespace, work: BatchConfig, todo: Iterator[ExamJob], count: int
) -> Iterator[ExamResult]:
    """In worker processes of this computer, or on a cluster; this computer's cores are shared among them."""
    from lumbarseg.executors import dask_cluster, processes

    workers = dask_cluster.local_worker_count(args.cluster) if args.cluster else min(args.jobs, count)
    work = replace(work, threads=max(1, available_cpus() // workers))
    if args.cluster:
        work = replace(work, model=work.model.absolute())
        yield from dask_cluster.map_unordered(
            args.cluster, partial(process_exam, work), map(_absolute, todo), lost_result
        )
    else:
        yield from processes.map_unordered(partial(process_exam, work), todo, workers, lost_result)


def _absolute(job: ExamJob) -> ExamJob:
    """The same for a process that works in another folder."""
    files = {name: path.absolute() for name, path in job.output_files.items()}
    return replace(job, path=job.path.absolute(), output_files=files)


def _work(args: argparse.Namespace, count: int) -> BatchConfig:
    """What the command line wants of each exam; the model's digest is checked, no engine is started."""
    from lumbarseg.inference import default_model_path
    from lumbarseg.inference.model import read_model_bytes, read_verified_card
    from lumbarseg.segmentation import LevelPin

    path = args.model or default_model_path()
    try:
        digest = read_verified_card(read_model_bytes(path)).digest
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    parts = "whole" if args.whole else "bodies" if args.bodies else "apart"
    pins = tuple(LevelPin(*pin) for pin in args.pin)
    wish = exam_result.SegmentOptions(args.lowest, pins, parts, exam_result.read_clicks(args.clicks), args.scheme)
    return BatchConfig(
        path, digest, args.device, count, 0, wish, args.volume, args.overwrite, secrets.token_hex(8), args.series
    )


def _has_space(folder: Path) -> bool:
    """Whether a folder takes another megabyte."""
    from lumbarseg.io import atomic_write

    probe = folder / ".lumbarseg-room"
    try:
        with atomic_write(probe) as file:
            file.write(bytes(_PROBE_BYTES))
        probe.unlink()
    except (LumbarsegError, OSError):
        return False
    return True
