"""The rows of the project page that this work started from: python -m benchmarks.project_page prints their commands.

The page reports trainings on two public datasets (Khalil, CHU) with nine, five, two or one labels. Each row has the
options of `lumbarseg train` that repeat it, and the Dice that the page reports, if it does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProjectPageRow:
    """One row. published_dice: mean over its labels; effort, remark: as the page describes them."""

    datasets: str
    targets: tuple[str, ...]
    published_dice: float | None = None
    effort: str = ""
    remark: str = ""
    options: tuple[str, ...] = ()

    def train_options(self, init: str = "shipped") -> list[str]:
        """Return the options of `lumbarseg train`: fine-tuning, or training from scratch with init "none"."""
        preset = "few-exams" if init == "none" else "fine"
        return ["--preset", preset, "--init", init, "--targets", *self.targets, *self.options]


_CLICKS = ("--method", "deepedit", "--steps", "2000")
_SAME_FOLD = ("--seed", "1", "--fold", "1/5")  # both phases validate on the same exams
_EPOCHS = "2000 epochs"

ROWS = {
    "khalil-9": ProjectPageRow("khalil", ("all",), 0.23, _EPOCHS),
    "khalil-5": ProjectPageRow("khalil", ("vertebrae",), 0.51, _EPOCHS),
    "khalil-2": ProjectPageRow("khalil", ("L1", "L2"), 0.52, _EPOCHS),
    "chu-5": ProjectPageRow("chu", ("vertebrae",), 0.92, _EPOCHS, "names mixed up"),
    "chu-1": ProjectPageRow("chu", ("spine",), 0.94, _EPOCHS),
    "deepedit-9": ProjectPageRow("khalil", ("all",), 0.80, "200 epochs, 22 h on an RTX 3070", options=_CLICKS),
    "vertebrae-55": ProjectPageRow("khalil chu", ("vertebrae",)),
    "discs-4": ProjectPageRow("khalil", ("discs",)),
    "two-phase-segmentation": ProjectPageRow("khalil", ("all",), options=_SAME_FOLD),
    "two-phase-deepedit": ProjectPageRow("khalil", ("all",), options=(*_CLICKS, *_SAME_FOLD)),
}


def main() -> None:
    """Print for each row the command that repeats it, and what the page reports."""
    for name, row in ROWS.items():
        folders = " ".join(f"data/{dataset}" for dataset in row.datasets.split())
        published = f"  # {row.published_dice:.2f} after {row.effort}" if row.published_dice is not None else ""
        remark = f", {row.remark}" if row.remark else ""
        print(f"lumbarseg train {folders} -o runs/{name} {' '.join(row.train_options())}{published}{remark}")


if __name__ == "__main__":
    main()
