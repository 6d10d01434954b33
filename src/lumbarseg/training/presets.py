"""Recipes with a name: how the model in the package was made, and every row of the page that this project began from.

`lumbarseg train --list-presets` tells them. Which datasets they are given is the user's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .settings import TrainingSettings


@dataclass(frozen=True)
class ProjectPageResult:
    """What the founding page reached. dice: mean over its tags; effort, remark: in its own words."""

    dice: float
    effort: str
    remark: str = ""


@dataclass(frozen=True)
class Preset:
    """One recipe. text: one line for a person; init: what it begins with, "shipped" or "none".

    settings: beginning so; afresh: beginning from nothing all the same; founding: of the row that it repeats.
    """

    description: str
    settings: TrainingSettings
    init: str = "none"
    settings_from_scratch: TrainingSettings | None = None
    project_page_result: ProjectPageResult | None = None

    def settings_for(self, with_weights: bool) -> TrainingSettings:
        """Its settings for a run that begins with weights, or from nothing."""
        return self.settings if with_weights or self.settings_from_scratch is None else self.settings_from_scratch


# from weights that already know the anatomy to the habits of new data: slowly, and keeping what the data leave open
_FINE_TUNING = TrainingSettings(
    steps=1_500,
    learning_rate=4e-4,
    warmup_steps=20,
    ema_decay=0.99,
    distillation_weight=1.0,
    validation_interval=100,
    patience=8,
    image_interval=250,
)
# the same few exams without such weights: half an hour on two cores
_FROM_SCRATCH = TrainingSettings(steps=3_000, validation_interval=250, patience=8, image_interval=250)


@dataclass(frozen=True)
class _ProjectPageRow:
    """A row of the founding page. data: which datasets its user gave; changes: to the two recipes above."""

    data: str
    targets: tuple[str, ...]
    project_page_result: ProjectPageResult | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def preset(self) -> Preset:
        """With the shipped weights, if nothing else is said."""
        what = " ".join(self.targets)
        method = self.changes.get("method", "segmentation")
        fold = f", fold {self.changes['fold']}" if "fold" in self.changes else ""
        fine, afresh = (replace(base, targets=self.targets, **self.changes) for base in (_FINE_TUNING, _FROM_SCRATCH))
        text = f"{self.data}: {what}; {method}{fold}"
        return Preset(text, fine, "shipped", afresh, self.project_page_result)


_PAGE_EPOCHS = "2000 epochs"
_CLICKS: dict[str, Any] = {"method": "deepedit", "steps": 2_000}
_PAIR: dict[str, Any] = {"seed": 1, "fold": "1/5"}  # of both phases: the same exams are held out

_ROWS = {
    "khalil-9": _ProjectPageRow("Khalil, 9 tags", ("all",), ProjectPageResult(0.23, _PAGE_EPOCHS)),
    "khalil-5": _ProjectPageRow("Khalil, 5 tags", ("vertebrae",), ProjectPageResult(0.51, _PAGE_EPOCHS)),
    "khalil-2": _ProjectPageRow("Khalil, 2 tags", ("L1", "L2"), ProjectPageResult(0.52, _PAGE_EPOCHS)),
    "chu-5": _ProjectPageRow("CHU, 5 tags", ("vertebrae",), ProjectPageResult(0.92, _PAGE_EPOCHS, "names mixed up")),
    "chu-1": _ProjectPageRow("CHU, 1 tag", ("spine",), ProjectPageResult(0.94, _PAGE_EPOCHS)),
    "deepedit-9": _ProjectPageRow(
        "Khalil, 9 tags", ("all",), ProjectPageResult(0.80, "200 epochs, 22 h on an RTX 3070"), _CLICKS
    ),
    "vertebrae-55": _ProjectPageRow("Khalil and CHU, 55 exams", ("vertebrae",)),
    "discs-4": _ProjectPageRow("Khalil, or discs alone, 4 tags", ("discs",)),
    "two-phase-segmentation": _ProjectPageRow("Khalil, 9 tags", ("all",), changes=_PAIR),
    "two-phase-deepedit": _ProjectPageRow("Khalil, 9 tags", ("all",), changes=_CLICKS | _PAIR),
}

TABLE: dict[str, Preset] = {
    # datasets in this order: phantoms, T2 SPACE slabs, single T2 slices. Boundaries are learned from the slabs, every
    # contrast but T2 from the phantoms alone.
    "shipped": Preset(
        "how the model in the package was made",
        TrainingSettings(
            seed=1, steps=20_000, method="deepedit", channels=(32, 48, 96, 144, 176), sampling_weights=(0.5, 0.34, 0.16)
        ),
    ),
    "fine": Preset("from the shipped weights to the habits of few new exams", _FINE_TUNING, "shipped"),
    "quick": Preset(
        "a run that ends within a minute, to see that everything works",
        TrainingSettings(
            steps=60,
            batch_size=4,
            crop_size=96,
            channels=(8, 12, 16),
            warmup_steps=10,
            ema_decay=0.9,
            validation_interval=30,
        ),
    ),
    **{name: row.preset() for name, row in _ROWS.items()},
}

PRESETS: dict[str, TrainingSettings] = {name: preset.settings for name, preset in TABLE.items()}
