"""Functions and files stay short: nine functions in ten under 30 lines, none over 60, files under 400 lines."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

from tests.architecture import ROOT, parse

FILES = [
    path for folder in ("src/lumbarseg", "benchmarks", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))
]
MAX_FUNCTION, P90_FUNCTION, MAX_FILE = 60, 30, 400


def function_lengths(path: Path) -> dict[str, int]:
    """Return the lines of each function of a file, without its docstring; keys say where it is."""
    functions = [node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": length(node) for node in functions}


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function from `def` to its end, without its docstring."""
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    docstring = first.end_lineno - first.lineno + 1 if has_docstring and first.end_lineno else 0
    return (node.end_lineno or node.lineno) - node.lineno + 1 - docstring


LENGTHS = {function: lines for path in FILES for function, lines in function_lengths(path).items()}


def test_no_function_is_long() -> None:
    assert {function: lines for function, lines in LENGTHS.items() if lines > MAX_FUNCTION} == {}


def test_nine_functions_in_ten_are_short() -> None:
    assert statistics.quantiles(LENGTHS.values(), n=10)[-1] < P90_FUNCTION


def test_no_file_is_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: lines for path, lines in lengths.items() if lines >= MAX_FILE} == {}


def test_a_docstring_does_not_count() -> None:
    (function,) = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1').body
    assert isinstance(function, ast.FunctionDef)
    assert length(function) == 2
