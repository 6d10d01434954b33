"""Read the package's source: modules, what each imports, functions, classes, identifiers."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "lumbarseg"
IMPORT_FUNCTIONS = {"import_module", "__import__", "find_spec"}


@dataclass(frozen=True)
class Module:
    """One file of the package. name: dotted; package: dotted name that relative imports start from."""

    path: Path
    name: str
    package: str

    @property
    def room(self) -> str:
        """Folder or file directly under the package, without its ending."""
        return self.path.relative_to(PACKAGE).parts[0].removesuffix(".py")

    @property
    def tree(self) -> ast.Module:
        """Syntax tree of the file."""
        return parse(self.path)


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file, read once."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def package_modules() -> tuple[Module, ...]:
    """Return all modules of the package, by path."""
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("lumbarseg", *path.relative_to(PACKAGE).with_suffix("").parts)
        package = ".".join(parts[:-1])
        modules.append(Module(path, package if parts[-1] == "__init__" else ".".join(parts), package))
    return tuple(modules)


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the absolute dotted name of everything imported anywhere in a file.

    Imports inside functions and under TYPE_CHECKING count, and so do calls of `import_module` and `__import__`.
    A name that is computed yields its constant start, or "?" when it has none.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(package, node.level, node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _function_name(node) in IMPORT_FUNCTIONS and node.args:
            name = _constant_start(node.args[0])
            yield _absolute(package, len(name) - len(name.lstrip(".")), name.lstrip("."))


def _absolute(package: str, level: int, name: str) -> str:
    """Return the dotted name that a relative one stands for; level: number of leading dots, 0 for an absolute name."""
    if not level:
        return name
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - level + 1], *filter(None, [name])])


def _function_name(call: ast.Call) -> str:
    return str(getattr(call.func, "id", getattr(call.func, "attr", "")))


def _constant_start(argument: ast.expr) -> str:
    """Return a string constant, or the constant text that an f-string starts with, else "?"."""
    if isinstance(argument, ast.JoinedStr) and argument.values:
        argument = argument.values[0]
    return str(argument.value).rstrip(".") if isinstance(argument, ast.Constant) else "?"


def import_graph(modules: tuple[Module, ...]) -> dict[str, set[str]]:
    """Return for each module the modules of the package that it imports."""
    names = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        targets = set()
        for name in imported_names(module.tree, module.package):
            prefixes = itertools.accumulate(name.split("."), "{}.{}".format)
            targets.update([prefix for prefix in prefixes if prefix in names][-1:])
        graph[module.name] = (targets & names) - {module.name, "lumbarseg"}
    return graph
