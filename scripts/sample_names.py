"""Sample names of the package for a blind reading: python scripts/sample_names.py [-n 60] [--seed 1] [--docstrings].

Prints path, name and parameters of randomly chosen functions, methods and classes, without their source. A reader of
the field writes down what each does; then `--docstrings` with the same seed shows the docstrings to compare with.
"""

from __future__ import annotations

import argparse
import ast
import random
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "lumbarseg"
Definition = ast.FunctionDef | ast.ClassDef


def definitions(path: Path) -> Iterator[tuple[str, Definition]]:
    """Yield the qualified name and the node of every function, method and class of a file, special methods left out."""
    stack: list[tuple[str, ast.AST]] = [("", ast.parse(path.read_text(encoding="utf-8")))]
    while stack:
        prefix, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition) and not child.name.startswith("__"):
                yield prefix + child.name, child
                if isinstance(child, ast.ClassDef):
                    stack.append((f"{prefix}{child.name}.", child))


def signature(node: Definition) -> str:
    """Return the parameters of a function with their types, or the fields of a class."""
    if isinstance(node, ast.FunctionDef):
        result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        return f"({ast.unparse(node.args)}){result}"
    fields = [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]
    return f": {'; '.join(fields)}" if fields else ""


def main() -> None:
    """Print the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--docstrings", action="store_true")
    args = parser.parse_args()
    names = [
        (path.relative_to(ROOT), name, node) for path in sorted(ROOT.rglob("*.py")) for name, node in definitions(path)
    ]
    for number, (path, name, node) in enumerate(random.Random(args.seed).sample(names, args.n), 1):  # noqa: S311
        print(f"{number}. {path}: {name}{signature(node)}")
        if args.docstrings:
            print(f"    {ast.get_docstring(node) or '(no docstring)'}\n")


if __name__ == "__main__":
    main()
