"""The page's own JavaScript modules joined into one script, for a file that cannot import others.

Each module becomes a function of its own, so that names do not meet. Only the forms that those modules keep to are
understood: imports on one line at the beginning, exports of functions, classes and constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lumbarseg.errors import DeployError

_IMPORT = re.compile(r'^import \{ ([^}]+) \} from "\./(\w+)\.js";\n', re.MULTILINE)
_FUNCTION = re.compile(r"^export ((?:async )?(?:function|class) (\w+))", re.MULTILINE)
_CONSTANT = re.compile(r"^export (const (\w+|\{[^}]*\}|\[[^\]]*\]) =)", re.MULTILINE)


def bundle_modules(name: str, read_source: Callable[[str], str]) -> str:
    """The script that module `name` is with all it imports; read: from a module's name to its source.

    DeployError for an import or an export in a form that is not understood.
    """
    order: list[str] = []
    _add_with_imports(name, read_source, order, ())
    return '"use strict";\n' + "".join(_wrap_module(each, read_source(each)) for each in order)


def _add_with_imports(name: str, read_source: Callable[[str], str], order: list[str], path: tuple[str, ...]) -> None:
    """Add a module behind those that it imports."""
    if name in path:
        raise DeployError(f"modules of the page import each other in a circle: {' '.join((*path, name))}")
    if name in order:
        return
    for _, other in _IMPORT.findall(read_source(name)):
        _add_with_imports(other, read_source, order, (*path, name))
    order.append(name)


def _wrap_module(name: str, source: str) -> str:
    exported = [found[1] for found in _FUNCTION.findall(source)]
    for _, names in _CONSTANT.findall(source):
        exported += [part.partition(":")[2].strip() or part.strip() for part in names.strip("{}[]").split(",")]
    body = _IMPORT.sub(lambda m: f"const {{ {m[1].replace(' as ', ': ')} }} = ${m[2]};\n", source)
    body = _CONSTANT.sub(r"\1", _FUNCTION.sub(r"\1", body))
    if found := re.search(r"^(import|export)\b.*", body, re.MULTILINE):
        raise DeployError(f"{name}.js: a form that cannot be joined: {found[0]}")
    return f"const ${name} = (() => {{\n{body}return {{ {', '.join(filter(None, exported))} }};\n}})();\n"
