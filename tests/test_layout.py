"""The rooms of the package: which may import which, where a heavy library lives, and that nothing imports in a circle.

A room is a folder or a file directly under `src/lumbarseg`. Imports inside functions and under TYPE_CHECKING count.
"""

from __future__ import annotations

import ast
import graphlib

import pytest
from tests.architecture import PACKAGE, Module, import_graph, imported_names, package_modules

# room: rooms it may import
ROOMS = {
    "errors": "",
    "cpus": "",
    "progress": "",
    "anatomy": "errors",
    "terminology": "anatomy",
    "volume": "errors",
    "components": "volume",
    "fill_values": "components volume",
    "resampling": "errors volume",
    "orientation": "anatomy components resampling volume",
    "clicks": "errors anatomy volume preprocessing",
    "io": "fill_values components errors anatomy terminology volume",
    "measurement": "components anatomy volume resampling",
    "metrics": "components anatomy volume",
    "preprocessing": "fill_values errors anatomy volume resampling",
    "phantom": "components executors errors anatomy volume io datasets",
    "inference": "cpus errors anatomy volume clicks preprocessing",
    "executors": "cpus errors",
    "datasets": "orientation components errors executors anatomy volume io resampling",
    "segmentation": "orientation components errors anatomy volume clicks preprocessing inference",
    "training": "components cpus progress errors anatomy volume resampling io clicks preprocessing metrics phantom "
    "datasets inference segmentation",
    "evaluation": "errors anatomy volume io resampling metrics inference datasets segmentation",
    "active_learning": "components errors anatomy volume io resampling metrics preprocessing inference datasets "
    "segmentation training evaluation",
    "report": "components errors anatomy volume resampling measurement segmentation",
    "batch": "anatomy clicks cpus datasets errors executors inference io measurement metrics phantom report "
    "segmentation terminology volume",
    "api": "anatomy batch clicks errors inference io measurement segmentation volume",
    "description": "datasets inference io preprocessing",
    "packaging": "errors anatomy clicks orientation io measurement preprocessing inference segmentation report",
    "server": "errors anatomy terminology volume resampling io clicks metrics inference datasets segmentation training "
    "active_learning",
    "cli": "cpus description progress errors anatomy terminology volume resampling clicks io measurement "
    "metrics preprocessing phantom inference datasets segmentation training evaluation active_learning report "
    "packaging batch executors server",
    "__init__": "api errors volume inference io",
    "__main__": "cli",
}
# library: rooms that may import it
HEAVY_LIBRARIES = {
    "torch": "training",
    "monai": "training",
    "onnx": "training",
    "tensorboard": "training",
    "onnxruntime": "inference",
    "openvino": "inference",
    "distributed": "executors",
    "monailabel": "server",
    "fastapi": "server",
    "uvicorn": "server",
    "nibabel": "io",
    "pydicom": "io",
    "highdicom": "io",
    "dicomweb_client": "io server",
    "nrrd": "io",
    "PIL": "report api",
    "matplotlib": "",
    "SimpleITK": "",
    "requests": "",
    "urllib": "server report",  # takes addresses apart, and writes those of files into links
    "http": "",
    "socket": "server",  # asks whether its address is free, before anything is installed
    "pickle": "training",
}


def import_faults(code: str, package: str, room: str) -> list[str]:
    """Return the imports of a file that its room must not make, as messages."""
    faults = []
    for name in imported_names(ast.parse(code), package):
        library, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if library == "?":
            faults.append(f"{room} imports a module whose name is computed")
        elif library == "lumbarseg" and target not in ROOMS and target not in ("", "__version__"):
            faults.append(f"{room} must import {name} from the room that defines it")
        elif library == "lumbarseg" and target in ROOMS and target not in {room, *ROOMS[room].split()}:
            faults.append(f"{room} must not import {target}")
        if room not in HEAVY_LIBRARIES.get(library, room).split():
            faults.append(f"{library} belongs to {HEAVY_LIBRARIES[library] or 'no room'}, not to {room}")
    return faults


@pytest.mark.parametrize("module", package_modules(), ids=lambda module: str(module.path.relative_to(PACKAGE)))
def test_a_room_imports_only_what_the_table_allows(module: Module) -> None:
    assert module.room in ROOMS, f"{module.room} is a new room: give it a row in ROOMS, with the reason in the commit"
    assert import_faults(module.path.read_text(), module.package, module.room) == []


@pytest.mark.parametrize(
    ("code", "package", "room", "fault"),
    [
        ("def f():\n    import torch", "lumbarseg.segmentation", "segmentation", "torch belongs to training, not to s"),
        ("from .. import training", "lumbarseg.inference", "inference", "inference must not import training"),
        ("from .training import trainer", "lumbarseg", "preprocessing", "preprocessing must not import training"),
        ("if TYPE_CHECKING:\n    from lumbarseg.cli import main", "lumbarseg.io", "io", "io must not import cli"),
        ("import_module('lumbarseg.cli.main')", "lumbarseg.report", "report", "report must not import cli"),
        ("importlib.import_module('..cli', 'x')", "lumbarseg.io", "io", "io must not import cli"),
        ("__import__(f'lumbarseg.cli.{name}')", "lumbarseg.io", "io", "io must not import cli"),
        ("import_module(name)", "lumbarseg.io", "io", "io imports a module whose name is computed"),
        ("import_module(f'{name}.x')", "lumbarseg.io", "io", "io imports a module whose name is computed"),
        ("import_module('torch')", "lumbarseg.io", "io", "torch belongs to training, not to io"),
        ("from lumbarseg import segment", "lumbarseg.server", "server", "server must import lumbarseg.segment from th"),
    ],
)
def test_every_kind_of_import_is_checked(code: str, package: str, room: str, fault: str) -> None:
    (message,) = import_faults(code, package, room)
    assert message.startswith(fault)


def test_imports_of_the_own_room_and_of_allowed_rooms_pass() -> None:
    code = "from . import predictor\nfrom ..preprocessing import Spec\nfrom lumbarseg import __version__"
    assert import_faults(code, "lumbarseg.inference", "inference") == []
    assert import_faults("import_module(f'lumbarseg.cli.{name}')", "lumbarseg.cli", "cli") == []


def test_the_table_has_no_cycle_and_no_unused_row() -> None:
    graphlib.TopologicalSorter({room: allowed.split() for room, allowed in ROOMS.items()}).prepare()
    assert set(ROOMS) == {module.room for module in package_modules()}


def test_no_module_imports_itself_through_others() -> None:
    """Type-only and late imports count as well."""
    try:
        graphlib.TopologicalSorter(import_graph(package_modules())).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))
