"""Bundle the page's JavaScript modules into one script, because a page opened from disk cannot import files.

Each module becomes a function of its own, so that names do not collide. Only the syntax that these modules use is
supported: named imports at the beginning, named exports of functions, classes and constants.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lumbarseg.errors import PackagingError

_IMPORT = re.compile(r'^import \{\s*([^}]+?),?\s*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_FUNCTION = re.compile(r"^export ((?:async )?(?:function|class) (\w+))", re.MULTILINE)
_CONSTANT = re.compile(r"^export (const (\w+|\{[^}]*\}|\[[^\]]*\]) =)", re.MULTILINE)


def bundle_modules(name: str, read_source: Callable[[str], str]) -> str:
    """Return one script of the module `name` and everything that it imports.

    Parameters
    ----------
    name : module name without suffix
    read_source : function from a module's name to its source

    Raises
    ------
    PackagingError
        For circular imports and for import or export syntax that is not supported.
    """
    order: list[str] = []
    _add_with_imports(name, read_source, order, ())
    return '"use strict";\n' + "".join(_wrap_module(module, read_source(module)) for module in order)


def _add_with_imports(name: str, read_source: Callable[[str], str], order: list[str], path: tuple[str, ...]) -> None:
    """Append a module to `order` after the modules that it imports. path: the importing modules."""
    if name in path:
        raise PackagingError(f"circular imports in the page's modules: {' '.join((*path, name))}")
    if name not in order:
        for _, imported in _IMPORT.findall(read_source(name)):
            _add_with_imports(imported, read_source, order, (*path, name))
        order.append(name)


def _wrap_module(name: str, source: str) -> str:
    exported = [match[1] for match in _FUNCTION.findall(source)]
    for _, names in _CONSTANT.findall(source):
        exported += [part.partition(":")[2].strip() or part.strip() for part in names.strip("{}[]").split(",")]
    body = _IMPORT.sub(lambda m: f"const {{ {m[1].replace(' as ', ': ')} }} = ${m[2]};\n", source)
    body = _CONSTANT.sub(r"\1", _FUNCTION.sub(r"\1", body))
    if unsupported := re.search(r"^(import|export)\b.*", body, re.MULTILINE):
        raise PackagingError(f"{name}.js: unsupported import or export: {unsupported[0]}")
    return f"const ${name} = (() => {{\n{body}return {{ {', '.join(filter(None, exported))} }};\n}})();\n"
