"""Means with bootstrap intervals and tests of differences, over patients: exams of one patient are not independent."""

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

_MAX_EXACT_PATIENTS = 12  # up to here all sign patterns are tried, 4096 at most
_RANDOM_SIGN_FLIPS = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean or a ratio with its 95 % interval.

    low, high : bounds of the interval, None with one patient
    count : number of values in the mean
    left_out : number of infinite values, which are in no mean: distances to structures that were not predicted
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    patients: int
    left_out: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)


def bootstrap_mean(
    values: Sequence[float],
    patients: Sequence[str],
    weights: Sequence[float] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the mean of values, or their sum divided by the sum of weights, with a 95 % interval over patients.

    Patients are resampled with replacement, each with all of their values (cluster bootstrap, percentile interval:
    Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8 and 5.3).

    Parameters
    ----------
    values, patients, weights : of equal length, in any order; patients are the owners of the values
    """
    value = np.asarray(values, np.float64)
    weight = np.ones_like(value) if weights is None else np.asarray(weights, np.float64)
    finite = np.isfinite(value)
    owners, index = np.unique(np.asarray(patients, dtype=str)[finite], return_inverse=True)
    value_sums = np.bincount(index, value[finite], minlength=len(owners))
    weight_sums = np.bincount(index, weight[finite], minlength=len(owners))
    left_out, count = int((~finite).sum()), int(finite.sum())
    if not weight_sums.sum():
        return Estimate(None, None, None, count, len(owners), left_out)
    mean = float(value_sums.sum() / weight_sums.sum())
    if len(owners) < 2:
        return Estimate(mean, None, None, count, len(owners), left_out)
    resampled = _resample_counts(len(owners), resamples, seed)
    totals = resampled @ weight_sums
    means = (resampled @ value_sums)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(means, INTERVAL_PERCENTILES)
    return Estimate(mean, float(low), float(high), count, len(owners), left_out)


def permutation_test(differences: Sequence[float], patients: Sequence[str], seed: int = 0) -> float | None:
    """Return the two-sided p-value of a mean difference between two models that would be exchangeable.

    The signs of a patient's differences are flipped together. With up to 12 patients that differ all sign patterns are
    tried, else 10,000 random ones. Source: Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005, 3.2.

    Parameters
    ----------
    differences, patients : of equal length, in any order

    Returns
    -------
    None with one patient.
    """
    owners, index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    if len(owners) < 2:
        return None
    sums = np.bincount(index, np.asarray(differences, np.float64), minlength=len(owners))
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
    """(resamples, patients) float64: how often each patient is drawn, the same for all measures."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)
