"""Label numbers and names of the spine are written in `anatomy.py` and nowhere else in the package.

A heuristic: a string that is exactly the name of a vertebra or a disc, and a number compared with, added to or looked
up among things called labels. What must name a level has a line in ALLOWED, with its reason.
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
_LABELS = re.compile(r"(?:.*_)?(?:labels?|truth)")

CONTRASTS = {"T1", "T2"}  # are weightings of MRI far more often than vertebrae
ALLOWED = {
    "datasets/names.py": {"S1"},  # what people write for the sacrum beside a vertebra
    "phantom/spine.py": {"S1"},  # the chain grows from the sacrum's first segment, which is no structure of the table
    "phantom/truth.py": {"L1"},  # lordosis is by definition the angle from L1 to S1
    "measure.py": {"L1"},  # the same
    "segment/levels.py": {"L5", "L6", "S1"},  # where counting begins, its one exception, and what discs end at
    "segment/discs.py": {"L5-S1"},  # where counting begins, by discs alone
    "datasets/select.py": {"S1"},  # the same
    "datasets/checks/order.py": {"L6"},  # most columns have none, and lack nothing
    "train/undrawn.py": {"L6"},  # the same
    "train/presets.py": {"L1", "L2"},  # the founding page's two tags
}


def strays(code: str) -> set[str]:
    """Names and label numbers in a file, docstrings left out."""
    tree = ast.parse(code)
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            found |= {node.value} if _NAME.fullmatch(node.value) else set()
        if isinstance(node, ast.Compare):
            found |= _numbers([node.left, *node.comparators])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            found |= _numbers([node.left, node.right]) - {
                "1"
            }  # the place of a label in a list that begins with label 1
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("isin", "in1d"):
            found |= _numbers(node.args)
    return found


def _numbers(parts: list[ast.expr]) -> set[str]:
    """Whole numbers above zero beside something called labels."""
    names = [getattr(part, "id", getattr(part, "attr", "")) for part in parts]
    if not any(_LABELS.fullmatch(name) for name in names if isinstance(name, str)):
        return set()
    constants = [node for part in parts for node in ast.walk(part) if isinstance(node, ast.Constant)]
    return {str(node.value) for node in constants if type(node.value) is int and node.value > 0}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SRC)))
def test_no_stray_name_or_number(path: Path) -> None:
    name = path.relative_to(SRC).as_posix()
    assert strays(path.read_text()) - CONTRASTS - ALLOWED.get(name, set()) == set(), "ask anatomy.py for it"


def test_every_exception_is_still_needed() -> None:
    for name, allowed in ALLOWED.items():
        assert allowed <= strays((SRC / name).read_text())


@pytest.mark.parametrize(
    "code",
    [
        "x = 'L3'",
        "x = {'L4-L5': 2}",
        "labels == 11",
        "found = np.isin(labels, (1, 2))",
        "arch = label + 50",
        "'S1' in x",
    ],
)
def test_the_search_finds(code: str) -> None:
    assert strays(code)


@pytest.mark.parametrize("code", ['"""L3"""', "labels > 0", "len(labels) == 2", "help = 'for example L3@x,y,z'"])
def test_the_search_lets_pass(code: str) -> None:
    assert not strays(code)
