"""Code lines per room without blank lines, comments and docstrings; function lengths: python scripts/code_size.py.

Those of the browser page's JavaScript are counted apart.
"""

from __future__ import annotations

import ast
import collections
import io
import re
import statistics
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "lumbarseg"
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER),
}


def docstring_lines(node: ast.AST) -> set[int]:
    """Return the lines of all strings below a node that stand alone."""
    strings = [n for n in ast.walk(node) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return {line for n in strings if isinstance(n.value.value, str) for line in range(n.lineno, n.end_lineno + 1)}


def code_lines(source: str) -> set[int]:
    """Return the numbers of the lines that hold code."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    lines = {line for t in tokens if t.type not in _NO_CODE for line in range(t.start[0], t.end[0] + 1)}
    return lines - docstring_lines(ast.parse(source))


def javascript_lines(source: str) -> int:
    """Return the number of lines with code; comments of their own line begin with // or /*."""
    lines = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL).splitlines()
    return sum(bool(line.strip()) and not line.strip().startswith("//") for line in lines)


def main() -> None:
    """Print both tables."""
    rooms: collections.Counter[str] = collections.Counter()
    lengths = []
    for path in sorted(ROOT.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        rooms[path.relative_to(ROOT).parts[0].removesuffix(".py")] += len(code_lines(source))
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                body = [n for n in node.body if n.lineno not in docstring_lines(node)]
                lengths.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
    for room, count in rooms.most_common():
        print(f"{count:6d} {room}")
    print(f"{rooms.total():6d} in all")
    scripts = [path.read_text(encoding="utf-8") for path in ROOT.rglob("*.js")]
    print(f"{sum(map(javascript_lines, scripts)):6d} JavaScript, in {len(scripts)} files")
    p90 = sorted(lengths)[int(0.9 * len(lengths))]
    print(f"{len(lengths)} functions, lines: median {statistics.median(lengths):.0f}, p90 {p90}, max {max(lengths)}")


if __name__ == "__main__":
    main()
