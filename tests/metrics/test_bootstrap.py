"""Intervals and p-values that are known beforehand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.metrics.bootstrap import bootstrap_mean, permutation_test
from lumbarseg.metrics.summary import compare_models, summarize_groups, worst_rows

PATIENTS = ["a", "a", "b", "c", "c", "c"]


def test_the_bootstrap_of_a_constant_is_a_point() -> None:
    result = bootstrap_mean([0.7] * 6, PATIENTS)
    assert (result.mean, result.low, result.high) == pytest.approx((0.7, 0.7, 0.7))
    assert (result.count, result.patients, result.left_out) == (6, 3, 0)


def test_one_patient_has_no_interval() -> None:
    result = bootstrap_mean([0.4, 0.6], ["a", "a"])
    assert (result.mean, result.low, result.high) == (0.5, None, None)
    assert bootstrap_mean([], []).mean is None


def test_infinite_values_are_counted_and_in_no_mean() -> None:
    result = bootstrap_mean([1.0, np.inf, 3.0], ["a", "b", "c"])
    assert (result.mean, result.count, result.patients, result.left_out) == (2.0, 2, 2, 1)
    assert bootstrap_mean([np.inf], ["a"]).to_dict()["mean"] is None


def test_two_patients_give_the_three_means_there_are() -> None:
    """Drawn twice from 0 and 1: 0, 1/2 or 1, with a quarter, a half and a quarter of the draws."""
    result = bootstrap_mean([0.0, 1.0], ["a", "b"])
    assert (result.mean, result.low, result.high) == (0.5, 0.0, 1.0)


def test_exams_of_one_patient_are_resampled_together() -> None:
    rng = np.random.default_rng(1)
    values = np.repeat(rng.normal(size=20), 10)
    together = bootstrap_mean(values.tolist(), np.repeat(np.arange(20), 10).astype(str).tolist())
    apart = bootstrap_mean(values.tolist(), [str(i) for i in range(200)])
    assert together.mean == pytest.approx(apart.mean)
    assert together.low is not None and together.high is not None and apart.low is not None and apart.high is not None
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_the_interval_is_that_of_the_normal_where_values_are_normal() -> None:
    values = np.random.default_rng(2).normal(5, 2, 400)
    result = bootstrap_mean(values.tolist(), [str(i) for i in range(400)])
    half = 1.96 * values.std() / 20
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_a_ratio_is_of_sums_not_a_mean_of_ratios() -> None:
    result = bootstrap_mean([1.0, 0.0, 3.0], ["a", "b", "c"], [1.0, 1.0, 8.0])
    assert result.mean == pytest.approx(0.4)
    assert bootstrap_mean([0.0], ["a"], [0.0]).mean is None


@given(st.permutations(range(6)), st.integers(0, 10))
def test_the_order_of_the_rows_does_not_matter(order: list[int], seed: int) -> None:
    values = [0.1, 0.5, 0.7, 0.2, 0.9, 0.4]
    before = bootstrap_mean(values, PATIENTS, seed=seed)
    after = bootstrap_mean([values[i] for i in order], [PATIENTS[i] for i in order], seed=seed)
    assert (before.mean, before.low, before.high) == pytest.approx((after.mean, after.low, after.high))


def test_signs_are_tried_one_by_one() -> None:
    gaps = [0.3, 0.1, 0.2, -0.05]
    people = list("abcd")
    every = [
        abs(sum(s * g for s, g in zip(signs, gaps, strict=True))) for signs in itertools.product((1, -1), repeat=4)
    ]
    assert permutation_test(gaps, people) == np.mean([value >= sum(gaps) - 1e-12 for value in every])
    assert permutation_test([0.2] * 5, list("abcde")) == 2 / 2**5
    assert permutation_test([0.0] * 5, list("abcde")) == 1
    assert permutation_test([0.2, 0.3], ["a", "a"]) is None


def test_many_patients_use_random_signs_and_a_clear_difference_is_significant() -> None:
    people = [str(i) for i in range(40)]
    assert permutation_test([0.1] * 40, people) == pytest.approx(1 / 10_001)
    balanced = permutation_test([0.1, -0.1] * 20, people)
    assert balanced == 1


def rows(dice: dict[str, float], **facts: str) -> list[dict[str, object]]:
    columns = {"dataset": "d", "contrast": "T2", "structure": "L4"} | facts
    return [columns | {"case": f"{name}1", "patient": name, "dice": value} for name, value in dice.items()]


def test_a_model_against_itself_differs_by_nothing() -> None:
    first = rows({"a": 0.9, "b": 0.8, "c": 0.4})
    (result,) = compare_models(first, first, ("structure",), "dice")
    assert (result.difference.mean, result.difference.low, result.difference.high) == (0, 0, 0)
    assert (result.p_value, result.first_higher, result.first_lower) == (1, 0, 0)


def test_pairs_are_of_the_same_exam_and_infinite_ones_are_left_out() -> None:
    first = rows({"c": 0.5, "a": 0.9, "b": 0.8, "only here": 0.1})
    second = rows({"a": 0.7, "b": float("inf"), "c": 0.6, "only there": 0.2})
    (result,) = compare_models(first, second, ("structure",), "dice")
    assert result.difference.mean == pytest.approx((0.2 - 0.1) / 2)
    assert (result.first, result.second) == pytest.approx((0.7, 0.65))
    assert (result.difference.count, result.difference.left_out, result.first_higher, result.first_lower) == (
        2,
        1,
        1,
        1,
    )
    assert result.to_dict()["group"] == ["L4"]


def test_lines_are_in_the_order_of_the_spine() -> None:
    names = ["canal", "L4-L5", "L5", "T12", "L4 vertebra", "L4"]
    many = [row for name in names for row in rows({"a": 0.5, "b": 0.7}, structure=name)]
    result = summarize_groups(many, ("structure",), ("dice",))
    assert [line.group[0] for line in result] == ["T12", "L4", "L5", "L4 vertebra", "L4-L5", "canal"]
    assert {(line.exams, line.patients) for line in result} == {(2, 2)}


def test_groups_without_a_value_are_called_unknown_and_what_is_none_does_not_count() -> None:
    some = [*rows({"a": 0.5, "b": 0.7}), *rows({"c": 0.9}, contrast="")]
    some[0]["dice"] = None
    result = {line.group: line.estimates["dice"] for line in summarize_groups(some, ("contrast",), ("dice",))}
    assert result[("T2",)].count == result[("unknown",)].count == 1
    assert result[("unknown",)].low is None


def test_the_worst_come_first() -> None:
    assert [row["patient"] for row in worst_rows(rows({"a": 0.9, "b": 0.2, "c": 0.4}), "dice", 2)] == ["b", "c"]
