"""`lumbarseg pack [MODEL] -o PACK.zip`: everything for a computer without network, in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "pack",
        "put everything for a computer without network into one file",
        "Writes one zip file with the wheels of the core install, a model, installers for Linux, macOS and Windows,\n"
        "checksums and licences. There: unzip it and run install.sh or install.bat. The wheels are fetched by pip, so\n"
        "here a network is needed, and there none.",
        "lumbarseg pack mine.onnx -o lumbarseg-offline.zip --platform windows --python 3.12",
    )
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="the model that answers there (default: the one here)"
    )
    parser.add_argument(
        "-o", dest="out", type=Path, default=Path("lumbarseg-offline.zip"), metavar="FILE", help="the zip file to write"
    )
    parser.add_argument(
        "--platform",
        action="append",
        default=[],
        metavar="NAME",
        help="linux, linux-arm64, macos (Apple silicon) or windows; may be repeated (default: as this computer)",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="VERSION",
        help="3.11, 3.12 or 3.13; may be repeated (default: as here)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Pack."""
    from lumbarseg.deploy.pack import pack
    from lumbarseg.deploy.targets import targets
    from lumbarseg.model import default

    wanted = targets(args.platform, args.python)
    progress = say.Progress("steps", len(wanted) + 2, pause=0.0)
    made = pack(args.model or default(), args.out, wanted, progress.step)
    progress.close()
    if args.json:
        say.as_json(
            {
                "file": str(made.path),
                "bytes": made.size,
                "sha256": made.digest,
                "wheels": made.wheels,
                "model": made.model,
                "targets": [str(target) for target in wanted],
            }
        )
    else:
        print(f"{made.path}: {made.size / 1e6:.1f} MB, {made.wheels} wheels\nsha256 {made.digest}")
        print("there: unzip it, then sh lumbarseg-offline/install.sh, or lumbarseg-offline\\install.bat on Windows")
    return say.DONE
