"""`lumbarseg pack [MODEL] -o PACK.zip`: everything for a computer without network, in one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import console, options

DESCRIPTION = (
    "Writes one zip file with the wheels of the core install, a model, installers for Linux, macOS and Windows,\n"
    "checksums and licences. There: unzip it and run install.sh or install.bat. The wheels are fetched by pip, so\n"
    "here a network is needed, and there none."
)
EXAMPLE = "lumbarseg pack mine.onnx -o lumbarseg-offline.zip --platform windows --python 3.12"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="the model that answers there (default: the one here)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("lumbarseg-offline.zip"), metavar="FILE", help="the zip file to write"
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
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Pack."""
    from lumbarseg.inference import default_model_path
    from lumbarseg.packaging.offline_pack import write_pack
    from lumbarseg.packaging.targets import select_targets

    wanted = select_targets(args.platform, args.python)
    with console.progress_bar("steps", len(wanted) + 2) as bar:
        made = write_pack(args.model or default_model_path(), args.output, wanted, bar.advance)
    if args.json:
        console.print_json(
            {
                "file": str(made.path),
                "bytes": made.size,
                "sha256": made.sha256,
                "wheels": made.wheel_count,
                "model": made.model_file,
                "targets": [str(target) for target in wanted],
            }
        )
    else:
        print(f"{made.path}: {made.size / 1e6:.1f} MB, {made.wheel_count} wheels\nsha256 {made.sha256}")
        print("there: unzip it, then sh lumbarseg-offline/install.sh, or lumbarseg-offline\\install.bat on Windows")
    return console.EXIT_OK
