"""The tree of errors drawn in `errors.py` is the tree of its classes, and no other module defines an error."""

from __future__ import annotations

import ast
import inspect
import re

import pytest
from tests.architecture import package_modules

from lumbarseg import errors

CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls)}


def documented_tree() -> dict[str, str]:
    """Return the parent of each error in the docstring; the root has the parent Exception."""
    parents: dict[str, str] = {}
    path = [(-1, "Exception")]
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([\s│├└─]*)(\w+Error)\b", line)
        if match:
            depth, name = len(match[1]), match[2]
            path = [entry for entry in path if entry[0] < depth]
            parents[name] = path[-1][1]
            path.append((depth, name))
    return parents


def test_the_documented_tree_is_that_of_the_classes() -> None:
    assert documented_tree() == {name: cls.__mro__[1].__name__ for name, cls in CLASSES.items()}


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(CLASSES[name])


def test_errors_are_defined_in_one_module() -> None:
    others = [
        f"{module.name}.{node.name}"
        for module in package_modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and module.room != "errors"
        if any(getattr(base, "id", getattr(base, "attr", "")) in CLASSES for base in node.bases)
    ]
    assert others == []
