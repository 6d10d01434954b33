"""Recipes with a name: `lumbarseg train --preset shipped` is how the model in the package was made."""

from __future__ import annotations

from .settings import Settings

PRESETS: dict[str, Settings] = {
    # datasets in this order: phantoms, T2 SPACE slabs, single T2 slices. Boundaries are learned from the slabs, every
    # contrast but T2 from the phantoms alone.
    "shipped": Settings(seed=1, steps=8_000, channels=(32, 48, 96, 144, 176), shares=(0.6, 0.26, 0.14)),
    # from weights that already know the anatomy to the habits of new data: slowly, and keeping what the data leave open
    "fine": Settings(
        steps=1_500, rate=4e-4, warmup=20, average=0.99, distil=1.0, validate_every=100, patience=8, picture_every=250
    ),
    # a run that ends within a minute, to see that everything works
    "quick": Settings(steps=60, batch=4, crop=96, channels=(8, 12, 16), warmup=10, average=0.9, validate_every=30),
}
