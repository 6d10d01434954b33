"""`lumbarseg pack [MODEL] -o PACK.zip`: write an offline pack."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.inference import default_model_path
from lumbarseg.packaging.offline_pack import write_pack
from lumbarseg.packaging.targets import PLATFORMS, PYTHON_VERSIONS, select_targets

from . import console, options

DESCRIPTION = (
    "Writes one ZIP file with the wheels of the core installation, a model, installers for Linux, macOS and Windows,\n"
    "checksums and licences. On a computer without a network, unzip it and run install.sh or install.bat.\n"
    "This command needs a network, because pip downloads the wheels."
)
EXAMPLE = "lumbarseg pack mine.onnx -o lumbarseg-offline.zip --platform windows --python 3.12"
_TARGET_OPTIONS = {"--platform": ("NAME", PLATFORMS), "--python": ("VERSION", PYTHON_VERSIONS)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="default model on the other computers (default: as here)"
    )
    options.add_shared_options(
        parser, "--output", metavar="FILE", help="ZIP file to write", default=Path("lumbarseg-offline.zip")
    )
    for option, (metavar, choices) in _TARGET_OPTIONS.items():
        text = f"{', '.join(choices)}; may be repeated (default: as on this computer)"
        parser.add_argument(option, action="append", default=[], metavar=metavar, help=text)
    options.add_shared_options(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Write the pack."""
    targets = select_targets(args.platform, args.python)
    with console.progress_bar("steps", len(targets) + 2) as bar:
        pack = write_pack(args.model or default_model_path(), args.output, targets, bar.advance)
    if args.json:
        values = {"file": str(pack.path), "bytes": pack.size, "sha256": pack.sha256, "wheels": pack.wheel_count}
        console.print_json({**values, "model": pack.model_file, "targets": [str(target) for target in targets]})
    else:
        print(f"{pack.path}: {pack.size / 1e6:.1f} MB, {pack.wheel_count} wheels\nsha256 {pack.sha256}")
        print("on the other computer: unzip it, then run sh lumbarseg-offline/install.sh")
        print("(on Windows lumbarseg-offline\\install.bat)")
    return console.EXIT_OK
