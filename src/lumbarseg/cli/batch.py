"""A call's exams, answered in this process, in several or on a cluster; whatever happens to one, the rest goes on."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lumbarseg.errors import LumbarsegError, ModelError

from . import answers, options
from .jobs import Job
from .work import Outcome, Work, failed, lost, whole

_PROBE = 2**20  # bytes that must fit on a disk that was full before the next exam is begun


def add(parser: argparse.ArgumentParser) -> None:
    """Words for many exams."""
    group = parser.add_argument_group("many exams (docs/batch.md)")
    group.add_argument("--again", "--redo", action="store_true", help="answer anew what was answered and is unchanged")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--jobs", type=options.positive, metavar="N", help="worker processes (default: none but this)")
    where.add_argument("--cluster", metavar="WHERE", help="dask's: local, local:N or a scheduler's address, tcp://...")
    group.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="write a line of JSON per exam, as soon as it is done"
    )
    group.add_argument("--table", type=Path, metavar="FILE", help="write a table of all exams as CSV")


@dataclass
class Batch:
    """What a call has come to. full: the disk was; left: exams that were not begun for that."""

    out: Path
    full: bool = False
    left: list[Job] = field(default_factory=list)

    def wanted(self, jobs: Sequence[Job]) -> Iterator[Job]:
        """Exams to be begun, each when its turn comes: after the disk was full, only while there is room again."""
        for job in jobs:
            self.full = self.full and not _room(self.out)
            if self.full:
                self.left.append(job)
            else:
                yield job

    def outcomes(self, args: argparse.Namespace, jobs: Sequence[Job], clock: answers.Clock) -> Iterator[Outcome]:
        """What became of each exam, as it comes."""
        for outcome in _outcomes(args, self.wanted(jobs), len(jobs), clock):
            self.full |= outcome.full
            for stage, seconds in outcome.stages.items():
                clock.stages[stage] = clock.stages.get(stage, 0.0) + seconds
            yield outcome
        for job in self.left:
            yield replace(failed(job, "not begun: the disk is full"), begun=False)


def _outcomes(args: argparse.Namespace, todo: Iterator[Job], count: int, clock: answers.Clock) -> Iterator[Outcome]:
    pool = ThreadPoolExecutor(4)
    try:
        pool.submit(answers.warm)
        model = pool.submit(answers.load, args.model, args.device, clock, count)
        work = _work(args, count)
        if not (args.jobs or args.cluster):
            from . import stream

            yield from stream.each(work, todo, model, pool, clock)
            return
        model.result()  # what is wrong with it is told once, and here
        del model
        yield from _elsewhere(args, work, todo, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _elsewhere(args: argparse.Namespace, work: Work, todo: Iterator[Job], count: int) -> Iterator[Outcome]:
    """In worker processes of this computer, or on a cluster; this computer's cores are shared among them."""
    from lumbarseg.batch import cluster, processes

    workers = cluster.workers(args.cluster) if args.cluster else min(args.jobs, count)
    work = replace(work, threads=max(1, cluster.cores() // workers))
    if args.cluster:
        work = replace(work, model=work.model.absolute())
        yield from cluster.each(args.cluster, partial(whole, work), map(_absolute, todo), lost)
    else:
        yield from processes.each(partial(whole, work), todo, workers, lost)


def _absolute(job: Job) -> Job:
    """The same for a process that works in another folder."""
    files = {name: path.absolute() for name, path in job.files.items()}
    return replace(job, path=job.path.absolute(), files=files)


def _work(args: argparse.Namespace, count: int) -> Work:
    """What the command line wants of each exam; the model's digest is checked, no engine is started."""
    from lumbarseg.model import default
    from lumbarseg.model.run import checked, content
    from lumbarseg.segment import Pin

    path = args.model or default()
    try:
        digest = checked(content(path)).digest
    except ModelError as error:
        raise error if str(path) in str(error) else ModelError(f"{path}: {error}") from error
    parts = "whole" if args.whole else "bodies" if args.bodies else "apart"
    pins = tuple(Pin(*pin) for pin in args.pin)
    wish = answers.Wish(args.lowest, pins, parts, answers.clicks(args.clicks), args.scheme)
    return Work(path, digest, args.device, count, 0, wish, args.volume, args.again, secrets.token_hex(8), args.series)


def _room(folder: Path) -> bool:
    """Whether a folder takes another megabyte."""
    from lumbarseg.files import replacing

    probe = folder / ".lumbarseg-room"
    try:
        with replacing(probe) as file:
            file.write(bytes(_PROBE))
        probe.unlink()
    except (LumbarsegError, OSError):
        return False
    return True
