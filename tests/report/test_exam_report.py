"""The report of an exam as values for JSON."""

from __future__ import annotations

import json

import numpy as np

from lumbarseg import __version__
from lumbarseg.measurement import measure_structures
from lumbarseg.report import ReportSource, build_report
from lumbarseg.report.exam_report import MEASUREMENT_COLUMNS, NOTICE, measurement_rows

from .segmented_phantom import phantom_segmentation

SOURCE = ReportSource("exam.nii.gz", "shipped", "0123456789abcdef", ("volume 0 of 2",))


def test_the_report_is_json_and_names_exam_model_and_program() -> None:
    segmentation = phantom_segmentation()
    report = build_report(segmentation, measure_structures(segmentation.labels), SOURCE)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["program"] == {"name": "lumbarseg", "version": __version__}
    assert report["model"] == {"name": "shipped", "digest": "0123456789abcdef"}
    assert report["exam"]["file"] == "exam.nii.gz"
    assert report["exam"]["shape"] == list(segmentation.labels.array.shape)
    assert np.allclose(report["exam"]["affine"], segmentation.labels.affine, atol=1e-5)
    assert json.dumps(report).count(NOTICE) == 1


def test_levels_keep_order_uncertainty_and_reasons() -> None:
    segmentation = phantom_segmentation(uncertain=("L1",))
    report = build_report(segmentation, measure_structures(segmentation.labels), SOURCE)
    assert [level["name"] for level in report["levels"]] == [level.name for level in segmentation.levels]
    (l1,) = [level for level in report["levels"] if level["name"] == "L1"]
    assert (l1["uncertain"], l1["reasons"], l1["centre_mm"]) == (
        True,
        ["counted without an anchor"],
        [1.0, -20.0, 30.0],
    )
    assert report["uncertain"]
    assert report["warnings"] == ["names are uncertain"]
    assert not build_report(phantom_segmentation(), [])["uncertain"]


def test_measurement_keys_end_with_units_and_labels_have_names() -> None:
    segmentation = phantom_segmentation()
    report = build_report(segmentation, measure_structures(segmentation.labels), SOURCE)
    (l4,) = [row for row in report["measurements"] if row["name"] == "L4"]
    assert {"volume_ml", "anterior_mm", "tilt_top_deg", "canal_mm"} <= set(l4)
    assert {int(value) for value in report["labels"]} == set(np.unique(segmentation.labels.array).tolist()) - {0}
    assert report["labels"]["4"] == "L4"
    assert report["lordosis_l1_s1_deg"] > 10


def test_rows_of_the_table_hold_the_error_of_each_value() -> None:
    segmentation = phantom_segmentation()
    report = build_report(segmentation, measure_structures(segmentation.labels), SOURCE)
    rows = {row["name"]: row for row in measurement_rows(report)}
    assert rows["L4"]["middle_mm_sd"] == report["measurement_errors"]["body"]["middle_mm"]
    assert rows["L4-L5"]["middle_mm_sd"] == report["measurement_errors"]["disc"]["middle_mm"]
    assert "slip_mm_sd" not in rows["L4-L5"]
    values = {key for row in rows.values() for key in row if key != "not_measured"}
    assert values <= set(MEASUREMENT_COLUMNS)
