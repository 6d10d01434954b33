"""`lumbarseg train DATASET ... -o RUN`: a network from prepared datasets."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import ModelError
from lumbarseg.training.presets import PRESETS, TABLE
from lumbarseg.training.settings import NETWORKS

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.datasets import Dataset
    from lumbarseg.training.settings import TrainingSettings

METHODS = ("segmentation", "deepedit")
SMALL_DATASET_CASES = 200
"""Training cases below which a run begins with the shipped weights unless told otherwise."""


DESCRIPTION = (
    "Trains on prepared datasets (see: import, phantom). The run's folder holds the last checkpoint, the one that\n"
    "was best on held-out exams (best.pt), a page to look at (index.html), its figures (history.csv and\n"
    "result.json), the settings and a log for TensorBoard. A run that was stopped goes on with --resume as if it\n"
    "had not been; with more --epochs, --steps or --minutes it goes on longer.\n\n"
    f"With fewer than {SMALL_DATASET_CASES} training cases and no --preset it begins with the shipped weights (--init\n"
    "shipped)\n"
    "and the preset fine, else from nothing. The network learns tissues; names are counted along the column, so\n"
    "--targets never changes what L4 is. A tissue that nobody drew, and the first weights did not know, is never\n"
    "found. best.pt was chosen on the held-out exams, so their scores flatter it a little; export --last takes\n"
    "the weights of the last step."
)
EXAMPLE = "lumbarseg train data/mine -o runs/mine --targets vertebrae --fold 1/5 --minutes 20"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--preset", choices=PRESETS, metavar="NAME", help="a recipe with a name; other options change it"
    )
    parser.add_argument("--list-presets", action=_ListPresets, nargs=0, help="tell the recipes and leave")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on with the run in RUN, with its settings")
    start.add_argument("--init", metavar="FROM", help="begin with: shipped, none, a RUN or a model file")
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="deepedit: the model reads clicks, too, for segment --clicks (default: segmentation)",
    )
    parser.add_argument(
        "--network",
        choices=NETWORKS,
        help="planar reads five slices and is quick (default); the others are MONAI's, unet, dynunet and segresnet in "
        "3-D, sized by --memory, and begin from nothing or another RUN of theirs",
    )
    parser.add_argument(
        "--memory",
        dest="memory_gb",
        type=options.memory_size_gb,
        metavar="SIZE",
        help="what training may need, like 8GB: sets channels, batch and crop of MONAI's networks (default there: 8GB) "
        "and the batch of the planar one, unless these are given",
    )
    parser.add_argument(
        "--targets",
        nargs="+",
        metavar="T",
        help="what is scored and painted: tissues, levels, vertebrae (L1-L5), discs (L1-L2..L4-L5), all (these nine), "
        'spine (all bodies as one), or names like "L1 L2" or L4-L5 (default: everything that was drawn)',
    )
    for name, kind, text in (
        ("epochs", options.positive_int, "how often each training slice is seen, on average; instead of --steps"),
        ("steps", options.positive_int, "how many steps in all"),
        ("minutes", float, "of work at most; the learning rate falls with the time"),
        ("patience", options.non_negative_int, "validations without a better score after which to stop; 0: never"),
        ("fold", str, "K/N: hold out every N-th patient, the K-th kind of them"),
        ("seed", options.non_negative_int, "of everything that is drawn, folds too"),
        ("batch-size", options.positive_int, "samples per step, of all processes together"),
        ("crop-size", options.positive_int, "size of a sample, mm"),
        ("learning-rate", float, "highest learning rate"),
        ("precision", str, "auto, bf16, float16 or float32"),
        ("threads", options.non_negative_int, "of the arithmetic; 0: one per core"),
        ("loader-threads", options.positive_int, "threads that prepare samples"),
        ("validation-interval", options.positive_int, "steps between validations"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar=name[0].upper(), help=text)
    parser.add_argument(
        "--sampling-weights", type=float, nargs="+", metavar="W", help="share of the samples, per dataset"
    )
    parser.add_argument(
        "--contrast", dest="contrasts", nargs="+", metavar="C", help="only cases of these contrasts, as datasets say"
    )


class _ListPresets(argparse.Action):
    """Tells the recipes, as --help tells the options."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print and leave."""
        width = max(map(len, TABLE))
        for name, preset in TABLE.items():
            start = f"; begins with: {preset.init}" if preset.init != "none" else ""
            print(f"{name:{width}}  {preset.description}{start}")
        parser.exit()


SETTING_OPTIONS = (
    *("targets", "epochs", "steps", "minutes", "patience", "fold", "seed", "precision"),
    *("batch_size", "crop_size", "learning_rate", "sampling_weights", "loader_threads", "validation_interval"),
    *("method", "network", "memory_gb", "threads", "contrasts"),
)
"""Settings that have an option of their own."""


def run(args: argparse.Namespace) -> int:
    """Train to the last step."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.training.case_selection import select_cases
    from lumbarseg.training.distributed import is_main_process
    from lumbarseg.training.trainer import train

    from .run_page import PAGE_FILE, update_run_page

    datasets = [Dataset.open(folder) for folder in args.datasets]
    init = None if args.resume else _choose_initial_weights(args, datasets)
    settings = _settings(args, init)
    about = {"fold": settings.fold} if settings.fold else {}
    about |= {"preset": args.preset} if args.preset else {}
    path = train(settings, select_cases(settings, datasets), args.output, args.resume, init, about, update_run_page)
    if is_main_process():
        print(f"{path}\n{args.output / PAGE_FILE}\nnext: lumbarseg export {args.output} -o {args.output.name}.onnx")
    return console.EXIT_OK


def _choose_initial_weights(args: argparse.Namespace, datasets: list[Dataset]) -> str | None:
    """What the run begins with, None for nothing."""
    from lumbarseg.inference import bundled_model_path

    if args.init:
        return None if args.init == "none" else str(args.init)
    if args.preset and TABLE[args.preset].init == "none":
        return None
    if args.network not in (None, "planar"):  # the shipped weights are planar
        return None
    if not args.preset and sum(len(dataset.cases("train")) for dataset in datasets) >= SMALL_DATASET_CASES:
        return None
    try:
        return str(bundled_model_path())
    except ModelError:
        return None


def _settings(args: argparse.Namespace, init: str | None) -> TrainingSettings:
    """The preset's, or the resumed run's own, changed by what was said."""
    from lumbarseg.training.initial_weights import InitialWeights
    from lumbarseg.training.settings import TrainingSettings

    changes: dict[str, Any] = {name: getattr(args, name) for name in SETTING_OPTIONS if getattr(args, name) is not None}
    if args.steps:
        changes.setdefault("epochs", 0)
    preset = args.preset or ("fine" if init else None)
    base = TABLE[preset].settings_for(init is not None) if preset else TrainingSettings()
    if init:
        start = InitialWeights.load(init)
        if args.network not in (None, start.network):
            raise ModelError(f"{start.path}: is a {start.network} network, no {args.network}; begin with --init none")
        base = replace(base, channels=start.channels, network=start.network, depth=start.spec.depth)
        changes |= {"channels": start.channels}
    if args.resume:
        path = args.output / "settings.json"
        try:
            base = TrainingSettings.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise ModelError(f"{path}: cannot be read, so there is no run to resume: {error}") from error
    elif args.memory_gb or changes.get("network", base.network) != "planar":
        from lumbarseg.training.memory_budget import settings_for_budget

        return settings_for_budget(base, changes)
    return replace(base, **changes)
