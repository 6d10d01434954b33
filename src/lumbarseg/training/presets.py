"""Named training settings, among them those of the installed model; `lumbarseg train --list-presets` lists them."""

from __future__ import annotations

from dataclasses import dataclass

from .settings import TrainingSettings


@dataclass(frozen=True)
class Preset:
    """Settings with one line of description. init: initial weights, "shipped" or "none"."""

    description: str
    settings: TrainingSettings
    init: str = "none"


PRESETS: dict[str, Preset] = {
    # datasets in this order: phantoms, T2 SPACE slabs, single T2 slices. Boundaries are learned from the slabs, all
    # contrasts except T2 from the phantoms alone.
    "shipped": Preset(
        "how the installed model was trained",
        TrainingSettings(
            seed=1, steps=20_000, method="deepedit", channels=(32, 48, 96, 144, 176), sampling_weights=(0.5, 0.34, 0.16)
        ),
    ),
    # from weights that know the anatomy to the annotation style of new data: slowly, and distilling the initial
    # network's predictions where the new labels leave the class open
    "fine": Preset(
        "fine-tune the installed model on few new exams",
        TrainingSettings(
            steps=1_500,
            learning_rate=4e-4,
            warmup_steps=20,
            ema_decay=0.99,
            distillation_weight=1.0,
            validation_interval=100,
            patience=8,
            image_interval=250,
        ),
        init="shipped",
    ),
    "few-exams": Preset(
        "train on few exams from scratch: half an hour on two cores",
        TrainingSettings(steps=3_000, validation_interval=250, patience=8, image_interval=250),
    ),
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
}

SMALL_DATASET_CASES = 200
"""Training cases below which a run without a preset starts from the installed model."""
