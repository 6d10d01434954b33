"""The report as plain values."""

from __future__ import annotations

import json

import numpy as np

from lumbarseg import __version__
from lumbarseg.measurement import measure_structures
from lumbarseg.report import Provenance, build_report
from lumbarseg.report.exam_report import NOTICE

from .found import found

ABOUT = Provenance("exam.nii.gz", "shipped", "0123456789abcdef", ("volume 0 of 2",))


def test_the_report_is_json_and_says_what_was_answered_by_what() -> None:
    answer = found()
    told = build_report(answer, measure_structures(answer.labels), ABOUT)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["program"] == {"name": "lumbarseg", "version": __version__}
    assert told["model"] == {"name": "shipped", "digest": "0123456789abcdef"}
    assert told["exam"]["file"] == "exam.nii.gz"
    assert told["exam"]["shape"] == list(answer.labels.array.shape)
    assert np.allclose(told["exam"]["affine"], answer.labels.affine, atol=1e-5)
    assert json.dumps(told).count(NOTICE) == 1


def test_levels_keep_their_order_doubts_and_reasons() -> None:
    answer = found(uncertain=("L1",))
    told = build_report(answer, measure_structures(answer.labels), ABOUT)
    assert [level["name"] for level in told["levels"]] == [level.name for level in answer.levels]
    (l1,) = [level for level in told["levels"] if level["name"] == "L1"]
    assert (l1["uncertain"], l1["reasons"], l1["centre_mm"]) == (
        True,
        ["counted without an anchor"],
        [1.0, -20.0, 30.0],
    )
    assert told["uncertain"]
    assert told["warnings"] == ["names are uncertain"]
    assert not build_report(found(), [])["uncertain"]


def test_measurements_name_their_units_and_labels_their_structures() -> None:
    answer = found()
    told = build_report(answer, measure_structures(answer.labels), ABOUT)
    (l4,) = [row for row in told["measurements"] if row["name"] == "L4"]
    assert {"volume_ml", "anterior_mm", "tilt_top_deg", "canal_mm"} <= set(l4)
    assert {int(value) for value in told["labels"]} == set(np.unique(answer.labels.array).tolist()) - {0}
    assert told["labels"]["4"] == "L4"
    assert told["lordosis_l1_s1_deg"] > 10
