"""How people spell structures."""

from __future__ import annotations

import pytest

from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.datasets.label_names import ParsedLabelName, parse_label_name

COMPLETE = ("L1", "L1 arch")


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.name)
def test_every_structure_is_known_by_its_own_name(structure) -> None:
    result = parse_label_name(structure.name)
    assert result is not None and result.partial_kind is None
    assert result.structures == (structure.name,) or (
        result.is_bare_level and result.structures == (structure.name, f"{structure.name} arch")
    )


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("vertebrae_L1", COMPLETE),
        ("Vertebra L1", COMPLETE),
        ("L01 vertebra", COMPLETE),
        ("L1_body", ("L1",)),
        ("vertebral body L1", ("L1",)),
        ("L1 posterior elements", ("L1 arch",)),
        ("L1 vertebral arch", ("L1 arch",)),
        ("Th12 corpus", ("T12",)),
        ("disc L1/L2", ("L1-L2",)),
        ("disc_L2_L1", ("L1-L2",)),
        ("discL4L5", ("L4-L5",)),
        ("IVD_L45", ("L4-L5",)),
        ("L4/5", ("L4-L5",)),
        ("T12-L1", ("T12-L1",)),
        ("disc_L5_S", ("L5-S1",)),
        ("IVD L5 sacrum", ("L5-S1",)),
        ("disc_C7_T1", ("disc",)),
        ("vertebrae_C4", ("body", "arch")),
        ("intervertebral_discs", ("disc",)),
        ("vertebrae", ("body", "arch")),
        ("vertebral bodies", ("body",)),
        ("posterior elements", ("arch",)),
        ("Sacrum", ("sacrum",)),
        ("spinal_canal", ("canal",)),
        ("background", ("background",)),
        ("ignore", ("unknown",)),
    ],
)
def test_spellings(text: str, names: tuple[str, ...]) -> None:
    assert parse_label_name(text) == ParsedLabelName(names)


@pytest.mark.parametrize(
    ("text", "names", "kind"),
    [("spinal_cord", "canal", Kind.CANAL), ("S1", "sacrum", Kind.SACRUM), ("L2 spinous process", "L2 arch", Kind.ARCH)],
)
def test_a_part_is_not_the_whole(text: str, names: str, kind: Kind) -> None:
    assert parse_label_name(text) == ParsedLabelName((names,), partial_kind=kind)


@pytest.mark.parametrize("text", ["", "label1", "tumour", "lumbar spine", "L7", "T13", "disc L4", "T1 L1", "muscle"])
def test_an_unknown_name_is_not_guessed(text: str) -> None:
    assert parse_label_name(text) is None


def test_a_level_alone_may_be_either() -> None:
    assert parse_label_name("L1") == ParsedLabelName(COMPLETE, is_bare_level=True)
