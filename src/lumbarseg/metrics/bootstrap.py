"""Means with their intervals, and differences of two models, over patients: exams of one person are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from lumbarseg.volume import Array

RESAMPLES = 2000
INTERVAL_PERCENTILES = (2.5, 97.5)
"""Percentiles of the bootstrap that bound its 95 % interval."""

_MAX_EXACT_PATIENTS = 12  # patients up to which every choice of signs is tried: 4096 of them
_RANDOM_SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio. low, high: its 95 % interval, None with one patient; count: values that it is made of.

    left_out: values that were infinite and are in no mean, for example distances to what was not found.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    patients: int
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def bootstrap_mean(
    values: Sequence[float],
    patients: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """The mean of values, or the sum of values by the sum of weights, with a 95 % bootstrap interval over patients.

    values, patients, weights: of equal length, in any order; patients: whose value it is. Patients are drawn with
    replacement, each with all of their values (cluster bootstrap, percentile interval: Davison and Hinkley, Bootstrap
    Methods and their Application, 1997, 3.8 and 5.3).
    """
    value = np.asarray(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, np.float64)
    finite = np.isfinite(value)
    people, index = np.unique(np.asarray(patients, dtype=str)[finite], return_inverse=True)
    top = np.bincount(index, value[finite], minlength=len(people))
    bottom = np.bincount(index, weight[finite], minlength=len(people))
    left_out, count = int((~finite).sum()), int(finite.sum())
    if not bottom.sum():
        return Estimate(None, None, None, count, len(people), left_out)
    mean = float(top.sum() / bottom.sum())
    if len(people) < 2:
        return Estimate(mean, None, None, count, len(people), left_out)
    chosen = _resample_counts(len(people), resamples, seed)
    totals = chosen @ bottom
    means = (chosen @ top)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(means, INTERVAL_PERCENTILES)
    return Estimate(mean, float(low), float(high), count, len(people), left_out)


def permutation_test(differences: Sequence[float], patients: Sequence[str], seed: int = 0) -> float | None:
    """Probability of a mean difference at least this far from 0 if the two models were exchangeable, two-sided.

    differences, patients: of equal length; the signs of a patient's differences are turned together. With up to 12
    patients that differ every choice of signs is tried, else 10,000 are drawn. None with one patient. Source: Good,
    Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, 3.2.
    """
    people, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(people) < 2:
        return None
    sums = np.bincount(index, np.asarray(differences, np.float64), minlength=len(people))
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    bound = abs(sums.sum()) - 1e-9 * np.abs(sums).sum()
    if len(sums) <= _MAX_EXACT_PATIENTS:
        signs = np.array(list(product((1.0, -1.0), repeat=len(sums))))
        return float((np.abs(signs @ sums) >= bound).mean())
    signs = np.random.default_rng(seed).choice((1.0, -1.0), (_RANDOM_SIGN_FLIPS, len(sums)))
    return float((1 + (np.abs(signs @ sums) >= bound).sum()) / (1 + _RANDOM_SIGN_FLIPS))


@lru_cache(maxsize=8)
def _resample_counts(patients: int, resamples: int, seed: int) -> Array:
    """(draws, people) how often each patient is drawn; the same for every figure, so that figures can be compared."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)
