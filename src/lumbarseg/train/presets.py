"""Recipes with a name: how the model in the package was made, and every row of the page that this project began from.

`lumbarseg train --list-presets` tells them. Which datasets they are given is the user's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .settings import Settings


@dataclass(frozen=True)
class Founding:
    """What the founding page reached. dice: mean over its tags; effort, remark: in its own words."""

    dice: float
    effort: str
    remark: str = ""


@dataclass(frozen=True)
class Preset:
    """One recipe. text: one line for a person; init: what it begins with, "shipped" or "none".

    settings: beginning so; afresh: beginning from nothing all the same; founding: of the row that it repeats.
    """

    text: str
    settings: Settings
    init: str = "none"
    afresh: Settings | None = None
    founding: Founding | None = None

    def begun(self, with_weights: bool) -> Settings:
        """Its settings for a run that begins with weights, or from nothing."""
        return self.settings if with_weights or self.afresh is None else self.afresh


# from weights that already know the anatomy to the habits of new data: slowly, and keeping what the data leave open
_FINE = Settings(
    steps=1_500, rate=4e-4, warmup=20, average=0.99, distil=1.0, validate_every=100, patience=8, picture_every=250
)
# the same few exams without such weights: half an hour on two cores
_AFRESH = Settings(steps=3_000, validate_every=250, patience=8, picture_every=250)


@dataclass(frozen=True)
class _Row:
    """A row of the founding page. data: which datasets its user gave; changes: to the two recipes above."""

    data: str
    targets: tuple[str, ...]
    founding: Founding | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    def preset(self) -> Preset:
        """With the shipped weights, if nothing else is said."""
        what = " ".join(self.targets)
        method = self.changes.get("method", "segmentation")
        fold = f", fold {self.changes['fold']}" if "fold" in self.changes else ""
        fine, afresh = (replace(base, targets=self.targets, **self.changes) for base in (_FINE, _AFRESH))
        text = f"{self.data}: {what}; {method}{fold}"
        return Preset(text, fine, "shipped", afresh, self.founding)


_EPOCHS = "2000 epochs"
_CLICKS: dict[str, Any] = {"method": "deepedit", "steps": 2_000}
_PAIR: dict[str, Any] = {"seed": 1, "fold": "1/5"}  # of both phases: the same exams are held out

_ROWS = {
    "khalil-9": _Row("Khalil, 9 tags", ("all",), Founding(0.23, _EPOCHS)),
    "khalil-5": _Row("Khalil, 5 tags", ("vertebrae",), Founding(0.51, _EPOCHS)),
    "khalil-2": _Row("Khalil, 2 tags", ("L1", "L2"), Founding(0.52, _EPOCHS)),
    "chu-5": _Row("CHU, 5 tags", ("vertebrae",), Founding(0.92, _EPOCHS, "names mixed up")),
    "chu-1": _Row("CHU, 1 tag", ("spine",), Founding(0.94, _EPOCHS)),
    "deepedit-9": _Row("Khalil, 9 tags", ("all",), Founding(0.80, "200 epochs, 22 h on an RTX 3070"), _CLICKS),
    "vertebrae-55": _Row("Khalil and CHU, 55 exams", ("vertebrae",)),
    "discs-4": _Row("Khalil, or discs alone, 4 tags", ("discs",)),
    "two-phase-segmentation": _Row("Khalil, 9 tags", ("all",), changes=_PAIR),
    "two-phase-deepedit": _Row("Khalil, 9 tags", ("all",), changes=_CLICKS | _PAIR),
}

TABLE: dict[str, Preset] = {
    # datasets in this order: phantoms, T2 SPACE slabs, single T2 slices. Boundaries are learned from the slabs, every
    # contrast but T2 from the phantoms alone.
    "shipped": Preset(
        "how the model in the package was made",
        Settings(seed=1, steps=20_000, method="deepedit", channels=(32, 48, 96, 144, 176), shares=(0.5, 0.34, 0.16)),
    ),
    "fine": Preset("from the shipped weights to the habits of few new exams", _FINE, "shipped"),
    "quick": Preset(
        "a run that ends within a minute, to see that everything works",
        Settings(steps=60, batch=4, crop=96, channels=(8, 12, 16), warmup=10, average=0.9, validate_every=30),
    ),
    **{name: row.preset() for name, row in _ROWS.items()},
}

PRESETS: dict[str, Settings] = {name: preset.settings for name, preset in TABLE.items()}
