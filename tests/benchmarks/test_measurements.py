"""The benchmark of measurements: structures are compared by position, differences summed up by kind."""

from __future__ import annotations

import numpy as np

from benchmarks import measurements
from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.volume import Array

L3, L4, L3_L4 = (structure_by_name(name).label for name in ("L3", "L4", "L3-L4"))


def column(*labels: int) -> Array:
    """Return blocks of 4 rows below each other, with a gap of 1."""
    array = np.zeros((1, 6, 5 * len(labels)), np.uint8)
    for i, label in enumerate(labels):
        array[:, 1:5, 5 * i : 5 * i + 4] = label
    return array


def test_structures_get_the_names_of_those_they_overlap() -> None:
    reference, prediction = column(7, 8), column(L4, L3)
    renamed = measurements.name_by_overlap(reference, {7: Kind.BODY, 8: Kind.BODY}, prediction)
    assert np.array_equal(renamed, prediction)
    shifted = np.zeros_like(prediction)
    shifted[:, 4:] = prediction[:, 1:3]  # overlaps one row of four
    assert not measurements.name_by_overlap(reference, {7: Kind.BODY, 8: Kind.BODY}, shifted).any()


def test_one_value_for_all_discs_is_taken_apart() -> None:
    reference, prediction = column(2, 2), column(L3_L4, 0)
    renamed = measurements.name_by_overlap(reference, {2: Kind.DISC}, prediction)
    assert np.array_equal(renamed, prediction)  # the second disc has no counterpart


def test_differences_become_bias_and_standard_deviation() -> None:
    differences = {("body", "depth"): [1.0, 2.0, 3.0], ("disc", "depth"): [1.0]}
    summary = measurements.summarise(differences)
    assert summary == {"body": {"depth": {"bias": 2.0, "sd": 1.0, "n": 3}}}
    summaries = {"phantoms": {}, "human": {}, "repeated": summary}
    assert measurements.package_table(summaries) == {"body": {"depth": 1.0}}
    assert measurements.format_table(summaries).splitlines()[2] == "| body | depth |  |  |  |  | 1.0 | 3 |"


def test_phantom_truth_is_compared_with_what_the_program_measures(bundled_model: measurements.Model) -> None:
    summary = measurements.summarise(measurements.phantom_differences(bundled_model, 1))
    assert abs(summary["body"]["middle"]["bias"]) < 3
    assert summary["disc"]["depth"]["n"] > 2
