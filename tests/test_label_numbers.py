"""Label numbers and names of vertebrae and discs are written in `anatomy.py` and nowhere else in the package.

A heuristic search: strings that are exactly the name of a vertebra or a disc, and numbers compared with, added to or
looked up among values called labels. A file that must name a level has a row in ALLOWED, with the reason.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src" / "lumbarseg"
FILES = sorted(path for path in SRC.rglob("*.py") if path.name != "anatomy.py")

_LEVEL = r"(?:T(?:1[0-2]|[1-9])|L[1-6]|S1)"
_NAME = re.compile(rf"{_LEVEL}(?:-{_LEVEL})?(?: arch)?")
_LABELS = re.compile(r"(?:.*_)?(?:labels?|truth|reference|prediction)")

CONTRASTS = {"T1", "T2"}  # weightings of MRI far more often than vertebrae
ALLOWED = {
    "datasets/label_proposal.py": {"L5", "S1"},  # where counting begins
    "datasets/label_names.py": {"S1"},  # people write it for the sacrum, or for a vertebra
    "datasets/schemes.py": {"S1"},  # the level below the lowest disc, which has no label of its own
    "datasets/validation/level_order.py": {"L6"},  # most spines have none, and lack nothing
    "measurement/measure.py": {"L1"},  # lordosis is by definition the angle from L1 to S1
    "phantom/ground_truth.py": {"L1"},  # the same
    "phantom/shape_sources.py": {"T10"},  # the highest vertebra that lumbar exams show
    # the spine is built up from the first sacral segment, which has no label of its own; measured arches by level
    "phantom/spine.py": {"S1", "T11", "T12", "L1", "L2", "L3", "L4", "L5", "L6"},
    "segmentation/discs_only.py": {"L5-S1"},  # where counting begins when only discs are segmented
    "segmentation/levels.py": {"L5", "L6", "S1"},  # where counting begins, its one exception, and the disc below
    "training/partial_annotations.py": {"L6"},  # most spines have none
}


def stray_names_and_numbers(code: str) -> set[str]:
    """Return the level names and label numbers in a file, outside of docstrings."""
    tree = ast.parse(code)
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strays = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            strays |= {node.value} if _NAME.fullmatch(node.value) else set()
        if isinstance(node, ast.Compare):
            strays |= _numbers([node.left, *node.comparators])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            strays |= _numbers([node.left, node.right]) - {"1"}  # the index in a list that begins with label 1
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("isin", "in1d"):
            strays |= _numbers(node.args)
    return strays


def _numbers(parts: list[ast.expr]) -> set[str]:
    """Return whole numbers above zero next to something called labels."""
    names = [getattr(part, "id", getattr(part, "attr", "")) for part in parts]
    if not any(_LABELS.fullmatch(name) for name in names if isinstance(name, str)):
        return set()
    constants = [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant)]
    return {str(node.value) for node in constants if type(node.value) is int and node.value > 0}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_no_stray_name_or_number(path: Path) -> None:
    name = path.relative_to(SRC).as_posix()
    assert stray_names_and_numbers(path.read_text()) - CONTRASTS - ALLOWED.get(name, set()) == set(), (
        "ask anatomy.py for it"
    )


def test_every_exception_is_still_needed() -> None:
    for name, allowed in ALLOWED.items():
        assert allowed <= stray_names_and_numbers((SRC / name).read_text())


@pytest.mark.parametrize(
    "code",
    [
        "x = 'L3'",
        "x = {'L4-L5': 2}",
        "labels == 11",
        "strays = np.isin(labels, (1, 2))",
        "arch = label + 50",
        "'S1' in x",
    ],
)
def test_the_search_finds(code: str) -> None:
    assert stray_names_and_numbers(code)


@pytest.mark.parametrize("code", ['"""L3"""', "labels > 0", "len(labels) == 2", "help = 'for example L3@x,y,z'"])
def test_the_search_lets_pass(code: str) -> None:
    assert not stray_names_and_numbers(code)
