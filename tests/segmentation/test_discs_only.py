"""Levels named by the discs alone: on spines of blocks, and with a network that predicts nothing but discs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lumbarseg.anatomy import CLASSES, Kind, structure_by_name
from lumbarseg.batch.exam_task import StageTimer, describe_segmentation
from lumbarseg.batch.options import ExamOptions
from lumbarseg.clicks import Click
from lumbarseg.errors import SegmentError
from lumbarseg.inference import Model, ModelCard
from lumbarseg.io import read_exam, read_labels
from lumbarseg.metrics.overlap import find_wrong_names, score_structures
from lumbarseg.metrics.structure_names import own_label_table
from lumbarseg.phantom import Phantom
from lumbarseg.preprocessing import ClickGaussian, PreprocessingSpec
from lumbarseg.segmentation import LevelPin, UserLevels, discs_only, segment, segment_with_clicks
from lumbarseg.segmentation.instances import Instances
from lumbarseg.segmentation.levels import SACRUM_ANCHOR, disc_names
from lumbarseg.volume import Array

from .spines import DISC, SACRUM, BlockSpine, SpinePlan, build_spine

OFF = -1e4
TRAINED_LOWEST = ("L5-S1", 1.0)


@dataclass(frozen=True, eq=False)
class DiscOnlyModel:
    """The shipped network, taught nothing but discs: what it takes for anything else is background."""

    model: Model
    lowest: tuple[str, float] | None = TRAINED_LOWEST
    spec: PreprocessingSpec | None = None

    @property
    def card(self) -> ModelCard:
        spec = self.spec or replace(self.model.card.spec, clicks=None)
        return ModelCard(spec, trained_names=("background", "disc"), targets=("disc",), lowest_structure=self.lowest)

    def run(self, windows: Array) -> Array:
        logits = self.model.run(np.pad(windows[:, :5], ((0, 0), (0, len(CLASSES)), (0, 0), (0, 0))))
        out = np.full_like(logits, OFF)
        out[:, DISC] = logits[:, DISC]
        out[:, 0] = np.delete(logits, DISC, 1).max(1)
        if self.spec and self.spec.clicks:
            out[:, [0, DISC]] += 50 * (windows[:, [5, 5 + DISC]] > 0.4)
        return out


@pytest.fixture(scope="module")
def model(bundled_model: Model) -> Model:
    return bundled_model


def only_discs(built: BlockSpine) -> Array:
    return np.where(built.classes == DISC, DISC, 0).astype(np.uint8)


def split(plan: SpinePlan) -> tuple[BlockSpine, Instances]:
    built = build_spine(plan)
    result = discs_only.separate_discs(only_discs(built), built.spacing)
    assert result is not None
    return built, result


def scores(classes: Array) -> Array:
    return np.stack([(classes == kind) * 0.99 for kind in range(len(CLASSES))]).astype(np.float32)


@st.composite
def plans(draw: st.DrawFn) -> SpinePlan:
    """Whole columns; one that bends sideways leaves a slice or a thin slab, so there it is straight."""
    slices, thickness = draw(st.sampled_from([(1, 1.0), (1, 4.0), (13, 1.0), (13, 4.0)]))
    return SpinePlan(
        count=draw(st.integers(3, 7)),
        size=draw(st.floats(0.8, 1.15)),
        lordosis=draw(st.floats(0, 12)),
        slope=draw(st.floats(15, 45)),
        bend=draw(st.floats(-5, 5)) if slices * thickness > 20 else 0.0,
        slice=thickness,
        slices=slices,
        noise=draw(st.sampled_from([0.0, 0.1])),
    )


@settings(max_examples=15, deadline=None)
@given(plans())
def test_every_disc_gets_its_number(plan: SpinePlan) -> None:
    built, result = split(plan)
    assert result.discs_only and not result.bodies.any()
    shown = (built.discs > 0) & (only_discs(built) > 0)  # without the specks of noise beside discs
    inside = (built.discs > 0) & (result.discs > 0)
    assert (result.discs[inside] == built.discs[inside]).mean() > 0.99
    assert inside.sum() > 0.95 * shown.sum()
    assert result.count == plan.count + 1


def test_a_tall_spine_is_not_counted_in_half_steps() -> None:
    for missing in (frozenset[int](), frozenset({4})):
        for lordosis in (0.0, 2.0, 3.0):
            built, result = split(
                SpinePlan(count=7, slices=1, size=1.15, lordosis=lordosis, slope=15.0, missing=missing)
            )
            inside = (built.discs > 0) & (result.discs > 0)
            assert result.count == 8 and (result.discs[inside] == built.discs[inside]).all()


def test_a_level_without_a_disc_is_counted_and_a_scrap_below_is_not() -> None:
    built, result = split(SpinePlan(missing=frozenset({3})))
    assert result.count == 7
    assert not (result.discs == 3).any()
    assert (built.discs[result.discs == 4] == 4).all()
    scrap = only_discs(built)
    low = np.argwhere(built.discs == 1)
    below = low.mean(axis=0) - [0, 10, 30]
    box = tuple(slice(int(c - h), int(c + h)) for c, h in zip(below, (2, 6, 3), strict=True))
    scrap[box] = DISC
    with_scrap = discs_only.separate_discs(scrap, built.spacing)
    assert with_scrap is not None
    assert (result.discs[with_scrap.discs == 1] == 1).all()


def test_nothing_is_no_column() -> None:
    assert discs_only.separate_discs(np.zeros((5, 60, 80), np.uint8), np.array([4.0, 1, 1])) is None


def disc_names_and_assignment(plan: SpinePlan, **arguments: object) -> tuple[tuple[str, ...], object]:
    built, result = split(plan)
    options = {"named_bodies": (), "trained_lowest": TRAINED_LOWEST} | arguments
    assignment = discs_only.assign_levels_from_discs(result, scores(only_discs(built)), **options)  # type: ignore[arg-type]
    return disc_names(result, assignment.names)[: result.count], assignment


def test_names_are_counted_from_the_lowest_disc_in_training() -> None:
    plan = SpinePlan(count=5)
    names, assignment = disc_names_and_assignment(plan)
    assert names == ("L5-S1", "L4-L5", "L3-L4", "L2-L3", "L1-L2", "T12-L1")
    assert assignment.confidence > 0.9 and not assignment.warnings  # type: ignore[attr-defined]
    names, assignment = disc_names_and_assignment(plan, trained_lowest=("L4-L5", 1.0))
    assert names[:2] == ("L4-L5", "L3-L4")
    assert not assignment.warnings  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("plan", "arguments", "why"),
    [
        (SpinePlan(), {"trained_lowest": None}, "nothing shows which disc"),
        (SpinePlan(sacrum=0), {}, "field of view ends"),
        (SpinePlan(slope=0, lordosis=3), {}, "leans forward by less"),
    ],
)
def test_names_are_uncertain_where_the_lowest_disc_is_weak_evidence(
    plan: SpinePlan, arguments: dict[str, None], why: str
) -> None:
    names, assignment = disc_names_and_assignment(plan, **arguments)
    assert names[0] == "L5-S1"
    assert assignment.confidence < 0.6 and why in assignment.warnings[0]  # type: ignore[attr-defined]


def test_a_sacrum_under_the_discs_is_an_anchor() -> None:
    built = build_spine(SpinePlan())
    classes = np.where(np.isin(built.classes, (DISC, SACRUM)), built.classes, 0).astype(np.uint8)
    result = discs_only.separate_discs(classes, built.spacing)
    assert result is not None
    assignment = discs_only.assign_levels_from_discs(result, scores(classes))
    assert (assignment.anchor, assignment.names[0], assignment.warnings) == (SACRUM_ANCHOR, "L5", ())


def test_names_from_the_user_override_the_count() -> None:
    names, assignment = disc_names_and_assignment(SpinePlan(count=4), named_bodies=[("L4", 1)])
    assert names[:2] == ("L4-L5", "L3-L4")
    assert assignment.confidence == 1  # type: ignore[attr-defined]
    assert disc_names_and_assignment(SpinePlan(count=4), named_bodies=[("L3", 3)])[0][0] == "L5-S1"
    with pytest.raises(SegmentError, match="disagree"):
        disc_names_and_assignment(SpinePlan(count=4), named_bodies=[("L4", 1), ("L3", 3)])


def test_small_discs_are_no_lumbar_ones() -> None:
    _, result = split(SpinePlan(size=0.45))
    with pytest.raises(SegmentError, match="too small for lumbar"):
        discs_only.require_lumbar_discs(result)


def test_an_exam_is_segmented_by_discs_alone(model: Model, phantom: Phantom) -> None:
    disc_model = DiscOnlyModel(model)
    result = segment(phantom.image, disc_model)
    rows = score_structures(result.labels.array, phantom.labels.array, own_label_table([Kind.DISC]))
    annotated = [row for row in rows if row.dice is not None]
    assert len(annotated) > 4 and not find_wrong_names(rows)
    assert np.mean([row.dice for row in annotated if row.dice is not None]) > 0.7
    names = [level.name for level in result.levels]
    assert names[-2:] == ["L4-L5", "L5-S1"] and all(structure_by_name(each).kind is Kind.DISC for each in names)
    assert {structure_by_name(name).label for name in names} >= set(np.unique(result.labels.array)) - {0}
    guess = segment(phantom.image, replace(disc_model, lowest=None))
    assert guess.uncertain and guess.warnings
    middle = next(level for level in result.levels if level.name == "L3-L4").centre
    pinned = segment(
        phantom.image, disc_model, UserLevels(pins=(LevelPin("L2", (middle[0], middle[1], middle[2] + 15)),))
    )
    assert [level.name for level in pinned.levels][-1] == "L4-L5"


def test_its_report_and_picture_show_discs(model: Model, phantom: Phantom, tmp_path: Path) -> None:
    from lumbarseg.io import write_image

    path = tmp_path / "exam.nii.gz"
    write_image(phantom.image, path)
    disc_model = DiscOnlyModel(model, lowest=None)
    exam, loaded = read_exam(path), replace(model, card=disc_model.card, run=disc_model.run)
    described = describe_segmentation("exam", exam, segment(exam.volume, loaded), loaded, ExamOptions(), StageTimer())
    assert described.report["uncertain"] and described.report["levels"][-1]["name"] == "L5-S1"
    assert described.report["lordosis_l1_s1_deg"] is None
    assert {row["kind"] for row in described.report["measurements"]} == {"disc"}
    assert described.text_lines()[0].endswith("L5-S1?")
    assert described.picture.startswith(b"\x89PNG")


def test_a_click_names_a_disc(model: Model, phantom: Phantom) -> None:
    disc_model = DiscOnlyModel(model, spec=PreprocessingSpec(clicks=ClickGaussian()))
    before = segment(phantom.image, disc_model)
    centres = {level.name: level.centre for level in before.levels}
    after = segment_with_clicks(phantom.image, disc_model, [Click(centres["L5-S1"], "L4-L5")])
    assert [level.name for level in after.levels][-1] == "L4-L5"
    changed = (after.labels.array > 0) != (before.labels.array > 0)
    assert changed.sum() < 0.05 * (before.labels.array > 0).sum()


def test_real_discs_are_named_right(model: Model, real: Path) -> None:
    for image in sorted((real / "discs").glob("*_image.nii.gz")):
        truth = read_labels(image.with_name(image.name.replace("_image.", "_labels.")))
        result = segment(read_exam(image).volume, DiscOnlyModel(model))
        rows = score_structures(result.labels.array, truth.array, own_label_table([Kind.DISC]))
        assert not find_wrong_names(rows), image.name
        assert all(row.dice is None or row.dice > 0.75 for row in rows), image.name
