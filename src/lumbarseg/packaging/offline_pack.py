"""The offline pack: a ZIP file that installs lumbarseg with a model on computers without a network."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lumbarseg.errors import PackagingError
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.inference.model import read_card
from lumbarseg.io.file_access import open_for_reading, to_file_error

from . import licences
from .own_wheel import build_own_wheel
from .targets import Target
from .wheels import collect_wheels, read_metadata
from .zip_archive import write_zip

PACK_FOLDER = "lumbarseg-offline"
"""The folder inside the ZIP file."""
CHECKSUM_FILE = "SHA256SUMS"
_INSTALLER_FILES = ("install.py", "install.sh", "install.bat", "README.txt")
_WINDOWS_TEXT_SUFFIXES = (".bat", ".txt")


@dataclass(frozen=True)
class PackResult:
    """A pack as written. size: bytes; model_file: name of the model in the pack, None for the bundled model."""

    path: Path
    size: int
    sha256: str
    wheel_count: int
    model_file: str | None


def write_pack(model: Path, out: Path, targets: Sequence[Target], report_step: Callable[[str], object]) -> PackResult:
    """Write a pack with everything that the targets need to install and run lumbarseg with a model.

    Parameters
    ----------
    model : the default model on the target computers
    out : the ZIP file
    targets : the platforms and Python versions; pip downloads wheels in the versions installed here
    report_step : called with the name of each finished step; there are two more steps than targets

    Raises
    ------
    ModelError
        When the model is invalid.
    PackagingError
        When a wheel is not available.
    FileError
        When `out` cannot be written.
    """
    if out.is_dir() or out.resolve() == model.resolve():
        raise PackagingError(f"{out}: a folder, or the model itself; name the zip file to write")
    card = Model.load(model).card
    is_bundled = card.digest == read_card(bundled_model_path()).digest
    model_file = None if is_bundled else re.sub(r"[^\w.-]+", "_", model.stem, flags=re.ASCII) + ".onnx"
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".lumbarseg-", dir=out.parent) as work:
            wheels_by_target = _wheels_by_target(Path(work), targets, report_step)
            wheels = {path.name: path for paths in wheels_by_target.values() for path in paths}
            entries: dict[str, bytes | Path] = {f"wheels/{name}": path for name, path in wheels.items()}
            if model_file:
                entries[f"model/{model_file}"] = model
            texts = licences.collect_licence_files(wheels.values())
            texts["model.txt"] = licences.describe_model_licence(model_file or "shipped", card).encode()
            entries |= {f"licences/{name}": text for name, text in texts.items()}
            entries |= installer_files(wheels_by_target, model_file)
            entries[CHECKSUM_FILE] = checksum_lines(entries)
            write_zip({f"{PACK_FOLDER}/{name}": content for name, content in entries.items()}, out)
            report_step("written")
    except OSError as error:
        raise to_file_error(out, error, "written") from error
    return PackResult(out, out.stat().st_size, _sha256(out), len(wheels), model_file)


def _wheels_by_target(
    work: Path, targets: Sequence[Target], report_step: Callable[[str], object]
) -> dict[Target, list[Path]]:
    """Collect the wheels of each target in subfolders of `work`; wheels that targets share are kept once."""
    own_wheel = build_own_wheel(work)
    report_step("lumbarseg's own wheel")
    by_name: dict[str, Path] = {}
    names: dict[Target, list[str]] = {}
    for number, target in enumerate(targets):
        folder = work / str(number)
        folder.mkdir()
        wheels = collect_wheels(own_wheel, target, folder)
        names[target] = [wheel.name for wheel in wheels]
        for wheel in wheels:
            if by_name.setdefault(wheel.name, wheel) != wheel:
                wheel.unlink()  # saves disk space
        report_step(str(target))
    return {target: [by_name[name] for name in names[target]] for target in targets}


def installer_files(wheels_by_target: Mapping[Target, Sequence[Path]], model: str | None) -> dict[str, bytes]:
    """Return the installation scripts with their placeholders filled, and pack.json, which they read."""
    targets = list(wheels_by_target)
    own_wheel = next(path for path in wheels_by_target[targets[0]] if path.name.startswith("lumbarseg-"))
    version = read_metadata(own_wheel)["Version"]
    pythons = sorted({target.python for target in targets}, key=lambda text: int(text.partition(".")[2]), reverse=True)
    values = {
        "@VERSION@": version,
        "@PYTHONS@": " ".join(pythons),
        "@COMMANDS@": " ".join(f"python{python}" for python in pythons),
        "@TARGETS@": "\n".join(f"  {target}" for target in targets),
        "@MODEL@": f"model/{model}" if model else "inside the wheel of lumbarseg",
    }
    files = {}
    for name in _INSTALLER_FILES:
        text = (resources.files(__package__) / "installer" / name).read_text(encoding="utf-8")
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        files[name] = (text.replace("\n", "\r\n") if name.endswith(_WINDOWS_TEXT_SUFFIXES) else text).encode()
    rows = [
        {"system": target.platform_spec.system, "machine": target.platform_spec.machine, "python": target.python}
        | {"wheels": [wheel.name for wheel in wheels]}
        for target, wheels in wheels_by_target.items()
    ]
    pack = {"version": version, "model": model, "targets": rows}
    return files | {"pack.json": (json.dumps(pack, indent=1) + "\n").encode()}


def checksum_lines(entries: Mapping[str, bytes | Path]) -> bytes:
    """Return a line for each file in the format of `sha256sum -c`."""
    return "".join(f"{_sha256(content)}  {name}\n" for name, content in sorted(entries.items())).encode()


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open_for_reading(content) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]  # BinaryIO has readinto
