"""Bundle the page's JavaScript modules and the npm packages they import into one script each, with esbuild.

A page opened from disk cannot import files, so each script must be complete.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lumbarseg.errors import PackagingError

from .npm_packages import page_source_folder
from .page_tables import tables_script

_TABLES = "tables_from_python.js"
_DCM2NIIX = "@niivue/dcm2niix/dist/dcm2niix.jpeg.js"  # the package exports only a wrapper that starts a worker by URL


def bundle_modules(entry: str | Path, node_modules: Path, options: Sequence[str] = ()) -> str:
    """Return one script of a module and everything that it imports.

    Parameters
    ----------
    entry : name of a module of the page without suffix, or path of another module, which may import "page/NAME.js"
    node_modules : folder of the npm packages
    options : further options of esbuild

    Raises
    ------
    PackagingError
        When esbuild cannot bundle the module.
    """
    source = page_source_folder()
    path = source / f"{entry}.js" if isinstance(entry, str) else entry
    with tempfile.TemporaryDirectory() as folder:
        tables = Path(folder) / _TABLES
        tables.write_text(tables_script(), encoding="utf-8")
        aliases = {_TABLES: tables, "dcm2niix": node_modules / _DCM2NIIX, "page": source}
        command = [
            *("node", str(node_modules / "esbuild" / "bin" / "esbuild"), str(path), "--bundle", "--format=iife"),
            *(
                "--charset=utf8",
                "--minify-whitespace",
                "--log-level=error",
                "--external:module",
                '--define:import.meta.url="file:///"',
            ),
            *(f"--alias:{name}={target}" for name, target in aliases.items()),
            *options,
        ]
        process = subprocess.run(  # noqa: S603
            command,
            capture_output=True,
            encoding="utf-8",
            env=os.environ | {"NODE_PATH": str(node_modules)},
            check=False,
        )
    if process.returncode:
        raise PackagingError(f"{path.name}: esbuild cannot bundle it: {process.stderr.strip().splitlines()[0]}")
    return process.stdout
