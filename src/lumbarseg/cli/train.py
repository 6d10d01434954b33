"""`lumbarseg train DATASET ... -o RUN`: train a network on prepared datasets."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.training.presets import PRESETS, SMALL_DATASET_CASES
from lumbarseg.training.settings import METHODS, NETWORKS, PRECISIONS, TrainingSettings

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.training.run_options import RunOptions

DESCRIPTION = (
    "Trains on prepared datasets (see: import, phantom). The run's folder holds the last checkpoint, the one with the\n"
    "best validation score (best.pt), a page (index.html), the history and the scores (history.csv, result.json), the\n"
    "settings and a log for TensorBoard. A run from initial weights validates them first: point 0 of page and table.\n"
    "--resume continues a run that was stopped as if it had never stopped; with more --epochs, --steps or --minutes\n"
    "it trains longer.\n\n"
    f"With fewer than {SMALL_DATASET_CASES} training cases and without --preset, it fine-tunes the installed model\n"
    "(--init shipped, preset fine); otherwise it trains from scratch. The network learns tissues; level names are\n"
    "counted along the spine, so --targets never changes what L4 is. A tissue that no dataset annotates, and that the\n"
    "initial weights do not know, is never predicted. The weights of best.pt were selected on the validation exams,\n"
    "so their scores are slightly too good; export --last takes the weights of the last step."
)
EXAMPLE = "lumbarseg train data/mine -o runs/mine --targets vertebrae --fold 1/5 --minutes 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of the command; an option that is not given does not appear in the result."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    options.add_shared_options(parser, "--output", metavar="RUN", help="folder of the run", required=True)
    parser.add_argument(
        "--preset", choices=PRESETS, default="", metavar="NAME", help="named settings; other options change them"
    )
    parser.add_argument("--list-presets", action=_ListPresets, nargs=0, help="list the presets and exit")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run in RUN with its settings")
    start.add_argument(
        "--init", default="", metavar="FROM", help="initial weights: shipped, none, a RUN or a model file"
    )
    parser.add_argument(
        "--cross-validate",
        type=options.positive_int,
        default=0,
        metavar="K",
        help="train K runs in RUN/fold-1 ... RUN/fold-K, each validated on other patients, and compare them in RUN; "
        "repeated, it goes on",
    )
    for name, keywords in _SETTING_OPTIONS.items():
        parser.add_argument(name, default=argparse.SUPPRESS, **keywords)


_SETTING_OPTIONS: dict[str, dict[str, Any]] = {
    "--method": {
        "choices": METHODS,
        "help": "deepedit: the model also reads clicks, for segment --clicks (default: segmentation)",
    },
    "--network": {
        "choices": NETWORKS,
        "help": "planar reads five slices and is fast (default); the others are MONAI's, unet, dynunet and segresnet "
        "in 3-D, sized by --memory, and start from scratch or from a RUN of the same network",
    },
    "--memory": {
        "dest": "memory_gb",
        "type": options.memory_size_gb,
        "metavar": "SIZE",
        "help": "memory for training, like 8GB: sets channels, batch and crop size of MONAI's networks (default there: "
        "8GB) and the batch size of the planar one, unless these are given",
    },
    "--targets": {
        "nargs": "+",
        "metavar": "T",
        "help": "what is scored and predicted: tissues, levels, vertebrae (L1-L5), discs (L1-L2..L4-L5), all (these "
        'nine), spine (all bodies as one), or names like "L1 L2" or L4-L5 (default: everything annotated)',
    },
    "--epochs": {"type": options.positive_int, "metavar": "E", "help": "passes over the training slices"},
    "--steps": {"type": options.positive_int, "metavar": "S", "help": "steps in all, instead of --epochs"},
    "--minutes": {
        "type": options.positive_number,
        "metavar": "M",
        "help": "time limit, validations included; the learning rate falls with the time",
    },
    "--patience": {
        "type": options.non_negative_int,
        "metavar": "P",
        "help": "stop after so many validations without a better score; 0: never",
    },
    "--fold": {"metavar": "K/N", "help": "use fold K of N, split by patient, for validation"},
    "--contrast": {"dest": "contrasts", "nargs": "+", "metavar": "C", "help": "use only cases of these contrasts"},
    "--seed": {"type": options.non_negative_int, "metavar": "S", "help": "seed of sampling, weights and folds"},
    "--batch-size": {
        "type": options.positive_int,
        "metavar": "B",
        "help": "samples per step, of all processes together",
    },
    "--crop-size": {"type": options.positive_int, "metavar": "C", "help": "width of a sample in mm"},
    "--learning-rate": {"type": options.positive_number, "metavar": "R", "help": "highest learning rate"},
    "--sampling-weights": {"type": float, "nargs": "+", "metavar": "W", "help": "share of the samples per dataset"},
    "--precision": {"choices": PRECISIONS, "help": "number format of the network (default: auto)"},
    "--threads": {"type": options.non_negative_int, "metavar": "N", "help": "for arithmetic; 0: one per core"},
    "--loader-threads": {"type": options.positive_int, "metavar": "N", "help": "threads that prepare samples"},
    "--validation-interval": {"type": options.positive_int, "metavar": "N", "help": "steps between validations"},
}
"""Options that change a setting: their keywords for `add_argument`."""


class _ListPresets(argparse.Action):
    """Lists the presets, as --help lists the options."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the presets and exit."""
        width = max(map(len, PRESETS))
        for name, preset in PRESETS.items():
            init = f"; initial weights: {preset.init}" if preset.init != "none" else ""
            print(f"{name:{width}}  {preset.description}{init}")
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Train to the last step."""
    from lumbarseg.training.checkpoint import CHECKPOINT_FILE
    from lumbarseg.training.distributed import is_main_process
    from lumbarseg.training.run_options import RunOptions, run_training

    from .run_page import PAGE_FILE, update_run_page

    values = vars(args)
    changes = {f.name: values[f.name] for f in fields(TrainingSettings) if f.name in values}
    run_options = RunOptions(args.datasets, args.output, args.resume, args.preset, args.init, changes)
    try:
        if args.cross_validate:
            return _cross_validate(run_options, args)
        path = run_training(run_options, update_run_page)
    except KeyboardInterrupt:
        has_checkpoint = not args.cross_validate and (args.output / CHECKPOINT_FILE).exists()
        command = "the same command with --resume" if has_checkpoint else "the same command"
        action = "goes on from the last checkpoint" if has_checkpoint or args.cross_validate else "starts again"
        console.print_error(f"interrupted; {command} {action}")
        return console.EXIT_INTERRUPTED
    if is_main_process():
        print(f"{path}\n{args.output / PAGE_FILE}\nnext: lumbarseg export {args.output} -o {args.output.name}.onnx")
    return console.EXIT_OK


def _cross_validate(run_options: RunOptions, args: argparse.Namespace) -> int:
    """Train one run for each fold, and compare them."""
    from lumbarseg.training.cross_validation import cross_validate
    from lumbarseg.training.distributed import is_main_process

    from .compare import format_tables, read_rows, write_page
    from .run_page import PAGE_FILE, update_run_page

    if args.resume or "fold" in args or args.cross_validate < 2:
        args.usage_error("--cross-validate takes 2 folds or more, and neither --fold nor --resume")
    folders = list(cross_validate(run_options, args.cross_validate, update_run_page))
    if is_main_process():
        write_page(args.output / PAGE_FILE, folders)
        print("\n".join(format_tables(read_rows(folders))))
        print(args.output / PAGE_FILE)
    return console.EXIT_OK
