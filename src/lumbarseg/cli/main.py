"""`lumbarseg COMMAND ...`: parse the command line and run one command.

Exit codes: 0 done, 1 an error (printed as one line), 2 wrong usage, 3 done with warnings, 130 interrupted by Ctrl-C.

Each file of this folder that is named in `COMMANDS` has a `DESCRIPTION` and an `EXAMPLE` for its help page, a function
`add_arguments(parser)` and a function `run(args)` that returns the exit code. Only the file of the command that is run
is imported, so these files import what they need at the top; torch, and what makes `--help` slow, in `run`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import lumbarseg
from lumbarseg.errors import LumbarsegError, describe_bug, describe_error

from . import console, options

COMMANDS = {
    "segment": ("segment", "name the vertebrae and discs of exams"),
    "demo": ("demo", "segment a synthetic exam and show the report"),
    "info": ("info", "describe a model, an exam or a dataset"),
    "phantom": ("phantom", "make synthetic exams with exact labels"),
    "import": ("importing", "make a prepared dataset from exams and labels"),
    "check": ("check", "look for faults in prepared datasets"),
    "combine": ("combine", "make one prepared dataset of several, or of a part"),
    "train": ("train", "train a network on prepared datasets"),
    "compare": ("compare", "compare training runs side by side"),
    "evaluate": ("evaluate", "score a model on prepared datasets, alone or against another"),
    "export": ("export", "write a trained network as one model file"),
    "pseudo-label": ("pseudo_label", "label exams with models, or complete annotations, and flag what to review"),
    "learn": ("learn", "train on labels corrected in MONAI Label, and publish the model if it is not worse"),
    "next": ("next", "rank exams by uncertainty: which to correct first"),
    "pack": ("pack", "put everything for a computer without network into one file"),
    "page": ("page", "write one HTML file that segments an exam in a browser, offline"),
    "serve": ("serve", "annotate in 3D Slicer or OHIF, and train on the corrections"),
}
"""Each command: its file in this folder, and its line on the help page."""

TRAINING_LIBRARIES = ("torch", "monai", "onnx", "tensorboard")
"""Libraries of the extra `train`."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; of the commands only `command` has its options."""
    parser = options.CommandParser(
        prog="lumbarseg",
        description="Names the vertebrae and discs of a lumbar MRI, offline. Not a medical device.",
        epilog="lumbarseg COMMAND --help lists the options of a command, with an example. First try: lumbarseg demo",
    )
    parser.add_argument("--version", action="version", version=f"lumbarseg {lumbarseg.__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (file, summary) in COMMANDS.items():
        if name != command:
            subparsers.add_parser(name, help=summary)
            continue
        module = import_module(f"lumbarseg.cli.{file}")
        subparser = options.add_command(subparsers, name, summary, module.DESCRIPTION, module.EXAMPLE)
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; print any error as one line.

    numpy gets one thread, because the network already uses one per core: more bring nothing on an idle machine (1.6 s
    for an exam either way), and on a busy one they wait for each other (6 s and more instead of 2.2 s).
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.use_safe_encoding()
    argv = sys.argv[1:] if argv is None else argv
    try:
        parser = build_parser(next((word for word in argv if not word.startswith("-")), None))
        args, unknown = parser.parse_known_args(argv)
        usage_error = getattr(args, "usage_error", parser.error)
        if unknown:
            usage_error(f"unrecognized arguments: {' '.join(unknown)}")
        if not args.command:
            usage_error("the following arguments are required: COMMAND")
        code: int = args.run(args)
        if sys.stdout:  # None where it is closed
            sys.stdout.flush()
        return code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else console.EXIT_OK
    except KeyboardInterrupt:
        console.print_error("interrupted; files that were written are complete, the rest was not started")
        return console.EXIT_INTERRUPTED
    except BrokenPipeError:
        console.discard_stdout()
        return console.EXIT_ERROR
    except (LumbarsegError, OSError, MemoryError) as error:
        return console.print_error(describe_error(error))
    except Exception as error:
        if os.environ.get("LUMBARSEG_DEBUG"):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in TRAINING_LIBRARIES:
            return console.print_error(
                f"this command needs {error.name}: pip install torch, then pip install 'lumbarseg[train]'"
            )
        return console.print_error(describe_bug(error))
