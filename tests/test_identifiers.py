"""Names use the terms of the field: words that readers guessed wrong must not come back, in Python or JavaScript.

Names that the code does not define itself, those of libraries and of keywords in calls, are not checked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.architecture import ROOT, parse

# must not be a word of any name: write what stands behind it
FORBIDDEN = {
    "result, segmentation, prediction": "answer answers answered answerer answering",
    "target, selected": "ask asked wanted wish wishes",
    "state, prediction, instances": "found heard seen",
    "message, log, describe, format": "told tell tells say says said",
    "evaluate, test set": "judge judges judged judging examiner",
    "annotated": "drawn undrawn",
    "train": "taught teach teaches",
    "initial weights, from scratch": "afresh begun beginning",
    "process group, ensemble, scope": "crew leads voice voices duty duties",
    "uncertainty, registry, duplicates": "doubt doubts doubtful shelf twin twins",
    "known faults, injected": "trap traps planted",
    "NA-MIC project page": "founding",
    "ONNX metadata, stubs": "wire standin standins",
    "a noun that says what it is": "given forced chosen laid placed poor rests waits ours theirs stranger",
}
# must not be a complete name
NAMES = {
    "position, region, mask, folder": "place places where here there away",
    "predict again, overwrite": "again look looks",
    "arguments, options": "words",
    "complete": "whole",
    "disc plane, crop": "cut cuts",
    "learning_rate, sampling_weights, ...": "rate shares distil",
    "fingerprints": "prints",
    "a noun that says what it is": "known alone moved only outcome outcomes those these them thing things "
    "figures naming counted works whoever joined parted strange spent clicked written made trained named kept gone "
    "lost turned served packed",
}
ALLOWED = {
    "wire_type",  # of protobuf
    "judges",  # a key of plan.json and loop.json
    "not_found",
    "test_blocked_paths_are_not_found",  # as in "file not found"
}
FORBIDDEN_WORDS = {word: better for better, text in FORBIDDEN.items() for word in text.split()}
FORBIDDEN_NAMES = {name: better for better, names in NAMES.items() for name in names.split()}

FOLDERS = ("src", "tests", "benchmarks", "scripts", "slicer", "apps")
FILES = [
    path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".py", ".js", ".mjs") and "stubs" not in path.parts
]


def fault(name: str) -> str:
    """Return what to write instead of a name, "" if the name is fine."""
    if name in ALLOWED:
        return ""
    bare = name.strip("_").lower()
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    better = FORBIDDEN_NAMES.get(bare) or next(filter(None, (FORBIDDEN_WORDS.get(part.lower()) for part in parts)), "")
    return f"{name}: {better}" if better else ""


def python_names(tree: ast.AST) -> Iterator[str]:
    """Yield the names that Python code defines: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name


_JS_NAMES = re.compile(
    r"\b(?:const|let|var|class)\s+([\w$]+)|\b(?:const|let|var)\s*[\[{]([^\]}]*)[\]}]"
    r"|function\s*([\w$]*)\s*\(([^)]*)\)|\(([\w$,\s]*)\)\s*=>|\b([\w$]+)\s*=>"
)


def javascript_names(code: str) -> Iterator[str]:
    """Yield the names that JavaScript code defines, found by patterns of declarations."""
    code = re.sub(
        r"/\*.*?\*/|(?<![:\"'`\\])//[^\n]*|\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'", "", code, flags=re.DOTALL
    )
    for match in _JS_NAMES.finditer(code):
        for group in filter(None, match.groups()):
            yield from re.findall(r"[A-Za-z_$][\w$]*", group)


def names_of(path: Path) -> Iterator[str]:
    """Yield the names that a file defines, and its own."""
    yield path.stem
    yield from python_names(parse(path)) if path.suffix == ".py" else javascript_names(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_use_the_terms_of_the_field(path: Path) -> None:
    assert {message for name in names_of(path) if (message := fault(name))} == set()


@pytest.mark.parametrize("name", ["told", "found_labels", "LookAnswers", "_asked", "place", "wordsSaid", "Where"])
def test_forbidden_names_are_recognised(name: str) -> None:
    assert fault(name)


@pytest.mark.parametrize(
    "name", ["learning_rate", "placeholder", "foundation", "known_faults", "cropped", "where_mask"]
)
def test_other_names_pass(name: str) -> None:
    assert not fault(name)


def test_definitions_of_both_languages_are_checked() -> None:
    code = "import numpy as told\ndef f(asked, *, wish=1):\n    self.seen = [found for found in asked]"
    assert {name for name in python_names(ast.parse(code)) if fault(name)} == {"told", "asked", "wish", "seen", "found"}
    script = (
        "const told = 1; // const seen\nfunction f(asked, b) {}\nlist.map((found) => found); let { wish, x } = 'given';"
    )
    assert {name for name in javascript_names(script) if fault(name)} == {"told", "asked", "found", "wish"}
