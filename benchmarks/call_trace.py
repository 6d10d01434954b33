"""How many functions and files of the package a routine exam passes through: python -m benchmarks.call_trace EXAM.

Counts each function of the package once, from `main` on, the parser included, in all threads; prints the depth at which
the first stage of the pipeline begins.
"""

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType

STAGE = "preprocess"
"""The first stage of `segmentation.pipeline.segment`."""


class CallTrace:
    """Collects functions of the package, and the depth of the first call of a stage."""

    def __init__(self, stage: str) -> None:
        self.stage, self.depth = stage, 0
        self.functions, self.class_bodies = set[tuple[str, str, int]](), set[tuple[str, str, int]]()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note one event of the interpreter's profiler."""
        code = frame.f_code
        if event != "call" or "lumbarseg" not in code.co_filename or code.co_name.startswith("<"):
            return
        is_function = bool(code.co_flags & inspect.CO_OPTIMIZED)
        kind = self.functions if is_function else self.class_bodies
        kind.add((code.co_filename, code.co_qualname, code.co_firstlineno))
        if code.co_name == self.stage and not self.depth:
            self.depth = _depth(frame)


def _depth(frame: FrameType | None) -> int:
    """Frames of the package from `main` down to this one."""
    count = 0
    while frame is not None:
        code = frame.f_code
        count += "lumbarseg" in code.co_filename and not code.co_name.startswith("<")
        frame = frame.f_back
    return count


def main() -> None:
    """Trace one exam and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exam", type=Path)
    parser.add_argument("--stage", default=STAGE)
    parser.add_argument("--list", action="store_true", help="print every function")
    arguments = parser.parse_args()
    from lumbarseg.cli.main import main as lumbarseg

    trace = CallTrace(arguments.stage)
    with tempfile.TemporaryDirectory() as folder:
        threading.setprofile(trace)
        sys.setprofile(trace)
        lumbarseg(["segment", str(arguments.exam), "-o", folder])
        sys.setprofile(None)
    files = {name for name, _, _ in trace.functions}
    both = trace.functions | trace.class_bodies
    if arguments.list:
        print(
            "\n".join(
                f"{Path(name).parent.name}/{Path(name).name}: {function}"
                for name, function, _ in sorted(trace.functions)
            )
        )
    print(f"{len(trace.functions)} functions in {len(files)} files; depth {trace.depth} at the first stage")
    print(f"with the bodies of classes: {len(both)} in {len({name for name, _, _ in both})} files")


if __name__ == "__main__":
    main()
