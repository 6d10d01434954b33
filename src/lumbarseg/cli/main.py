"""`lumbarseg COMMAND ...`: words into calls.

Exit codes: 0 done, 1 an error told in one line, 2 wrong usage, 3 done with warnings, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import lumbarseg
from lumbarseg.errors import LumbarsegError

from . import console

COMMANDS = (
    *("segment", "demo", "info", "phantom", "importing", "check", "combine"),
    *("train", "compare", "evaluate", "export", "pseudo_label", "learn", "next"),
    *("pack", "page", "serve"),
)
"""Files of this folder, one command each, in the order of the help page."""

TRAINING_LIBRARIES = ("torch", "monai", "onnx", "tensorboard")
"""What the extra `train` brings; the answering half runs without."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; commands import what they need when they run."""
    top = argparse.ArgumentParser(
        prog="lumbarseg",
        description="Names the vertebrae and discs of a lumbar MRI, offline. Not a medical device.",
        epilog="lumbarseg COMMAND --help tells more, with an example. First try: lumbarseg demo",
    )
    top.add_argument("--version", action="version", version=f"lumbarseg {lumbarseg.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f".{name}", __package__).add(commands)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; whatever goes wrong is told in one line.

    numpy gets one thread, for the network has one per core already: more gain nothing on an idle machine (1.6 s for an
    exam either way), and on a busy one they wait for each other (6 s and more instead of 2.2 s).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        args = build_parser().parse_args(argv)
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as stop:
        return (
            stop.code
            if isinstance(stop.code, int)
            else console.EXIT_OK
            if stop.code is None
            else console.print_error(stop.code)
        )
    except KeyboardInterrupt:
        console.print_error("interrupted; what was written is whole, the rest was not begun")
        return console.EXIT_INTERRUPTED
    except BrokenPipeError:
        console.discard_stdout()
        return console.EXIT_ERROR
    except (LumbarsegError, OSError, MemoryError) as error:
        return console.print_error(console.describe_error(error))
    except Exception as error:
        if os.environ.get("LUMBARSEG_DEBUG"):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_LIBRARIES:
            return console.print_error(
                f"this command needs {error.name}: pip install torch, then pip install 'lumbarseg[train]'"
            )
        return console.print_error(console.describe_bug(error))
