"""Read files with mutated headers: python -m benchmarks.mutated_headers [-n 10000] [--seed 0].

Files of SimpleITK (NIfTI, MetaImage, NRRD) and pydicom (a series, a multi-frame file) get one to eight bytes of their
header changed, removed or inserted, or a number in its text replaced. Each must be read, or refused in one line, within
30 s; whatever is read is written again, completely or not at all. Writes benchmarks/results/mutated_headers.json.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from tests.grids import affine_of, filled
from tests.io.itk import itk_image
from tests.io.make_dicom import T2, write_enhanced, write_series

from benchmarks import machine
from benchmarks.accuracy import ROOT
from lumbarseg.errors import LumbarsegError
from lumbarseg.io import find_exams, read_exam, write_image
from lumbarseg.volume import Grid

RESULTS = ROOT / "benchmarks" / "results" / "mutated_headers.json"
_TIME_LIMIT = 30  # s
_VOLUME = filled(Grid((6, 7, 5), affine_of("PIR", (0.6, 0.7, 4.4), (25, 90, 130))))
_NUMBERS = (b"0", b"-1", b"1e400", b"nan", b"99999999999", b"")


class HangError(Exception):
    """A file took longer than the time limit."""


def write_sources(folder: Path) -> dict[str, tuple[Path, int]]:
    """Write one exam in each format; return the file to mutate and the size of its header in bytes."""
    sources = {}
    for suffix, header in ((".nii", 352), (".mha", 400), (".mhd", 400), (".nrrd", 350), (".nhdr", 350)):
        path = folder / suffix[1:] / f"exam{suffix}"
        path.parent.mkdir(parents=True)
        SimpleITK.WriteImage(itk_image(_VOLUME), str(path))
        sources[suffix[1:]] = (path, min(header, path.stat().st_size))
    paths = write_series(folder / "dicom", _VOLUME, T2)
    sources["dicom"] = (paths[2], 1200)
    sources["multi-frame dicom"] = (write_enhanced(folder / "enhanced" / "IM1", [(_VOLUME, {})]), 4000)
    return sources


def mutate(content: bytes, header: int, rng: np.random.Generator) -> bytes:
    """Return the content with a few changes within its header."""
    mutated = bytearray(content)
    if rng.random() < 0.3 and (numbers := list(re.finditer(rb"-?\d+\.?\d*", bytes(mutated[:header])))):
        match = numbers[rng.integers(len(numbers))]
        mutated[match.start() : match.end()] = _NUMBERS[rng.integers(len(_NUMBERS))]
        return bytes(mutated)
    for _ in range(rng.integers(1, 9)):
        position, kind = int(rng.integers(min(header, len(mutated)))), rng.integers(4)
        if kind < 2:
            mutated[position] = rng.integers(256)
        elif kind == 2:
            del mutated[position]
        else:
            mutated.insert(position, int(rng.integers(256)))
    return bytes(mutated)


def try_reading(exam: Path, output: Path) -> str:
    """Return "read", "refused", or what went wrong; the output is written if the exam is read."""
    try:
        loaded = read_exam(find_exams([exam])[0])
        write_image(loaded.volume, output)
        size = output.stat().st_size
        return "read" if size > 352 else f"half-written file of {size} bytes"
    except LumbarsegError as error:
        text = str(error)
        return "refused" if "\n" not in text and str(exam) in text else f"unclear message: {text!r}"
    except HangError:
        return f"hang of more than {_TIME_LIMIT} s"
    except Exception as error:  # what the benchmark looks for
        return f"traceback: {type(error).__name__}: {error}"
    finally:
        output.unlink(missing_ok=True)


def _raise_hang(*_: object) -> None:
    raise HangError


def run(count: int, seed: int, report: Callable[[str], None] = print) -> dict[str, Any]:
    """Mutate `count` headers and return the number of each result by format, the faults and the longest time."""
    rng = np.random.default_rng(seed)
    results: dict[str, Counter[str]] = {}
    faults, longest = [], 0.0
    signal.signal(signal.SIGALRM, _raise_hang)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sources = write_sources(folder / "sources")
        for index in range(count):
            kind = list(sources)[index % len(sources)]
            path, header = sources[kind]
            work = folder / "work"
            shutil.copytree(path.parent, work)
            content = mutate(path.read_bytes(), header, rng)
            (work / path.name).write_bytes(content)
            start = time.perf_counter()
            signal.alarm(_TIME_LIMIT)
            result = try_reading(work if kind == "dicom" else work / path.name, folder / "out.nii")
            signal.alarm(0)
            longest = max(longest, time.perf_counter() - start)
            if result not in ("read", "refused"):
                faults.append(f"{kind} {index}: {result}")
                report(faults[-1])
                result = "fault"
            results.setdefault(kind, Counter())[result] += 1
            shutil.rmtree(work)
        leftovers = [str(path.relative_to(folder)) for path in folder.glob("**/.lumbarseg-*")]
    return {"count": count, "seed": seed, "results": results, "faults": faults + leftovers, "longest_s": longest}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; the exit code is 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("-n", type=int, default=10_000, help="how many headers (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    result = {"machine": machine.machine_facts(), **run(args.n, args.seed)}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    for kind, counts in result["results"].items():
        print(f"{kind}: {', '.join(f'{count} {status}' for status, count in sorted(counts.items()))}")
    print(f"{result['count']} headers, {len(result['faults'])} faults, longest {result['longest_s']:.2f} s")
    return bool(result["faults"])


if __name__ == "__main__":
    raise SystemExit(main())
